//! Images come out right and the same each time.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may fail as tests do")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use e2e::image::{Config, VERSIONS, roost, scratch, shared_libraries};
use serde_json::Value;

#[test]
#[ignore = "needs Debian 12 and root"]
fn versions_differ_in_one_small_layer() {
    let layers: Vec<Vec<Value>> = VERSIONS
        .iter()
        .map(|version| {
            let image = roost(version).unwrap();
            assert_eq!(image.name, format!("registry.local/roost:{version}"));
            assert_eq!(roost(version).unwrap(), image, "the second time it comes from the cache");
            manifest(&image.archive)["layers"].as_array().unwrap().clone()
        })
        .collect();
    for image in &layers {
        assert_eq!(image[..2], layers[0][..2], "Debian and Erlang are shared");
        assert!(image[2]["size"].as_u64().unwrap() < 1_000_000);
    }
    let own: std::collections::BTreeSet<&str> =
        layers.iter().map(|image| image[2]["digest"].as_str().unwrap()).collect();
    assert_eq!(own.len(), VERSIONS.len());
}

#[test]
#[ignore = "writes into the cache"]
fn plain_files_become_an_image_with_their_libraries() {
    let program = Path::new("/bin/true");
    let libraries = shared_libraries(program).unwrap();
    assert!(libraries.iter().any(|library| library.ends_with("libc.so.6")), "{libraries:?}");
    let config = Config {
        entrypoint: vec!["/pause".to_owned()],
        user: Some("65534:65534".to_owned()),
        libraries,
        ..Config::default()
    };
    let files = [(PathBuf::from(program), "/pause")];
    let image = scratch("registry.local/true:test", &files, config.clone()).unwrap();
    assert_eq!(image, scratch("registry.local/true:test", &files, config).unwrap());

    let layer = manifest(&image.archive)["layers"][0]["digest"].as_str().unwrap().to_owned();
    let bytes = entry(&image.archive, &format!("blobs/{}", layer.replace(':', "/")));
    let root = std::env::temp_dir().join(format!("e2e-scratch-{}", std::process::id()));
    tar::Archive::new(bytes.as_slice()).unpack(&root).unwrap();
    let run = std::process::Command::new("/usr/sbin/chroot").arg(&root).arg("/pause").status();
    std::fs::remove_dir_all(root).unwrap();
    assert!(run.unwrap().success());
}

fn manifest(archive: &Path) -> Value {
    let index: Value = serde_json::from_slice(&entry(archive, "index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&entry(archive, &format!("blobs/{digest}"))).unwrap()
}

fn entry(archive: &Path, name: &str) -> Vec<u8> {
    let mut tar = tar::Archive::new(File::open(archive).unwrap());
    let mut entries = tar.entries().unwrap().map(Result::unwrap);
    let mut found = entries.find(|entry| entry.path().unwrap() == Path::new(name)).unwrap();
    let mut bytes = Vec::new();
    found.read_to_end(&mut bytes).unwrap();
    bytes
}
