//! Who forms one Erlang cluster, and how its nodes find each other.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec, Service};

use super::rendered;
use crate::{
    api::{Isolation, ValidatedApp, labels},
    build::{Children, Revision, children, headless_service},
};

const ISOLATED: &str = "clustering: {isolation: PerRevision}";
const DATABASE: &str = "database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}";

fn env(template: &PodTemplateSpec) -> Vec<EnvVar> {
    template.spec.as_ref().unwrap().containers[0].env.clone().unwrap()
}

fn value(env: &[EnvVar], name: &str) -> Option<String> {
    env.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.clone())
}

fn position(env: &[EnvVar], name: &str) -> Option<usize> {
    env.iter().position(|entry| entry.name == name)
}

/// What a kubelet makes of it: `envFrom` first, then each entry with what is known so far.
fn expanded(env: &[EnvVar], from: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> =
        from.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for entry in env {
        let mut text = entry.value.clone().unwrap_or_else(|| format!("<{}>", entry.name));
        for (name, value) in &known {
            text = text.replace(&format!("$({name})"), value);
        }
        known.insert(entry.name.clone(), text);
    }
    known
}

fn headless(app: &ValidatedApp, revision: &Revision) -> Service {
    let Children { headless_service, .. } = children(app, revision, &mut |bytes| bytes.fill(7));
    headless_service
}

#[test]
fn the_strategy_decides_unless_the_user_does() {
    for (spec, isolation) in [
        ("{image: x}", Isolation::Shared),
        ("{image: x, strategy: {type: Recreate}}", Isolation::Shared),
        ("{image: x, strategy: {type: BlueGreen}}", Isolation::PerRevision),
        ("{image: x, strategy: {type: Canary, canary: {steps: [{setWeight: 10}]}}}", Isolation::PerRevision),
        ("{image: x, strategy: {type: BlueGreen}, clustering: {isolation: Shared}}", Isolation::Shared),
        ("{image: x, clustering: {isolation: PerRevision}}", Isolation::PerRevision),
    ] {
        let (app, revision) = rendered(spec);
        assert_eq!((app.isolation, revision.effective.isolation), (isolation, isolation), "{spec}");
    }
}

#[test]
fn an_isolated_revision_has_a_cluster_of_its_own() {
    let (app, revision) = rendered(&format!("{{image: x, {ISOLATED}}}"));
    let name = revision.name.as_str();
    let metadata = revision.pod_template.metadata.clone().unwrap();
    assert_eq!(metadata.labels.as_ref().unwrap()[labels::CLUSTER], name);
    let env = env(&revision.pod_template);
    let fqdn = format!("shop-{name}-nodes.prod.svc.cluster.local");
    for (variable, expected) in [
        ("DNS_CLUSTER_QUERY", fqdn.clone()),
        ("PHOENIX_HEADLESS_FQDN", fqdn),
        ("PHOENIX_HEADLESS_SERVICE", format!("shop-{name}-nodes")),
        (
            "PHOENIX_CLUSTER_SELECTOR",
            format!("phoenix-operator.dev/app=shop,phoenix-operator.dev/cluster={name}"),
        ),
        // libcluster apps state the part before the @ in their code
        ("RELEASE_NODE", "shop@$(POD_IP)".to_owned()),
    ] {
        assert_eq!(value(&env, variable), Some(expected), "{variable}");
    }
    let service = headless(&app, &revision);
    assert_eq!(service.metadata.name, Some(format!("shop-{name}-nodes")));
    let selector = service.spec.unwrap().selector.unwrap();
    assert!(selector.iter().all(|(key, value)| metadata.labels.as_ref().unwrap()[key] == *value));
    let told = value(&env, "PHOENIX_CLUSTER_SELECTOR").unwrap();
    for part in told.split(',') {
        let (key, wanted) = part.split_once('=').unwrap();
        assert_eq!(service.metadata.labels.as_ref().unwrap()[key], wanted, "its Endpoints are listed by it");
    }
}

#[test]
fn isolated_revisions_share_neither_service_nor_cookie() {
    let one = rendered(&format!("{{image: x:1, {ISOLATED}}}"));
    let other = rendered(&format!("{{image: x:2, {ISOLATED}}}"));
    let shared = rendered("image: x:3");
    let generated = [("RELEASE_COOKIE", "abcdefghijklmnopqrstuvwxyz012345")];
    let mut cookies = Vec::new();
    let mut selectors = Vec::new();
    for (app, revision) in [&one, &other, &shared] {
        cookies.push(expanded(&env(&revision.pod_template), &generated)["RELEASE_COOKIE"].clone());
        let service = headless(app, revision);
        selectors.push(service.spec.unwrap().selector.unwrap());
    }
    assert_ne!(cookies[0], cookies[1]);
    assert_eq!(cookies[2], generated[0].1, "a shared one comes as it is, from envFrom");
    for (index, (_, revision)) in [&one, &other, &shared].into_iter().enumerate() {
        let labels = revision.pod_template.metadata.clone().unwrap().labels.unwrap();
        for (of, selector) in selectors.iter().enumerate() {
            let matches = selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            assert_eq!(matches, of == index, "{index} {of}");
        }
    }
}

/// `libcluster_postgres` makes a channel of it, whose name has at most 63 bytes.
#[test]
fn its_cookie_has_the_form_that_readers_need() {
    let (_, revision) = rendered(&format!("{{image: x, {ISOLATED}}}"));
    let from = [("RELEASE_COOKIE", "abcdefghijklmnopqrstuvwxyz012345")];
    let cookie = expanded(&env(&revision.pod_template), &from)["RELEASE_COOKIE"].clone();
    assert_eq!(cookie, format!("r{}{}", revision.name, from[0].1));
    assert!(cookie.starts_with(|c: char| c.is_ascii_lowercase()) && (32..=63).contains(&cookie.len()));
    assert!(cookie.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
}

#[test]
fn a_users_cookie_comes_under_another_name_first() {
    let (_, revision) = rendered(&format!(
        "{{image: x, {ISOLATED}, secrets: {{cookie: {{secretKeyRef: {{name: mine, key: c}}}}}}}}"
    ));
    let env = env(&revision.pod_template);
    let theirs = position(&env, "PHOENIX_COOKIE").unwrap();
    assert!(theirs < position(&env, "RELEASE_COOKIE").unwrap());
    let source = env[theirs].value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!((source.name.as_str(), source.key.as_str()), ("mine", "c"));
    assert_eq!(value(&env, "RELEASE_COOKIE"), Some(format!("r{}$(PHOENIX_COOKIE)", revision.name)));
    let from = [("RELEASE_COOKIE", "generated")];
    assert_eq!(
        expanded(&env, &from)["RELEASE_COOKIE"],
        format!("r{}<PHOENIX_COOKIE>", revision.name),
        "not the generated one"
    );
}

#[test]
fn a_migration_needs_neither_cookie_nor_cluster() {
    let (_, revision) = rendered(&format!(
        "{{image: x, {DATABASE}, {ISOLATED}, secrets: {{cookie: {{secretKeyRef: {{name: mine, key: c}}}}}}}}"
    ));
    let template = revision.job_template.unwrap();
    let env = env(&template);
    for absent in ["RELEASE_COOKIE", "PHOENIX_COOKIE", "DNS_CLUSTER_QUERY", "RELEASE_NODE"] {
        assert_eq!(position(&env, absent), None, "{absent}");
    }
    assert!(!template.metadata.unwrap().labels.unwrap().contains_key(labels::CLUSTER));
}

#[test]
fn an_isolated_service_keeps_the_ports_of_its_revision() {
    let ports = |service: &Service| {
        let spec = service.spec.as_ref().unwrap();
        spec.ports.iter().flatten().map(|port| port.port).collect::<Vec<_>>()
    };
    let (_, old) = rendered(
        "{image: x:1, clustering: {isolation: PerRevision, distributionPorts: {min: 9100, max: 9101}}}",
    );
    let (app, new) = rendered(&format!("{{image: x:2, {ISOLATED}}}"));
    assert_eq!(ports(&headless_service(&app, Some(&old))), [4369, 9100, 9101]);
    assert_eq!(ports(&headless_service(&app, Some(&new))).len(), 11);
    let (_, alone) = rendered("{image: x:3, clustering: {isolation: PerRevision, mode: Disabled}}");
    assert!(ports(&headless_service(&app, Some(&alone))).is_empty());
}
