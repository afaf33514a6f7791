//! OCI images without Docker: layers are plain tars, packed as archives that
//! `ctr -n k8s.io images import` reads.
//!
//! Everything is built once and kept in the cache directory (`PHOENIX_E2E_CACHE`, else
//! `target/e2e-cache` of the workspace), under names that are hashes of what it was built from.

mod cache;
mod config;
mod host;
mod layer;
mod oci;
mod release;
mod rootfs;
mod scratch;

use std::path::PathBuf;

use anyhow::{Result, ensure};

pub use config::Config;
pub use release::unpacked;
pub use scratch::shared_libraries;

use cache::Cache;

/// The versions of the release that can be built; the last three are broken.
pub const VERSIONS: [&str; 6] = ["v1", "v2", "v3", "crash", "neverready", "badmigrate"];

/// An image on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its reference, such as `registry.local/roost:v1`; containerd knows it by this name after
    /// the import.
    pub name: String,
    /// An OCI image layout as one tar.
    pub archive: PathBuf,
}

/// The image of a version of the release in `e2e/roost`; builds what the cache does not have.
///
/// It is shaped like the one that `mix phx.gen.release --docker` describes: user `nobody`,
/// working directory `/app`, command `/app/bin/server`. Errors when the version is not one of
/// [`VERSIONS`], or a build step fails (its output is quoted).
pub fn roost(version: &str) -> Result<Image> {
    ensure!(VERSIONS.contains(&version), "no version {version:?} of roost; there are {VERSIONS:?}");
    let cache = Cache::open()?;
    let _alone = cache.lock()?;
    let layers = [vec![rootfs::layer(&cache)?], release::layers(&cache, version)?].concat();
    let config = Config {
        cmd: vec!["/app/bin/server".to_owned()],
        env: vec![
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("MIX_ENV".to_owned(), "prod".to_owned()),
        ],
        user: Some("nobody".to_owned()),
        working_dir: Some("/app".to_owned()),
        ..Config::default()
    };
    oci::pack(&cache, &format!("registry.local/roost:{version}"), &layers, &config)
}

/// An image of plain files (source on this machine, absolute path in the image) on nothing else.
///
/// Files keep their execute bits and belong to root. Errors when a file cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "callers make it for this one call")]
pub fn scratch(name: &str, files: &[(PathBuf, &str)], config: Config) -> Result<Image> {
    let cache = Cache::open()?;
    let _alone = cache.lock()?;
    let layer = scratch::layer(&cache, files, &config.libraries)?;
    oci::pack(&cache, name, &[layer], &config)
}
