//! The directory that keeps what was built, and hashes to name it by.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The cache directory.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

impl Cache {
    /// `PHOENIX_E2E_CACHE`, or `target/e2e-cache` of the workspace; made when missing.
    pub(super) fn open() -> Result<Self> {
        let dir = match std::env::var_os("PHOENIX_E2E_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e-cache"),
        };
        let dir = dir.join("images");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // Without `..`: Mix makes relative links into its build path by counting the path's parts.
        Ok(Self(dir.canonicalize()?))
    }

    /// Waits until no other process builds; the lock goes with the file.
    pub(super) fn lock(&self) -> Result<File> {
        let file = File::create(self.0.join("lock"))?;
        file.lock().context("cannot lock the cache")?;
        Ok(file)
    }

    /// The path of an entry, whether it is there or not.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An empty place to build an entry in before it is renamed; what a crash left is removed.
    pub(super) fn unfinished(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(format!("{name}.unfinished"));
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if path.exists() {
            fs::remove_file(&path)?;
        }
        Ok(path)
    }
}

/// A SHA-256 sum in hexadecimal digits.
#[derive(Debug, Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    /// Adds a piece with its length, so that pieces do not run into each other.
    pub(super) fn piece(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The sum of all pieces.
    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The sum of some bytes alone, as OCI digests are made.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The sum and the size in bytes of a file.
pub(super) fn sha256_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hex(&sum.finalize()), size));
        }
        sum.update(&buffer[..read]);
        size += read as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
