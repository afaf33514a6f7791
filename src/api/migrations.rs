//! Database migrations.

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// The migration that runs before any pod of a revision.
///
/// `timeout`, `retries` and `logTail` say how it is run, not what it does: changing them makes no revision.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationsSpec {
    /// `Job`: once, before any pod of a revision. `Entrypoint`: the image migrates when it boots.
    /// `Disabled`: never. Absent: `Job` when `database` or `migrations.command` is set, else `Disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MigrationsMode>,
    /// Command of the Job. Absent: `bin/migrate` under release.root. Example: `[/app/bin/migrate]`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub command: Option<Vec<String>>,
    /// Environment of the Job; beats `spec.env`. Example: `[{name: POOL_SIZE, value: "2"}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, !(e.name in ['RELEASE_NAME', 'RELEASE_VSN', 'PHOENIX_REVISION', 'PHOENIX_HEADLESS_SERVICE', 'PHOENIX_HEADLESS_FQDN', 'PHOENIX_CLUSTER_SELECTOR']))").message(
            "migrations.env must not set RELEASE_NAME, RELEASE_VSN or one of the PHOENIX_ names that the operator sets; choose another name"
        )
    )]
    pub env: Vec<EnvVar>,
    /// CPU and memory of the Job. Absent: as `spec.resources`. Example: `{requests: {cpu: 100m, memory: 256Mi}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How long one migration may take, all retries included. Example: `2h`
    #[serde(default = "one_hour")]
    #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1").message("migrations.timeout must be at least 1s"))]
    pub timeout: Duration,
    /// How often a failed migration is tried again before the rollout fails. Example: `2`
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 100))]
    pub retries: i32,
    /// Whether the last lines of a failed migration's log, and the exception that a pod crashes with, are shown in
    /// status. `Omit` where they may hold secrets.
    #[serde(default)]
    pub log_tail: LogTail,
}

impl Default for MigrationsSpec {
    fn default() -> Self {
        Self {
            mode: None,
            command: None,
            env: Vec::new(),
            resources: None,
            timeout: one_hour(),
            retries: two(),
            log_tail: LogTail::default(),
        }
    }
}

/// Who migrates. `Job`: once, before any pod of a revision. `Entrypoint`: the image does when it boots. `Disabled`: no
/// one. Absent: `Job` when `database` or `migrations.command` is set, else `Disabled`. Example: `Entrypoint`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationsMode {
    /// A Job, once, before any pod of a revision.
    Job,
    /// The image, when it boots.
    Entrypoint,
    /// No one.
    Disabled,
}

impl MigrationsMode {
    /// As written in the spec and in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "Job",
            Self::Entrypoint => "Entrypoint",
            Self::Disabled => "Disabled",
        }
    }
}

/// Whether the end of a failed migration's log is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogTail {
    /// In status and in an event.
    #[default]
    Include,
    /// Nowhere.
    Omit,
}

const fn one_hour() -> Duration {
    Duration::from_secs(3600)
}

const fn two() -> i32 {
    2
}
