//! Apps for tests, made as the API server would hand them out.

use serde_json::{Value, json};

use super::{Invalid, PhoenixApp, ValidatedApp, schema};

/// The app `shop` in `prod` with this spec (YAML), defaults applied.
pub(crate) fn raw(spec: &str) -> PhoenixApp {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    from_value(json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1",
        "kind": "PhoenixApp",
        "metadata": {
            "name": "shop",
            "namespace": "prod",
            "uid": "5ef2ffb2-0f0e-4b51-9a1e-4cf0a3a0a001",
            "generation": 1,
            "resourceVersion": "100",
        },
        "spec": spec,
    }))
}

/// An app out of a whole object, defaults applied.
pub(crate) fn from_value(mut object: Value) -> PhoenixApp {
    schema::apply_defaults(&mut object, schema::root());
    serde_json::from_value(object).unwrap()
}

/// As [`raw`], validated.
pub(crate) fn app(spec: &str) -> ValidatedApp {
    ValidatedApp::try_from(&raw(spec)).unwrap()
}

/// What validation says against this spec.
pub(crate) fn faults(spec: &str) -> Vec<Invalid> {
    ValidatedApp::try_from(&raw(spec)).map(|_| spec.to_owned()).expect_err("refused")
}
