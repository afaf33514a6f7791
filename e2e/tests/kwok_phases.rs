//! Migrations in phases, and the database's connections, on a real API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE, condition, image, migrating, with};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{
    CommandAnswer, FollowUpKind, FollowUpState, Outcome, Phase, PhoenixAppStatus, labels,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn databases_change_in_phases() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        what_comes_before,
        a_backup_fails,
        a_contract_comes_last,
        a_contract_forbids_a_revert,
        a_contract_is_tried_again,
        migrations_are_rolled_back,
        a_budget_bounds_a_rollout,
    ];
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

fn phases(tag: &str, fields: &Value) -> Value {
    with(migrating(tag), &json!({"migrations": fields}))
}

/// Jobs of a revision by stage, with the store's revisions at which each was made and was gone.
fn jobs(seen: &Seen, revision: &str) -> BTreeMap<String, (u64, u64)> {
    let mut jobs = BTreeMap::new();
    for event in
        seen.history("Job").filter(|event| fixtures::label(&event.object, labels::REVISION) == revision)
    {
        let stage = event.object.pointer("/metadata/annotations").and_then(|all| all.get(labels::STAGE));
        let stage = stage.and_then(Value::as_str).unwrap_or("migrate").to_owned();
        let (_, last) = jobs.entry(stage).or_insert((event.revision, event.revision));
        *last = event.revision;
    }
    jobs
}

fn annotation(seen: &Seen, revision: &str, key: &str) -> Option<String> {
    let stored = seen.get("ControllerRevision", &format!("shop-{revision}"))?;
    Some(stored.pointer("/metadata/annotations")?.get(key)?.as_str()?.to_owned())
}

/// The store's revision at which the last serving pod of a revision was gone.
fn last_pod(seen: &Seen, revision: &str) -> u64 {
    let of = |event: &&e2e::harness::Event| {
        fixtures::label(&event.object, labels::REVISION) == revision
            && fixtures::label(&event.object, labels::COMPONENT) == labels::WEB
    };
    seen.history("Pod").filter(of).map(|event| event.revision).max().unwrap_or_default()
}

fn followed(kind: FollowUpKind, state: FollowUpState) -> impl Fn(&PhoenixAppStatus) -> bool {
    move |status| status.follow_up.as_ref().is_some_and(|known| (known.kind, known.state) == (kind, state))
}

async fn what_comes_before(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let before = json!([
        {"name": "backup", "image": "registry.local/pg:17", "command": ["pg_dump"], "args": ["-Fc", "a <b> && c"],
            "env": [{"name": "BUCKET", "value": "dumps"}]},
        {"name": "extension", "command": ["psql"]},
    ]);
    let status = space.roll_out("shop", &phases("v1", &json!({"before": before}))).await?;
    let stable = status.stable.context("nothing is stable")?;
    let made = space.record().look(|seen| jobs(seen, &stable));
    let at = |stage: &str| made.get(stage).copied().with_context(|| format!("no Job {stage} in {made:?}"));
    let (first, second, migration) = (at("before-1")?, at("before-2")?, at("migrate")?);
    ensure!(first.1 <= second.0 && second.1 <= migration.0, "one after the other: {made:?}");
    let pods = space.record().look(|seen| fixtures::migrated_first(seen, "shop", &stable))?;
    ensure!(pods == 3, "{pods} pods of three Jobs");
    let container = space.record().look(|seen| {
        let mut jobs = seen.history("Job");
        jobs.find_map(|event| event.object.pointer("/spec/template/spec/containers/0").cloned())
    });
    let container = container.context("no Job was seen")?;
    ensure!(
        container["image"] == "registry.local/pg:17" && container["args"] == json!(["-Fc", "a <b> && c"]),
        "{container:#}"
    );
    println!("backup, extension and migration ran in this order: {made:?}");
    Ok(())
}

async fn a_backup_fails(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &migrating("v1")).await?;
    let backup = json!({"retries": 0, "before": [
        {"name": "backup", "image": "registry.local/pg:failmigrate", "command": ["pg_dump"]},
    ]});
    let generation = space.apply("shop", &phases("v2", &backup)).await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    ensure!(
        failed.stable == first.stable && condition(&failed, "Migrated") == Some(("False", "MigrationFailed"))
    );
    ensure!(failed.message.contains("the Job before the migration, shop-before-1-"), "{}", failed.message);
    let candidate = failed.candidate.context("no candidate")?.revision;
    let made = space.record().look(|seen| jobs(seen, &candidate));
    ensure!(made.keys().eq(["before-1"]), "no migration without its backup: {made:?}");
    Ok(())
}

/// Rolls a release out, and over it one whose contract is done then; returns the first one's revision, and how the second
/// stands.
async fn contracted(space: &Space) -> Result<(String, PhoenixAppStatus)> {
    let v1 = space.roll_out("shop", &migrating("v1")).await?.stable.context("nothing is stable")?;
    let contract = phases("v2", &json!({"contract": {"command": ["/app/bin/contract"]}}));
    let generation = space.apply("shop", &contract).await?;
    let done = followed(FollowUpKind::Contract, FollowUpState::Succeeded);
    let status = space.wait_for("shop", generation, "the contract", PATIENCE, done).await?;
    Ok((v1, status))
}

async fn a_contract_comes_last(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let (v1, status) = contracted(&space).await?;
    let generation = status.observed_generation;
    let v2 = status.stable.clone().context("nothing is stable")?;
    ensure!(status.rollback_safe == Some(false), "{status:#?}");
    let (made, gone) = space.record().look(|seen| (jobs(seen, &v2), last_pod(seen, &v1)));
    let contracted = made.get("contract").context("no contract")?;
    ensure!(
        gone < contracted.0,
        "the contract began at {}, the last old pod was gone at {gone}",
        contracted.0
    );
    ensure!(space.record().look(|seen| annotation(seen, &v2, labels::CONTRACTED)).is_some(), "not recorded");
    space.wait("the Job to go", PATIENCE, |seen| (seen.all("Job").count() == 0).then_some(())).await?;
    println!("the last pod of v1 was gone at {gone}, the contract began at {}", contracted.0);

    space.command("shop", &format!("rollback {v2}/{}", status.attempt)).await?;
    let answered = |wanted| {
        move |status: &PhoenixAppStatus| {
            status.last_command.as_ref().is_some_and(|last| last.answer == wanted)
        }
    };
    let refused = answered(CommandAnswer::Refused);
    let status = space.wait_for("shop", generation, "a refusal", PATIENCE, refused).await?;
    ensure!(status.stable.as_ref() == Some(&v2), "{status:#?}");
    println!("{}", status.last_command.context("no answer")?.message);
    let history = space.phx(&["history", "shop"]).await?.coded(0)?;
    ensure!(history.out.contains("previous, by force"), "{}", history.out);
    space.phx(&["rollback", "shop", "--force"]).await?.coded(0)?;
    let back = |status: &PhoenixAppStatus| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        verdict.is_some_and(|verdict| verdict.outcome == Outcome::RolledBack && verdict.returned)
    };
    let status = space.wait_for("shop", generation, "v1", PATIENCE, back).await?;
    ensure!(status.stable.as_ref() == Some(&v1), "{status:#?}");
    // The database is as it was.
    let rolled = space.record().look(|seen| jobs(seen, &v2).contains_key("rollback"));
    ensure!(!rolled && status.follow_up.is_none(), "{status:#?}");
    Ok(())
}

/// The spec of the release before, as `git revert` brings it: not a pod of it is made, unless a person insists.
async fn a_contract_forbids_a_revert(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let (v1, status) = contracted(&space).await?;
    let v2 = status.stable;
    let before = space.record().look(|seen| last_pod(seen, &v1));

    let generation = space.apply("shop", &migrating("v1")).await?;
    let status = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    let verdict = status.candidate.and_then(|candidate| candidate.verdict).context("no verdict")?;
    ensure!(verdict.reason == "BehindContract" && status.stable == v2, "{verdict:#?}");
    println!("{}", verdict.message);
    ensure!(space.record().look(|seen| last_pod(seen, &v1)) == before, "a pod of v1 was made");

    space.phx(&["rollback", "shop", "--force"]).await?.coded(0)?;
    let status = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(status.stable.as_ref() == Some(&v1) && status.candidate.is_none(), "{status:#?}");
    Ok(())
}

/// Its pod is deleted by hand, and so fails; what serves does not notice.
async fn a_contract_is_tried_again(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &migrating("v1")).await?;
    ensure!(first.phase == Some(Phase::Healthy), "{first:#?}");
    let contract = json!({"retries": 0, "contract": {"command": ["/app/bin/contract"]}});
    let generation = space.apply("shop", &phases("v2", &contract)).await?;
    // The Job itself is taken away: it is made anew, for its success was not recorded.
    let made = space.wait("the contract's Job", PATIENCE, |seen| {
        let job = seen.all("Job").find(|job| {
            job.pointer("/metadata/annotations").and_then(|all| all.get(labels::STAGE))
                == Some(&json!("contract"))
        })?;
        job["metadata"]["name"].as_str().map(str::to_owned)
    });
    let name = made.await?;
    let _ = space.kubectl(&["delete", "job", &name, "--ignore-not-found", "--wait=false"], None).await?;
    let done = followed(FollowUpKind::Contract, FollowUpState::Succeeded);
    let status = space.wait_for("shop", generation, "the contract", PATIENCE, done).await?;
    ensure!(status.phase == Some(Phase::Healthy) && status.ready_replicas == 2, "{status:#?}");
    Ok(())
}

async fn migrations_are_rolled_back(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let v1 = space.roll_out("shop", &migrating("v1")).await?.stable.context("nothing is stable")?;
    let newer = phases("v2", &json!({"rollback": {"command": ["/app/bin/rollback"]}}));
    let status = space.roll_out("shop", &newer).await?;
    let v2 = status.stable.context("nothing is stable")?;
    let generation = status.observed_generation;
    space.phx(&["rollback", "shop", "--with-migrations"]).await?.coded(0)?;
    let done = followed(FollowUpKind::Rollback, FollowUpState::Succeeded);
    let status = space.wait_for("shop", generation, "the way back", PATIENCE, done).await?;
    ensure!(status.stable.as_ref() == Some(&v1) && status.ready_replicas == 2, "{status:#?}");
    let (made, gone) = space.record().look(|seen| (jobs(seen, &v2), last_pod(seen, &v2)));
    let rolled = made.get("rollback").context("no Job")?;
    ensure!(gone < rolled.0, "it began at {}, the last pod of v2 was gone at {gone}", rolled.0);
    let container = space.record().look(|seen| {
        let mut events = seen.history("Job");
        events.find_map(|event| {
            let container = event.object.pointer("/spec/template/spec/containers/0")?;
            (container["command"] == json!(["/app/bin/rollback"])).then(|| container["image"].clone())
        })
    });
    ensure!(container == Some(json!(image("v2"))), "with the newer image: {container:?}");
    ensure!(space.record().look(|seen| annotation(seen, &v2, labels::MIGRATED)).is_none(), "still recorded");
    println!("v2's pods were gone at {gone}, the way back began at {}", rolled.0);

    // A return migrates again.
    space.phx(&["retry", "shop"]).await?.coded(0)?;
    let again =
        |status: &PhoenixAppStatus| status.phase == Some(Phase::Healthy) && status.candidate.is_none();
    let status = space.wait_for("shop", generation, "v2 again", PATIENCE, again).await?;
    ensure!(status.stable.as_ref() == Some(&v2), "{status:#?}");
    let migrations = space.record().look(|seen| seen.migration_pods("shop", &v2).len());
    ensure!(migrations == 3, "{migrations} pods: two migrations and one way back");
    Ok(())
}

async fn a_budget_bounds_a_rollout(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let sized = |tag: &str, max: u32| {
        let database = json!({"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}, "poolSize": 10, "maxConnections": max});
        let strategy = json!({"rolling": {"maxSurge": 3}});
        with(migrating(tag), &json!({"replicas": 3, "database": database, "strategy": strategy}))
    };
    space.roll_out("shop", &sized("v1", 30)).await?;
    let generation = space.apply("shop", &sized("v2", 30)).await?;
    let blocked = space.wait_phase("shop", generation, Phase::Blocked, PATIENCE).await?;
    let sum = "3 serving pods x 10 + 1 migration x 10 = 40 > database.maxConnections 30";
    ensure!(blocked.message.contains(sum) && blocked.ready_replicas == 3, "{}", blocked.message);
    println!("{}", blocked.message);
    // Raised by one pod: the surge of three becomes one of one.
    space.roll_out("shop", &sized("v2", 40)).await?;
    let most = space.record().look(most_pods);
    ensure!(most == 4, "{most} pods and Jobs at once");
    Ok(())
}

/// Most pods that were there at once, those on their way out included.
fn most_pods(seen: &Seen) -> usize {
    let mut there: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    let mut most = 0;
    for event in seen.history("Pod") {
        let ended = event
            .object
            .pointer("/status/phase")
            .is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
        if ended || event.change == e2e::harness::Change::Deleted {
            there.remove(event.name.as_str());
        } else {
            there.insert(&event.name);
        }
        most = most.max(there.len());
    }
    most
}
