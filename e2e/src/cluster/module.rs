//! Files of the modules that the pinned programs are built from, so that they match the programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    process,
    tools::{self, Group},
};

/// A directory with the files of a module that `wanted` picks by their name, out of those below each of `from`. They are
/// copied beside the group's programs, as `kept`, the first time: asking Go takes long.
pub fn files(
    group: Group,
    module: &str,
    kept: &str,
    from: &[&str],
    wanted: impl Fn(&str) -> bool,
) -> Result<PathBuf> {
    let bin = tools::ensure(&[group])?;
    let kept = bin.directories().next().with_context(|| format!("{group:?} has no programs"))?.join(kept);
    if kept.is_dir() {
        return Ok(kept);
    }
    let source = group.source();
    let source = source.to_str().context("a source path in UTF-8")?;
    let found = process::run("go", &["-C", source, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module])?;
    let fresh = kept.with_extension(std::process::id().to_string());
    fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
    for from in from {
        copy(&Path::new(found.trim()).join(from), &fresh, &wanted)?;
    }
    if fs::rename(&fresh, &kept).is_err() {
        // Another process was faster.
        fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    Ok(kept)
}

fn copy(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("listing {}", from.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", from.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && wanted(&name) {
            fs::copy(&path, to.join(name)).with_context(|| format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}
