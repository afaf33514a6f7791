//! Latencies of one app, on a cluster that rests otherwise.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::contest::Run;
use super::events::{Event, Events};
use super::figures::Quantiles;
use super::work::{self, Change};

/// How long one app may take to be healthy.
const ONE: Duration = Duration::from_mins(1);

impl Run<'_> {
    /// Apps are made one after the other, each on a resting cluster: until their children exist, and until they are
    /// healthy.
    pub async fn singles(&mut self, count: usize) -> Result<(Quantiles, Quantiles)> {
        let (kinds, objects) = self.contender.children()?;
        let resource = self.contender.resource();
        let kinds = [vec![resource.clone()], kinds].concat();
        let mut events = Events::follow(&self.client, &self.namespace, &kinds).await?;
        let (mut created, mut healthy) = (Vec::new(), Vec::new());
        self.generation = 1;
        for name in (0..count).map(work::name) {
            work::create(&self.client, &self.namespace, self.contender.beside(&name)?).await?;
            let manifest = self.contender.manifest(&name, "v1")?;
            let change = vec![(name.clone(), Change::Create(manifest))];
            let began = Instant::now();
            work::ask(self.client.clone(), self.namespace.clone(), resource.clone(), change).await?;
            let mut seen = HashSet::new();
            let (mut complete, mut well) = (None, None);
            // Both, because their watches may tell of them in any order.
            let whole = |event: &Event| {
                if event.kind == resource.kind {
                    if event.name == name && self.is_healthy(event) {
                        well.get_or_insert(event.at);
                    }
                } else if belongs(&event.name, &name) {
                    seen.insert((event.kind.clone(), event.name.clone()));
                    if seen.len() == objects {
                        complete.get_or_insert(event.at);
                    }
                }
                Some((complete?, well?))
            };
            let what = format!("{name} to have {objects} children and to be healthy");
            let (complete, well) = events.until(&what, ONE, whole).await?;
            created.push(complete.saturating_duration_since(began));
            healthy.push(well.saturating_duration_since(began));
        }
        let both = (Quantiles::of(created), Quantiles::of(healthy));
        self.say("one at a time: children exist, healthy", &both);
        Ok(both)
    }

    /// Pods become unready one after the other: until the status says so.
    pub async fn notice(&mut self, apps: usize, count: usize) -> Result<Quantiles> {
        let resource = self.contender.resource();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut first: HashMap<String, String> = HashMap::new();
        for pod in pods.list(&ListParams::default()).await?.items {
            let pod = pod.name_any();
            if let Some(app) = app_of(&pod) {
                first.insert(app, pod);
            }
        }
        let kinds = [resource.clone(), ApiResource::erase::<Pod>(&())];
        let mut events = Events::follow(&self.client, &self.namespace, &kinds).await?;
        let mut noticed = Vec::new();
        for app in (0..count).map(|number| work::name(number % apps)) {
            let pod = first.get(&app).with_context(|| format!("{app} has no pod"))?;
            events.clear();
            annotate(&pods, pod, Some("false")).await?;
            let mut unready = None;
            let mut told = None;
            let both = |event: &Event| {
                if event.name == *pod && !is_ready(&event.object) {
                    unready.get_or_insert(event.at);
                }
                if event.kind == resource.kind
                    && event.name == app
                    && event.object["status"]["readyReplicas"] == work::REPLICAS - 1
                {
                    told.get_or_insert(event.at);
                }
                Some(told?.saturating_duration_since(unready?))
            };
            let time = events.until(&format!("{app} to notice an unready pod"), ONE, both).await?;
            noticed.push(time);
            annotate(&pods, pod, None).await?;
            let again = |event: &Event| {
                let ready = event.object["status"]["readyReplicas"] == work::REPLICAS;
                (event.name == app && ready && self.is_healthy(event)).then_some(())
            };
            events.until(&format!("{app} to be whole again"), ONE, again).await?;
        }
        let noticed = Quantiles::of(noticed);
        self.say("an unready pod noticed", &noticed);
        Ok(noticed)
    }
}

/// Whether an object is an app's, by its name.
fn belongs(object: &str, app: &str) -> bool {
    object.strip_prefix(app).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The app of a pod, by its name: the first two words.
fn app_of(pod: &str) -> Option<String> {
    let mut words = pod.splitn(3, '-');
    Some(format!("{}-{}", words.next()?, words.next()?))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Tells the fake node whether a pod is to be ready.
async fn annotate(pods: &Api<Pod>, pod: &str, ready: Option<&str>) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {"e2e/ready": ready}}});
    pods.patch(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.context("annotating a pod")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_belong_to_apps_by_name() {
        assert!(belongs("shop-1", "shop-1") && belongs("shop-1-generated", "shop-1"));
        assert!(!belongs("shop-10-generated", "shop-1") && !belongs("kube-root-ca.crt", "shop-1"));
        assert_eq!(app_of("shop-12-7f3a9c1d2e-abcde-fghij").unwrap(), "shop-12");
    }

    #[test]
    fn a_pod_is_ready_when_it_says_so() {
        let pod = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&pod("True")) && !is_ready(&pod("False")) && !is_ready(&json!({})));
    }
}
