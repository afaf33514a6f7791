//! The CRD as it is shipped.

use serde_json::{Value, json};

use crate::api::{PhoenixAppSpec, PhoenixAppStatus, schema, testing};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/phoenixapps.phoenix-operator.dev.yaml");

#[test]
fn the_checked_in_crd_is_current() {
    let current = crate::cli::crd::yaml().unwrap();
    let file = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(file == current, "run `cargo run -- crd > crds/phoenixapps.phoenix-operator.dev.yaml`");
}

#[test]
fn it_fits_the_annotation_of_a_client_side_apply() {
    // kubectl keeps the whole object as JSON in an annotation of at most 256 KiB; we keep far below
    let yaml = crate::cli::crd::yaml().unwrap();
    assert!(yaml.len() <= 100 * 1024, "{} bytes", yaml.len());
}

#[test]
fn it_has_the_names_columns_and_subresources_people_use() {
    let crd = schema::crd();
    assert_eq!(crd["metadata"]["name"], "phoenixapps.phoenix-operator.dev");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["phx", "pxa"]));
    assert_eq!(crd["spec"]["names"]["categories"], json!(["phoenix"]));
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    let version = &crd["spec"]["versions"][0];
    assert_eq!(
        version["subresources"],
        json!({
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
            "status": {},
        })
    );
    let columns: Vec<_> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Ready", "Phase", "Image", "Replicas", "Age", "Message"]);
    assert_eq!(version["additionalPrinterColumns"][5]["priority"], 1);
    assert_eq!(schema::root()["properties"]["status"]["default"], json!({"observedGeneration": -1}));
}

/// Calls `visit` with the path and schema of every property.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            visit(&path, property);
            walk(&path, property, visit);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            walk(&format!("{path}[]"), inner, visit);
        }
    }
}

#[test]
fn every_field_of_ours_is_described() {
    let mut bare = Vec::new();
    walk("spec", schema::spec(), &mut |path, schema| {
        let kubernetes = ["env[].", "envFrom[].", "resources.", "tolerations[].", "projected.sources[]"];
        let foreign = kubernetes.iter().any(|part| path.contains(part));
        if !foreign && schema.get("description").is_none() {
            bare.push(path.to_owned());
        }
    });
    assert!(bare.is_empty(), "{bare:?}");
}

#[test]
fn every_field_is_structural() {
    walk("", schema::root(), &mut |path, schema| {
        let typed = schema.get("type").is_some()
            || schema.get("x-kubernetes-int-or-string").is_some()
            || schema.get("x-kubernetes-preserve-unknown-fields").is_some();
        assert!(typed || path == ".metadata", "{path}: {schema}");
        assert!(schema.get("$ref").is_none(), "{path}");
        assert!(schema.get("oneOf").is_none(), "{path}");
    });
}

#[test]
fn references_cannot_leave_the_namespace() {
    walk("spec", schema::spec(), &mut |path, _| {
        let last = path.rsplit('.').next().unwrap_or_default();
        // Gateways belong to the platform, and say themselves whose routes they let in.
        if path == "spec.traffic.gateway.parentRefs[].namespace" {
            return;
        }
        assert!(
            !["namespace", "hostPath", "hostNetwork", "privileged", "nodeName", "template"].contains(&last),
            "{path}"
        );
    });
}

#[test]
fn fields_of_later_versions_are_absent() {
    let text = schema::spec().to_string();
    for absent in ["patch\"", "sidecars"] {
        assert!(!text.contains(&format!("\"{absent}")), "{absent}");
    }
}

#[test]
fn lists_of_named_things_merge_by_name() {
    for (list, key) in [
        ("env", "name"),
        ("extraPorts", "name"),
        ("volumes", "name"),
        ("imagePullSecrets", "name"),
        ("workers", "name"),
    ] {
        let schema = &schema::spec()["properties"][list];
        assert_eq!(schema["x-kubernetes-list-type"], "map", "{list}");
        assert_eq!(schema["x-kubernetes-list-map-keys"], json!([key]), "{list}");
    }
}

#[test]
fn serde_and_the_schema_have_the_same_defaults() {
    let by_schema = testing::raw("image: x").spec;
    let by_serde: PhoenixAppSpec = serde_json::from_value(json!({"image": "x"})).unwrap();
    assert_eq!(by_schema, by_serde);
}

#[test]
fn serde_and_the_schema_have_the_same_nested_defaults() {
    let spec = json!({
        "image": "x",
        "extraPorts": [{"name": "metrics", "port": 9568}],
        "health": {"readiness": {"path": "/health"}, "startup": {}},
        "clustering": {"distributionPorts": {"max": 4400}},
        "migrations": {"command": ["x"]},
        "strategy": {"rolling": {"maxSurge": 1}},
        "topologySpread": [{"topologyKey": "zone"}],
        "volumes": [{"name": "a", "mountPath": "/a", "emptyDir": {}}],
        "workers": [{"name": "a"}],
        "traffic": {"service": {"port": 8080}},
    });
    let by_serde: PhoenixAppSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut value = spec;
    schema::apply_defaults(&mut value, schema::spec());
    let by_schema: PhoenixAppSpec = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(by_schema, by_serde);
    assert_eq!(serde_json::to_value(by_serde).unwrap(), value);
}

#[test]
fn an_unseen_status_decodes() {
    let status: PhoenixAppStatus = serde_json::from_value(json!({"observedGeneration": -1})).unwrap();
    assert_eq!(status, PhoenixAppStatus::default());
    assert_eq!(testing::raw("image: x").status, Some(status));
}
