//! Everything there is of one app, read once; and what of it the person may not read.

use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, api::apps::v1::ReplicaSet};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    place::Cluster,
    view::{View, view_without},
};
use crate::{
    api::{HttpRoute, PhoenixApp, labels},
    controller::snapshot::{Needs, Snapshot},
};

/// A kind of children that the person may not list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unread {
    /// As `HTTPRoute`.
    pub kind: String,
    /// As `httproutes.gateway.networking.k8s.io`.
    pub resource: String,
}

impl Unread {
    fn new<K: Resource<DynamicType = ()>>() -> Self {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        Self { kind: K::kind(&()).into_owned(), resource }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resource)
    }
}

/// What was read of an app.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// What is there; nothing of the kinds that were not read.
    pub snapshot: Snapshot,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

impl Gathered {
    /// The picture of the app, in which nothing is said of what was not read.
    pub fn view(&self) -> View {
        view_without(&self.snapshot, &self.unread)
    }

    /// The snapshot, with everything in it that is needed.
    ///
    /// # Errors
    /// When one of these kinds was not read.
    pub fn with(self, needed: &[&str]) -> Result<Snapshot> {
        let missing: Vec<String> = self
            .unread
            .iter()
            .filter(|one| needed.contains(&one.kind.as_str()))
            .map(Unread::to_string)
            .collect();
        if !missing.is_empty() {
            let namespace = self.snapshot.app.namespace().unwrap_or_default();
            bail!(
                "this takes the right to list {} in namespace {namespace}, which you do not have; the role `view` has it",
                missing.join(", ")
            );
        }
        Ok(self.snapshot)
    }
}

/// Reads an app's children; what may not be read is told, and left out.
///
/// # Errors
/// When the API server does not answer, or answers anything but that it may not be.
pub fn gather(cluster: &Cluster, app: PhoenixApp) -> BoxFuture<'_, Result<Gathered>> {
    // a dozen lists at once are a large future
    Box::pin(all(cluster, app))
}

async fn all(cluster: &Cluster, app: PhoenixApp) -> Result<Gathered> {
    let name = app.name_any();
    let of_app = format!("{}={name}", labels::APP);
    let of_migration = format!("{}={name}", labels::MIGRATION);
    let (revisions, deployments, replica_sets, pods, migration_pods, services, slices, jobs) = tokio::try_join!(
        list(cluster, &of_app),
        list(cluster, &of_app),
        replica_sets(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_migration),
        list(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_migration),
    )?;
    let (config_maps, service_accounts, budgets, role_bindings, ingresses, routes) = tokio::try_join!(
        list(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_app),
        list::<HttpRoute>(cluster, &of_app),
    )?;
    // Whether a cluster has it at all everybody may know.
    let gateway_api = match &routes {
        Listed::Unknown => false,
        Listed::All(_) => true,
        Listed::Refused(_) => has_gateway_api(&cluster.client).await?,
    };
    let mut unread = BTreeSet::new();
    let mut pods = pods.or_note(&mut unread);
    pods.extend(migration_pods.or_note(&mut unread));
    let snapshot = Snapshot {
        revisions: revisions.or_note(&mut unread),
        deployments: deployments.or_note(&mut unread),
        replica_sets: replica_sets.or_note(&mut unread),
        pods,
        services: services.or_note(&mut unread),
        slices: slices.or_note(&mut unread),
        jobs: jobs.or_note(&mut unread),
        config_maps: config_maps.or_note(&mut unread),
        service_accounts: service_accounts.or_note(&mut unread),
        budgets: budgets.or_note(&mut unread),
        role_bindings: role_bindings.or_note(&mut unread),
        ingresses: ingresses.or_note(&mut unread),
        gateway_api,
        routes: if gateway_api { routes.or_note(&mut unread) } else { Vec::new() },
        ..nothing(app)
    };
    Ok(Gathered { snapshot, unread: unread.into_iter().collect() })
}

/// An app without any child.
pub fn nothing(app: PhoenixApp) -> Snapshot {
    let now = Timestamp::now();
    Snapshot {
        app: Arc::new(app),
        revisions: Vec::new(),
        deployments: Vec::new(),
        replica_sets: Vec::new(),
        pods: Vec::new(),
        services: Vec::new(),
        slices: Vec::new(),
        jobs: Vec::new(),
        config_maps: Vec::new(),
        service_accounts: Vec::new(),
        role_bindings: Vec::new(),
        budgets: Vec::new(),
        ingresses: Vec::new(),
        routes: Vec::new(),
        gateway_api: true,
        going: BTreeSet::new(),
        needs: Needs::Everything,
        since: Some(now),
        now,
    }
}

/// Whether the cluster knows HTTPRoutes. Every authenticated person may ask (`system:discovery`).
///
/// # Errors
/// When the API server does not answer.
pub async fn has_gateway_api(client: &Client) -> Result<bool> {
    let version = HttpRoute::api_version(&());
    match client.list_api_group_resources(&version).await {
        Ok(known) => Ok(known.resources.iter().any(|one| one.name == HttpRoute::plural(&()))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error).with_context(|| format!("asking whether the cluster has {version}")),
    }
}

/// An answer to a list.
enum Listed<T> {
    All(Vec<T>),
    /// The person may not.
    Refused(Unread),
    /// The cluster does not know the kind.
    Unknown,
}

impl<T> Listed<T> {
    fn of(list: kube::Result<Vec<T>>, kind: Unread, namespace: &str) -> Result<Self> {
        match list {
            Ok(items) => Ok(Self::All(items)),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Self::Refused(kind)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Self::Unknown),
            Err(error) => Err(error).with_context(|| format!("listing {kind} in namespace {namespace}")),
        }
    }

    /// What there is; what was refused is noted.
    fn or_note(self, unread: &mut BTreeSet<Unread>) -> Vec<T> {
        match self {
            Self::All(items) => return items,
            Self::Refused(kind) => _ = unread.insert(kind),
            Self::Unknown => {}
        }
        Vec::new()
    }
}

async fn list<K>(cluster: &Cluster, selector: &str) -> Result<Listed<Arc<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let list = api.list(&ListParams::default().labels(selector)).await.map(shared);
    Listed::of(list, Unread::new::<K>(), &cluster.namespace)
}

async fn replica_sets(
    cluster: &Cluster,
    selector: &str,
) -> Result<Listed<Arc<PartialObjectMeta<ReplicaSet>>>> {
    let api: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let list = api.list_metadata(&ListParams::default().labels(selector)).await.map(shared);
    Listed::of(list, Unread::new::<ReplicaSet>(), &cluster.namespace)
}

fn shared<K: Clone>(list: ObjectList<K>) -> Vec<Arc<K>> {
    list.items.into_iter().map(Arc::new).collect()
}
