//! Children that are missing or differ and whose repair can harm nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Drifts, Snapshot, marked, marked_ingress, service_selector};
use crate::{
    api::{RevisionName, ValidatedApp, names},
    build::{self, Revision, Settings},
    plan::{Rev, Upkeep, World, may_stand},
};

/// What an apply would make or put right, or what is there and not wanted any more.
pub(super) fn upkeep(
    world: &World,
    snapshot: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    settings: &Settings,
    drifts: &mut Drifts,
) -> BTreeSet<Upkeep> {
    let mut upkeep = BTreeSet::new();
    // One of the same name that the spec names is the user's.
    let users_own =
        app.spec.service_account_name.as_deref() == Some(names::service_account(&app.name).as_str());
    let own = names::service_account(&app.name);
    let wanted = || build::service_account(app);
    if !users_own && drifts.wanting(snapshot, (&snapshot.service_accounts, &own), (), wanted) {
        upkeep.insert(Upkeep::ServiceAccount);
    }
    upkeep.extend(headless_services(world, snapshot, app, stored, drifts));
    upkeep.extend(peers_binding(snapshot, app, stored, settings, drifts));
    // It follows the active Service, and so comes after it.
    let candidate = snapshot.app.status.as_ref().and_then(|status| status.candidate.as_ref());
    let stand = may_stand(app.strategy.kind, app.spec.traffic.gateway.is_some(), candidate);
    if let Some(guarded) = world.to_guard(stand) {
        let selector = service_selector(&guarded);
        let name = names::pod_disruption_budget(&app.name);
        let there = snapshot.find(&snapshot.budgets, &name);
        match build::pod_disruption_budget(app, &selector) {
            Some(budget)
                if drifts.wanting(snapshot, (&snapshot.budgets, &name), &selector, || budget.clone()) =>
            {
                upkeep.insert(Upkeep::PodDisruptionBudget(guarded));
            }
            None if there.is_some_and(|budget| !snapshot.leaving(&budget.metadata)) => {
                upkeep.insert(Upkeep::NoPodDisruptionBudget);
            }
            _ => {}
        }
    }
    let name = names::ingress(&app.name);
    let there = snapshot.find(&snapshot.ingresses, &name);
    match build::ingress(app).map(marked_ingress) {
        Some(_) if build::ingress_is_refused(app, settings) => {}
        Some(ingress) if drifts.wanting(snapshot, (&snapshot.ingresses, &name), (), || ingress.clone()) => {
            upkeep.insert(Upkeep::Ingress);
        }
        None if there.is_some_and(|ingress| !snapshot.leaving(&ingress.metadata)) => {
            upkeep.insert(Upkeep::NoIngress);
        }
        _ => {}
    }
    for (name, revision) in stored {
        let map = names::defaults_config_map(&app.name, name);
        let wanted = || build::defaults_config_map(app, revision);
        if drifts.wanting(snapshot, (&snapshot.config_maps, &map), name, wanted) {
            upkeep.insert(Upkeep::Defaults(name.to_string()));
        }
    }
    upkeep
}

/// One for all revisions that share a cluster, as long as one is stored, and one for each that is isolated. The latter
/// goes with its revision.
fn headless_services(
    world: &World,
    snapshot: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    drifts: &mut Drifts,
) -> BTreeSet<Upkeep> {
    let mut upkeep = BTreeSet::new();
    let mut wanting = |isolated: Option<&Revision>| {
        let isolated_name = isolated.map(|revision| &revision.name);
        let name = names::headless_service(&app.name, isolated_name);
        let wanted = || marked(build::headless_service(app, isolated));
        drifts.wanting(snapshot, (&snapshot.services, &name), isolated_name, wanted)
    };
    if stored.values().any(|revision| revision.isolated().is_none()) {
        if wanting(None) {
            upkeep.insert(Upkeep::HeadlessService(None));
        }
    } else {
        // A revision that was deleted by hand and still has pods may be one that shares.
        let known = |revision: &String| stored.keys().any(|name| name.as_str() == revision);
        let all_known = !stored.is_empty() && world.populated().into_iter().all(known);
        let there = snapshot.find(&snapshot.services, &names::headless_service(&app.name, None));
        if all_known && there.is_some_and(|service| !snapshot.leaving(&service.metadata)) {
            upkeep.insert(Upkeep::NoHeadlessService);
        }
    }
    for (name, revision) in stored {
        if revision.isolated().is_none() || !wanting(Some(revision)) {
            continue;
        }
        // One that differs is put right, whoever needs it, or it would differ for ever.
        let there = snapshot.find(&snapshot.services, &names::headless_service(&app.name, Some(name)));
        upkeep.insert(match there {
            Some(_) => Upkeep::HeadlessService(Some(name.to_string())),
            None => Upkeep::NewHeadlessService(name.to_string()),
        });
    }
    upkeep
}

/// One for all revisions whose nodes ask the API server. The planner knows whether one of them has or is to have pods.
fn peers_binding(
    snapshot: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    settings: &Settings,
    drifts: &mut Drifts,
) -> BTreeSet<Upkeep> {
    let mut upkeep = BTreeSet::new();
    let asking = || stored.iter().filter(|(_, revision)| revision.lists_peers());
    let names: BTreeSet<Rev> = asking().map(|(name, _)| name.to_string()).collect();
    let wanted = build::peers_binding(app, asking().map(|(_, revision)| revision), settings);
    let binding = names::peers_binding(&app.name);
    if let Some(wanted) = wanted
        && drifts.wanting(snapshot, (&snapshot.role_bindings, &binding), (), || wanted)
    {
        upkeep.insert(Upkeep::PeersBinding(names.clone()));
    }
    let there = snapshot.find(&snapshot.role_bindings, &binding);
    if there.is_some_and(|binding| !snapshot.leaving(&binding.metadata)) {
        upkeep.insert(Upkeep::NoPeersBinding(names));
    }
    upkeep
}
