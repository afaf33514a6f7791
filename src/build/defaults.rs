//! Weak defaults of the environment: anything of the user's beats them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Effective, Revision, metadata};
use crate::api::{MigrationsMode, ValidatedApp, labels, names};

/// Where crash dumps go; a volume of each pod.
pub(super) const CRASH_DUMPS: &str = "/var/crash";
/// Largest crash dump in bytes, 200 MiB; the volume has room for little more.
const CRASH_DUMP_BYTES: &str = "209715200";

/// The weak defaults of a new revision.
pub(super) fn values(effective: &Effective) -> BTreeMap<String, String> {
    let mut values = vec![
        // a name that probes send and force_ssl exempts; a real one comes with spec.hosts
        ("PHX_HOST", "localhost".to_owned()),
        // bin/<release> writes there; the release's own directory may be read-only
        ("RELEASE_TMP", "/tmp".to_owned()),
        // else the emulator sizes its table by the file limit, up to 2 GB of memory with containerd's 1 G files
        ("ERL_MAX_PORTS", "65536".to_owned()),
        ("ERL_CRASH_DUMP", format!("{CRASH_DUMPS}/erl_crash.dump")),
        ("ERL_CRASH_DUMP_BYTES", CRASH_DUMP_BYTES.to_owned()),
        // unset means: as long as it takes, while the pod neither serves nor restarts
        ("ERL_CRASH_DUMP_SECONDS", "30".to_owned()),
    ];
    if effective.migrations == MigrationsMode::Job {
        // read by the Ecto.Migrator child that Phoenix generates for SQLite and many apps copy
        values.push(("SKIP_MIGRATIONS", "true".to_owned()));
    }
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The `ConfigMap` of a revision's weak defaults. It never changes, so kubelets need not watch it.
pub fn defaults_config_map(app: &ValidatedApp, revision: &Revision) -> ConfigMap {
    ConfigMap {
        metadata: metadata(
            app,
            names::defaults_config_map(&app.name, &revision.name),
            labels::of_revision(&app.name, &revision.name),
        ),
        data: Some(revision.defaults.clone()),
        immutable: Some(true),
        binary_data: None,
    }
}
