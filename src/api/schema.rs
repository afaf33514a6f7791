//! The CustomResourceDefinition, and its defaults outside an API server.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::PhoenixApp;

/// Places in the schema whose descriptions are found elsewhere: types of Kubernetes itself in Kubernetes' own
/// reference. They are a third of a megabyte's way to a CRD too big for `kubectl apply`.
const FOREIGN: [&str; 8] = [
    "/properties/spec/properties/env/items",
    "/properties/spec/properties/envFrom/items",
    "/properties/spec/properties/resources",
    "/properties/spec/properties/tolerations/items",
    "/properties/spec/properties/volumes/items/properties/projected/properties/sources/items",
    "/properties/spec/properties/migrations/properties/env/items",
    "/properties/spec/properties/migrations/properties/resources",
    "/properties/spec/properties/workers/items/properties/resources",
];

const ROOT: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// What limits a value.
const BOUNDS: [&str; 9] = [
    "maximum",
    "minimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "maxProperties",
    "minProperties",
];

static CRD: LazyLock<Value> = LazyLock::new(build);

static SCHEMA: LazyLock<Value> = LazyLock::new(|| CRD.pointer(ROOT).cloned().unwrap_or_default());

/// What a `.spec` is compared with for its defaults, in a hundredth of the memory of the whole schema.
static DEFAULTS: LazyLock<Value> = LazyLock::new(|| {
    let mut spec =
        build().pointer_mut(ROOT).map(|root| root["properties"]["spec"].take()).unwrap_or_default();
    keep_defaults(&mut spec);
    spec
});

/// The CustomResourceDefinition as JSON.
pub fn crd() -> &'static Value {
    &CRD
}

/// The schema of a whole `PhoenixApp`.
pub fn root() -> &'static Value {
    &SCHEMA
}

/// The schema of `.spec`.
pub fn spec() -> &'static Value {
    SCHEMA.pointer("/properties/spec").unwrap_or(&Value::Null)
}

/// The CustomResourceDefinition as it is checked in and shipped.
///
/// # Errors
/// When the generated schema is not one Kubernetes' types can hold, which a test rules out.
pub fn typed_crd() -> Result<CustomResourceDefinition, serde_json::Error> {
    serde_json::from_value(CRD.clone())
}

fn build() -> Value {
    let mut crd = serde_json::to_value(PhoenixApp::crd()).unwrap_or_default();
    if let Some(root) = crd.pointer_mut(ROOT) {
        for place in FOREIGN {
            if let Some(schema) = root.pointer_mut(place) {
                // the field's own words stay, where the type stands in the field's place
                if place.ends_with("items") {
                    strip_descriptions(schema);
                } else {
                    strip_inner_descriptions(schema);
                }
            }
        }
        strip_formats(root);
        whole_numbers(root);
        if let Some(status) = root.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
            // what the operator writes needs no rules, and each costs at every write
            status.get_mut("properties").into_iter().for_each(strip_rules);
            // its fields are told of in docs/status.md; here one sentence for each has to do
            let fields = status.get_mut("properties").and_then(Value::as_object_mut);
            fields.into_iter().flat_map(Map::values_mut).for_each(strip_inner_descriptions);
            // nor does it write nulls, nor anything out of bounds
            status.get_mut("properties").into_iter().for_each(strip_nullable);
            status.get_mut("properties").into_iter().flat_map(values).for_each(strip_bounds);
            // readers of kstatus see InProgress, not Current, until the operator has looked
            status.insert("default".to_owned(), json!({ "observedGeneration": -1 }));
            status.remove("nullable");
        }
        if let Some(conditions) =
            root.pointer_mut("/properties/status/properties/conditions").and_then(Value::as_object_mut)
        {
            conditions.insert("x-kubernetes-list-type".to_owned(), json!("map"));
            conditions.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
        }
    }
    crd
}

/// Removes the width of integers whose range is stated anyway.
fn strip_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let bounded = fields.contains_key("minimum") && fields.contains_key("maximum");
            if bounded && fields.get("format").is_some_and(Value::is_string) {
                fields.remove("format");
            }
            fields.values_mut().for_each(strip_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_formats),
        _ => {}
    }
}

/// Writes `100.0` as `100`.
fn whole_numbers(schema: &mut Value) {
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|_| number.is_f64()).and_then(|value| {
                // as text, since no conversion from a float says whether it lost something
                value.to_string().parse::<i64>().ok()
            });
            if let Some(whole) = whole {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

fn strip_nullable(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.remove("nullable");
            }
            fields.values_mut().for_each(strip_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nullable),
        _ => {}
    }
}

/// Removes bounds, the width of an integer among them, but no property that is named as one.
fn strip_bounds(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for bound in BOUNDS {
        object.remove(bound);
    }
    if object.get("type").is_some_and(|kind| kind == "integer") {
        object.remove("format");
    }
    for (key, value) in object {
        match key.as_str() {
            "properties" => values(value).for_each(strip_bounds),
            "items" | "additionalProperties" => strip_bounds(value),
            _ => {}
        }
    }
}

fn values(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.as_object_mut().into_iter().flat_map(Map::values_mut)
}

fn strip_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(strip_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_rules),
        _ => {}
    }
}

/// Removes all descriptions but its own.
fn strip_inner_descriptions(schema: &mut Value) {
    let own = schema.get("description").cloned();
    strip_descriptions(schema);
    if let (Some(own), Some(schema)) = (own, schema.as_object_mut()) {
        schema.insert("description".to_owned(), own);
    }
}

/// Removes descriptions, but no property that is named `description`.
fn strip_descriptions(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("description");
    for (key, value) in object {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(strip_descriptions),
            ("items" | "additionalProperties" | "not", schema) => strip_descriptions(schema),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(strip_descriptions);
            }
            _ => {}
        }
    }
}

/// A schema for any object, kept as it is.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

/// Fills in defaults as the API server does on every read and write.
///
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting>
pub fn apply_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(object) => {
            for (name, property) in properties(schema) {
                if let Some(default) = property.get("default") {
                    let nullable = property.get("nullable").and_then(Value::as_bool).unwrap_or(false);
                    if object.get(name).is_none_or(|value| value.is_null() && !nullable) {
                        object.insert(name.clone(), default.clone());
                    }
                }
                if let Some(value) = object.get_mut(name) {
                    apply_defaults(value, property);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    apply_defaults(item, schema);
                }
            }
        }
        _ => {}
    }
}

/// Takes away every field whose value is its default: the opposite of [`apply_defaults`].
///
/// What remains is what the user set to something else, so a field that a newer version adds, with a default that
/// the API server then writes into every object, changes nothing here.
pub fn remove_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(object) => {
            for (name, property) in properties(schema) {
                let Some(value) = object.get_mut(name) else { continue };
                remove_defaults(value, property);
                if let Some(default) = property.get("default") {
                    let mut default = default.clone();
                    remove_defaults(&mut default, property);
                    if *value == default {
                        object.remove(name);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    remove_defaults(item, schema);
                }
            }
        }
        _ => {}
    }
}

/// The schema of `.spec`, of which nothing is left but its defaults and where they stand.
pub fn defaults() -> &'static Value {
    &DEFAULTS
}

/// Takes everything out of a schema but defaults; false when there are none.
fn keep_defaults(schema: &mut Value) -> bool {
    let Value::Object(fields) = schema else { return false };
    fields.retain(|key, inner| match key.as_str() {
        "default" => true,
        "items" => keep_defaults(inner),
        "properties" => inner.as_object_mut().is_some_and(|properties| {
            properties.retain(|_, property| keep_defaults(property));
            !properties.is_empty()
        }),
        _ => false,
    });
    !fields.is_empty()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}
