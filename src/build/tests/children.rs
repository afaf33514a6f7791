//! Each child on its own.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::rendered;
use crate::{
    api::{Stage, labels},
    build::{
        Children, ServiceSelector, Settings, active_service, children, deployment, generated_secret,
        headless_service, migration_job, pod_disruption_budget,
    },
};

const DATABASE: &str = "database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}";

/// A source of bytes that is the same each time and differs within a time.
fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 0_u8;
    move |bytes| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(17);
        }
    }
}

fn pod(template: &PodTemplateSpec) -> (&ObjectMeta, &PodSpec, &Container) {
    let spec = template.spec.as_ref().unwrap();
    (template.metadata.as_ref().unwrap(), spec, &spec.containers[0])
}

fn all_metadata(spec: &str) -> Vec<(&'static str, ObjectMeta)> {
    let (app, revision) = rendered(spec);
    let Children {
        service_account,
        peers_binding,
        generated_secret,
        controller_revision,
        defaults,
        active_service,
        headless_service,
        migration_jobs,
        deployment,
        workers,
        pod_disruption_budget,
    } = children(&app, &revision, &Settings::default(), &mut counter());
    let workers = workers.into_iter().map(|worker| ("worker", worker.metadata));
    let children = vec![
        ("service account", service_account.metadata),
        ("peers", peers_binding.unwrap().metadata),
        ("secret", generated_secret.metadata),
        ("revision", controller_revision.metadata),
        ("defaults", defaults.metadata),
        ("service", active_service.metadata),
        ("headless", headless_service.metadata),
        ("job", migration_jobs[0].metadata.clone()),
        ("deployment", deployment.metadata),
        ("budget", pod_disruption_budget.unwrap().metadata),
    ];
    children.into_iter().chain(workers).collect()
}

#[test]
fn every_child_is_ours_and_says_so() {
    for (kind, metadata) in all_metadata(&format!(
        "{{image: x, {DATABASE}, clustering: {{mode: KubernetesAPI}}, \
             workers: [{{name: jobs}}]}}"
    )) {
        let labels = metadata.labels.unwrap();
        assert_eq!(labels[labels::MANAGED_BY], "phoenix-operator", "{kind}");
        assert_eq!(labels.contains_key(labels::APP), kind != "job", "{kind}");
        assert_eq!(metadata.namespace.as_deref(), Some("prod"), "{kind}");
        let owners = metadata.owner_references.unwrap_or_default();
        if kind == "secret" {
            assert_eq!(owners, [], "it outlives the app");
        } else {
            assert_eq!(owners.len(), 1, "{kind}");
            let owner = &owners[0];
            assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("PhoenixApp", "shop"));
            assert_eq!(owner.api_version, "phoenix-operator.dev/v1alpha1");
            assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
        }
    }
}

#[test]
fn the_secret_goes_with_the_app_when_it_is_told_to() {
    let (app, _) = rendered("{image: x, secrets: {onDelete: Delete}}");
    assert_eq!(generated_secret(&app, &mut counter()).metadata.owner_references.unwrap().len(), 1);
}

type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

#[test]
fn generated_values_have_the_form_their_readers_need() {
    let (app, _) = rendered("image: x");
    let fill = |byte: u8| move |bytes: &mut [u8]| bytes.fill(byte);
    let sources: [Random<'_>; 4] = [&mut counter(), &mut fill(0), &mut fill(255), &mut fill(100)];
    for random in sources {
        let secret = generated_secret(&app, random);
        assert_eq!(secret.immutable, Some(true));
        let data = secret.data.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["RELEASE_COOKIE", "SECRET_KEY_BASE"]);
        let cookie = &data["RELEASE_COOKIE"].0;
        assert_eq!(cookie.len(), 32);
        assert!(cookie[0].is_ascii_lowercase());
        assert!(cookie.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert!(data["SECRET_KEY_BASE"].0.len() >= 64);
        assert!(data["SECRET_KEY_BASE"].0.is_ascii());
    }
}

#[test]
fn every_character_is_as_likely_as_the_others() {
    let (app, _) = rendered("image: x");
    let mut state = 1_u64;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            // Knuth's MMIX generator; its high bits are good
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = u8::try_from(state >> 56).unwrap();
        }
    };
    let mut counts = std::collections::BTreeMap::<u8, u32>::new();
    for _ in 0..500 {
        for byte in &generated_secret(&app, &mut random).data.unwrap()["SECRET_KEY_BASE"].0[1..] {
            *counts.entry(*byte).or_default() += 1;
        }
    }
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert_eq!(counts.len(), 36);
    assert!(*most < least + least / 5, "{least} {most}");
}

#[test]
fn pods_are_restricted() {
    let (_, revision) = rendered(&format!("{{image: x, {DATABASE}}}"));
    for template in [&revision.pod_template, revision.job_template.as_ref().unwrap()] {
        let (_, spec, container) = pod(template);
        let security = spec.security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!((security.run_as_user, security.fs_group), (Some(65_534), Some(65_534)));
        assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(
            security.capabilities.as_ref().unwrap().drop.as_deref(),
            Some(["ALL".to_owned()].as_slice())
        );
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.enable_service_links, Some(false));
        assert_eq!(spec.host_network, None);
    }
}

#[test]
fn baseline_forces_no_user() {
    let (_, revision) = rendered("{image: x, security: {profile: Baseline, readOnlyRootFilesystem: true}}");
    let (_, spec, container) = pod(&revision.pod_template);
    let security = spec.security_context.as_ref().unwrap();
    assert_eq!((security.run_as_user, security.run_as_non_root, security.fs_group), (None, None, None));
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.allow_privilege_escalation, security.read_only_root_filesystem), (None, Some(true)));
}

#[test]
fn probes_say_localhost_over_https() {
    let (_, revision) = rendered(
        "{image: x, health: {readiness: {path: /health}, liveness: {path: /live, port: 4001, headers: {HOST: h, A: b}}}}",
    );
    let (_, _, container) = pod(&revision.pod_template);
    let readiness = container.readiness_probe.as_ref().unwrap().http_get.as_ref().unwrap();
    let headers = |action: &k8s_openapi::api::core::v1::HTTPGetAction| -> Vec<(String, String)> {
        action.http_headers.clone().unwrap().into_iter().map(|header| (header.name, header.value)).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(headers(readiness), pairs(&[("Host", "localhost"), ("X-Forwarded-Proto", "https")]));
    assert_eq!((readiness.path.as_deref(), &readiness.port), (Some("/health"), &IntOrString::Int(4000)));
    let liveness = container.liveness_probe.as_ref().unwrap().http_get.as_ref().unwrap();
    assert_eq!(headers(liveness), pairs(&[("X-Forwarded-Proto", "https"), ("A", "b"), ("HOST", "h")]));
    assert_eq!(liveness.port, IntOrString::Int(4001));
    let startup = container.startup_probe.as_ref().unwrap();
    assert!(startup.tcp_socket.is_some() && startup.http_get.is_none());
    assert_eq!((startup.period_seconds, startup.failure_threshold), (Some(5), Some(60)));
}

#[test]
fn a_pod_leaves_the_endpoints_before_it_is_told_to_stop() {
    let (_, revision) = rendered("{image: x, shutdown: {endpointLag: 15s, grace: 2m}}");
    let (_, spec, container) = pod(&revision.pod_template);
    assert_eq!(spec.termination_grace_period_seconds, Some(120));
    let sleep = container.lifecycle.as_ref().unwrap().pre_stop.as_ref().unwrap().sleep.as_ref().unwrap();
    assert_eq!(sleep.seconds, 15);
    let (_, revision) = rendered("{image: x, shutdown: {endpointLag: 0s}}");
    assert_eq!(pod(&revision.pod_template).2.lifecycle, None);
}

#[test]
fn every_pod_can_write_temporary_files_and_crash_dumps() {
    let (_, revision) = rendered("{image: x, volumes: [{name: mine, mountPath: /tmp/, emptyDir: {}}]}");
    let (_, spec, container) = pod(&revision.pod_template);
    let volumes: Vec<_> = spec.volumes.as_ref().unwrap().iter().map(|volume| volume.name.as_str()).collect();
    let mounts: Vec<_> =
        container.volume_mounts.as_ref().unwrap().iter().map(|mount| mount.mount_path.as_str()).collect();
    assert_eq!((volumes, mounts), (vec!["crash-dumps", "mine"], vec!["/var/crash", "/tmp/"]));
    let (_, revision) = rendered("image: x");
    let (_, spec, _) = pod(&revision.pod_template);
    assert_eq!(spec.volumes.as_ref().unwrap().len(), 2);
}

#[test]
fn pods_spread_over_nodes_unless_told_otherwise() {
    let spread = |spec: &str| {
        let (_, revision) = rendered(spec);
        pod(&revision.pod_template).1.topology_spread_constraints.clone()
    };
    let default = spread("image: x").unwrap();
    assert_eq!(default.len(), 1);
    assert_eq!(default[0].topology_key, "kubernetes.io/hostname");
    assert_eq!(default[0].when_unsatisfiable, "ScheduleAnyway");
    assert_eq!(default[0].match_label_keys.as_deref(), Some([labels::REVISION.to_owned()].as_slice()));
    assert_eq!(spread("{image: x, topologySpread: []}"), None);
    let hard = spread("{image: x, topologySpread: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}")
        .unwrap();
    assert_eq!(
        (hard[0].topology_key.as_str(), hard[0].when_unsatisfiable.as_str()),
        ("zone", "DoNotSchedule")
    );
}

#[test]
fn a_users_labels_cannot_move_a_pod() {
    let (app, revision) = rendered("{image: x, podMetadata: {labels: {team: a}, annotations: {b: c}}}");
    let (metadata, _, _) = pod(&revision.pod_template);
    let labels = metadata.labels.as_ref().unwrap();
    assert_eq!(labels["team"], "a");
    for (key, value) in labels::of_web_pod(&app.name, &revision.name, "shop") {
        assert_eq!(labels[&key], value);
    }
    assert_eq!(metadata.annotations.as_ref().unwrap()["b"], "c");
}

#[test]
fn the_deployment_selects_its_own_revision() {
    let (app, revision) = rendered("{image: x, strategy: {minReady: 10s}}");
    let deployment = deployment(&app, &revision, 3, None);
    let spec = deployment.spec.unwrap();
    let selector = spec.selector.match_labels.unwrap();
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    assert_eq!(selector.keys().collect::<Vec<_>>(), [labels::APP, labels::COMPONENT, labels::REVISION]);
    assert!(selector.iter().all(|(key, value)| labels[key] == *value));
    assert_eq!(
        (spec.replicas, spec.min_ready_seconds, spec.revision_history_limit),
        (Some(3), Some(10), Some(1))
    );
    assert_eq!(spec.progress_deadline_seconds, Some(i32::MAX));
}

#[test]
fn restarts_are_the_deployments_own() {
    for (kind, expected) in [("Rolling", "RollingUpdate"), ("Recreate", "Recreate")] {
        let (app, revision) = rendered(&format!("{{image: x, strategy: {{type: {kind}}}}}"));
        let without = deployment(&app, &revision, 1, None).spec.unwrap();
        let with = deployment(&app, &revision, 1, Some("2026-01-01T00:00:00Z")).spec.unwrap();
        assert_eq!(without.template, revision.pod_template);
        assert_eq!(
            with.template.metadata.unwrap().annotations.unwrap()[labels::RESTARTED_AT],
            "2026-01-01T00:00:00Z"
        );
        let strategy = with.strategy.unwrap();
        assert_eq!(strategy.type_.as_deref(), Some(expected));
        assert_eq!(strategy.rolling_update.is_some(), kind == "Rolling");
    }
}

#[test]
fn the_job_migrates_once_and_is_seen_by_no_one() {
    let (app, revision) = rendered(&format!(
        "{{image: x, {DATABASE}, podMetadata: {{labels: {{app: shop}}, annotations: {{linkerd.io/inject: enabled}}}}, \
         migrations: {{timeout: 2h, retries: 4}}, volumes: [{{name: a, mountPath: /a, persistentVolumeClaim: {{claimName: a}}}}, \
         {{name: b, mountPath: /b, secret: {{secretName: b}}}}]}}"
    ));
    let job = migration_job(&app, &revision, Stage::Migrate, 7).unwrap();
    assert_eq!(job.metadata.name.unwrap(), format!("shop-migrate-{}-7", revision.name));
    let spec = job.spec.unwrap();
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(4), Some(7200)));
    assert_eq!(spec.pod_replacement_policy.as_deref(), Some("Failed"));
    assert_eq!(spec.ttl_seconds_after_finished, None);
    let (metadata, pod_spec, container) = pod(&spec.template);
    let labels = metadata.labels.as_ref().unwrap();
    assert!(
        !labels.contains_key("app")
            && !labels.contains_key(labels::APP)
            && !labels.contains_key(labels::CLUSTER)
    );
    assert_eq!(labels[labels::MIGRATION], "shop");
    assert_eq!(labels["sidecar.istio.io/inject"], "false");
    assert_eq!(metadata.annotations.as_ref().unwrap()["linkerd.io/inject"], "disabled");
    assert_eq!(pod_spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(container.termination_message_policy.as_deref(), Some("FallbackToLogsOnError"));
    assert_eq!(container.command.as_deref(), Some(["/app/bin/migrate".to_owned()].as_slice()));
    assert_eq!((&container.readiness_probe, &container.lifecycle, &container.ports), (&None, &None, &None));
    let volumes: Vec<_> =
        pod_spec.volumes.as_ref().unwrap().iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(volumes, ["tmp", "crash-dumps", "b"]);
}

#[test]
fn jobs_around_a_migration_are_as_its_own() {
    let (app, revision) = rendered(&format!(
        "{{image: 'x:latest', imagePullPolicy: Never, {DATABASE}, release: {{args: [a]}}, migrations: {{timeout: 2h, \
         env: [{{name: A, value: '1'}}, {{name: B, value: '1'}}], contract: {{command: [c]}}, rollback: {{command: [r]}}, \
         before: [{{name: backup, image: 'postgres:17', command: [sh, -c], args: [pg_dump], env: [{{name: B, value: '2'}}]}}, \
         {{name: extension, command: [e]}}]}}}}"
    ));
    let job = |stage| migration_job(&app, &revision, stage, 7).unwrap();
    let migration = job(Stage::Migrate);
    assert_eq!(migration.metadata.annotations.as_ref().unwrap().len(), 1, "as before there were stages");
    for (stage, name, command) in [
        (Stage::Before(0), "before-1", "sh"),
        (Stage::Before(1), "before-2", "e"),
        (Stage::Contract, "contract", "c"),
        (Stage::Rollback, "rollback", "r"),
    ] {
        let job = job(stage);
        assert_eq!(job.metadata.name.as_deref(), Some(format!("shop-{name}-{}-7", revision.name).as_str()));
        assert_eq!(job.metadata.annotations.as_ref().unwrap()[labels::STAGE], name);
        assert_eq!(job.metadata.labels, migration.metadata.labels);
        let (mut spec, of_migration) = (job.spec.unwrap(), migration.spec.clone().unwrap());
        assert_eq!(pod(&spec.template).2.command.as_ref().unwrap()[0], command);
        let (was, own) = (pod(&of_migration.template).2.clone(), pod(&spec.template).2.clone());
        if stage == Stage::Before(0) {
            assert_eq!((own.image.as_deref(), &own.image_pull_policy), (Some("postgres:17"), &None));
            assert_eq!(own.args.as_deref(), Some(["pg_dump".to_owned()].as_slice()));
            let value = |name: &str| own.env.iter().flatten().filter(|entry| entry.name == name).next_back();
            assert_eq!(value("B").unwrap().value.as_deref(), Some("2"));
            assert!(value("DATABASE_URL").unwrap().value_from.is_some());
        } else {
            assert_eq!((&own.image, &own.env), (&was.image, &was.env));
        }
        // In all else they are the migration's.
        spec.template.spec.as_mut().unwrap().containers[0] = was;
        assert_eq!(spec, of_migration);
    }
    assert_eq!(migration_job(&app, &revision, Stage::Before(2), 7), None);
    let text = serde_json::to_string(&revision).unwrap();
    assert_eq!(serde_json::from_str::<crate::build::Revision>(&text).unwrap(), revision);
}

#[test]
fn the_migrations_command_follows_the_release() {
    for (rest, expected) in [
        ("release: {root: /srv/shop/}", "/srv/shop/bin/migrate"),
        ("migrations: {command: [/custom]}", "/custom"),
    ] {
        let (app, revision) = rendered(&format!("{{image: x, {DATABASE}, {rest}}}"));
        let job = migration_job(&app, &revision, Stage::Migrate, 1).unwrap();
        assert_eq!(pod(&job.spec.unwrap().template).2.command.as_ref().unwrap()[0], expected);
    }
}

#[test]
fn no_job_unless_one_migrates() {
    let (app, revision) = rendered("image: x");
    assert_eq!(migration_job(&app, &revision, Stage::Migrate, 1), None);
}

#[test]
fn the_active_service_names_one_revision_or_all() {
    let (app, revision) = rendered(
        "{image: x, port: 5000, traffic: {service: {type: LoadBalancer, port: 8080, annotations: {a: b}}}, \
         extraPorts: [{name: grpc, port: 50051}, {name: peer, port: 9100, expose: Peers}, {name: own, port: 9200, expose: None}]}",
    );
    let wide = active_service(&app, &ServiceSelector::Wide);
    let only = active_service(&app, &ServiceSelector::Only(revision.name.clone()));
    assert_eq!(wide.metadata.annotations.as_ref().unwrap()["a"], "b");
    assert!(
        !wide.metadata.labels.as_ref().unwrap().contains_key(labels::CLUSTER),
        "libcluster lists Endpoints by it"
    );
    let (wide, only) = (wide.spec.unwrap(), only.spec.unwrap());
    let labels = revision.pod_template.metadata.unwrap().labels.unwrap();
    for selector in [wide.selector.as_ref().unwrap(), only.selector.as_ref().unwrap()] {
        assert!(selector.iter().all(|(key, value)| labels[key] == *value));
    }
    assert_eq!(only.selector.unwrap()[labels::REVISION], revision.name.as_str());
    assert!(!wide.selector.unwrap().contains_key(labels::REVISION));
    let ports: Vec<_> = wide.ports.unwrap().into_iter().map(|port| (port.name.unwrap(), port.port)).collect();
    assert_eq!(ports, [("http".to_owned(), 8080), ("grpc".to_owned(), 50051)]);
}

#[test]
fn the_headless_service_lists_every_pod_of_the_cluster() {
    let (app, revision) = rendered(
        "{image: x, clustering: {distributionPorts: {min: 9100, max: 9102}}, extraPorts: [{name: peer, port: 9200, expose: Peers}]}",
    );
    let service = headless_service(&app, None);
    assert_eq!(service.metadata.labels.unwrap()[labels::CLUSTER], "shop", "its Endpoints are listed by it");
    let spec = service.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(spec.ip_family_policy.as_deref(), Some("SingleStack"));
    let labels = revision.pod_template.metadata.unwrap().labels.unwrap();
    assert!(spec.selector.unwrap().iter().all(|(key, value)| labels[key] == *value));
    let ports: Vec<_> = spec.ports.unwrap().into_iter().map(|port| port.port).collect();
    assert_eq!(ports, [4369, 9100, 9101, 9102, 9200]);
}

#[test]
fn drains_leave_all_but_one() {
    for (rest, expected) in [
        ("replicas: 5", Some(4)),
        ("replicas: 2", Some(1)),
        ("replicas: 1", None),
        ("replicas: 0", None),
        ("replicas: 5, podDisruptionBudget: {mode: Disabled}", None),
    ] {
        let (app, _) = rendered(&format!("{{image: x, {rest}}}"));
        let budget = pod_disruption_budget(&app, &ServiceSelector::Wide);
        assert_eq!(
            budget.as_ref().map(|budget| budget.spec.as_ref().unwrap().min_available.clone().unwrap()),
            expected.map(IntOrString::Int),
            "{rest}"
        );
        if let Some(budget) = budget {
            let spec = budget.spec.unwrap();
            assert_eq!(spec.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
            assert_eq!(
                spec.selector.unwrap().match_labels,
                active_service(&app, &ServiceSelector::Wide).spec.unwrap().selector
            );
        }
    }
}

#[test]
fn nothing_empty_is_applied() {
    fn check(path: &str, value: &serde_json::Value) {
        match value {
            serde_json::Value::Null => panic!("{path} is null"),
            serde_json::Value::Object(fields) => {
                assert!(!fields.is_empty() || path.ends_with("emptyDir"), "{path} is empty");
                for (name, value) in fields {
                    check(&format!("{path}.{name}"), value);
                }
            }
            serde_json::Value::Array(items) => {
                assert!(!items.is_empty(), "{path} is empty");
                for item in items {
                    check(path, item);
                }
            }
            _ => {}
        }
    }
    let (app, revision) = rendered(&format!("{{image: x, {DATABASE}}}"));
    check("deployment", &serde_json::to_value(deployment(&app, &revision, 1, None)).unwrap());
    check("job", &serde_json::to_value(migration_job(&app, &revision, Stage::Migrate, 1)).unwrap());
    check("service", &serde_json::to_value(active_service(&app, &ServiceSelector::Wide)).unwrap());
    check("headless", &serde_json::to_value(headless_service(&app, None)).unwrap());
}
