//! Layers: tars that come out the same byte for byte when their files are the same.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{EntryType, Header};

use super::cache::{Cache, sha256_file};

/// A finished layer. It is not compressed, so its digest is its diff id too.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// The tar.
    pub(super) path: PathBuf,
    /// SHA-256 in hexadecimal digits.
    pub(super) digest: String,
    /// In bytes.
    pub(super) size: u64,
}

/// Whose the files of a layer are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// As on disk.
    Kept,
    /// These ids for all.
    Ids { uid: u64, gid: u64 },
}

/// The files of a layer by their path in the image, which is also their order in the tar.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<PathBuf, PathBuf>);

impl Tree {
    /// Adds one file, directory (without its content) or symbolic link.
    pub(super) fn add(&mut self, source: PathBuf, dest: &Path) {
        let dest = dest.strip_prefix("/").unwrap_or(dest);
        if !dest.as_os_str().is_empty() {
            self.0.insert(dest.to_path_buf(), source);
        }
    }

    /// Adds what is below `source`, as far as `keep` wants it; it is asked about a directory
    /// before its content, with paths relative to `source`.
    pub(super) fn add_all(&mut self, source: &Path, dest: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<()> {
        self.add_below(source, Path::new(""), dest, keep)
    }

    fn add_below(
        &mut self,
        root: &Path,
        inner: &Path,
        dest: &Path,
        keep: &dyn Fn(&Path) -> bool,
    ) -> Result<()> {
        let here = root.join(inner);
        for entry in fs::read_dir(&here).with_context(|| format!("cannot list {}", here.display()))? {
            let entry = entry?;
            let inner = inner.join(entry.file_name());
            if !keep(&inner) {
                continue;
            }
            self.add(entry.path(), &dest.join(&inner));
            if entry.file_type()?.is_dir() {
                self.add_below(root, &inner, dest, keep)?;
            }
        }
        Ok(())
    }

    /// Writes the layer into the cache as `name`, unless it is there.
    pub(super) fn write(&self, cache: &Cache, name: &str, owner: Owner) -> Result<Layer> {
        let path = cache.path(name);
        if !path.exists() {
            let unfinished = cache.unfinished(name)?;
            let mut tar = tar::Builder::new(BufWriter::new(File::create(&unfinished)?));
            for (dest, source) in &self.0 {
                append(&mut tar, source, dest, owner)
                    .with_context(|| format!("cannot add {} to a layer", source.display()))?;
            }
            tar.into_inner()?.flush()?;
            fs::rename(&unfinished, &path)?;
        }
        Layer::read(path)
    }
}

impl Layer {
    /// A layer that was written before; its digest is kept beside it, as it takes seconds to make.
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let size = fs::metadata(&path)?.len();
        let kept = path.with_extension("sha256");
        let digest = match fs::read_to_string(&kept) {
            Ok(digest) if digest.len() == 64 => digest,
            _ => {
                let (digest, _size) = sha256_file(&path)?;
                fs::write(kept, &digest)?;
                digest
            }
        };
        Ok(Self { path, digest, size })
    }
}

/// Devices, sockets and pipes are left out: the container runtime makes its own.
fn append<W: Write>(tar: &mut tar::Builder<W>, source: &Path, dest: &Path, owner: Owner) -> Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    let mut header = header(&metadata, owner);
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, dest, std::io::empty())?;
    } else if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, dest, fs::read_link(source)?)?;
    } else if metadata.is_file() {
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        tar.append_data(&mut header, dest, File::open(source)?)?;
    }
    Ok(())
}

fn header(metadata: &Metadata, owner: Owner) -> Header {
    let (uid, gid) = match owner {
        Owner::Kept => (u64::from(metadata.uid()), u64::from(metadata.gid())),
        Owner::Ids { uid, gid } => (uid, gid),
    };
    let mut header = Header::new_gnu();
    header.set_mode(metadata.permissions().mode() & 0o7777);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_mtime(0);
    header
}
