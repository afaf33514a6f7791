//! The base layer: Debian with the libraries that an Erlang run-time system links.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::cache::{Cache, Hasher};
use super::host::{self, SUITE};
use super::layer::{Layer, Owner, Tree};

/// What the release needs beside `minbase`; the same as Phoenix's Dockerfile asks for, with the
/// libraries named one by one.
const PACKAGES: &str = "ca-certificates,libssl3,libstdc++6,libsystemd0,libtinfo6,zlib1g";

/// Directories that nothing in a container reads; without them the layer is a third of the size.
const LEFT_OUT: &[&str] = &[
    "dev",
    "proc",
    "sys",
    "usr/lib/apt",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo/right",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg/info",
    "var/log",
];

/// The layer, from the cache or by debootstrap (less than a minute on a fast line).
pub(super) fn layer(cache: &Cache) -> Result<Layer> {
    let key = Hasher::default()
        .piece(SUITE.as_bytes())
        .piece(PACKAGES.as_bytes())
        .piece(LEFT_OUT.join("\n").as_bytes())
        .finish();
    let name = format!("base-{}.tar", &key[..16]);
    let finished = cache.path(&name);
    if finished.exists() {
        return Layer::read(finished);
    }

    host::prepare()?;
    let root = cache.unfinished("rootfs")?;
    host::run(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
            .arg(&root),
    )?;
    let mut tree = Tree::default();
    tree.add_all(&root, Path::new("/"), &wanted)?;
    let layer = tree.write(cache, &name, Owner::Kept)?;
    fs::remove_dir_all(root)?;
    Ok(layer)
}

/// The directories themselves stay: programs may expect to write below `var/log`.
fn wanted(path: &Path) -> bool {
    !LEFT_OUT.iter().any(|left_out| path != Path::new(left_out) && path.starts_with(left_out))
}
