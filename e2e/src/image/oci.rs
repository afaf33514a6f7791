//! An OCI image layout in one tar.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::cache::{Cache, sha256};
use super::layer::Layer;
use super::{Config, Image};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A small blob: what it is, its digest, its bytes.
struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, content: &Value) -> Self {
        let bytes = content.to_string().into_bytes();
        Self { media_type, digest: sha256(&bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.digest, self.bytes.len() as u64)
    }
}

/// Packs layers, lowest first, under a name; an archive of the same content is not written again.
pub(super) fn pack(cache: &Cache, name: &str, layers: &[Layer], config: &Config) -> Result<Image> {
    let config = Blob::new(CONFIG, &image_config(layers, config));
    let manifest = Blob::new(
        MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(|l| descriptor(LAYER, &l.digest, l.size)).collect::<Vec<_>>(),
        }),
    );
    let mut entry = manifest.descriptor();
    // containerd takes the image's name from the first, other tools its tag from the second.
    entry["annotations"] = json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});

    let file = format!("{}-{}.oci.tar", name.replace(['/', ':'], "_"), &manifest.digest[..16]);
    let archive = cache.path(&file);
    if !archive.exists() {
        let unfinished = cache.unfinished(&file)?;
        write(&unfinished, &index, &[config, manifest], layers)
            .with_context(|| format!("cannot pack {name} into {}", unfinished.display()))?;
        fs::rename(&unfinished, &archive)?;
    }
    Ok(Image { name: name.to_owned(), archive })
}

fn image_config(layers: &[Layer], config: &Config) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": config.to_json(),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// OCI has Go's names of architectures.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

fn write(path: &std::path::Path, index: &Value, blobs: &[Blob], layers: &[Layer]) -> Result<()> {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append(&mut tar, "oci-layout", layout.len() as u64, &layout[..])?;
    let index = index.to_string();
    append(&mut tar, "index.json", index.len() as u64, index.as_bytes())?;
    for Blob { digest, bytes, .. } in blobs {
        append(&mut tar, &format!("blobs/sha256/{digest}"), bytes.len() as u64, bytes.as_slice())?;
    }
    for (position, Layer { path, digest, size }) in layers.iter().enumerate() {
        // A blob is named by its content, and is there once.
        if layers[..position].iter().all(|earlier| earlier.digest != *digest) {
            append(&mut tar, &format!("blobs/sha256/{digest}"), *size, File::open(path)?)?;
        }
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

fn append<W: Write, R: Read>(tar: &mut tar::Builder<W>, name: &str, size: u64, content: R) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    tar.append_data(&mut header, name, content)?;
    Ok(())
}
