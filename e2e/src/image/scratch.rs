//! Images of plain files: the sandbox image, the operator's image.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cache::{Cache, Hasher, sha256_file};
use super::layer::{Layer, Owner, Tree};

const ROOT: Owner = Owner::Ids { uid: 0, gid: 0 };

/// The shared libraries that a program of this machine is linked to, its loader among them, for
/// [`Config::libraries`](super::Config::libraries); empty for a static one.
pub fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let ldd = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&ldd.stdout);
    if !ldd.status.success() {
        let why = String::from_utf8_lossy(&ldd.stderr);
        ensure!(why.contains("not a dynamic executable"), "ldd {}: {why}", program.display());
        return Ok(Vec::new());
    }
    let absent: Vec<&str> = text.lines().filter(|line| line.contains("not found")).collect();
    ensure!(absent.is_empty(), "{} misses libraries: {absent:?}", program.display());
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// A layer of files, libraries at their own paths, and the directories that lead to them.
pub(super) fn layer(cache: &Cache, files: &[(PathBuf, &str)], libraries: &[PathBuf]) -> Result<Layer> {
    let own = libraries.iter().map(|library| (library, library.as_path()));
    let all: Vec<(&PathBuf, &Path)> =
        files.iter().map(|(source, dest)| (source, Path::new(*dest))).chain(own).collect();

    let mut tree = Tree::default();
    let mut hash = Hasher::default();
    let mut directories = BTreeSet::new();
    for (source, dest) in all {
        // Libraries are links to versioned files more often than not.
        let file = fs::canonicalize(source).with_context(|| format!("cannot read {}", source.display()))?;
        ensure!(dest.is_absolute(), "{} is not an absolute path of the image", dest.display());
        let (digest, _size) = sha256_file(&file)?;
        let mode = fs::metadata(&file)?.permissions().mode();
        hash =
            hash.piece(dest.to_string_lossy().as_bytes()).piece(digest.as_bytes()).piece(&mode.to_le_bytes());
        directories.extend(dest.ancestors().skip(1).map(Path::to_path_buf));
        tree.add(file, dest);
    }
    for directory in directories {
        // Any directory that all may enter lends its mode.
        tree.add(PathBuf::from("/usr"), &directory);
    }
    tree.write(cache, &format!("scratch-{}.tar", &hash.finish()[..16]), ROOT)
}
