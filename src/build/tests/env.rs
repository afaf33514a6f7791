//! Who wins, and in which order.

use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};
use proptest::prelude::*;
use serde_json::json;

use super::rendered;
use crate::{
    api::testing::from_value,
    build::{Settings, overridden_env, render},
};

fn env(template: &PodTemplateSpec) -> Vec<EnvVar> {
    template.spec.as_ref().unwrap().containers[0].env.clone().unwrap()
}

fn of_pod(spec: &str) -> Vec<EnvVar> {
    env(&rendered(spec).1.pod_template)
}

fn of_job(spec: &str) -> Vec<EnvVar> {
    env(&rendered(spec).1.job_template.unwrap())
}

fn value(env: &[EnvVar], name: &str) -> Option<String> {
    let found: Vec<_> = env.iter().filter(|entry| entry.name == name).collect();
    assert!(found.len() <= 1, "{name} is there twice");
    found.first().and_then(|entry| entry.value.clone())
}

fn position(env: &[EnvVar], name: &str) -> usize {
    env.iter().position(|entry| entry.name == name).unwrap_or_else(|| panic!("{name} is missing"))
}

fn names(env: &[EnvVar]) -> Vec<&str> {
    env.iter().map(|entry| entry.name.as_str()).collect()
}

const DATABASE: &str = "database: {urlFrom: {secretKeyRef: {name: db, key: uri}}, poolSize: 7}";

#[test]
fn everything_is_injected_in_the_documented_order() {
    let env = of_pod(&format!(
        "{{image: x, hosts: [shop.example.com], {DATABASE}, secrets: {{secretKeyBase: {{secretKeyRef: {{name: a, key: b}}}}, \
         cookie: {{secretKeyRef: {{name: a, key: c}}}}}}, resources: {{limits: {{cpu: 1}}}}}}"
    ));
    assert_eq!(
        names(&env),
        [
            "POD_IP",
            "POD_NAME",
            "POD_NAMESPACE",
            "RELEASE_DISTRIBUTION",
            "RELEASE_NODE",
            "PORT",
            "PHX_SERVER",
            "DATABASE_URL",
            "POOL_SIZE",
            "SECRET_KEY_BASE",
            "RELEASE_COOKIE",
            "PHX_HOST",
            "DNS_CLUSTER_QUERY",
            "PHOENIX_HEADLESS_SERVICE",
            "PHOENIX_HEADLESS_FQDN",
            "PHOENIX_CLUSTER_SELECTOR",
            "PHOENIX_REVISION",
            "ERL_ZFLAGS",
        ]
    );
    for (name, expected) in [
        ("RELEASE_DISTRIBUTION", "name"),
        ("RELEASE_NODE", "shop@$(POD_IP)"),
        ("PORT", "4000"),
        ("PHX_SERVER", "true"),
        ("POOL_SIZE", "7"),
        ("PHX_HOST", "shop.example.com"),
        ("DNS_CLUSTER_QUERY", "shop-headless.prod.svc.cluster.local"),
        ("PHOENIX_HEADLESS_FQDN", "shop-headless.prod.svc.cluster.local"),
        ("PHOENIX_HEADLESS_SERVICE", "shop-headless"),
        ("PHOENIX_CLUSTER_SELECTOR", "phoenix-operator.dev/app=shop,phoenix-operator.dev/cluster=shop"),
        (
            "ERL_ZFLAGS",
            "-kernel inet_dist_listen_min 4370 inet_dist_listen_max 4379 +sbwt none +sbwtdcpu none +sbwtdio none",
        ),
    ] {
        assert_eq!(value(&env, name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn what_is_not_set_is_not_injected() {
    let env = of_pod("image: x");
    for absent in [
        "DATABASE_URL",
        "POOL_SIZE",
        "SECRET_KEY_BASE",
        "RELEASE_COOKIE",
        "PHX_HOST",
        "RELEASE_NAME",
        "RELEASE_VSN",
    ] {
        assert!(!names(&env).contains(&absent), "{absent}");
    }
}

#[test]
fn the_cluster_domain_is_a_setting() {
    let (app, revision) = rendered("image: x");
    let settings = Settings { cluster_domain: "k8s.example.org".to_owned(), ..Settings::default() };
    let env = env(&render(&app, &revision.name, &settings).pod_template);
    assert_eq!(value(&env, "DNS_CLUSTER_QUERY").unwrap(), "shop-headless.prod.svc.k8s.example.org");
}

#[test]
fn without_clustering_the_node_is_alone_but_has_a_name() {
    let env = of_pod("{image: x, clustering: {mode: Disabled}}");
    assert_eq!(value(&env, "RELEASE_NODE").unwrap(), "shop@127.0.0.1");
    assert_eq!(value(&env, "RELEASE_DISTRIBUTION").unwrap(), "name");
    assert!(!names(&env).contains(&"DNS_CLUSTER_QUERY"));
    // Its ports are anybody's: what the release starts besides it, such as a notebook, inherits the flags.
    assert_eq!(value(&env, "ERL_ZFLAGS"), None);
}

#[test]
fn a_users_entry_takes_the_place_of_the_injected_one() {
    let injected = of_pod("image: x");
    for name in ["POD_IP", "RELEASE_NODE", "RELEASE_DISTRIBUTION", "PORT", "PHX_SERVER", "DNS_CLUSTER_QUERY"]
    {
        let env = of_pod(&format!("{{image: x, env: [{{name: {name}, value: mine}}]}}"));
        assert_eq!(names(&env), names(&injected), "{name}");
        assert_eq!(value(&env, name).unwrap(), "mine", "{name}");
    }
}

#[test]
fn a_users_secret_takes_the_place_of_a_literal() {
    let env = of_pod("{image: x, env: [{name: PORT, valueFrom: {secretKeyRef: {name: a, key: b}}}]}");
    let entry = &env[position(&env, "PORT")];
    assert!(entry.value.is_none() && entry.value_from.is_some());
}

#[test]
fn other_entries_follow_in_their_own_order() {
    let env = of_pod(
        "{image: x, env: [{name: Z, value: '1'}, {name: A, value: '2'}, {name: PORT, value: '5'}, {name: M}]}",
    );
    let tail: Vec<_> = names(&env).into_iter().rev().take(3).rev().collect();
    assert_eq!(tail, ["Z", "A", "M"]);
}

#[test]
fn an_entry_may_refer_to_injected_ones() {
    let env = of_pod("{image: x, env: [{name: K8S_SERVICE, value: $(PHOENIX_HEADLESS_SERVICE)}]}");
    assert!(position(&env, "PHOENIX_HEADLESS_SERVICE") < position(&env, "K8S_SERVICE"));
}

#[test]
fn an_entry_that_moves_forward_takes_along_what_it_refers_to() {
    let env = of_pod(
        "{image: x, env: [{name: REGION, value: eu}, {name: HOME_REGION, value: $(REGION)}, \
         {name: RELEASE_NODE, value: shop-$(HOME_REGION)@$(POD_NAME).$(PHOENIX_HEADLESS_FQDN)}]}",
    );
    let node = position(&env, "RELEASE_NODE");
    for earlier in ["REGION", "HOME_REGION", "POD_NAME", "PHOENIX_HEADLESS_FQDN"] {
        assert!(position(&env, earlier) < node, "{earlier}");
    }
    assert!(position(&env, "REGION") < position(&env, "HOME_REGION"));
    assert!(node < position(&env, "PORT"), "no further than needed");
}

#[test]
fn circles_and_escapes_do_no_harm() {
    for spec in [
        "{image: x, env: [{name: A, value: $(B)}, {name: B, value: $(A)}]}",
        "{image: x, env: [{name: A, value: $(A)}]}",
        "{image: x, env: [{name: PORT, value: $(PORT)}, {name: POD_IP, value: $(PORT)}]}",
        "{image: x, env: [{name: A, value: $$(B) $(), value: '$(B'}, {name: B, value: $}]}",
    ] {
        let Ok(spec) = serde_saphyr::from_str::<serde_json::Value>(spec) else { continue };
        let env = of_pod(&spec.to_string());
        let count = spec["env"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|e| env.iter().any(|o| o.name == e["name"]))
            .count();
        assert_eq!(count, spec["env"].as_array().unwrap().len());
    }
    // the user's B stands after A: the kubelet would not expand it there, and neither does moving change that
    let env = of_pod("{image: x, env: [{name: A, value: $(B)}, {name: B, value: '1'}]}");
    assert!(position(&env, "A") < position(&env, "B"));
    let env = of_pod("{image: x, env: [{name: B, value: '1'}, {name: PORT, value: $$(B)}]}");
    assert!(position(&env, "PORT") < position(&env, "B"), "an escaped reference moves nothing");
}

#[test]
fn emulator_flags_are_joined() {
    let ports = "-kernel inet_dist_listen_min 4370 inet_dist_listen_max 4379";
    for (rest, expected) in [
        ("port: 4000", ports.to_owned()),
        ("resources: {limits: {memory: 1Gi}}", ports.to_owned()),
        ("resources: {requests: {cpu: 1}}", ports.to_owned()),
        ("resources: {limits: {cpu: 500m}}", format!("{ports} +sbwt none +sbwtdcpu none +sbwtdio none")),
        ("env: [{name: ERL_ZFLAGS, value: +Q 9}]", format!("{ports} +Q 9")),
        ("env: [{name: ERL_ZFLAGS, value: ''}]", String::new()),
        (
            "clustering: {distributionPorts: {min: 9100, max: 9105}}",
            "-kernel inet_dist_listen_min 9100 inet_dist_listen_max 9105".to_owned(),
        ),
    ] {
        let env = of_pod(&format!("{{image: x, {rest}}}"));
        let flags = value(&env, "ERL_ZFLAGS").unwrap();
        assert_eq!(flags, expected, "{rest}");
        assert!(!flags.contains("-proto_dist"));
    }
    let env =
        of_pod("{image: x, env: [{name: ERL_ZFLAGS, valueFrom: {configMapKeyRef: {name: a, key: b}}}]}");
    assert_eq!(value(&env, "ERL_ZFLAGS"), None);
    assert!(!of_pod("image: x").iter().any(|e| e.value.as_deref().unwrap_or_default().contains("+Q")));
}

#[test]
fn overridden_names_are_reported() {
    for (entries, expected) in [
        ("", vec![]),
        ("{name: LOG_LEVEL, value: a}", vec![]),
        ("{name: PHX_SERVER, value: 'false'}, {name: POD_IP, value: a}", vec!["POD_IP", "PHX_SERVER"]),
        ("{name: ERL_ZFLAGS, value: +Q 5}", vec![]),
        ("{name: ERL_ZFLAGS, valueFrom: {configMapKeyRef: {name: a, key: b}}}", vec!["ERL_ZFLAGS"]),
        // weak defaults and what is not injected are no override
        (
            "{name: RELEASE_TMP, value: /x}, {name: RELEASE_COOKIE, value: c}, {name: DATABASE_URL, value: d}",
            vec![],
        ),
    ] {
        let (app, _) = rendered(&format!("{{image: x, env: [{entries}]}}"));
        assert_eq!(overridden_env(&app), expected, "{entries}");
    }
}

#[test]
fn weak_defaults_come_first_among_the_sources() {
    let (_, revision) =
        rendered("{image: x, envFrom: [{secretRef: {name: mine}}, {configMapRef: {name: more}}]}");
    let sources = revision.pod_template.spec.unwrap().containers[0].env_from.clone().unwrap();
    let names: Vec<_> = sources
        .iter()
        .map(|source| match (&source.secret_ref, &source.config_map_ref) {
            (Some(secret), None) => secret.name.clone(),
            (None, Some(map)) => map.name.clone(),
            _ => panic!("{source:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "shop-generated".to_owned(),
            format!("shop-{}-env", revision.name),
            "mine".to_owned(),
            "more".to_owned()
        ]
    );
    assert_eq!(
        sources[0].secret_ref.as_ref().unwrap().optional,
        None,
        "a pod without its secret must not start"
    );
}

#[test]
fn weak_defaults() {
    let (_, revision) = rendered("image: x");
    for (name, expected) in [
        ("PHX_HOST", "localhost"),
        ("RELEASE_TMP", "/tmp"),
        ("ERL_MAX_PORTS", "65536"),
        ("ERL_CRASH_DUMP", "/var/crash/erl_crash.dump"),
    ] {
        assert_eq!(revision.defaults[name], expected);
    }
    assert!(!revision.defaults.contains_key("SKIP_MIGRATIONS"));
    let (_, revision) = rendered(&format!("{{image: x, {DATABASE}}}"));
    assert_eq!(revision.defaults["SKIP_MIGRATIONS"], "true");
    let (_, revision) = rendered(&format!("{{image: x, {DATABASE}, migrations: {{mode: Entrypoint}}}}"));
    assert!(!revision.defaults.contains_key("SKIP_MIGRATIONS"));
}

#[test]
fn a_migration_is_no_node_and_no_server() {
    let env = of_job(&format!(
        "{{image: x, {DATABASE}, hosts: [h], env: [{{name: PHX_SERVER, value: 'true'}}, {{name: RELEASE_NODE, value: a@b}}, \
         {{name: DNS_CLUSTER_QUERY, value: q}}, {{name: RELEASE_DISTRIBUTION, value: name}}, {{name: K, value: $(PHOENIX_HEADLESS_SERVICE)}}]}}"
    ));
    for absent in ["PHX_SERVER", "RELEASE_NODE", "DNS_CLUSTER_QUERY", "ERL_ZFLAGS"] {
        assert!(!names(&env).contains(&absent), "{absent}");
    }
    assert_eq!(value(&env, "RELEASE_DISTRIBUTION").unwrap(), "none");
    assert_eq!(value(&env, "SKIP_MIGRATIONS").unwrap(), "false");
    for present in ["DATABASE_URL", "POOL_SIZE", "PHX_HOST", "POD_IP", "K", "PHOENIX_REVISION"] {
        assert!(names(&env).contains(&present), "{present}");
    }
}

#[test]
fn a_migrations_own_environment_beats_all() {
    let env = of_job(&format!(
        "{{image: x, {DATABASE}, env: [{{name: A, value: app}}, {{name: B, value: app}}], \
         migrations: {{env: [{{name: A, value: job}}, {{name: POOL_SIZE, value: '2'}}, {{name: RELEASE_NODE, value: node}}]}}}}"
    ));
    for (name, expected) in [("A", "job"), ("B", "app"), ("POOL_SIZE", "2"), ("RELEASE_NODE", "node")] {
        assert_eq!(value(&env, name).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_migrations_own_cpu_limit_decides_on_busy_waiting() {
    for (rest, waits) in [
        ("resources: {limits: {cpu: 1}}", false),
        ("resources: {limits: {cpu: 1}}, migrations: {resources: {limits: {memory: 1Gi}}}", true),
        ("migrations: {resources: {limits: {cpu: 1}}}", false),
    ] {
        let env = of_job(&format!("{{image: x, {DATABASE}, {rest}}}"));
        assert_eq!(value(&env, "ERL_ZFLAGS").is_none(), waits, "{rest}");
    }
}

proptest! {
    /// Every entry of the user is there once with its value, and whatever an entry refers to, and the user or the
    /// operator put before it, stands before it.
    #[test]
    fn users_entries_all_arrive_and_references_resolve(
        entries in proptest::collection::btree_map("[A-D]|PORT|POD_IP|RELEASE_NODE|PHX_HOST", "[a-z]|\\$\\([A-D]\\)|\\$\\(PORT\\)|\\$\\(PHOENIX_REVISION\\)", 0..8)
    ) {
        let list: Vec<_> = entries.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let raw = from_value(json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
            "metadata": {"name": "shop", "namespace": "prod", "uid": "u"},
            "spec": {"image": "x", "env": list},
        }));
        let app = crate::api::ValidatedApp::try_from(&raw).unwrap();
        let rendered = render(&app, &super::revision_name(), &Settings::default());
        let env = env(&rendered.pod_template);
        let order: Vec<&String> = entries.keys().collect();
        for (name, expected) in &entries {
            prop_assert_eq!(value(&env, name), Some(expected.clone()));
            let Some(target) = expected.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) else { continue };
            let meant = match order.iter().position(|other| *other == target) {
                Some(theirs) => theirs < order.iter().position(|other| *other == name).unwrap(),
                None => env.iter().any(|entry| entry.name == target),
            };
            if meant {
                prop_assert!(position(&env, target) < position(&env, name), "{:?}", names(&env));
            }
        }
    }
}
