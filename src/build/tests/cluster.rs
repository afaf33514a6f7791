//! Who forms one Erlang cluster, and how its nodes find each other.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec, Service};

use super::rendered;
use crate::{
    api::{Isolation, ValidatedApp, labels},
    build::{Children, PeersRole, Revision, Settings, children, headless_service, peers_binding},
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
    let Children { headless_service, .. } =
        children(app, revision, &Settings::default(), &mut |bytes| bytes.fill(7));
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

const BY_API: &str = "clustering: {mode: KubernetesAPI}";

#[test]
fn nodes_that_ask_the_api_server_have_a_token_and_migrations_have_none() {
    for (mode, token) in [("DNS", false), ("KubernetesAPI", true), ("Disabled", false)] {
        let (_, revision) = rendered(&format!("{{image: x, {DATABASE}, clustering: {{mode: {mode}}}}}"));
        let mounts =
            |template: &PodTemplateSpec| template.spec.as_ref().unwrap().automount_service_account_token;
        assert_eq!(mounts(&revision.pod_template), Some(token), "{mode}");
        assert_eq!(mounts(revision.job_template.as_ref().unwrap()), Some(false), "{mode}");
    }
}

#[test]
fn nodes_that_ask_the_api_server_are_told_what_to_ask_for() {
    let (app, revision) = rendered(&format!("{{image: x, {BY_API}}}"));
    let env = env(&revision.pod_template);
    for (variable, expected) in [
        ("PHOENIX_CLUSTER_SELECTOR", "phoenix-operator.dev/app=shop,phoenix-operator.dev/cluster=shop"),
        ("CLUSTER_DOMAIN", "cluster.local"),
        ("RELEASE_NODE", "shop@$(POD_IP)"),
    ] {
        assert_eq!(value(&env, variable).as_deref(), Some(expected), "{variable}");
    }
    assert_eq!(position(&env, "DNS_CLUSTER_QUERY"), None, "one way is enough");
    let container = &revision.pod_template.spec.as_ref().unwrap().containers[0];
    assert!(container.ports.iter().flatten().any(|port| port.container_port == 4369));
    // by default it lists Endpoints, which bear the labels of their Service
    let service = headless(&app, &revision);
    assert_eq!(service.metadata.labels.unwrap()[labels::CLUSTER], "shop");
    assert_eq!(service.spec.unwrap().ports.unwrap().len(), 11);
}

#[test]
fn the_binding_names_every_identity_that_asks_and_no_other() {
    let (app, own) = rendered(&format!("{{image: x:1, {BY_API}}}"));
    let (_, of_theirs) = rendered(&format!("{{image: x:2, {BY_API}, serviceAccountName: theirs}}"));
    let (_, by_dns) = rendered("{image: x:3, serviceAccountName: other}");
    let settings = Settings::default();
    assert_eq!(peers_binding(&app, [&by_dns], &settings), None);
    let binding = peers_binding(&app, [&of_theirs, &by_dns, &own, &own], &settings).unwrap();
    assert_eq!(binding.metadata.name.as_deref(), Some("shop-peers"));
    let subjects = binding.subjects.unwrap();
    let names: Vec<_> =
        subjects.iter().map(|subject| (subject.kind.as_str(), subject.name.as_str())).collect();
    assert_eq!(names, [("ServiceAccount", "shop"), ("ServiceAccount", "theirs")]);
    assert!(subjects.iter().all(|subject| subject.namespace.as_deref() == Some("prod")));
    assert_eq!(
        (binding.role_ref.kind.as_str(), binding.role_ref.name.as_str()),
        ("ClusterRole", "phoenix-operator-peers")
    );
}

#[test]
fn the_role_is_the_installations() {
    for (text, kind, name) in [("ClusterRole/a-peers", "ClusterRole", "a-peers"), ("Role/b", "Role", "b")] {
        let role: PeersRole = text.parse().unwrap();
        assert_eq!((role.kind(), role.name()), (kind, name));
        let (app, revision) = rendered(&format!("{{image: x, {BY_API}}}"));
        let settings = Settings { peers_role: role, ..Settings::default() };
        let role_ref = peers_binding(&app, [&revision], &settings).unwrap().role_ref;
        assert_eq!((role_ref.kind.as_str(), role_ref.name.as_str()), (kind, name));
    }
    for bad in ["", "a", "Role/", "role/a", "RoleBinding/a"] {
        let error = bad.parse::<PeersRole>().unwrap_err().to_string();
        assert!(error.contains("ClusterRole/<name>"), "{error}");
    }
}

#[test]
fn the_address_family_is_said_once() {
    let ipv6 = "clustering: {ipFamily: IPv6}";
    for (rest, times) in [
        (ipv6, 1),
        ("clustering: {ipFamily: IPv4}", 0),
        ("port: 4000", 0),
        // what the user says about it stands alone, wherever the emulator reads it
        (&format!("{ipv6}, env: [{{name: ERL_ZFLAGS, value: -proto_dist inet6_tls}}]"), 1),
        (&format!("{ipv6}, env: [{{name: ERL_AFLAGS, value: -proto_dist inet6_tcp}}]"), 1),
        (&format!("{ipv6}, env: [{{name: ERL_FLAGS, value: '+S 2 -proto_dist inet6_tcp'}}]"), 1),
        (&format!("{ipv6}, env: [{{name: ERL_ZFLAGS, value: +Q 9}}]"), 1),
        // alone, a node is named by 127.0.0.1
        ("clustering: {ipFamily: IPv6, mode: Disabled}", 0),
    ] {
        let (_, revision) = rendered(&format!("{{image: x, {rest}}}"));
        let env = env(&revision.pod_template);
        let said = ["ERL_AFLAGS", "ERL_FLAGS", "ERL_ZFLAGS"].iter().filter_map(|name| value(&env, name));
        let count: usize = said.map(|flags| flags.matches("-proto_dist").count()).sum();
        assert_eq!(count, times, "{rest}");
    }
    let (app, revision) = rendered(&format!("{{image: x, {DATABASE}, {ipv6}}}"));
    let pod = env(&revision.pod_template);
    assert!(value(&pod, "ERL_ZFLAGS").unwrap().ends_with("-proto_dist inet6_tcp"));
    assert_eq!(value(&pod, "RELEASE_NODE").as_deref(), Some("shop@$(POD_IP)"), "without brackets");
    assert_eq!(value(&env(revision.job_template.as_ref().unwrap()), "ERL_ZFLAGS"), None);
    let families = |app: &ValidatedApp| headless_service(app, None).spec.unwrap().ip_families;
    assert_eq!(families(&app), Some(vec!["IPv6".to_owned()]));
    assert_eq!(families(&rendered("image: x").0), None, "the cluster's own");
}
