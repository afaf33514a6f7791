//! Everything there is of one app, read once.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, api::apps::v1::ReplicaSet};
use kube::{
    Api, Resource, ResourceExt as _,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use super::place::Cluster;
use crate::{
    api::{HttpRoute, PhoenixApp, labels},
    controller::snapshot::{Needs, Snapshot},
};

/// Reads an app's children.
///
/// # Errors
/// When one kind cannot be listed; the right to `list` each kind of child is needed, as the role `view` has it.
pub fn gather(cluster: &Cluster, app: PhoenixApp) -> BoxFuture<'_, Result<Snapshot>> {
    // eleven lists at once are a large future
    Box::pin(all(cluster, app))
}

async fn all(cluster: &Cluster, app: PhoenixApp) -> Result<Snapshot> {
    let name = app.name_any();
    let of_app = format!("{}={name}", labels::APP);
    let of_migration = format!("{}={name}", labels::MIGRATION);
    let (revisions, deployments, replica_sets, mut pods, migration_pods, services, slices, jobs) = tokio::try_join!(
        list(cluster, &of_app),
        list(cluster, &of_app),
        replica_sets(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_migration),
        list(cluster, &of_app),
        list(cluster, &of_app),
        list(cluster, &of_migration),
    )?;
    let (config_maps, service_accounts, budgets) =
        tokio::try_join!(list(cluster, &of_app), list(cluster, &of_app), list(cluster, &of_app))?;
    let routes = tolerant::<HttpRoute>(cluster, &of_app).await?;
    pods.extend(migration_pods);
    Ok(Snapshot {
        revisions,
        deployments,
        replica_sets,
        pods,
        services,
        slices,
        jobs,
        config_maps,
        service_accounts,
        budgets,
        role_bindings: tolerant(cluster, &of_app).await?.unwrap_or_default(),
        ingresses: tolerant(cluster, &of_app).await?.unwrap_or_default(),
        gateway_api: routes.is_some(),
        routes: routes.unwrap_or_default(),
        ..nothing(app)
    })
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

/// What the role `view` may not show, and little depends on; none when the cluster does not know the kind.
async fn tolerant<K>(cluster: &Cluster, selector: &str) -> Result<Option<Vec<Arc<K>>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match api.list(&ListParams::default().labels(selector)).await {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Some(Vec::new())),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        list => shared(cluster, list).map(Some),
    }
}

async fn list<K>(cluster: &Cluster, selector: &str) -> Result<Vec<Arc<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    shared(cluster, api.list(&ListParams::default().labels(selector)).await)
}

async fn replica_sets(cluster: &Cluster, selector: &str) -> Result<Vec<Arc<PartialObjectMeta<ReplicaSet>>>> {
    let api: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    shared(cluster, api.list_metadata(&ListParams::default().labels(selector)).await)
}

fn shared<K>(cluster: &Cluster, list: kube::Result<ObjectList<K>>) -> Result<Vec<Arc<K>>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let list = list.with_context(|| {
        format!(
            "listing {} in namespace {}; the right to list them is needed",
            K::plural(&()),
            cluster.namespace
        )
    })?;
    Ok(list.items.into_iter().map(Arc::new).collect())
}
