//! Database migrations.

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::NamedValue;
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
    /// Jobs before the migration, in order. Example: `[{name: backup, image: "postgres:17", command: [pg_dump]}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub before: Vec<BeforeJob>,
    /// Runs once no pod of an older revision is left. Example: `{command: [/app/bin/contract]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<PhaseCommand>,
    /// Runs only when a person asks for it. Example: `{command: [/app/bin/rollback]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<PhaseCommand>,
}

/// A Job before the migration, with its environment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeforeJob {
    /// Its name. Example: `backup`
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its image. Absent: the release's. Example: `postgres:17`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// What it runs. Example: `[/bin/sh, -c]`
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
    /// Its arguments. Example: `[pg_dump "$DATABASE_URL" | upload]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<String>,
    /// More environment. Example: `[{name: BUCKET, value: dumps}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<NamedValue>,
}

/// A command in the release's image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseCommand {
    /// What it runs.
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
}

impl MigrationsSpec {
    /// Jobs are asked for that stand around a migration.
    pub const fn has_phases(&self) -> bool {
        !self.before.is_empty() || self.contract.is_some() || self.rollback.is_some()
    }
}

/// Which Job of a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// One that comes first, counted from 0.
    Before(usize),
    /// The migration itself.
    #[default]
    Migrate,
    /// What only newer revisions can live with, once no older one has pods.
    Contract,
    /// The way back, which a person asked for.
    Rollback,
}

impl Stage {
    /// It stands before the pods of its revision, and so gates them.
    pub const fn gates(self) -> bool {
        matches!(self, Self::Before(_) | Self::Migrate)
    }

    /// As in an annotation of the Job; a migration has none.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Before(index) => Some(format!("before-{}", index + 1)),
            Self::Migrate => None,
            Self::Contract => Some("contract".to_owned()),
            Self::Rollback => Some("rollback".to_owned()),
        }
    }

    /// Out of the annotation. Nothing known means a migration.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("contract") => Self::Contract,
            Some("rollback") => Self::Rollback,
            Some(text) => {
                let number = text.strip_prefix("before-").and_then(|number| number.parse::<usize>().ok());
                number.and_then(|number| number.checked_sub(1)).map_or(Self::Migrate, Self::Before)
            }
            None => Self::Migrate,
        }
    }
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
            before: Vec::new(),
            contract: None,
            rollback: None,
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

#[cfg(test)]
mod tests {
    use super::Stage;

    #[test]
    fn a_stage_is_read_as_it_is_written() {
        for stage in [Stage::Before(0), Stage::Before(3), Stage::Migrate, Stage::Contract, Stage::Rollback] {
            assert_eq!(Stage::of(stage.text().as_deref()), stage);
        }
        assert_eq!(Stage::of(Some("before-0")), Stage::Migrate);
    }
}
