//! What refuses one write of the operator's, or does not answer it, holds up nothing that does not need it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE, condition, message, migrating, plain, with};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{CommandAnswer, Outcome, Phase, PhoenixAppStatus};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn refusals() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        a_command_does_not_wait_for_what_was_refused_before_it,
        an_abort_needs_no_disruption_budget,
        a_webhook_at_the_edge_is_down,
        a_webhook_before_everything_is_down,
    ];
    fixtures::run(&lab, 4, cases).await?;
    Ok(())
}

/// No more of a resource than this many objects.
async fn quota(space: &Space, resource: &str, count: u32) -> Result<()> {
    let hard = format!("--hard=count/{resource}={count}");
    space.kubectl(&["create", "quota", "none", &hard], None).await?;
    space.kubectl(&["wait", "quota/none", "--for=jsonpath={.status.hard}", "--timeout=60s"], None).await?;
    Ok(())
}

/// A webhook for a resource in the space's namespace that nobody answers for.
async fn dead_webhook(space: &Space, group: &str, resource: &str) -> Result<()> {
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": space.name()},
        "webhooks": [{
            "name": "dead.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "clientConfig": {"url": "https://127.0.0.1:1/"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name()}},
            "rules": [{
                "apiGroups": [group], "apiVersions": ["*"], "resources": [resource],
                "operations": ["CREATE", "UPDATE", "DELETE"],
            }],
        }],
    });
    space.kubectl(&["create", "-f", "-"], Some(&webhook.to_string())).await?;
    Ok(())
}

/// The API server learns of it a moment after it is there.
async fn until_refused(space: &Space, object: &Value) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let create = ["create", "--dry-run=server", "-f", "-"];
    while space.kubectl(&create, Some(&object.to_string())).await.is_ok() {
        ensure!(tokio::time::Instant::now() < deadline, "the webhook is not asked");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn revive(space: &Space) -> Result<()> {
    space.kubectl(&["delete", "validatingwebhookconfiguration", space.name()], None).await?;
    Ok(())
}

async fn abort(space: &Space, generation: i64, status: &PhoenixAppStatus) -> Result<()> {
    let candidate = status.candidate.as_ref().context("there is no candidate")?;
    let text = format!("abort {}/{}", candidate.revision, candidate.attempt);
    space.command("shop", &text).await?;
    let accepted = |status: &PhoenixAppStatus| {
        let last = status.last_command.as_ref();
        last.is_some_and(|last| last.text == text && last.answer == CommandAnswer::Accepted)
    };
    space.wait_for("shop", generation, "the command to be accepted", PATIENCE, accepted).await?;
    Ok(())
}

/// Refused again and again, it is tried seldom; what a person asks for meanwhile is done at once.
async fn a_command_does_not_wait_for_what_was_refused_before_it(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    quota(&space, "jobs.batch", 0).await?;
    let generation = space.apply("shop", &migrating("v2")).await?;
    let blocked = space.wait_phase("shop", generation, Phase::Blocked, PATIENCE).await?;
    ensure!(condition(&blocked, "Ready") == Some(("False", "QuotaExceeded")), "{blocked:#?}");
    // By then the next try is 8 s away at the least (a quarter less by jitter): 1, 2, 4 and 8 s were waited for.
    tokio::time::sleep(Duration::from_secs(16)).await;
    abort(&space, generation, &blocked).await?;
    let aborted = space.wait_phase("shop", generation, Phase::Aborted, Duration::from_secs(3)).await?;
    ensure!(aborted.stable == first.stable, "{aborted:#?}");
    let verdict = aborted.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
    ensure!(verdict.is_some_and(|verdict| verdict.outcome == Outcome::Aborted), "{aborted:#?}");
    Ok(())
}

/// A quota forbids the budget: that is told, and the candidate's pods go all the same.
async fn an_abort_needs_no_disruption_budget(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = |tag: &str, replicas: u32| {
        let canary = json!({"steps": [{"setWeight": 50}, {"pause": {}}], "bake": "0s"});
        let fields = json!({"replicas": replicas, "strategy": {"type": "Canary", "canary": canary}});
        with(plain(tag), &fields)
    };
    quota(&space, "poddisruptionbudgets.policy", 0).await?;
    let first = space.roll_out("shop", &spec("v1", 1)).await?;
    let generation = space.apply("shop", &spec("v2", 2)).await?;
    let refused = |status: &PhoenixAppStatus| {
        status.candidate.is_some() && condition(status, "Ready") == Some(("False", "QuotaExceeded"))
    };
    let blocked = space.wait_for("shop", generation, "the quota to be told of", PATIENCE, refused).await?;
    let says = message(&blocked, "Ready");
    ensure!(says.contains("PodDisruptionBudget") && says.contains("raise the ResourceQuota"), "{says}");
    let v2 = blocked.candidate.clone().context("no candidate")?.revision;
    let pods = |seen: &Seen| (!seen.ready_pods("shop", &v2).is_empty()).then_some(());
    space.wait("a pod of v2", PATIENCE, pods).await?;
    abort(&space, generation, &blocked).await?;
    let back = |seen: &Seen| {
        let stable = seen.ready_pods("shop", first.stable.as_deref()?).len() == 2;
        (stable && seen.all_gone("shop", &v2)).then_some(())
    };
    space.wait("the pods of v2 to be gone, and two of v1", PATIENCE, back).await?;
    space.kubectl(&["delete", "quota", "none"], None).await?;
    space.wait_phase("shop", generation, Phase::Aborted, PATIENCE).await?;
    space.kubectl(&["wait", "--for=create", "--timeout=60s", "poddisruptionbudget/shop"], None).await?;
    Ok(())
}

/// It is told, releases go on, and the Ingress comes once the webhook answers.
async fn a_webhook_at_the_edge_is_down(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    dead_webhook(&space, "networking.k8s.io", "ingresses").await?;
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "other"},
        "spec": {"defaultBackend": {"service": {"name": "other", "port": {"number": 80}}}},
    });
    until_refused(&space, &ingress).await?;
    let routed = |tag: &str| {
        let steps = json!([{"setWeight": 50}, {"pause": {"duration": "2s"}}]);
        let fields = json!({
            "hosts": ["shop.example.com"], "traffic": {"ingress": {"className": "nginx"}},
            "strategy": {"type": "Canary", "canary": {"steps": steps, "bake": "0s"}},
        });
        with(plain(tag), &fields)
    };
    space.roll_out("shop", &routed("v1")).await?;
    let status = space.roll_out("shop", &routed("v2")).await?;
    let generation = status.observed_generation;
    let told = fixtures::edge_refused(&space, generation, "WebhookUnreachable").await?;
    ensure!(message(&told, "EdgeRefused").contains("dead.example.com"), "{told:#?}");
    revive(&space).await?;
    fixtures::edge_accepted(&space, generation, "nginx").await
}

/// The cause stands in the status, not only in a log, and the release goes through once the webhook answers.
async fn a_webhook_before_everything_is_down(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    dead_webhook(&space, "apps", "deployments").await?;
    let pod = json!({"metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"},
        "spec": {"selector": {"matchLabels": {"app": "other"}}, "template": pod},
    });
    until_refused(&space, &deployment).await?;
    let generation = space.apply("shop", &plain("v2")).await?;
    let blocked = space.wait_phase("shop", generation, Phase::Blocked, PATIENCE).await?;
    ensure!(condition(&blocked, "Ready") == Some(("False", "WebhookUnreachable")), "{blocked:#?}");
    ensure!(blocked.message.contains("dead.example.com") && blocked.stable == first.stable, "{blocked:#?}");
    revive(&space).await?;
    space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    Ok(())
}
