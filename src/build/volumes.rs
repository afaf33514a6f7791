//! Volumes of pods and migrations.

use k8s_openapi::{
    api::core::v1::{
        ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath,
        PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretProjection, SecretVolumeSource,
        Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{defaults::CRASH_DUMPS, unless_empty};
use crate::api::{self, Medium};

/// Directories that every pod can write to: temporary files, and crash dumps with room for one.
const OURS: [(&str, &str, &str); 2] = [("tmp", "/tmp", "1Gi"), ("crash-dumps", CRASH_DUMPS, "256Mi")];

/// The volumes and where they are seen. A migration gets no `PersistentVolumeClaim`: one that only a single node may
/// use would keep it waiting for the very pods that wait for it.
pub(super) fn volumes(volumes: &[api::Volume], with_claims: bool) -> (Vec<Volume>, Vec<VolumeMount>) {
    let theirs: Vec<_> =
        volumes.iter().filter(|volume| with_claims || volume.persistent_volume_claim.is_none()).collect();
    let ours = OURS
        .into_iter()
        .filter(|(_, path, _)| !theirs.iter().any(|volume| volume.mount_path.trim_end_matches('/') == *path));
    let (mut all, mut mounts) = (Vec::new(), Vec::new());
    for (name, path, size) in ours {
        let limited = EmptyDirVolumeSource {
            size_limit: Some(Quantity(size.to_owned())),
            ..EmptyDirVolumeSource::default()
        };
        all.push(Volume { name: name.to_owned(), empty_dir: Some(limited), ..Volume::default() });
        mounts.push(VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            ..VolumeMount::default()
        });
    }
    for volume in theirs {
        all.push(source(volume));
        mounts.push(VolumeMount {
            name: volume.name.clone(),
            mount_path: volume.mount_path.clone(),
            sub_path: volume.sub_path.clone(),
            read_only: volume.read_only.then_some(true),
            ..VolumeMount::default()
        });
    }
    (all, mounts)
}

fn source(volume: &api::Volume) -> Volume {
    // destructured whole: a source that is added and forgotten here does not compile
    let api::Volume {
        name,
        mount_path: _,
        sub_path: _,
        read_only: _,
        empty_dir,
        persistent_volume_claim,
        secret,
        config_map,
        projected,
    } = volume;
    Volume {
        name: name.clone(),
        empty_dir: empty_dir.as_ref().map(|source| EmptyDirVolumeSource {
            medium: source.medium.map(|Medium::Memory| "Memory".to_owned()),
            size_limit: source.size_limit.clone(),
        }),
        persistent_volume_claim: persistent_volume_claim.as_ref().map(|source| {
            PersistentVolumeClaimVolumeSource { claim_name: source.claim_name.clone(), read_only: None }
        }),
        secret: secret.as_ref().map(|source| SecretVolumeSource {
            secret_name: Some(source.secret_name.clone()),
            items: items(&source.items),
            ..SecretVolumeSource::default()
        }),
        config_map: config_map.as_ref().map(|source| ConfigMapVolumeSource {
            name: source.name.clone(),
            items: items(&source.items),
            ..ConfigMapVolumeSource::default()
        }),
        projected: projected.as_ref().map(|source| ProjectedVolumeSource {
            sources: Some(source.sources.iter().map(projection).collect()),
            default_mode: None,
        }),
        ..Volume::default()
    }
}

fn projection(source: &api::ProjectedSource) -> VolumeProjection {
    let api::ProjectedSource { secret, config_map } = source;
    VolumeProjection {
        secret: secret.as_ref().map(|source| SecretProjection {
            name: source.name.clone(),
            items: items(&source.items),
            optional: None,
        }),
        config_map: config_map.as_ref().map(|source| ConfigMapProjection {
            name: source.name.clone(),
            items: items(&source.items),
            optional: None,
        }),
        ..VolumeProjection::default()
    }
}

fn items(items: &[api::KeyToPath]) -> Option<Vec<KeyToPath>> {
    unless_empty(
        items
            .iter()
            .map(|item| KeyToPath { key: item.key.clone(), path: item.path.clone(), mode: None })
            .collect::<Vec<_>>(),
    )
}
