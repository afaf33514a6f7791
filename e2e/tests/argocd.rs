//! The health check and the actions for Argo CD, by Argo CD's own evaluator and without a cluster.
//!
//! `health_test.yaml` and `action_test.yaml` mean what they mean to Argo CD's test runner, but more strictly: scripts
//! get no standard library, and an action that is offered and not listed is an error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests may fail as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use e2e::argocd::{self, Acted, Evaluator, Health, Offer};
use e2e::cluster::tools::{self, Group};
use e2e::harness::{Judges, judge_statuses};
use phoenix_operator::api::{LastCommand, Phase, PhoenixApp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The one thing that an action may write.
const COMMAND: &str = "phoenix-operator.dev/command";

fn evaluator() -> Evaluator {
    Evaluator::new(tools::ensure(&[Group::Argocd]).unwrap().program("argocd-lua"))
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of a directory, by name.
fn texts(dir: &Path) -> BTreeMap<String, String> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// A path in a test file, from that file's directory.
fn input(from: &str, path: &str) -> Value {
    read(&argocd::customization().join(from).join(path))
}

/// Every manifest of `testdata`, by file name.
fn manifests() -> BTreeMap<String, Value> {
    let texts = texts(&argocd::customization().join("testdata"));
    texts.into_iter().map(|(file, text)| (file, serde_saphyr::from_str(&text).unwrap())).collect()
}

fn command(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"].get(COMMAND)?.as_str()
}

/// The first thing that `all` lacks of `some`.
fn lost(some: &Value, all: &Value) -> Option<String> {
    match (some, all) {
        (Value::Object(some), Value::Object(all)) => some.iter().find_map(|(key, value)| {
            lost(value, all.get(key).unwrap_or(&Value::Null)).map(|what| format!(".{key}{what}"))
        }),
        (Value::Array(some), Value::Array(all)) if some.len() == all.len() => {
            some.iter().zip(all).find_map(|(some, all)| lost(some, all)).map(|what| format!("[]{what}"))
        }
        // What is left out when it is empty or nothing.
        (Value::Object(some), Value::Null) if some.is_empty() => None,
        (Value::String(some), Value::Null) if some.is_empty() => None,
        _ => (some != all).then(|| format!(": {some} became {all}")),
    }
}

#[test]
fn the_config_map_holds_the_scripts() {
    let checked_in = std::fs::read_to_string(argocd::config_map_file()).unwrap();
    assert!(checked_in == argocd::config_map().unwrap(), "run `make argocd`");
    let config: Value = serde_saphyr::from_str(&checked_in).unwrap();
    let health = std::fs::read_to_string(argocd::customization().join("health.lua")).unwrap();
    assert_eq!(config["data"]["resource.customizations.health.phoenix-operator.dev_PhoenixApp"], health);
    assert!(health.lines().count() <= 15, "the status says it all");
}

#[test]
fn the_manifests_are_apps_as_the_operator_shows_them() {
    let mut phases = BTreeSet::new();
    for (file, manifest) in manifests() {
        let app: PhoenixApp =
            serde_json::from_value(manifest.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(lost(&manifest, &serde_json::to_value(&app).unwrap()), None, "{file}");
        phases.extend(app.status.and_then(|status| status.phase));
    }
    assert_eq!(phases, BTreeSet::from(Phase::ALL));
}

/// Argo CD's test runner reads YAML 1.1, to which a bare `n` is `false`: a count was lost there.
#[test]
fn a_key_that_older_yaml_takes_for_a_boolean_is_quoted() {
    for dir in ["testdata", "actions/testdata"] {
        for (file, text) in texts(&argocd::customization().join(dir)) {
            let bare = |line: &&str| {
                let key = line.trim_start().trim_start_matches("- ").split(':').next();
                key.is_some_and(|key| ["n", "y", "no", "yes", "on", "off"].contains(&key))
            };
            assert_eq!(text.lines().find(bare), None, "{dir}/{file}");
        }
    }
}

/// The same judgement that every status of every other test meets.
#[tokio::test]
async fn kstatus_and_argo_cd_agree_with_the_table() {
    let bin = tools::ensure(&[Group::Kstatus, Group::Argocd]).unwrap();
    let judges = Judges { kstatus: bin.program("kstatus"), argocd: bin.program("argocd-lua") };
    // No API server shows an app without a status, since the definition has a default.
    let objects: Vec<Value> =
        manifests().into_values().filter(|object| object.get("status").is_some()).collect();
    println!("{:?}", judge_statuses(&judges, &objects).await.unwrap());
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HealthTest {
    input_path: String,
    health_status: Health,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthTests {
    tests: Vec<HealthTest>,
}

#[tokio::test]
async fn health_is_as_its_tests_say() {
    let HealthTests { tests } = read(&argocd::customization().join("health_test.yaml"));
    let objects: Vec<Value> = tests.iter().map(|test| input("", &test.input_path)).collect();
    let found = evaluator().health(&objects).await.unwrap();
    for (test, found) in tests.iter().zip(found) {
        assert_eq!(found, test.health_status, "{}", test.input_path);
    }
    let tested: BTreeSet<String> = tests.into_iter().map(|test| test.input_path).collect();
    assert_eq!(tested, manifests().into_keys().map(|file| format!("testdata/{file}")).collect());
}

#[tokio::test]
async fn an_app_that_is_being_deleted_or_of_an_unknown_phase_is_progressing() {
    let healthy = input("testdata", "healthy.yaml");
    let mut deleted = healthy.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-03-09T11:00:00Z");
    let mut unknown = healthy.clone();
    unknown["status"]["phase"] = json!("Teleporting");
    let mut speechless = healthy;
    speechless["status"].as_object_mut().unwrap().remove("message");
    let found = evaluator().health(&[deleted, unknown, speechless]).await.unwrap();
    let found: Vec<&str> = found.iter().map(|health| health.status.as_str()).collect();
    assert_eq!(found, ["Progressing", "Progressing", "Healthy"]);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DiscoveryTest {
    input_path: String,
    result: Vec<Offer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ActionTest {
    action: String,
    input_path: String,
    expected_output_path: Option<String>,
    expected_error_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ActionTests {
    discovery_tests: Vec<DiscoveryTest>,
    action_tests: Vec<ActionTest>,
}

fn action_tests() -> ActionTests {
    read(&argocd::customization().join("actions/action_test.yaml"))
}

#[tokio::test]
async fn actions_are_offered_as_their_tests_say() {
    let tests = action_tests().discovery_tests;
    let objects: Vec<Value> = tests.iter().map(|test| input("actions", &test.input_path)).collect();
    let found = evaluator().discovery(&objects).await.unwrap();
    let scripts: Vec<String> = argocd::actions().unwrap().into_keys().collect();
    for (test, found) in tests.iter().zip(found) {
        let mut wanted = test.result.clone();
        wanted.sort();
        assert_eq!(found, wanted, "{}", test.input_path);
        let names: Vec<&str> = found.iter().map(|offer| offer.name.as_str()).collect();
        assert_eq!(names, scripts, "an action without a script, or a script that is not offered");
    }
    let tested: BTreeSet<String> = tests.into_iter().map(|test| test.input_path).collect();
    assert_eq!(tested, manifests().into_keys().map(|file| format!("../testdata/{file}")).collect());
}

#[tokio::test]
async fn actions_do_what_their_tests_say() {
    let evaluator = evaluator();
    let mut done = BTreeSet::new();
    for test in action_tests().action_tests {
        let object = input("actions", &test.input_path);
        let case = format!("{} of {}", test.action, test.input_path);
        let acted = evaluator.action(&test.action, &[object]).await.unwrap().remove(0);
        match (acted, test.expected_output_path, test.expected_error_message) {
            (Acted::Changed { object, .. }, Some(path), None) => {
                assert_eq!(object, input("actions", &path), "{case}");
                done.insert(test.action);
            }
            (Acted::Refused { error }, None, Some(wanted)) => assert_eq!(error, wanted, "{case}"),
            (acted, ..) => panic!("{case}: {acted:?}"),
        }
    }
    assert_eq!(done, argocd::actions().unwrap().into_keys().collect(), "an action without a test");
}

/// Argo CD sends a merge patch of all that a script changed, also by mistake: an empty object may become a list.
#[tokio::test]
async fn an_action_writes_one_annotation_and_nothing_else() {
    let evaluator = evaluator();
    let objects: Vec<Value> = manifests().into_values().collect();
    for action in argocd::actions().unwrap().into_keys() {
        let acted = evaluator.action(&action, &objects).await.unwrap();
        for (before, acted) in objects.iter().zip(acted) {
            let Acted::Changed { object, patch } = acted else {
                assert_eq!(before.pointer("/status/phase"), None, "{action} refuses an app that was seen");
                continue;
            };
            let text = command(&object).expect("a command");
            let unchanged = command(before) == Some(text);
            let wanted =
                if unchanged { json!({}) } else { json!({"metadata": {"annotations": {COMMAND: text}}}) };
            assert_eq!(patch, wanted, "{action}");
            well_formed(&action, text, &before["status"]);
        }
    }
}

/// `<verb> <revision>/<attempt>`, then what the verb takes.
fn well_formed(action: &str, text: &str, status: &Value) {
    let candidate = &status["candidate"];
    let (revision, attempt) = match candidate["revision"].as_str() {
        Some(revision) => (revision, &candidate["attempt"]),
        None => (status["stable"].as_str().unwrap(), &status["attempt"]),
    };
    let last = &status["lastCommand"];
    let n = last["n"].as_i64().unwrap_or_default() + 1;
    let tail = match action {
        "pause" | "resume" | "restart" => format!("/{n}"),
        "promote" if candidate.is_object() => format!("/{}", candidate["step"]),
        _ => String::new(),
    };
    let (verb, words) = match action.strip_prefix("rollback") {
        Some(words) => ("rollback", words.replace("-force", " force").replace("-with-", " with-")),
        None => (action, String::new()),
    };
    let command = format!("{verb} {revision}/{attempt}{tail}{words}");
    let last: Option<LastCommand> = serde_json::from_value(last.clone()).unwrap();
    assert_eq!(text, LastCommand::unanswered(last.as_ref(), &command));
}
