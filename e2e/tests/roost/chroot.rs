//! The image's own files suffice: its layers are unpacked and run as `nobody`, without a runtime.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::node::{LOCALHOST, Pod, Scratch, text, wait_for};

#[tokio::test]
#[ignore = "needs Debian 12 and root"]
async fn the_image_migrates_and_serves_by_itself() {
    let scratch = Scratch::new("chroot");
    let postgres = scratch.postgres().await;
    let image = e2e::image::roost("v1").unwrap();
    assert_eq!(image.name, "registry.local/roost:v1");

    let layout = scratch.0.join("layout");
    tar::Archive::new(File::open(&image.archive).unwrap()).unpack(&layout).unwrap();
    let index = json(&layout.join("index.json"));
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "registry.local/roost:v1");
    let manifest = json(&blob(&layout, entry));
    let config = json(&blob(&layout, &manifest["config"]));
    assert_eq!(config["config"]["User"], "nobody");
    assert_eq!(config["config"]["Cmd"][0], "/app/bin/server");

    let root = scratch.0.join("root");
    for layer in manifest["layers"].as_array().unwrap() {
        let mut archive = tar::Archive::new(File::open(blob(&layout, layer)).unwrap());
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(&root).unwrap();
    }
    // A container runtime makes the devices.
    let null = root.join("dev/null");
    let made = Command::new("mknod").args(["-m", "666"]).arg(null).args(["c", "1", "3"]).status();
    assert!(made.unwrap().success());

    let pod = Pod { root: Some(root), ..Pod::new("v1", LOCALHOST, &postgres.url("roost")) };
    let migrated = pod.run("bin/migrate", &[]);
    assert!(migrated.status.success(), "{}", text(&migrated));
    let log = scratch.0.join("log");
    let mut node = pod.serve(&log);
    wait_for("readiness", || (node.get("/ready").status == 200).then_some(()));
    let rpc = node.pod.run("bin/roost", &["rpc", "IO.puts(Roost.vsn())"]);
    assert_eq!(text(&rpc).trim(), "1.0.0");
    node.terminate();
    assert_eq!(node.wait().code(), Some(0), "{}", fs::read_to_string(log).unwrap());
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
    layout.join("blobs").join(digest)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
