//! The kubectl plugin on a real API server: what it shows is so, what it asks for happens, and how it ends is as
//! documented.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE, migrating, plain, with};
use e2e::harness::{Lab, Space};
use phoenix_operator::api::Phase;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_shows_and_steers() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        an_app_is_found,
        a_canary_is_steered,
        a_failure_is_explained,
        commands_are_declined_and_time_out,
        plans_come_true,
        status_is_watched_on_a_terminal,
        a_report_holds_no_secret,
    ];
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

fn canary(tag: &str) -> Value {
    with(
        plain(tag),
        &json!({"replicas": 4, "strategy": {"type": "Canary", "canary": {
            "steps": [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}], "bake": "0s"}}}),
    )
}

fn has(text: &str, wanted: &[&str]) -> Result<()> {
    for word in wanted {
        ensure!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    Ok(())
}

async fn an_app_is_found(space: Arc<Space>) -> Result<()> {
    let none = space.phx(&["status"]).await?.coded(1)?;
    has(&none.err, &["there is no PhoenixApp in namespace"])?;
    let _operator = space.operator().await?;
    let shop = space.roll_out("shop", &plain("v1")).await?;
    let stable = shop.stable.context("nothing is stable")?;
    let alone = space.phx(&["status"]).await?.coded(0)?;
    has(&alone.out, &["shop Healthy", &stable, "stable", "2/2 serve", "✓ TrafficShifted"])?;
    ensure!(!alone.out.contains('\x1b'), "colours without a terminal: {}", alone.out);
    let view = space.phx(&["status", "-o", "json"]).await?.coded(0)?.json()?;
    ensure!(view["phase"] == "Healthy" && view["serving"] == 2, "{view:#}");
    let yaml = space.phx(&["status", "shop", "-o", "yaml"]).await?.coded(0)?;
    has(&yaml.out, &["phase: Healthy"])?;

    space.roll_out("blog", &plain("v1")).await?;
    let which = space.phx(&["status"]).await?.coded(1)?;
    has(&which.err, &["which app?", "blog, shop"])?;
    let wrong = space.phx(&["explain", "shpo"]).await?.coded(1)?;
    has(&wrong.err, &["there is no PhoenixApp shpo", "blog, shop"])?;
    space.phx(&["no-such-command"]).await?.coded(1)?;
    for shell in ["bash", "zsh", "fish"] {
        has(&space.phx(&["completion", shell]).await?.coded(0)?.out, &["kubectl-phx"])?;
    }
    Ok(())
}

async fn a_canary_is_steered(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &canary("v1")).await?.stable.context("nothing is stable")?;
    let generation = space.apply("shop", &canary("v2")).await?;
    space.phx(&["wait", "--for", "paused", "--timeout", "90s"]).await?.coded(0)?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let second = paused.candidate.context("no candidate")?.revision;
    let status = space.phx(&["status"]).await?.coded(0)?;
    has(
        &status.out,
        &["Paused", "✓ 1. set weight 25 %", "▶ 2. pause until promoted", "kubectl phx promote shop"],
    )?;
    has(&space.phx(&["explain"]).await?.coded(0)?.out, &["is Paused", "step 2 of 4", "What to do"])?;

    // Of another step than the one under way: told so, and nothing happens.
    space.phx(&["promote", "--step", "4"]).await?.coded(3)?;
    let promoted = space.phx(&["promote", "shop", "-o", "json"]).await?.coded(0)?.json()?;
    ensure!(promoted["answer"] == "Accepted", "{promoted:#}");
    let at_four = |status: &phoenix_operator::api::PhoenixAppStatus| {
        status.phase == Some(Phase::Paused) && status.candidate.as_ref().is_some_and(|one| one.step == 3)
    };
    space.wait_for("shop", generation, "the pause of step 4", PATIENCE, at_four).await?;

    space.phx(&["abort"]).await?.coded(0)?;
    let ended = space.phx(&["wait", "--timeout", "90s"]).await?.coded(2)?;
    has(&ended.out, &["Aborted"])?;
    let aborted = space.wait_phase("shop", generation, Phase::Aborted, PATIENCE).await?;
    ensure!(aborted.stable.as_ref() == Some(&first), "{aborted:#?}");

    space.phx(&["retry"]).await?.coded(0)?;
    space.phx(&["wait", "--for", "paused", "--timeout", "90s"]).await?.coded(0)?;
    space.phx(&["promote", "--full"]).await?.coded(0)?;
    space.phx(&["wait", "--timeout", "90s"]).await?.coded(0)?;
    let history = space.phx(&["history", "-o", "json"]).await?.coded(0)?.json()?;
    let outcomes: Vec<&str> =
        history.as_array().into_iter().flatten().filter_map(|row| row["outcome"].as_str()).collect();
    ensure!(outcomes == ["Promoted", "Aborted", "Promoted"], "{history:#}");
    ensure!(history[0]["revision"] == second.as_str() && history[0]["now"] == "stable", "{history:#}");
    ensure!(history[0]["image"].as_str().is_some_and(|image| image.ends_with(":v2")), "{history:#}");

    space.phx(&["rollback"]).await?.coded(0)?;
    space.phx(&["wait", "--timeout", "90s"]).await?.coded(2)?;
    let back = space.wait_phase("shop", generation, Phase::RolledBack, PATIENCE).await?;
    ensure!(back.stable.as_ref() == Some(&first), "{back:#?}");
    Ok(())
}

async fn a_failure_is_explained(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    space.roll_out("shop", &migrating("v1")).await?;
    let mut broken = migrating("failmigrate");
    broken["migrations"] = json!({"retries": 0});
    space.apply("shop", &broken).await?;
    let ended = space.phx(&["wait", "--timeout", "90s"]).await?.coded(2)?;
    has(&ended.out, &["Failed", "migration"])?;
    let why = space.phx(&["explain"]).await?.coded(0)?;
    has(&why.out, &["is Failed", "exit code 1", "the migration failed", "kubectl phx retry shop"])?;
    ensure!(why.out.trim_end().lines().count() == 1, "more than a paragraph: {}", why.out);
    has(&space.phx(&["status"]).await?.coded(0)?.out, &["✗ Migrated", "migration failed", "exit code 1"])?;
    Ok(())
}

async fn commands_are_declined_and_time_out(space: Arc<Space>) -> Result<()> {
    let mut operator = space.operator().await?;
    space.roll_out("shop", &plain("v1")).await?;
    // Nothing to abort; and the same again is answered again.
    for _ in 0..2 {
        space.phx(&["abort"]).await?.coded(3)?;
    }
    for verb in ["pause", "resume", "restart"] {
        space.phx(&[verb]).await?.coded(0)?;
    }
    space.phx(&["wait", "--timeout", "90s"]).await?.coded(0)?;
    operator.stop().await?;
    let silent = space.phx(&["restart", "--timeout", "2s"]).await?.coded(4)?;
    has(&silent.out, &["no operator answered"])?;
    space.phx(&["restart", "--no-wait"]).await?.coded(0)?;
    space.apply("shop", &plain("v2")).await?;
    space.phx(&["wait", "--timeout", "2s"]).await?.coded(4)?;
    Ok(())
}

/// What is planned is what then happens: the revision, the objects, the order of the Service's selectors.
async fn plans_come_true(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let three = |tag: &str| with(migrating(tag), &json!({"replicas": 3}));
    for (number, spec) in [
        three("v1"),
        three("v2"),
        with(three("v2"), &json!({"replicas": 5})),
        with(three("v3"), &json!({"replicas": 2, "strategy": {"type": "Recreate"}})),
        three("v1"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = space.lab().directory(&format!("plan-{}-{number}.json", space.name()));
        let manifest = json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
            "metadata": {"name": "shop"}, "spec": spec,
        });
        std::fs::write(&file, manifest.to_string())?;
        let file = file.to_string_lossy().into_owned();
        // The harness applies server-side, as this manager.
        let arguments =
            ["plan", "--server-side", "--field-manager", "e2e", "-o", "json", "-f", file.as_str()];
        let plan = space.phx(&arguments).await?.coded(0)?.json()?;
        let before = space.record().look(|seen| seen.events.len());
        let status = space.roll_out("shop", &spec).await?;
        ensure!(plan["revision"] == status.stable.as_deref().unwrap_or_default(), "{plan:#}\n{status:#?}");
        ensure!(plan["end"]["phase"] == "Healthy", "{plan:#}");
        let (made, selected) = space.record().look(|seen| {
            let events = &seen.events[before..];
            let made = |kind: &str, name: &str| {
                seen.objects.contains_key(&(kind.to_owned(), name.to_owned()))
                    || events.iter().any(|event| event.kind == kind && event.name == name)
            };
            let unmade: Vec<String> = plan["objects"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|change| change["action"] == "create" || change["action"] == "run")
                .filter(|change| {
                    !["Secret", "ConfigMap"].contains(&change["kind"].as_str().unwrap_or_default())
                })
                .filter(|change| {
                    !made(
                        change["kind"].as_str().unwrap_or_default(),
                        change["name"].as_str().unwrap_or_default(),
                    )
                })
                .map(ToString::to_string)
                .collect();
            let mut selected: Vec<String> = events
                .iter()
                .filter(|event| event.kind == "Service" && event.name == "shop")
                .map(|event| {
                    let revision = event.object["spec"]["selector"]
                        .get("phoenix-operator.dev/revision")
                        .and_then(Value::as_str);
                    revision
                        .map_or("every revision".to_owned(), |revision| format!("revision {revision} alone"))
                })
                .collect();
            selected.dedup();
            (unmade, selected)
        });
        ensure!(made.is_empty(), "planned and not seen: {made:?}");
        let planned: Vec<&str> = plan["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|step| step["what"].as_str()?.strip_prefix("Service shop sends requests to "))
            .collect();
        let mut rest = selected.iter();
        ensure!(
            planned.iter().all(|wanted| rest.any(|seen| seen == wanted)),
            "planned {planned:?}, seen {selected:?}"
        );
        println!("edit {number}: as planned, {planned:?}");
    }
    let offline = space.lab().directory(&format!("offline-{}.yaml", space.name()));
    std::fs::write(
        &offline,
        "apiVersion: phoenix-operator.dev/v1alpha1\nkind: PhoenixApp\nmetadata: {name: new}\nspec: {image: x:1}\n",
    )?;
    let offline = offline.to_string_lossy().into_owned();
    has(
        &space.phx(&["plan", "--offline", "-f", &offline]).await?.coded(0)?.out,
        &["a new revision", "ends Healthy"],
    )?;
    Ok(())
}

async fn status_is_watched_on_a_terminal(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    space.roll_out("shop", &plain("v1")).await?;
    let screen = space.phx_screen(&["status", "--watch"]).await?;
    let first = screen.shows("shop Healthy", PATIENCE).await?;
    ensure!(first.starts_with(&format!("{}/shop", space.name())), "not at the top:\n{first}");
    ensure!(screen.look(true).await?.contains("\x1b["), "no colours on a terminal");
    let second = space.roll_out("shop", &plain("v2")).await?.stable.context("nothing is stable")?;
    let wanted = format!("{second} stable 2/2 serve");
    let after = screen.shows(&wanted, PATIENCE).await?;
    ensure!(after.matches("/shop ").count() == 1, "drawn twice:\n{after}");
    screen.press("C-c").await?;
    let left = screen.shows("ended with 0", Duration::from_secs(10)).await?;
    has(&left, &[&wanted])?;
    Ok(())
}

async fn a_report_holds_no_secret(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = with(plain("v1"), &json!({"env": [{"name": "API_KEY", "value": "xyzzy-topsecret"}]}));
    space.roll_out("shop", &spec).await?;
    let file = space.lab().directory(&format!("report-{}.zip", space.name()));
    let path = file.to_string_lossy().into_owned();
    let written = space.phx(&["report", "--file", &path, "-o", "json"]).await?.coded(0)?.json()?;
    let names: Vec<&str> =
        written["files"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for wanted in ["phoenixapp/shop.yaml", "service/shop.yaml", "events.yaml", "explain.txt", "status.txt"] {
        ensure!(names.contains(&wanted), "{wanted} is not in {names:?}");
    }
    ensure!(!names.iter().any(|name| name.starts_with("secret/")), "{names:?}");
    // Stored, not compressed: what is in it can be searched as it is.
    let bytes = std::fs::read(&file)?;
    let text = String::from_utf8_lossy(&bytes);
    ensure!(text.starts_with("PK") && text.contains("API_KEY"), "not the report that was expected");
    ensure!(!text.contains("xyzzy-topsecret"), "a value of the environment is in the report");
    Ok(())
}
