//! The kubectl plugin on real pods of a real release.

use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::harness::Space;
use phoenix_operator::api::Phase;
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

/// A console is to answer within this time.
const CONSOLE: Duration = Duration::from_mins(1);

pub async fn looks_into_pods(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let v1 = shop::first(&space).await;
    shop::meshed(&space, &v1).await;
    mesh(&space, &v1).await;
    calls(&space, &v1).await;
    logs(&space, &v1).await;
    one_off(&space).await;
    doctor(&space).await;
    console(&space, &v1).await;
    a_candidate(&space, &v1).await;
    space.record().look(|seen| {
        assert_eq!(seen.ready_pods(SHOP, &v1).len(), REPLICAS, "looking changes nothing");
    });
}

fn has(text: &str, wanted: &[&str]) {
    for word in wanted {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

fn pods(space: &Space, revision: &str) -> Vec<(String, String)> {
    let of = |pod: &&Value| (shop::name(pod), shop::node_of(pod));
    space.record().look(|seen| seen.ready_pods(SHOP, revision).iter().map(of).collect())
}

/// `cluster`: each node, and whom it sees.
async fn mesh(space: &Space, revision: &str) {
    let start = Instant::now();
    let text = space.phx(&["cluster"]).await.unwrap().coded(0).unwrap().out;
    println!("cluster, after {:?}:\n{text}", start.elapsed());
    has(&text, &["POD", "NODE", "SEES", "2 of 2"]);
    let rows = space.phx(&["cluster", "-o", "json"]).await.unwrap().coded(0).unwrap().json().unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), REPLICAS);
    for (pod, node) in pods(space, revision) {
        let row = rows.iter().find(|row| row["pod"] == pod.as_str()).unwrap();
        assert_eq!(row["node"], node.as_str(), "{row}");
        assert_eq!(row["sees"].as_array().unwrap().len(), REPLICAS - 1, "{row}");
        assert_eq!((&row["missing"], &row["strangers"]), (&json!([]), &json!([])), "{row}");
    }
}

/// `rpc`: in a running node.
async fn calls(space: &Space, revision: &str) {
    let asked = space.phx(&["rpc", "IO.inspect(Node.self())"]).await.unwrap().coded(0).unwrap().out;
    assert!(pods(space, revision).iter().any(|(_, node)| asked.trim() == format!(":\"{node}\"")), "{asked}");
    let (pod, node) = pods(space, revision).pop().unwrap();
    let asked = space.phx(&["rpc", SHOP, "IO.puts(Node.self())", "--pod", &pod]).await.unwrap();
    assert_eq!(asked.coded(0).unwrap().out.trim(), node);
    let raised = space.phx(&["rpc", "raise \"no such bird\""]).await.unwrap().coded(2).unwrap();
    has(&raised.err, &["no such bird"]);
}

/// `logs`: of every pod, and of the migration.
async fn logs(space: &Space, revision: &str) {
    let all = space.phx(&["logs"]).await.unwrap().coded(0).unwrap().out;
    for (pod, _) in pods(space, revision) {
        assert!(
            all.lines().any(|line| line.contains(&pod) && line.contains("Running Roost.Endpoint v1")),
            "{all}"
        );
    }
    let refused = space.phx(&["logs", "--candidate"]).await.unwrap().coded(1).unwrap();
    has(&refused.err, &["no rollout is under way"]);
}

/// `run`: a Job of the release's own, and gone after.
async fn one_off(space: &Space) {
    let start = Instant::now();
    let count =
        "Application.load(:roost); IO.puts([\"roost is \", Roost.vsn(), \", \", inspect(Node.alive?())])";
    let ran = space.phx(&["run", "--", "eval", count]).await.unwrap().coded(0).unwrap();
    println!("run, after {:?}: {}", start.elapsed(), ran.out.trim());
    has(&ran.out, &["roost is 1.0.0, false"]);
    let failed = space.phx(&["run", "--", "eval", "System.halt(3)"]).await.unwrap().coded(2).unwrap();
    println!("a failed one: {}", failed.err.trim());
    let path = space.phx(&["run", "--", "/bin/sh", "-c", "echo $DATABASE_URL | cut -c1-7"]).await.unwrap();
    has(&path.coded(0).unwrap().out, &["ecto://"]);
    let left = |seen: &e2e::harness::Seen| {
        let own = |object: &&Value| object["metadata"]["labels"].get("phoenix-operator.dev/run").is_some();
        (seen.all("Job").filter(own).count() == 0).then_some(())
    };
    space.wait("its Jobs to be gone", PATIENCE, left).await.unwrap();
}

/// `doctor`: what the release makes of its environment.
async fn doctor(space: &Space) {
    let found = space.phx(&["doctor"]).await.unwrap().coded(0).unwrap();
    println!("doctor:\n{}", found.out);
    let drain = "✓ drain takes up to 20 s (endpointLag 5 s, requests 15 s), within shutdown.grace of 60 s";
    has(&found.out, &["✓ server: true", "✓ clusters by dns_cluster", drain, "Elixir 1.14", "OTP 25"]);
    assert!(!found.out.contains('✗'), "{}", found.out);
    let secret = ["ecto://", "SECRET_KEY_BASE="];
    assert!(secret.iter().all(|word| !found.out.contains(word)), "a secret is shown: {}", found.out);
}

/// `remote`: a console on a terminal, which answers and is left.
async fn console(space: &Space, revision: &str) {
    let screen = space.phx_screen(&["remote"]).await.unwrap();
    screen.shows(")1>", CONSOLE).await.unwrap();
    screen.type_line("length(Node.list())").await.unwrap();
    let answered = screen.shows(")2>", CONSOLE).await.unwrap();
    has(&answered, &["iex(roost@", &format!("\n{}\n", REPLICAS - 1)]);
    screen.press("C-c").await.unwrap();
    screen.press("C-c").await.unwrap();
    let left = screen.shows("ended with", CONSOLE).await.unwrap();
    println!("remote:\n{}", left.trim());
    // The node that was looked into goes on.
    shop::meshed(space, revision).await;
}

/// While a rollout is under way: of which revision what is shown.
async fn a_candidate(space: &Space, v1: &str) {
    let strategy = json!({"type": "BlueGreen", "progressDeadline": "2m",
                          "blueGreen": {"autoPromote": false, "previewReplicas": 1}});
    let generation =
        space.apply(SHOP, &shop::with(shop::spec("v2"), &json!({"strategy": strategy}))).await.unwrap();
    let paused = space.wait_phase(SHOP, generation, Phase::Paused, PATIENCE).await.unwrap();
    let v2 = paused.candidate.unwrap().revision;
    let (pod, node) = pods(space, &v2).pop().unwrap();
    let asked = space.phx(&["rpc", "--candidate", "IO.puts(Node.self())"]).await.unwrap().coded(0).unwrap();
    assert_eq!(asked.out.trim(), node);
    let stable = space.phx(&["rpc", "IO.puts(Node.self())"]).await.unwrap().coded(0).unwrap().out;
    assert!(pods(space, v1).iter().any(|(_, node)| stable.trim() == node), "{stable}");
    let said = space.phx(&["logs", "--candidate"]).await.unwrap().coded(0).unwrap().out;
    assert!(said.contains("Running Roost.Endpoint v2") && !said.contains("Endpoint v1"), "{said}");
    assert!(said.lines().all(|line| line.contains(&pod)), "{said}");
    // The two revisions are clusters of their own, and so nobody misses anybody.
    let rows = space.phx(&["cluster", "-o", "json"]).await.unwrap().coded(0).unwrap().json().unwrap();
    assert_eq!(rows.as_array().unwrap().len(), REPLICAS + 1, "{rows:#}");
    let ran = space
        .phx(&["run", "--candidate", "--", "eval", "Application.load(:roost); IO.puts(Roost.vsn())"])
        .await;
    has(&ran.unwrap().coded(0).unwrap().out, &["2.0.0"]);
    space.phx(&["abort"]).await.unwrap().coded(0).unwrap();
    space.wait_phase(SHOP, generation, Phase::Aborted, PATIENCE).await.unwrap();
}
