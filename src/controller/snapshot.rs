//! Everything the caches hold of one app, at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        batch::v1::Job,
        core::v1::{ConfigMap, Pod, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        networking::v1::Ingress,
        policy::v1::PodDisruptionBudget,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, core::PartialObjectMeta};

use crate::{
    api::{HttpRoute, LogTail, PhoenixApp, RevisionName, labels, names},
    build::{Revision, StoredRevision},
};

/// What an app needs to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Every kind.
    Everything,
    /// Every kind, but routes of the Gateway API only where the operator may read them.
    NoRoutes,
}

impl Needs {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Everything, Self::NoRoutes];
}

/// Everything the caches hold of one app, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The app.
    pub app: Arc<PhoenixApp>,
    /// Stored revisions.
    pub revisions: Vec<Arc<StoredRevision>>,
    /// Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// Metadata of `ReplicaSets`.
    pub replica_sets: Vec<Arc<PartialObjectMeta<ReplicaSet>>>,
    /// Pods, those of migrations and smoke tests included.
    pub pods: Vec<Arc<Pod>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Endpoints of the Services.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Jobs of migrations and smoke tests.
    pub jobs: Vec<Arc<Job>>,
    /// `ConfigMaps`.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// `ServiceAccounts`.
    pub service_accounts: Vec<Arc<ServiceAccount>>,
    /// `RoleBindings`.
    pub role_bindings: Vec<Arc<RoleBinding>>,
    /// Disruption budgets.
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    /// Ingresses.
    pub ingresses: Vec<Arc<Ingress>>,
    /// Routes of the Gateway API.
    pub routes: Vec<Arc<HttpRoute>>,
    /// The cluster knows those.
    pub gateway_api: bool,
    /// UIDs of objects that were deleted and are still seen.
    pub going: BTreeSet<String>,
    /// What of all this the app cannot do without.
    pub needs: Needs,
    /// Since when that is seen without a gap.
    pub since: Option<Timestamp>,
    /// The present instant.
    pub now: Timestamp,
}

impl Snapshot {
    /// Whether lines of pods' logs may stand in the status.
    pub fn quoting(&self) -> bool {
        self.app.spec.migrations.log_tail == LogTail::Include
    }

    /// Owned by this very app, not by an earlier one of its name.
    pub fn owns(&self, meta: &ObjectMeta) -> bool {
        let uid = self.app.metadata.uid.as_deref().unwrap_or_default();
        controller(meta) == Some(uid)
    }

    /// An object of ours with this name.
    pub fn find<'a, K: Resource>(&self, objects: &'a [Arc<K>], name: &str) -> Option<&'a Arc<K>> {
        objects.iter().find(|object| object.meta().name.as_deref() == Some(name) && self.owns(object.meta()))
    }

    /// Being deleted, as far as is known.
    pub fn leaving(&self, meta: &ObjectMeta) -> bool {
        meta.deletion_timestamp.is_some() || meta.uid.as_ref().is_some_and(|uid| self.going.contains(uid))
    }

    /// The UIDs of all objects that the operator may have deleted.
    pub fn uids(&self) -> BTreeSet<String> {
        fn uids<K: Resource>(objects: &[Arc<K>]) -> impl Iterator<Item = String> {
            objects.iter().filter_map(|object| object.meta().uid.clone())
        }
        uids(&self.revisions)
            .chain(uids(&self.deployments))
            .chain(uids(&self.jobs))
            .chain(uids(&self.config_maps))
            .chain(uids(&self.services))
            .chain(uids(&self.role_bindings))
            .chain(uids(&self.budgets))
            .chain(uids(&self.ingresses))
            .chain(uids(&self.routes))
            .collect()
    }

    /// The name of the revision that an object's name holds: `<app>-<revision>`.
    pub fn revision_of(&self, meta: &ObjectMeta) -> Option<RevisionName> {
        let app = self.app.metadata.name.as_deref()?;
        meta.name.as_deref()?.strip_prefix(app)?.strip_prefix('-')?.parse().ok()
    }

    /// The worker and the revision that a Deployment is of, as its labels and its name say.
    pub fn worker_of(&self, meta: &ObjectMeta) -> Option<(String, RevisionName)> {
        let app = self.app.metadata.name.as_deref()?.parse().ok()?;
        let labels = meta.labels.as_ref()?;
        let (worker, revision) = (labels.get(labels::WORKER)?, labels.get(labels::REVISION)?.parse().ok()?);
        let name = names::worker_deployment(&app, worker, &revision);
        (meta.name.as_ref() == Some(&name)).then(|| (worker.clone(), revision))
    }

    /// Stored revisions of ours that can be read, and a sentence for each that cannot.
    pub fn stored(&self) -> (BTreeMap<RevisionName, Revision>, Vec<String>) {
        let mut stored = BTreeMap::new();
        let mut unreadable = Vec::new();
        for object in self.revisions.iter().filter(|object| self.owns(&object.metadata)) {
            match (self.revision_of(&object.metadata), Revision::from_stored(object)) {
                (Some(name), Ok(revision)) if revision.name == name => {
                    stored.insert(name, revision);
                }
                (_, Err(error)) => unreadable.push(error.to_string()),
                _ => {
                    let name = object.metadata.name.as_deref().unwrap_or_default();
                    unreadable.push(format!("{name} holds another revision than its name says; delete it"));
                }
            }
        }
        (stored, unreadable)
    }

    /// The number of a new revision: after all others.
    pub fn next_number(&self) -> i64 {
        self.revisions.iter().map(|object| object.revision).max().unwrap_or_default() + 1
    }

    /// The number of a revision that somebody deleted, of which this Deployment is left: after those that are older,
    /// whether they are stored or deleted, too. Each is as old as its Deployment, for one that is stored again is younger.
    pub fn number_of(&self, left: &Deployment) -> i64 {
        let made = left.metadata.creation_timestamp.as_ref();
        let age = |object: &StoredRevision| {
            let deployment = self.find(&self.deployments, object.metadata.name.as_deref()?);
            deployment.map_or(&object.metadata, |deployment| &deployment.metadata).creation_timestamp.clone()
        };
        let stored = self.revisions.iter().map(|object| (object.revision, age(object)));
        let last = stored.filter(|(_, age)| age.as_ref() < made).max();
        let (number, since) = last.unwrap_or_default();
        let deleted = self.deployments.iter().map(|deployment| &deployment.metadata).filter(|meta| {
            let name = meta.name.as_deref().unwrap_or_default();
            self.owns(meta) && self.worker_of(meta).is_none() && self.find(&self.revisions, name).is_none()
        });
        let between = deleted.map(|meta| meta.creation_timestamp.as_ref());
        let between = between.filter(|age| *age > since.as_ref() && *age < made).count();
        number + i64::try_from(between).unwrap_or_default() + 1
    }

    /// The active Service, if it is ours.
    pub fn active_service(&self) -> Option<&Arc<Service>> {
        self.find(&self.services, self.app.metadata.name.as_deref()?)
    }

    /// The HTTPRoute, if there is one and it is ours.
    pub fn http_route(&self) -> Option<&Arc<HttpRoute>> {
        self.find(&self.routes, self.app.metadata.name.as_deref()?)
    }

    /// The preview Service, if there is one and it is ours.
    pub fn preview_service(&self) -> Option<&Arc<Service>> {
        let app = self.app.metadata.name.as_deref()?.parse().ok()?;
        self.find(&self.services, &names::preview_service(&app))
    }
}

/// The UID of an object's controller.
pub fn controller(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str()).next()
}
