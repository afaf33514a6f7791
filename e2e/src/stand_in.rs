//! A stand-in for a gateway where none runs: what one would write into the status of a route, it writes.

use std::time::Duration;

use anyhow::Result;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use phoenix_operator::api::HttpRoute;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::Space;

/// What the stand-in says of every route.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Every gateway takes it.
    Accepts,
    /// Every gateway refuses it, for another has its host.
    Refuses,
}

/// A gateway that answers to every change of a route. Dropped, it is gone.
#[derive(Debug)]
pub struct StandIn(JoinHandle<()>);

impl StandIn {
    /// Answers in a namespace from now on.
    pub fn start(space: &Space, answer: Answer) -> Self {
        let api = routes(space);
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(150)).await;
                let Ok(list) = api.list(&ListParams::default()).await else { continue };
                for route in list.items {
                    // one that changed meanwhile is answered next time
                    let _ = respond(&api, &route, answer).await;
                }
            }
        }))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn respond(api: &Api<DynamicObject>, route: &DynamicObject, answer: Answer) -> Result<()> {
    let generation = route.metadata.generation;
    let known = &route.data["status"]["parents"][0]["conditions"][0]["observedGeneration"];
    if known.as_i64() == generation {
        return Ok(());
    }
    let (accepted, reason, message) = match answer {
        Answer::Accepts => ("True", "Accepted", ""),
        Answer::Refuses => ("False", "NotAllowedByListeners", "another route has this host"),
    };
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation})
    };
    let parents: Vec<Value> = route.data["spec"]["parentRefs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parent| {
            json!({"parentRef": parent, "controllerName": "e2e.example/stand-in", "conditions": [
                condition("Accepted", accepted, reason), condition("ResolvedRefs", "True", "ResolvedRefs"),
            ]})
        })
        .collect();
    let patch = json!({"metadata": {"resourceVersion": route.metadata.resource_version}, "status": {"parents": parents}});
    api.patch_status(&route.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// The routes of a namespace.
pub fn routes(space: &Space) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<HttpRoute>(&());
    Api::namespaced_with(space.lab().client().clone(), space.name(), &resource)
}

/// The weights of the app's route, by backend; empty without a route. Errors when it cannot be read.
pub async fn weights(space: &Space) -> Result<Vec<(String, i64)>> {
    let Some(route) = routes(space).get_opt("shop").await? else { return Ok(Vec::new()) };
    let backends = route.data["spec"]["rules"][0]["backendRefs"].as_array().cloned().unwrap_or_default();
    let weight = |backend: &Value| {
        (backend["name"].as_str().unwrap_or_default().to_owned(), backend["weight"].as_i64().unwrap_or(1))
    };
    Ok(backends.iter().map(weight).collect())
}
