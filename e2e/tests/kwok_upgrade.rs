//! An operator that would render otherwise takes over: no pod restarts, and only new revisions are rendered anew.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::Audit;
use e2e::fixtures::{self, migrating, plain, pod_uids, templates, with};
use e2e::harness::{Lab, OperatorOptions, Seen, Space};
use serde_json::{Value, json};
use tokio::process::Command;

/// What the changed builder adds to each new pod template.
const MARK: &str = "CHANGED_BUILDER";

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_restarts_no_pod() -> Result<()> {
    let lab = Lab::fake().await?;
    fixtures::run(&lab, 1, e2e::cases![taken_over_at_rest, taken_over_during_a_rollout]).await?;
    Ok(())
}

/// The operator with the feature `changed-builder`.
async fn changed() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "phoenix-operator", "--bin", "phoenix-operator"])
        .args(["--features", "changed-builder", "--message-format=json-render-diagnostics"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("starting cargo")?;
    ensure!(output.status.success(), "building the changed operator ended with {}", output.status);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back()
        .context("cargo named no program")
}

async fn options(space: &Space) -> Result<OperatorOptions> {
    Ok(OperatorOptions {
        namespaces: vec![space.name().to_owned()],
        program: Some(changed().await?),
        ..OperatorOptions::default()
    })
}

/// Whether the template of an app's Deployment with that image was rendered by the changed builder.
fn marked(seen: &Seen, app: &str, image: &str) -> Option<bool> {
    let deployment = seen.all("Deployment").find(|deployment| {
        fixtures::label(deployment, phoenix_operator::api::labels::APP) == app
            && deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str)
                == Some(image)
    })?;
    let env = deployment.pointer("/spec/template/spec/containers/0/env")?.as_array()?;
    Some(env.iter().any(|entry| entry["name"] == MARK))
}

async fn taken_over_at_rest(space: Arc<Space>) -> Result<()> {
    let audit = Audit::new(space.lab().cluster().audit_log());
    let mut operator = space.operator().await?;
    let recreate = with(plain("v1"), &json!({"strategy": {"type": "Recreate"}, "replicas": 1}));
    let apps = [("plain", plain("v1")), ("migrating", migrating("v1")), ("recreate", recreate)];
    for (app, spec) in &apps {
        space.roll_out(app, spec).await?;
    }
    // One with a history, and one that was restarted.
    space.roll_out("plain", &plain("v2")).await?;
    let restarted = space.roll_out("restarted", &plain("v1")).await?.stable.context("nothing is stable")?;
    let deployment = format!("deployment/restarted-{restarted}");
    space.kubectl(&["rollout", "restart", &deployment], None).await?;
    space.kubectl(&["rollout", "status", &deployment, "--timeout=60s"], None).await?;
    let two = |seen: &Seen| (seen.web_pods("restarted").len() == 2).then_some(());
    space.wait("two pods after the restart", fixtures::PATIENCE, two).await?;
    operator.stop().await?;

    let pods = |seen: &Seen| -> Vec<_> {
        ["plain", "migrating", "recreate", "restarted"].iter().map(|app| pod_uids(seen, app)).collect()
    };
    let before = space.record().look(templates);
    let pods_before = space.record().look(pods);
    let revisions_before = space.field("controllerrevisions", "{.items[*].data}").await?;
    let start = audit.end()?;
    let _changed = space.operator_with(&options(&space).await?).await?;
    // A new app is served once all that was there has been looked at; its template is the changed builder's.
    space.roll_out("fresh", &plain("v1")).await?;
    let is_marked =
        |app: &str, tag: &str| space.record().look(|seen| marked(seen, app, &fixtures::image(tag)));
    ensure!(is_marked("fresh", "v1") == Some(true), "the changed builder changes nothing");

    let mut after = space.record().look(templates);
    after.retain(|name, _| before.contains_key(name));
    ensure!(before == after, "templates before: {before:#?}\nafter: {after:#?}");
    ensure!(space.record().look(pods) == pods_before, "pods were replaced");
    let writes: Vec<_> = audit
        .of_operator(start)
        .await?
        .into_iter()
        .filter(|r| !["get", "list", "watch"].contains(&r.verb.as_str()))
        .filter(|r| r.namespace == space.name() && !r.name.starts_with("fresh"))
        // What was told of the restart may still have been on its way into its status.
        .filter(|r| {
            !(r.name.starts_with("restarted")
                && ["events", "phoenixapps/status"].contains(&r.resource.as_str()))
        })
        .collect();
    println!("upgrade at rest: {} Deployments unchanged; writes: {writes:#?}", before.len());
    ensure!(writes.is_empty(), "the changed operator wrote at rest");
    let revisions = space.field("controllerrevisions", "{.items[*].data}").await?;
    for stored in revisions_before.split(' ') {
        ensure!(revisions.contains(stored), "a stored revision changed: {stored}");
    }

    // Scaling and repair use the stored template.
    let generation = space.apply("plain", &with(plain("v2"), &json!({"replicas": 3}))).await?;
    let three = |status: &phoenix_operator::api::PhoenixAppStatus| status.ready_replicas == 3;
    space.wait_for("plain", generation, "3 pods", fixtures::PATIENCE, three).await?;
    ensure!(is_marked("plain", "v2") == Some(false), "scaling rendered anew");
    // A return uses what is stored, a new revision what is built.
    space.roll_out("plain", &plain("v1")).await?;
    ensure!(is_marked("plain", "v1") == Some(false), "a return rendered anew");
    space.roll_out("plain", &plain("v3")).await?;
    ensure!(is_marked("plain", "v3") == Some(true), "a new revision was not rendered anew");
    Ok(())
}

/// What was stored before is finished as it was stored.
async fn taken_over_during_a_rollout(space: Arc<Space>) -> Result<()> {
    let options = options(&space).await?;
    let mut operator = space.operator().await?;
    let six = |tag| with(migrating(tag), &json!({"replicas": 6}));
    space.roll_out("shop", &six("v1")).await?;
    let generation = space.apply("shop", &six("v2")).await?;
    let half = |seen: &Seen| {
        let candidate = seen.status("shop")?.candidate?.revision;
        (!seen.ready_pods("shop", &candidate).is_empty()).then_some(())
    };
    space.wait("a ready pod of v2", fixtures::PATIENCE, half).await?;
    operator.kill9().await?;
    let _changed = space.operator_with(&options).await?;
    space.wait_phase("shop", generation, phoenix_operator::api::Phase::Healthy, fixtures::PATIENCE).await?;
    for tag in ["v1", "v2"] {
        let marked = space.record().look(|seen| marked(seen, "shop", &fixtures::image(tag)));
        ensure!(marked == Some(false), "{tag} was rendered anew");
    }
    Ok(())
}
