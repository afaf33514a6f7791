//! The revision: what the user set, the resolved defaults, and everything rendered from both.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        core::v1::{ConfigMap, PodTemplateSpec},
    },
    apimachinery::pkg::runtime::RawExtension,
};
use serde::{Deserialize, Serialize};

use super::{
    Settings, StoredRevision, StoredWorker, defaults, deployment::unmarked, env, job, metadata, pod, worker,
};
use crate::api::{
    Canonical, Isolation, MigrationsMode, PhaseCommand, RevisionName, SecurityProfile, Stage, ValidatedApp,
    labels, names,
};

/// User `nobody` of Debian and most others. Images that Phoenix generates say `USER nobody`, a name, which
/// `runAsNonRoot` refuses, so a number is needed.
const NOBODY: i64 = 65_534;

/// Annotation of a Deployment: what its revision says, should the `ControllerRevision` be lost.
const IDENTITY: &str = "phoenix-operator.dev/identity";

/// Conditional defaults, resolved when the revision was first used and frozen with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Who migrates.
    pub migrations: MigrationsMode,
    /// Whether revisions share one Erlang cluster.
    pub isolation: Isolation,
    /// Numeric user of the containers; none: the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
}

impl Effective {
    fn of(app: &ValidatedApp) -> Self {
        Self {
            migrations: app.migrations_mode,
            isolation: app.isolation,
            run_as_user: app.spec.security.run_as_user.or(match app.spec.security.profile {
                SecurityProfile::Restricted => Some(NOBODY),
                SecurityProfile::Baseline => None,
            }),
        }
    }
}

/// A revision as it is stored, whole, in its `ControllerRevision`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its name.
    pub name: RevisionName,
    /// What the user set.
    pub canonical: Canonical,
    /// Resolved defaults.
    pub effective: Effective,
    /// Hash of what the migration depends on; none when no Job migrates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_key: Option<String>,
    /// The pods.
    pub pod_template: PodTemplateSpec,
    /// Weak defaults of the environment, by name.
    pub defaults: BTreeMap<String, String>,
    /// The migration's pod; none when no Job migrates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_template: Option<PodTemplateSpec>,
    /// Pods of the Jobs before the migration, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Before>,
    /// The contract's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_template: Option<PodTemplateSpec>,
    /// The pod of the migrations' way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_template: Option<PodTemplateSpec>,
    /// Workers, by name; revisions of earlier versions have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workers: BTreeMap<String, StoredWorker>,
}

/// A Job before the migration, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Its name.
    pub name: String,
    /// Its pod.
    pub template: PodTemplateSpec,
}

/// Why a stored object is no revision.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// Somebody else made it, or stripped it.
    #[error("{name} holds no revision; delete it, and the operator makes it anew")]
    Empty {
        /// Name of the object.
        name: String,
    },
    /// Its data cannot be read.
    #[error(
        "{name} holds a revision that cannot be read ({source}); delete it, and the operator makes it anew"
    )]
    Unreadable {
        /// Name of the object.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Renders a new revision with the present builders.
pub fn render(app: &ValidatedApp, name: &RevisionName, settings: &Settings) -> Revision {
    let effective = Effective::of(app);
    let facts = env::Facts::of(app, name, &effective, settings);
    let by_job = effective.migrations == MigrationsMode::Job;
    let migrations = &app.spec.migrations;
    let phase = |phase: &Option<PhaseCommand>| {
        let phase = phase.as_ref().filter(|_| by_job)?;
        Some(job::with_command(app, &facts, &effective, phase.command.clone()))
    };
    Revision {
        name: name.clone(),
        canonical: app.canonical.clone(),
        migration_key: by_job.then(|| app.canonical.migration_key()),
        pod_template: pod::template(app, &facts, &effective),
        defaults: defaults::values(&effective),
        job_template: by_job.then(|| job::template(app, &facts, &effective)),
        before: if by_job { job::before(app, &facts, &effective) } else { Vec::new() },
        contract_template: phase(&migrations.contract),
        rollback_template: phase(&migrations.rollback),
        workers: worker::workers(app, &facts, &effective),
        effective,
    }
}

/// The object that stores a revision. Its data cannot be changed once it exists; facts are annotations.
///
/// `number` rises with each revision of the app, as `kubectl rollout history` expects.
pub fn controller_revision(app: &ValidatedApp, revision: &Revision, number: i64) -> ControllerRevision {
    let mut metadata = metadata(
        app,
        names::controller_revision(&app.name, &revision.name),
        labels::of_revision(&app.name, &revision.name),
    );
    metadata.annotations =
        revision.migration_key.as_ref().map(|key| [(labels::MIGRATION_KEY.to_owned(), key.clone())].into());
    ControllerRevision {
        metadata,
        // a struct of string-keyed maps: serialising it cannot fail
        data: serde_json::to_value(revision).ok().map(RawExtension),
        revision: number,
    }
}

/// What a Deployment bears so that [`Revision::from_deployment`] can read it.
pub(super) fn identity(revision: &Revision) -> BTreeMap<String, String> {
    let Revision { canonical, effective, migration_key, .. } = revision;
    let identity = Identity {
        canonical: canonical.clone(),
        effective: effective.clone(),
        migration_key: migration_key.clone(),
    };
    serde_json::to_string(&identity).ok().map(|text| (IDENTITY.to_owned(), text)).into_iter().collect()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    canonical: Canonical,
    effective: Effective,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    migration_key: Option<String>,
}

impl Revision {
    /// The stored pod of a stage's Job, if it has one.
    pub fn template_of(&self, stage: Stage) -> Option<&PodTemplateSpec> {
        match stage {
            Stage::Before(index) => self.before.get(index).map(|before| &before.template),
            Stage::Migrate => self.job_template.as_ref(),
            Stage::Contract => self.contract_template.as_ref(),
            Stage::Rollback => self.rollback_template.as_ref(),
        }
    }

    /// Itself, if its nodes form a cluster of their own.
    pub fn isolated(&self) -> Option<&Self> {
        (self.effective.isolation == Isolation::PerRevision).then_some(self)
    }

    /// Reads a revision back.
    ///
    /// # Errors
    /// [`RevisionError`], when the object holds none of ours.
    pub fn from_stored(object: &StoredRevision) -> Result<Self, RevisionError> {
        let name = || object.metadata.name.clone().unwrap_or_default();
        let Some(data) = &object.data else { return Err(RevisionError::Empty { name: name() }) };
        serde_json::from_str(data.get()).map_err(|source| RevisionError::Unreadable { name: name(), source })
    }

    /// With the workers that these Deployments of it hold.
    #[must_use]
    pub fn with_workers_of<'a>(mut self, deployments: impl IntoIterator<Item = &'a Deployment>) -> Self {
        let of_it = |deployment: &&Deployment| {
            let labels = deployment.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get(labels::REVISION))
                .is_some_and(|name| name == self.name.as_str())
        };
        let workers: Vec<_> =
            deployments.into_iter().filter(of_it).filter_map(StoredWorker::from_deployment).collect();
        self.workers.extend(workers);
        self
    }

    /// Rebuilds a revision whose `ControllerRevision` was deleted by hand, from what it left: never from the
    /// present builders, which could render it otherwise and restart its pods.
    ///
    /// A revision that has a Deployment has migrated, so it is rebuilt without its Job.
    /// None when the Deployment is not one of ours.
    pub fn from_deployment(deployment: &Deployment, defaults: Option<&ConfigMap>) -> Option<Self> {
        let name = deployment.metadata.labels.as_ref()?.get(labels::REVISION)?.parse().ok()?;
        let identity = deployment.metadata.annotations.as_ref()?.get(IDENTITY)?;
        let Identity { canonical, effective, migration_key } = serde_json::from_str(identity).ok()?;
        let pod_template = unmarked(deployment.spec.as_ref()?.template.clone());
        Some(Self {
            name,
            canonical,
            effective,
            migration_key,
            pod_template,
            defaults: defaults.and_then(|map| map.data.clone()).unwrap_or_default(),
            job_template: None,
            before: Vec::new(),
            contract_template: None,
            rollback_template: None,
            workers: BTreeMap::new(),
        })
    }
}
