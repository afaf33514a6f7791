//! The release: compiled on this machine by `mix release`, laid into `/app`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::cache::{Cache, Hasher};
use super::host;
use super::layer::{Layer, Owner, Tree};

/// `nobody`, as `COPY --chown=nobody:root` in the Dockerfile that Phoenix generates.
const NOBODY: Owner = Owner::Ids { uid: 65534, gid: 0 };

/// The directory of a built release, as it is in the image below `/app`; for tests that run it
/// without a container. Errors as [`roost`](super::roost) does.
pub fn unpacked(version: &str) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _alone = cache.lock()?;
    build(&cache, version).map(|(app, _name)| app)
}

/// Two layers: what is Erlang's and Elixir's, the same in all versions, and what is roost's own.
pub(super) fn layers(cache: &Cache, version: &str) -> Result<Vec<Layer>> {
    let (app, name) = build(cache, version)?;
    let vendor = |path: &Path| path == Path::new("lib") || is_vendor(path);
    let own = |path: &Path| !is_vendor(path);
    let layer = |part: &str, keep: &dyn Fn(&Path) -> bool| {
        let mut tree = Tree::default();
        tree.add(app.clone(), Path::new("/app"));
        tree.add_all(&app, Path::new("/app"), keep)?;
        tree.write(cache, &format!("{name}-{part}.tar"), NOBODY)
    };
    Ok(vec![layer("vendor", &vendor)?, layer("own", &own)?])
}

/// Whether a path of the release is below its own run-time system or a library not ours.
fn is_vendor(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    match (parts.next(), parts.next()) {
        (Some(top), _) if top.starts_with("erts-") => true,
        (Some(top), Some(library)) => top == "lib" && !library.starts_with("roost-"),
        _ => false,
    }
}

fn build(cache: &Cache, version: &str) -> Result<(PathBuf, String)> {
    host::prepare()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("roost");
    let name = format!("roost-{version}-{}", &key(&source)?[..16]);
    let app = cache.path(&name);
    if !app.exists() {
        let unfinished = cache.unfinished(&name)?;
        let work = cache.unfinished("mix")?;
        host::run(
            Command::new("mix")
                .args(["release", "--quiet", "--overwrite", "--path"])
                .arg(&unfinished)
                .current_dir(&source)
                .envs([("MIX_ENV", "prod"), ("ROOST_VARIANT", version), ("LANG", "C.UTF-8")])
                .env("MIX_BUILD_PATH", &work),
        )?;
        fs::remove_dir_all(work)?;
        fs::rename(unfinished, &app)?;
    }
    Ok((app, name))
}

/// A hash of the source and of what compiles it.
fn key(source: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(source, &mut files)?;
    files.sort();
    let mut hash = Hasher::default().piece(&host::versions()?);
    for file in files {
        let inner = file.strip_prefix(source)?.to_string_lossy().into_owned();
        hash = hash.piece(inner.as_bytes()).piece(&fs::read(&file)?);
    }
    Ok(hash.finish())
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let unused = ["_build", "deps", "README.md"].iter().any(|name| entry.file_name() == *name);
        if entry.file_type()?.is_dir() && !unused {
            list(&entry.path(), files)?;
        } else if !unused {
            files.push(entry.path());
        }
    }
    Ok(())
}
