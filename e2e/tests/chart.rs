//! What the chart renders, by the real Helm and without a cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail as tests do")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use e2e::{
    cluster::tools::{self, Group},
    operator_image::chart,
};
use serde_json::{Value, json};

fn helm(arguments: &[&str]) -> Output {
    let helm = tools::ensure(&[Group::Helm]).unwrap().program("helm");
    Command::new(helm).args(arguments).output().unwrap()
}

fn template(settings: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let mut arguments = vec!["template", "phx", chart.to_str().unwrap(), "--namespace", "ops"];
    for setting in settings {
        arguments.extend(["--set-json", setting]);
    }
    let output = helm(&arguments);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["kind"].as_str().unwrap()).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let output = helm(&["lint", "--strict", chart().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_rights_are_few_and_named() {
    let objects = template(&[]).unwrap();
    let rules = find(&objects, "ClusterRole")["rules"].as_array().unwrap().clone();
    assert!(!rules.is_empty());
    for rule in &rules {
        for part in ["apiGroups", "resources", "verbs"] {
            assert!(!strings(&rule[part]).contains(&"*"), "{rule}");
        }
        for resource in strings(&rule["resources"]) {
            assert!(
                !["roles", "clusterroles", "clusterrolebindings", "nodes", "users", "groups"]
                    .contains(&resource)
            );
            for verb in ["bind", "escalate", "impersonate"] {
                assert!(!strings(&rule["verbs"]).contains(&verb), "{rule}");
            }
            assert!(!resource.starts_with("pods/"), "{rule}");
            if resource == "secrets" {
                assert_eq!(rule["verbs"], json!(["create"]), "a Secret is never read");
            }
            if resource == "phoenixapps" {
                assert_eq!(rule["verbs"], json!(["list", "watch"]), "a spec is never written");
            }
        }
    }
}

/// A person's roles, which Kubernetes puts together by these labels.
#[test]
fn who_may_view_a_namespace_reads_its_apps_and_who_may_edit_it_changes_them() {
    let objects = template(&[]).unwrap();
    let taken_in = |objects: &[Value], role: &str| -> Vec<Value> {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
        let labelled = objects.iter().filter(|object| object["metadata"]["labels"][&label] == "true");
        labelled.map(|object| object["rules"].clone()).collect()
    };
    let rule = |resources: &[&str], verbs: &[&str]| json!({"apiGroups": ["phoenix-operator.dev"], "resources": resources, "verbs": verbs});
    let all = ["phoenixapps", "phoenixapps/scale", "phoenixapps/status"];
    assert_eq!(taken_in(&objects, "view"), [json!([rule(&all, &["get", "list", "watch"])])]);
    let edit = rule(&["phoenixapps"], &["create", "update", "patch", "delete", "deletecollection"]);
    let scale = rule(&["phoenixapps/scale"], &["update", "patch"]);
    assert_eq!(taken_in(&objects, "edit"), [json!([edit, scale])]);
    let stays = |objects: &[Value]| {
        let kept = |object: &&Value| object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        objects.iter().filter(kept).count()
    };
    assert_eq!(stays(&objects), 3, "with the definition");
    assert_eq!(stays(&template(&["crds.keep=false"]).unwrap()), 0);
    for without in ["crds.aggregateRoles=false", "crds.enabled=false"] {
        let objects = template(&[without]).unwrap();
        assert!(taken_in(&objects, "view").is_empty() && taken_in(&objects, "edit").is_empty(), "{without}");
    }
}

/// The API server lets the operator bind a role only if the operator holds all that is in it.
#[test]
fn nodes_get_nothing_that_the_operator_has_not() {
    let held = |rules: &Value, group: &str, resource: &str, verb: &str| {
        rules.as_array().unwrap().iter().any(|rule| {
            strings(&rule["apiGroups"]).contains(&group)
                && strings(&rule["resources"]).contains(&resource)
                && strings(&rule["verbs"]).contains(&verb)
        })
    };
    for (settings, kind) in [(&[][..], "ClusterRole"), (&[r#"watchNamespaces=["shop"]"#][..], "Role")] {
        let objects = template(settings).unwrap();
        let named = |name: &str| {
            let role = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
            objects.iter().find(role).unwrap_or_else(|| panic!("no {kind} {name}"))["rules"].clone()
        };
        let (own, peers) = (named("phx-phoenix-operator"), named("phx-phoenix-operator-peers"));
        assert_eq!(
            peers,
            json!([{"apiGroups": [""], "resources": ["pods", "endpoints"], "verbs": ["list"]}])
        );
        for resource in ["pods", "endpoints"] {
            assert!(held(&own, "", resource, "list"), "{resource}");
        }
        let container = &find(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        assert!(
            strings(&container["args"])
                .contains(&format!("--peers-role={kind}/phx-phoenix-operator-peers").as_str())
        );
    }
}

/// Whatever is looked after, Leases are dealt with in the release's namespace alone, and by name.
#[test]
fn several_elect_a_leader_by_a_lease_of_their_own() {
    for settings in [&[][..], &[r#"watchNamespaces=["shop"]"#][..], &["replicas=2"][..]] {
        let objects = template(settings).unwrap();
        let leases =
            |rule: &&Value| strings(&rule["apiGroups"]).iter().any(|group| group.contains("coordination"));
        let with_leases: Vec<&Value> = objects
            .iter()
            .filter(|object| object["rules"].as_array().is_some_and(|rules| rules.iter().any(|r| leases(&r))))
            .collect();
        let [role] = with_leases[..] else { panic!("{with_leases:?}") };
        let place = (&role["kind"], &role["metadata"]["namespace"], &role["metadata"]["name"]);
        assert_eq!(place, (&json!("Role"), &json!("ops"), &json!("phx-phoenix-operator-leader")));
        let named = json!({
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "resourceNames": ["phx-phoenix-operator"], "verbs": ["get", "update"],
        });
        assert_eq!(role["rules"][1], named);
        assert_eq!(role["rules"][0]["verbs"], json!(["create"]));
        let bound = objects.iter().find(|object| {
            object["kind"] == "RoleBinding" && object["metadata"]["name"] == role["metadata"]["name"]
        });
        assert_eq!(bound.unwrap()["roleRef"]["name"], role["metadata"]["name"]);
        let deployment = &find(&objects, "Deployment")["spec"];
        let arguments = strings(&deployment["template"]["spec"]["containers"][0]["args"]);
        for argument in ["--lease-namespace=ops", "--lease-name=phx-phoenix-operator"] {
            assert!(arguments.contains(&argument), "{arguments:?}");
        }
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        assert_eq!(deployment["strategy"], rolling);
    }
}

#[test]
fn two_are_kept_apart_and_one_holds_up_no_drain() {
    let one = template(&[]).unwrap();
    assert_eq!(find(&one, "Deployment")["spec"]["replicas"], 1);
    assert!(!kinds(&one).contains(&"PodDisruptionBudget"));
    assert!(find(&one, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"].is_null());
    let two = template(&["replicas=2"]).unwrap();
    let deployment = &find(&two, "Deployment")["spec"];
    let labels = &deployment["selector"]["matchLabels"];
    assert_eq!(deployment["replicas"], 2);
    let budget = &find(&two, "PodDisruptionBudget")["spec"];
    assert_eq!((&budget["maxUnavailable"], &budget["selector"]["matchLabels"]), (&json!(1), labels));
    let spread = &deployment["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(
        (&spread["topologyKey"], &spread["labelSelector"]["matchLabels"]),
        (&json!("kubernetes.io/hostname"), labels)
    );
}

#[test]
fn each_right_has_its_reason() {
    let text = std::fs::read_to_string(chart().join("templates/_rules.tpl")).unwrap();
    let mut before = "";
    for line in text.lines() {
        if line.starts_with("- apiGroups") {
            assert!(before.starts_with("# "), "no reason before {line}");
        }
        before = line;
    }
}

#[test]
fn named_namespaces_get_the_same_rights_and_nothing_cluster_wide() {
    let everywhere = template(&[]).unwrap();
    let named = template(&[r#"watchNamespaces=["shop","blog"]"#, "crds.enabled=false"]).unwrap();
    assert!(
        !kinds(&named).iter().any(|kind| kind.starts_with("Cluster") || *kind == "CustomResourceDefinition")
    );
    let peers = |object: &Value| object["metadata"]["name"].as_str().unwrap().ends_with("-peers");
    let own = |object: &Value| object["metadata"]["namespace"] == "ops";
    let roles: Vec<&Value> =
        named.iter().filter(|object| object["kind"] == "Role" && !peers(object) && !own(object)).collect();
    let namespaces: Vec<&str> =
        roles.iter().map(|role| role["metadata"]["namespace"].as_str().unwrap()).collect();
    assert_eq!(namespaces, ["shop", "blog"]);
    for role in roles {
        assert_eq!(role["rules"], find(&everywhere, "ClusterRole")["rules"]);
    }
    let container = &find(&named, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let arguments = strings(&container["args"]);
    assert!(
        arguments.contains(&"--namespace=shop") && arguments.contains(&"--namespace=blog"),
        "{arguments:?}"
    );
}

/// Kubernetes' Pod Security Standard `restricted`; a real API server judges it too, in `real_helm`.
#[test]
fn the_pod_is_restricted() {
    let objects = template(&[]).unwrap();
    let deployment = &find(&objects, "Deployment")["spec"];
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for forbidden in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert!(pod[forbidden].is_null());
    }
    for container in pod["containers"].as_array().unwrap() {
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container["securityContext"], expected);
        assert!(container["livenessProbe"].is_object() && container["readinessProbe"].is_object());
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
}

#[test]
fn endpoints_of_prometheus_reach_the_operator_and_their_secrets_are_mounted() {
    let endpoints = r#"prometheus.endpoints=[{"name":"main","url":"https://p:9090","secretName":"p","tokenKey":"token","caKey":"ca.crt"},{"name":"plain","url":"http://q/x"}]"#;
    let objects = template(&[endpoints]).unwrap();
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments = strings(&container["args"]);
    let dir = "/etc/phoenix-operator/prometheus/main";
    let main = format!("--prometheus=main=https://p:9090,bearer={dir}/token,ca={dir}/ca.crt");
    assert!(
        arguments.contains(&main.as_str()) && arguments.contains(&"--prometheus=plain=http://q/x"),
        "{arguments:?}"
    );
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "prometheus-main", "mountPath": dir, "readOnly": true}])
    );
    assert_eq!(pod["volumes"], json!([{"name": "prometheus-main", "secret": {"secretName": "p"}}]));
    let plain = template(&[]).unwrap();
    let pod = &find(&plain, "Deployment")["spec"]["template"]["spec"];
    assert!(pod["volumes"].is_null() && pod["containers"][0]["volumeMounts"].is_null());
    for nonsense in [
        r#"prometheus.endpoints=[{"name":"a","url":"ftp://x"}]"#,
        r#"prometheus.endpoints=[{"name":"a","url":"http://me:pass@x"}]"#,
        r#"prometheus.endpoints=[{"name":"a","url":"https://x","caKey":"ca.crt"}]"#,
        r#"prometheus.endpoints=[{"name":"A","url":"http://x"}]"#,
    ] {
        let error = template(&[nonsense]).expect_err(nonsense);
        assert!(error.contains("endpoints"), "{error}");
    }
}

#[test]
fn allowed_annotations_reach_the_operator() {
    let arguments = |settings: &[&str]| {
        let objects = template(settings).unwrap();
        let container = &find(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let arguments = strings(&container["args"]).into_iter().map(str::to_owned);
        arguments.filter(|one| one.starts_with("--allowed-annotation")).collect::<Vec<_>>()
    };
    assert_eq!(arguments(&[]), Vec::<String>::new());
    assert_eq!(
        arguments(&[r#"allowedAnnotations=["cert-manager.io/","-"]"#]),
        ["--allowed-annotation=cert-manager.io/", "--allowed-annotation=-"]
    );
}

#[test]
fn nonsense_is_refused_with_the_field_named() {
    for (setting, field) in [
        ("replicas=0", "replicas"),
        ("replicaCount=3", "replicaCount"),
        ("image.name=\"x\"", "image"),
        ("image.pullPolicy=\"Sometimes\"", "pullPolicy"),
        ("logging.format=\"xml\"", "format"),
        ("watchNamespaces=[\"Not_A_Label\"]", "watchNamespaces"),
        ("watchNamespaces=\"shop\"", "watchNamespaces"),
        ("crds.keep=\"perhaps\"", "keep"),
        ("podSecurityContext.runAsNonRoot=false", "runAsNonRoot"),
        ("podSecurityContext.runAsUser=0", "runAsUser"),
        ("resources.limits.memory=\"lots\"", "memory"),
        ("clusterDomain=\"not a domain\"", "clusterDomain"),
        (r#"allowedAnnotations=["a b"]"#, "allowedAnnotations"),
        (r#"allowedAnnotations="a""#, "allowedAnnotations"),
        ("serviceAccount={\"create\":false,\"name\":\"\"}", "serviceAccount.name"),
    ] {
        let error = template(&[setting]).expect_err(setting);
        assert!(error.contains(field), "{setting}: {error}");
    }
}

#[test]
fn the_crd_is_the_checked_in_one_and_is_kept() {
    let checked_in = chart().join("../../crds/phoenixapps.phoenix-operator.dev.yaml");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert!(read(&chart().join("crd.yaml")) == read(&checked_in), "run `make crd`");

    let original: Value = serde_saphyr::from_str(&read(&checked_in)).unwrap();
    let kept = template(&[]).unwrap();
    let mut crd = find(&kept, "CustomResourceDefinition").clone();
    assert_eq!(crd["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
    crd["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(crd, original);

    let loose = template(&["crds.keep=false"]).unwrap();
    assert_eq!(*find(&loose, "CustomResourceDefinition"), original);
    assert!(!kinds(&template(&["crds.enabled=false"]).unwrap()).contains(&"CustomResourceDefinition"));
}

#[test]
fn the_versions_are_those_of_the_program() {
    let path: PathBuf = chart().join("Chart.yaml");
    let about: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
    let objects = template(&[]).unwrap();
    let image = &find(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*image, format!("registry.local/phoenix-operator:{}", env!("CARGO_PKG_VERSION")));
}
