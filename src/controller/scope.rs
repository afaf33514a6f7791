//! The caches of one namespace, or of all, and the watches that fill them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
    policy::v1::PodDisruptionBudget,
    rbac::v1::RoleBinding,
};
use kube::{Client, Resource, core::PartialObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::mpsc::UnboundedSender, task::JoinSet};

use super::{
    cache::{AppKey, Belongs, Cache, Lively, but_status, child, itself, whose},
    guarded::Read,
    health::Health,
    kind::Kind,
    lean::{self, whole},
    shelf::Reader,
    snapshot::{Needs, Snapshot},
    watch::{Needed, News, Source, Watch},
    writer::Child,
};
use crate::{
    api::{HttpRoute, PhoenixApp, labels},
    build::StoredRevision,
    telemetry::Metrics,
};

/// The caches of one namespace, or of all.
pub struct Scope {
    lively: Arc<Lively>,
    apps: Arc<Cache<PhoenixApp>>,
    revisions: Arc<Cache<StoredRevision>>,
    deployments: Arc<Cache<Deployment>>,
    replica_sets: Arc<Cache<PartialObjectMeta<ReplicaSet>>>,
    pods: Arc<Cache<Pod>>,
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    jobs: Arc<Cache<Job>>,
    config_maps: Arc<Cache<ConfigMap>>,
    service_accounts: Arc<Cache<ServiceAccount>>,
    role_bindings: Arc<Cache<RoleBinding>>,
    budgets: Arc<Cache<PodDisruptionBudget>>,
    ingresses: Arc<Cache<Ingress>>,
    routes: Arc<Cache<HttpRoute>>,
    /// Apps that ask for a route.
    routed: Arc<Mutex<BTreeSet<AppKey>>>,
}

/// A cache of whatever kind, at rest.
trait Rest {
    fn pack(&self, app: &AppKey);
    fn compact(&self, names: &mut HashSet<Arc<AppKey>>);
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Rest for Cache<K> {
    fn pack(&self, app: &AppKey) {
        Self::pack(self, app);
    }

    fn compact(&self, names: &mut HashSet<Arc<AppKey>>) {
        Self::compact(self, names);
    }
}

/// What starting watches takes.
pub struct Start<'a> {
    /// Opens them.
    pub client: Client,
    /// The namespace; none: all.
    pub namespace: Option<String>,
    /// Longest wait for a list, or for a watch to open.
    pub timeout: Duration,
    /// How they stand.
    pub health: Health,
    /// Where news goes.
    pub news: UnboundedSender<News>,
    /// Counts failures.
    pub metrics: Metrics,
    /// Where they run.
    pub tasks: &'a mut JoinSet<()>,
    /// Apps that something has happened to.
    pub lively: Arc<Lively>,
}

impl Scope {
    /// Starts all watches.
    pub fn start(mut start: Start<'_>) -> Self {
        let of_app = labels::APP;
        let begin = &mut start;
        let apps = begin.typed(None, itself, whole);
        let routed: Arc<Mutex<BTreeSet<AppKey>>> = Arc::default();
        let asked_for = {
            let routed = routed.clone();
            move || !routed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
        };
        Self {
            lively: begin.lively.clone(),
            routes: begin.optional(of_app, asked_for),
            routed,
            apps,
            revisions: begin.typed(Some(of_app), child, whole),
            deployments: begin.typed(Some(of_app), child, whole),
            replica_sets: begin.replica_sets(of_app),
            // On pods of Deployments, migrations and smoke tests.
            pods: begin.typed(Some(labels::REVISION), child, lean::pod),
            services: begin.typed(Some(of_app), child, whole),
            slices: begin.typed(Some(of_app), child, lean::slice),
            // On those of migrations and smoke tests.
            jobs: begin.typed(Some(labels::REVISION), child, whole),
            config_maps: begin.typed(Some(of_app), child, whole),
            service_accounts: begin.typed(Some(of_app), child, whole),
            role_bindings: begin.typed(Some(of_app), child, whole),
            budgets: begin.minding(of_app, |budget| but_status(&budget.metadata)),
            ingresses: begin.typed(Some(of_app), child, lean::ingress),
        }
    }

    /// Every app.
    pub fn apps(&self) -> impl Iterator<Item = AppKey> + use<> {
        self.apps.apps().into_iter()
    }

    /// Something has happened to the app not long ago.
    pub fn is_lively(&self, key: &AppKey) -> bool {
        self.lively.has(key)
    }

    /// Whether there is such an app.
    pub fn knows(&self, key: &AppKey) -> bool {
        self.apps.has(key)
    }

    /// The app as it is known.
    pub fn app(&self, key: &AppKey) -> Option<Arc<PhoenixApp>> {
        self.apps.get(key, &key.name)
    }

    /// Up to which version the cache of a kind is current. One that is not cached always is.
    pub fn version(&self, kind: Kind) -> u64 {
        match kind {
            Kind::PhoenixApp => self.apps.version(),
            Kind::ControllerRevision => self.revisions.version(),
            Kind::Deployment => self.deployments.version(),
            Kind::ReplicaSet => self.replica_sets.version(),
            Kind::Pod => self.pods.version(),
            Kind::Service => self.services.version(),
            Kind::EndpointSlice => self.slices.version(),
            Kind::Job => self.jobs.version(),
            Kind::ConfigMap => self.config_maps.version(),
            Kind::ServiceAccount => self.service_accounts.version(),
            Kind::RoleBinding => self.role_bindings.version(),
            Kind::PodDisruptionBudget => self.budgets.version(),
            Kind::Ingress => self.ingresses.version(),
            Kind::HttpRoute => self.routes.version(),
            Kind::Secret | Kind::Event | Kind::Other => u64::MAX,
        }
    }

    /// What an app needs to be seen: routes only if it asks for one, has one or had one. Remembers who asks.
    pub fn needs(&self, key: &AppKey, app: &PhoenixApp) -> Needs {
        let asks = app.spec.traffic.gateway.is_some();
        let mut routed = self.routed.lock().unwrap_or_else(PoisonError::into_inner);
        if asks {
            routed.insert(key.clone());
        } else {
            routed.remove(key);
        }
        let had = app.status.as_ref().is_some_and(|status| status.route.is_some());
        if asks || had || self.routes.has(key) { Needs::Everything } else { Needs::NoRoutes }
    }

    /// An app is gone.
    pub fn forget(&self, key: &AppKey) {
        self.routed.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Makes what is known of apps small to which nothing has happened for so long, and names them.
    pub fn rest(&self, quiet: Duration) -> Vec<AppKey> {
        let calm = self.lively.calm(quiet);
        for app in &calm {
            self.each(|cache| cache.pack(app));
        }
        if self.lively.gather(self.apps.count()) {
            // Twice: the first copies fill what was free among the originals, and keep that memory.
            for _ in 0..2 {
                let mut names = HashSet::new();
                self.each(|cache| cache.compact(&mut names));
            }
        }
        calm
    }

    fn each(&self, act: impl FnMut(&dyn Rest)) {
        let caches: [&dyn Rest; 14] = [
            &*self.apps,
            &*self.revisions,
            &*self.deployments,
            &*self.replica_sets,
            &*self.pods,
            &*self.services,
            &*self.slices,
            &*self.jobs,
            &*self.config_maps,
            &*self.service_accounts,
            &*self.role_bindings,
            &*self.budgets,
            &*self.ingresses,
            &*self.routes,
        ];
        caches.into_iter().for_each(act);
    }

    /// Everything known of an app that has been read before.
    pub fn snapshot(
        &self,
        key: &AppKey,
        app: Arc<PhoenixApp>,
        needs: Needs,
        health: &Health,
    ) -> Option<Snapshot> {
        Some(Snapshot {
            app: self.apps.again(key, &key.name, app)?,
            revisions: self.revisions.of(key),
            deployments: self.deployments.of(key),
            replica_sets: self.replica_sets.of(key),
            pods: self.pods.of(key),
            services: self.services.of(key),
            slices: self.slices.of(key),
            jobs: self.jobs.of(key),
            config_maps: self.config_maps.of(key),
            service_accounts: self.service_accounts.of(key),
            role_bindings: self.role_bindings.of(key),
            budgets: self.budgets.of(key),
            ingresses: self.ingresses.of(key),
            routes: self.routes.of(key),
            gateway_api: health.knows(&key.namespace, Kind::HttpRoute),
            going: BTreeSet::new(),
            needs,
            since: health.since(&key.namespace, needs),
            now: jiff::Timestamp::now(),
        })
    }
}

impl Start<'_> {
    fn typed<K: Child>(&mut self, selector: Option<&str>, belongs: Belongs, read: Read<K>) -> Arc<Cache<K>> {
        let cache = Cache::new(belongs, self.lively.clone());
        self.watch(selector, cache, read, None)
    }

    /// Of a kind of which only this matters.
    fn minding<K: Child>(&mut self, selector: &str, matter: fn(&K) -> u64) -> Arc<Cache<K>> {
        let cache = Cache::new(child, self.lively.clone()).minding(matter);
        self.watch(Some(selector), cache, whole, None)
    }

    /// Of a kind that the cluster may not know. While it does not, it is looked for only if `needed`.
    fn optional<K: Child>(
        &mut self,
        selector: &str,
        needed: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Arc<Cache<K>> {
        let cache = Cache::new(child, self.lively.clone());
        self.watch(Some(selector), cache, whole, Some(Box::new(needed)))
    }

    /// Of those only matters whose they are.
    fn replica_sets(&mut self, selector: &str) -> Arc<Cache<PartialObjectMeta<ReplicaSet>>> {
        let cache = Cache::new(child, self.lively.clone())
            .minding(|object: &PartialObjectMeta<ReplicaSet>| whose(&object.metadata));
        self.watch(Some(selector), cache, lean::replica_set, None)
    }

    fn watch<K>(
        &mut self,
        selector: Option<&str>,
        cache: Cache<K>,
        read: Read<K>,
        optional: Option<Needed>,
    ) -> Arc<Cache<K>>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let cache = Arc::new(cache);
        let watch = Watch {
            source: Source::new::<K>(self.client.clone(), self.namespace.as_deref()),
            selector: selector.map(str::to_owned),
            shelf: Box::new(Reader { cache: cache.clone(), read }),
            timeout: self.timeout,
            gauge: self.health.gauge(self.namespace.clone(), Kind::of::<K>()),
            news: self.news.clone(),
            metrics: self.metrics.clone(),
            optional,
        };
        self.tasks.spawn(watch.run());
        cache
    }
}
