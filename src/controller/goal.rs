//! What the user asks for, as the planner wants it: [`Goal`]; and the revision that the spec describes.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{PhoenixApp, RevisionName, StrategyKind, ValidatedApp, Worker, WorkerStrategy},
    build::Revision,
    plan::{Budget, Goal, Verify, WorkerGoal, analysis::Proofs},
};

/// The goal of a valid app, with the revision its spec describes.
pub fn goal(app: &ValidatedApp, desired: &RevisionName) -> Goal {
    let limits = app.strategy.limits(app.replicas);
    Goal {
        app: app.name.to_string(),
        generation: app.generation,
        deleting: app.deleting,
        suspend: app.suspend,
        replicas: app.replicas,
        strategy: app.strategy.kind,
        steps: app.strategy.steps.clone(),
        preview_replicas: app.strategy.preview_replicas,
        blue_green_bake: app.strategy.blue_green_bake,
        canary_bake: app.strategy.canary_bake,
        keep_old: app.strategy.keep_old,
        keep_old_replicas: app.strategy.keep_old_replicas,
        on_failure: app.strategy.on_failure,
        drain_batch: app.drain_batch,
        drain_interval: app.spec.shutdown.drain_interval.into(),
        surge: limits.surge,
        unavailable: limits.unavailable,
        progress_deadline: app.strategy.progress_deadline,
        rollback_window: app.strategy.rollback_window,
        history_limit: app.revision_history_limit,
        stop_before_migration: app.strategy.kind == StrategyKind::Recreate && app.has_pvc,
        budget: app.spec.database.as_ref().and_then(|database| {
            let max = u32::try_from(database.max_connections?).ok()?;
            Some(Budget { max, per_pod: database.of_a_pod() })
        }),
        gateway: app.spec.traffic.gateway.is_some(),
        endpoint_lag: app.spec.shutdown.endpoint_lag.into(),
        desired: desired.to_string(),
        command: app.command.clone(),
        proofs: Proofs::of(app),
        workers: workers(app),
        verify: verify(app),
    }
}

/// The goal of an app that cannot be acted on: enough to report that.
pub fn of_invalid(app: &PhoenixApp) -> Goal {
    let status = app.status.as_ref();
    let desired = status.and_then(|status| status.stable.clone()).unwrap_or_default();
    Goal {
        app: app.metadata.name.clone().unwrap_or_default(),
        generation: app.metadata.generation.unwrap_or_default(),
        deleting: app.metadata.deletion_timestamp.is_some(),
        suspend: false,
        replicas: u32::try_from(app.spec.replicas).unwrap_or_default(),
        strategy: app.spec.strategy.kind,
        steps: Vec::new(),
        preview_replicas: None,
        blue_green_bake: Duration::MAX,
        canary_bake: Duration::MAX,
        keep_old: Duration::MAX,
        keep_old_replicas: 0,
        on_failure: app.spec.strategy.on_failure,
        drain_batch: None,
        drain_interval: Duration::ZERO,
        surge: 1,
        unavailable: 0,
        progress_deadline: Duration::MAX,
        rollback_window: usize::MAX,
        history_limit: usize::MAX,
        stop_before_migration: false,
        budget: None,
        gateway: app.spec.traffic.gateway.is_some(),
        endpoint_lag: Duration::ZERO,
        desired,
        command: None,
        proofs: Proofs::default(),
        workers: BTreeMap::new(),
        verify: None,
    }
}

fn verify(app: &ValidatedApp) -> Option<Verify> {
    let http = &app.spec.clustering.verify.as_ref()?.http;
    Some(Verify { path: http.path.clone(), json_path: http.json_path.clone() })
}

fn workers(app: &ValidatedApp) -> BTreeMap<String, WorkerGoal> {
    let goal = |worker: &Worker| WorkerGoal {
        replicas: u32::try_from(worker.replicas).unwrap_or_default(),
        recreate: worker.strategy == WorkerStrategy::Recreate,
    };
    app.spec.workers.iter().map(|worker| (worker.name.clone(), goal(worker))).collect()
}

/// The revision that the spec describes: one that is stored, or the name for a new one. None in the impossible case
/// that a hundred names are taken.
pub fn desired(
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    taken: impl Fn(&RevisionName) -> bool,
) -> Option<RevisionName> {
    let known = stored.iter().map(|(name, revision)| (name, &revision.canonical));
    app.canonical.find(known).cloned().or_else(|| app.canonical.name_for(taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::testing::app,
        build::{Settings, render},
    };

    fn stored(app: &ValidatedApp, name: &str) -> BTreeMap<RevisionName, Revision> {
        let name: RevisionName = name.parse().unwrap();
        [(name.clone(), render(app, &name, &Settings::default()))].into()
    }

    #[test]
    fn a_stored_revision_is_found_by_what_the_user_set() {
        let shop = app("{image: shop:1, replicas: 3}");
        let stored = stored(&shop, "0123456789");
        let scaled = app("{image: shop:1, replicas: 5}");
        assert_eq!(desired(&scaled, &stored, |_| false).unwrap().as_str(), "0123456789");
        let changed = app("{image: shop:2, replicas: 3}");
        assert_ne!(desired(&changed, &stored, |_| false).unwrap().as_str(), "0123456789");
    }

    #[test]
    fn a_taken_name_is_not_given_twice() {
        let shop = app("{image: shop:1}");
        let first = desired(&shop, &BTreeMap::new(), |_| false).unwrap();
        let second = desired(&shop, &BTreeMap::new(), |name| *name == first).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn limits_are_resolved() {
        let shop =
            app("{image: shop:1, replicas: 10, strategy: {rolling: {maxSurge: 25%, maxUnavailable: 25%}}}");
        let goal = goal(&shop, &"0123456789".parse().unwrap());
        assert_eq!((goal.surge, goal.unavailable), (3, 2));
    }
}
