//! What people change or delete by hand comes back, and what is not the app's is left alone.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, effects, is_asked};
use e2e::fixtures::{self, PATIENCE, condition, message, migrating, plain, pod_uids, templates, with};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn children_are_repaired() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        a_deployment_is_deleted,
        a_deployment_is_scaled,
        a_template_is_edited,
        a_service_is_edited,
        small_children_are_deleted,
        a_revision_is_deleted,
        revisions_are_deleted_in_mid_rollout,
        foreign_objects_bear_our_names,
        an_unchanged_apply_writes_nothing,
        the_strategy_is_switched,
        ports_get_other_numbers,
        the_users_service_account_bears_the_apps_name,
    ];
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

fn healthy(status: &PhoenixAppStatus) -> bool {
    status.phase == Some(Phase::Healthy) && status.ready_replicas == 2
}

async fn rolled_out(space: &Space) -> Result<String> {
    let status = space.roll_out("shop", &migrating("v1")).await?;
    Ok(format!("shop-{}", status.stable.context("nothing is stable")?))
}

async fn a_deployment_is_deleted(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let name = rolled_out(&space).await?;
    let uid = space.field(&format!("deployment/{name}"), "{.metadata.uid}").await?;
    space.kubectl(&["delete", "deployment", &name], None).await?;
    let back = |seen: &Seen| {
        let deployment = seen.get("Deployment", &name)?;
        let new = deployment["metadata"]["uid"] != uid.as_str();
        (new && deployment["status"]["availableReplicas"] == 2).then_some(())
    };
    space.wait("another Deployment with its pods", PATIENCE, back).await?;
    let status = space.wait_for("shop", 1, "Healthy again", PATIENCE, healthy).await?;
    ensure!(status.attempt == 1 && status.promotion == 1, "a repair is no rollout: {status:#?}");
    let jobs = space.record().look(|seen| seen.migration_jobs(name.trim_start_matches("shop-")).len());
    ensure!(jobs == 1, "a repair migrates nothing: {jobs}");
    Ok(())
}

async fn a_deployment_is_scaled(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let name = rolled_out(&space).await?;
    for replicas in ["5", "0", "1"] {
        let flag = format!("--replicas={replicas}");
        space.kubectl(&["scale", "deployment", &name, &flag], None).await?;
        let generation: i64 =
            space.field(&format!("deployment/{name}"), "{.metadata.generation}").await?.parse()?;
        let back = |seen: &Seen| {
            let deployment = seen.get("Deployment", &name)?;
            let wanted =
                deployment["spec"]["replicas"] == 2 && deployment["status"]["availableReplicas"] == 2;
            (wanted && deployment["metadata"]["generation"].as_i64()? >= generation).then_some(())
        };
        space.wait(&format!("2 replicas after {replicas}"), PATIENCE, back).await?;
    }
    space.wait_for("shop", 1, "Healthy again", PATIENCE, healthy).await?;
    Ok(())
}

/// The template is the stored one again: the pods of the edited one go.
async fn a_template_is_edited(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let name = rolled_out(&space).await?;
    let object = format!("deployment/{name}");
    let path = "{.spec.template.spec.containers[0].image}";
    let image = space.field(&object, path).await?;
    space.kubectl(&["set", "image", &object, "*=registry.local/shop:edited"], None).await?;
    let back = |seen: &Seen| {
        let deployment = seen.get("Deployment", &name)?;
        let generation = deployment["metadata"]["generation"].as_i64()?;
        let same = deployment.pointer("/spec/template/spec/containers/0/image")? == image.as_str();
        let settled = deployment["status"]["observedGeneration"] == generation
            && deployment["status"]["updatedReplicas"] == 2
            && deployment["status"]["replicas"] == 2;
        (generation > 1 && same && settled).then_some(())
    };
    space.wait("the stored template", PATIENCE, back).await?;
    space.wait_for("shop", 1, "Healthy again", PATIENCE, healthy).await?;

    // A restart by kubectl is the user's, and is not fought.
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    space.kubectl(&["rollout", "restart", &object], None).await?;
    space.kubectl(&["rollout", "status", &object, "--timeout=60s"], None).await?;
    let other = |seen: &Seen| {
        let now = pod_uids(seen, "shop");
        (now.len() == 2 && now.is_disjoint(&pods)).then_some(())
    };
    space.wait("other pods", PATIENCE, other).await?;
    space.wait_for("shop", 1, "Healthy again", PATIENCE, healthy).await?;
    let annotations = space.field(&object, "{.spec.template.metadata.annotations}").await?;
    ensure!(annotations.contains("restartedAt"), "{annotations}");
    Ok(())
}

async fn a_service_is_edited(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    rolled_out(&space).await?;
    for service in ["shop", "shop-headless"] {
        let object = format!("service/{service}");
        let spec = space.field(&object, "{.spec}").await?;
        let selector = json!([{"op": "add", "path": "/spec/selector/more", "value": "none"}]);
        let port = json!([{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 1}]);
        let label = json!([{"op": "remove", "path": "/metadata/labels/phoenix-operator.dev~1app"}]);
        for edit in [selector, port, label] {
            let version = space.field(&object, "{.metadata.resourceVersion}").await?;
            space.kubectl(&["patch", &object, "--type=json", "-p", &edit.to_string()], None).await?;
            let before: Value = serde_json::from_str(&spec)?;
            let back = |seen: &Seen| {
                let now = seen.get("Service", service)?;
                let same = now["spec"] == before && fixtures::label(now, labels::APP) == "shop";
                (same && now["metadata"]["resourceVersion"] != version.as_str()).then_some(())
            };
            space.wait(&format!("{service} as it was before {edit}"), PATIENCE, back).await?;
        }
    }
    space.kubectl(&["delete", "service", "shop"], None).await?;
    let back = |seen: &Seen| seen.get("Service", "shop").map(|_| ());
    space.wait("the Service again", PATIENCE, back).await?;
    space.wait_for("shop", 1, "Healthy again", PATIENCE, healthy).await?;
    Ok(())
}

async fn small_children_are_deleted(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let name = rolled_out(&space).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    let defaults = format!("configmap/{name}-env");
    for object in
        ["poddisruptionbudget/shop", "serviceaccount/shop", "service/shop-headless", defaults.as_str()]
    {
        let uid = space.field(object, "{.metadata.uid}").await?;
        space.kubectl(&["delete", object, "--wait"], None).await?;
        space.kubectl(&["wait", "--for=create", "--timeout=60s", object], None).await?;
        ensure!(space.field(object, "{.metadata.uid}").await? != uid, "{object} was not deleted");
    }
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "pods were touched");
    Ok(())
}

/// From the status and the live Deployment, so that no pod restarts.
async fn a_revision_is_deleted(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let name = rolled_out(&space).await?;
    let audit = Audit::new(space.lab().cluster().audit_log());
    let start = audit.end()?;
    let object = format!("controllerrevision/{name}");
    let data = space.field(&object, "{.data}").await?;
    let (pods, before) = space.record().look(|seen| (pod_uids(seen, "shop"), templates(seen)));
    space.kubectl(&["delete", &object, "--wait"], None).await?;
    space.kubectl(&["wait", "--for=create", "--timeout=60s", &object], None).await?;
    let promoted = |seen: &Seen| {
        let annotations = seen.get("ControllerRevision", &name)?.pointer("/metadata/annotations")?;
        let facts = ["migrated", "promotion", "outcome"];
        facts
            .iter()
            .all(|fact| annotations.get(format!("phoenix-operator.dev/{fact}")).is_some())
            .then_some(())
    };
    space.wait("the facts on the revision", PATIENCE, promoted).await?;
    let status = space.wait_for("shop", 1, "Healthy", PATIENCE, healthy).await?;
    ensure!(status.attempt == 1 && status.promotion == 1, "{status:#?}");
    let (pods_now, after) = space.record().look(|seen| (pod_uids(seen, "shop"), templates(seen)));
    ensure!(pods == pods_now && before == after, "pods or templates changed: {before:?}, {after:?}");
    let made = effects(&audit.of_operator(start).await?, space.name());
    ensure!(made == [(format!("controllerrevisions/{name}"), (1, 0))].into(), "{made:?}");
    let rebuilt = space.field(&object, "{.data}").await?;
    let (old, new): (Value, Value) = (serde_json::from_str(&data)?, serde_json::from_str(&rebuilt)?);
    let differ: Vec<&String> = old
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| new[key] != **value)
        .map(|(key, _)| key)
        .collect();
    println!("a rebuilt revision differs from the deleted one in {differ:?}");

    // What it describes is known again: the same spec is no new revision.
    space.apply("shop", &with(migrating("v1"), &json!({"replicas": 3}))).await?;
    let three = |s: &PhoenixAppStatus| s.phase == Some(Phase::Healthy) && s.ready_replicas == 3;
    let status = space.wait_for("shop", 2, "3 pods", PATIENCE, three).await?;
    ensure!(status.attempt == 1, "the same spec became a new revision: {status:#?}");
    // And the next release goes through.
    let next = space.roll_out("shop", &migrating("v2")).await?;
    ensure!(next.attempt == 2, "{next:#?}");
    Ok(())
}

/// They are stored again in their order, no pod is touched, the rollout goes on, and one command returns from it.
async fn revisions_are_deleted_in_mid_rollout(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let canary = |tag| {
        let steps = json!([{"setWeight": 50}, {"pause": {}}]);
        with(
            migrating(tag),
            &json!({"strategy": {"type": "Canary", "canary": {"steps": steps, "bake": "0s"}}}),
        )
    };
    let first = space.roll_out("shop", &canary("v1")).await?.stable.context("nothing is stable")?;
    let generation = space.apply("shop", &canary("v2")).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let second = paused.candidate.context("no candidate")?.revision;
    let names = [format!("shop-{first}"), format!("shop-{second}")];
    let stored = |seen: &Seen| {
        let one = |name: &String| {
            let revision = seen.get("ControllerRevision", name)?;
            Some((revision["metadata"]["uid"].as_str()?.to_owned(), revision["revision"].as_i64()?))
        };
        names.iter().map(one).collect::<Option<Vec<_>>>()
    };
    let deleted = space.record().look(stored).context("two revisions")?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    space.kubectl(&["delete", "controllerrevision", &names[0], &names[1]], None).await?;
    let again = |seen: &Seen| {
        let now = stored(seen)?;
        let new = now.iter().zip(&deleted).all(|((uid, _), (gone, _))| uid != gone);
        new.then(|| now.into_iter().map(|(_, number)| number).collect::<Vec<_>>())
    };
    let numbers = space.wait("both revisions again", PATIENCE, again).await?;
    ensure!(numbers == [1, 2], "their order: {numbers:?}, before {deleted:?}");
    let now = space.record().look(|seen| pod_uids(seen, "shop"));
    ensure!(now.is_subset(&pods) && now.len() >= 2, "pods were touched: {pods:?}, now {now:?}");

    space.phx(&["promote", "--full"]).await?.coded(0)?;
    let status = space.wait_for("shop", generation, "Healthy", PATIENCE, healthy).await?;
    ensure!(status.stable.as_ref() == Some(&second) && status.attempt == 2, "{status:#?}");
    space.phx(&["rollback"]).await?.coded(0)?;
    let back = space.wait_phase("shop", generation, Phase::RolledBack, PATIENCE).await?;
    ensure!(back.stable.as_ref() == Some(&first), "{back:#?}");
    Ok(())
}

async fn foreign_objects_bear_our_names(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]},
    });
    space.kubectl(&["apply", "-f", "-"], Some(&service.to_string())).await?;
    let version = space.field("service/shop", "{.metadata.resourceVersion}").await?;
    space.apply("shop", &plain("v1")).await?;
    let blocked = space.wait_phase("shop", 1, Phase::Blocked, PATIENCE).await?;
    ensure!(condition(&blocked, "NameConflict").is_some_and(|c| c.0 == "True"), "{blocked:#?}");
    ensure!(condition(&blocked, "Stalled").is_some(), "{blocked:#?}");
    let says = message(&blocked, "NameConflict");
    for word in ["Service", space.name(), "shop", "delete or rename it", "another name"] {
        ensure!(says.contains(word), "{word:?} is not in {says:?}");
    }
    println!("name conflict: {says}");
    ensure!(space.field("service/shop", "{.metadata.resourceVersion}").await? == version, "it was touched");
    space.kubectl(&["delete", "service", "shop"], None).await?;
    let status = space.wait_phase("shop", 1, Phase::Healthy, PATIENCE).await?;
    ensure!(condition(&status, "NameConflict").is_none(), "{status:#?}");
    Ok(())
}

/// Applying the same again, and labels or annotations of the app, move nothing.
async fn an_unchanged_apply_writes_nothing(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let audit = Audit::new(space.lab().cluster().audit_log());
    rolled_out(&space).await?;
    let start = fixtures::at_rest(&space, &audit).await?;
    space.apply("shop", &migrating("v1")).await?;
    space.kubectl(&["label", "phoenixapp/shop", "team=a"], None).await?;
    space.kubectl(&["annotate", "phoenixapp/shop", "note=b"], None).await?;
    // A strategy's change is a new generation, and so one write of the status, which closes the measurement.
    let generation = space
        .apply("shop", &with(migrating("v1"), &json!({"strategy": {"progressDeadline": "20m"}})))
        .await?;
    let status = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(status.attempt == 1, "{status:#?}");
    let mut asked = audit.of_operator(start).await?;
    asked.retain(|request| request.namespace == space.name() && is_asked(request));
    let told: Vec<String> =
        asked.iter().map(|r| format!("{} {} {} at {}", r.verb, r.resource, r.name, r.at)).collect();
    ensure!(
        asked.len() == 1 && asked[0].resource == "phoenixapps/status",
        "more than the status was written: {told:?}"
    );
    Ok(())
}

/// To Recreate and back, on Deployments that were posted with what Recreate forbids: no pod is touched.
async fn the_strategy_is_switched(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let name = rolled_out(&space).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    for (kind, theirs) in [("Recreate", "Recreate"), ("Rolling", "RollingUpdate"), ("Recreate", "Recreate")] {
        let generation =
            space.apply("shop", &with(migrating("v1"), &json!({"strategy": {"type": kind}}))).await?;
        let switched = |seen: &Seen| {
            (seen.get("Deployment", &name)?["spec"]["strategy"]["type"] == theirs).then_some(())
        };
        space.wait(&format!("a Deployment of {theirs}"), PATIENCE, switched).await?;
        let status = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
        ensure!(status.attempt == 1, "a strategy is no revision: {status:#?}");
    }
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "pods were touched");
    Ok(())
}

/// Ports are told apart by number, and their names must not stand twice.
async fn ports_get_other_numbers(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = |port: u16, peers: u16| {
        let ports = json!([{"name": "gossip", "port": peers, "expose": "Peers"}]);
        with(plain("v1"), &json!({"traffic": {"service": {"port": port}}, "extraPorts": ports}))
    };
    space.roll_out("shop", &spec(80, 9568)).await?;
    space.roll_out("shop", &spec(8080, 9569)).await?;
    let number = "{.spec.ports[?(@.name==\"http\")].port}";
    ensure!(space.field("service/shop", number).await? == "8080", "the Service keeps its port");
    let number = "{.spec.ports[?(@.name==\"gossip\")].port}";
    let number = space.field("service/shop-headless", number).await?;
    ensure!(number == "9569", "the headless Service has {number}");
    Ok(())
}

async fn the_users_service_account_bears_the_apps_name(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    space.kubectl(&["create", "serviceaccount", "shop"], None).await?;
    space.roll_out("shop", &with(plain("v1"), &json!({"serviceAccountName": "shop"}))).await?;
    let owners = space.field("serviceaccount/shop", "{.metadata.ownerReferences}").await?;
    ensure!(owners.is_empty(), "it was taken over: {owners}");
    Ok(())
}
