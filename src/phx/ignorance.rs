//! PURE. What a plan says where something may not be read: that it is not known, rather than that it is not there.

use super::{gather::Unread, plan::Outlook, preview::Change};
use crate::{
    api::{ClusteringMode, PhoenixAppSpec, PhoenixAppStatus, names},
    plan::{RouteAnswer, RouteObs, World},
};

/// What becomes of an object that may not be read.
const UNKNOWN: &str = "unknown";

/// Takes a route that may not be read to be as the operator last told of it.
pub fn assume(world: &mut World, status: &PhoenixAppStatus, unread: &[Unread]) {
    if !is_unread(unread, "HTTPRoute") {
        return;
    }
    let mut conditions = status.conditions.iter();
    let Some(told) = conditions.find(|one| one.type_ == "RouteAccepted" && one.reason != "GatewayApiAbsent")
    else {
        return;
    };
    let answer = match told.status.as_str() {
        "True" => RouteAnswer::Accepted,
        "False" => RouteAnswer::Refused { reason: told.reason.clone(), message: told.message.clone() },
        _ => RouteAnswer::Unseen,
    };
    let weighs = status.candidate.as_ref().is_some_and(|candidate| candidate.gateway);
    let known = status.route.as_ref();
    world.route = Some(RouteObs {
        version: String::new(),
        uid: String::new(),
        generation: known.map_or(1, |known| known.generation),
        preview: known.filter(|_| weighs).and_then(|known| u32::try_from(known.weight).ok()),
        answer,
        drifted: false,
    });
}

/// Says which objects of a plan may not be read, and so may be there or not. `specs`: the app's before and after.
pub fn tell(outlook: &mut Outlook, unread: &[Unread], specs: [&PhoenixAppSpec; 2]) {
    let mut resources = Vec::new();
    for Unread { kind, resource } in unread {
        let objects = &mut outlook.preview.objects;
        let mut there = false;
        for change in objects.iter_mut().filter(|change| change.kind == kind) {
            change.action = UNKNOWN;
            there = true;
        }
        // Where it may not be read, what an edit changes of it, or takes away, is not seen either.
        if let Some((kind, name)) = wanted(kind, &outlook.app, specs).filter(|_| !there) {
            objects.push(Change { action: UNKNOWN, kind, name });
            there = true;
        }
        if there {
            resources.push(resource.clone());
        }
    }
    outlook.preview.objects.sort_by_key(|change| change.action == UNKNOWN);
    if !resources.is_empty() {
        outlook.notes.push(format!(
            "what becomes of those marked {UNKNOWN} is not known, for you may not list {}; the steps take them to be as \
             the app's status tells",
            resources.join(", ")
        ));
    }
}

/// What is to be known about a cluster's Gateway API, where an app wants it. None: nobody was asked.
pub fn gateway_note(spec: &PhoenixAppSpec, there: Option<bool>) -> Option<String> {
    spec.traffic.gateway.as_ref()?;
    match there {
        Some(true) => None,
        Some(false) => Some(
            "this cluster has no Gateway API (gateway.networking.k8s.io), so no HTTPRoute is made, and a canary goes by \
             pods"
            .to_owned(),
        ),
        None => Some("the cluster is taken to have the Gateway API".to_owned()),
    }
}

fn is_unread(unread: &[Unread], kind: &str) -> bool {
    unread.iter().any(|one| one.kind == kind)
}

/// The object of a kind that only some apps have, if this one has it before or after the edit.
fn wanted(kind: &str, app: &str, specs: [&PhoenixAppSpec; 2]) -> Option<(&'static str, String)> {
    let any = |asks: fn(&PhoenixAppSpec) -> bool| specs.into_iter().any(asks);
    let lists = |spec: &PhoenixAppSpec| spec.clustering.mode == ClusteringMode::KubernetesApi;
    let binding = || app.parse().map_or_else(|_| app.to_owned(), |app| names::peers_binding(&app));
    match kind {
        "HTTPRoute" if any(|spec| spec.traffic.gateway.is_some()) => Some(("HTTPRoute", app.to_owned())),
        "Ingress" if any(|spec| spec.traffic.ingress.is_some()) => Some(("Ingress", app.to_owned())),
        "RoleBinding" if any(lists) => Some(("RoleBinding", binding())),
        _ => None,
    }
}
