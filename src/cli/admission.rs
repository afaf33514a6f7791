//! What the API server does with an app before it stores it, without one: pruning's complaints, defaults, the schema
//! and its CEL rules.

use kube::core::cel::Validator;
use regex::Regex;
use serde_json::{Value, json};

use crate::{
    api::{Invalid, PhoenixApp, ValidatedApp, schema},
    controller::guarded::complaint,
};

/// Admits an object as the API server would, and validates it as the operator would.
///
/// What only a cluster gives an object, a file may lack: the namespace is then `default`, the UID all zeros.
///
/// # Errors
/// Every field that is wrong, in the order of the file.
pub fn admit(mut object: Value) -> Result<ValidatedApp, Vec<Invalid>> {
    let metadata = &mut object["metadata"];
    if metadata.is_object() {
        for (field, value) in [
            ("namespace", json!("default")),
            ("uid", json!("00000000-0000-0000-0000-000000000000")),
            ("generation", json!(1)),
        ] {
            if metadata[field].is_null() {
                metadata[field] = value;
            }
        }
    }
    if !object["metadata"]["name"].is_string() {
        let message = "must be set, to a text".to_owned();
        return Err(vec![Invalid { field: "metadata.name".to_owned(), message }]);
    }
    schema::apply_defaults(&mut object, schema::root());
    let mut faults = Vec::new();
    check("spec", &object["spec"], schema::spec(), &mut faults);
    if faults.is_empty()
        && let Err(errors) = Validator::new().validate(schema::root(), &object, None)
    {
        faults.extend(
            errors
                .into_vec()
                .into_iter()
                .map(|error| Invalid { field: error.field_path, message: error.message }),
        );
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    // From a text, as the operator reads it: reading the type from a tree takes as much code once more.
    let app: PhoenixApp = serde_json::from_str(&object.to_string())
        .map_err(|error| vec![Invalid { field: "the object".to_owned(), message: complaint(&error) }])?;
    ValidatedApp::try_from(&app)
}

fn check(path: &str, value: &Value, schema: &Value, faults: &mut Vec<Invalid>) {
    let mut fault = |message: String| faults.push(Invalid { field: path.to_owned(), message });
    if value.is_null() {
        if schema["nullable"] != true {
            fault("must be set".to_owned());
        }
        return;
    }
    if let Some(wanted) = schema["type"].as_str()
        && !has_type(value, wanted)
    {
        return fault(format!("must be of type {wanted}, but is {value}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return fault(format!("must be one of {}, but is {value}", allowed.join(", ")));
    }
    if let Some(message) = out_of_bounds(value, schema) {
        return fault(message);
    }
    match value {
        Value::Object(fields) => {
            for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(required) {
                    faults.push(Invalid {
                        field: format!("{path}.{required}"),
                        message: "must be set".to_owned(),
                    });
                }
            }
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                match known {
                    Some(known) => check(&path, value, known, faults),
                    None if open => {}
                    None => faults.push(Invalid { field: path, message: unknown(name, schema) }),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(&format!("{path}[{index}]"), item, &schema["items"], faults);
            }
        }
        _ => {}
    }
}

fn unknown(name: &str, schema: &Value) -> String {
    let known: Vec<_> =
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    format!("there is no field {name:?} here; there are {}", known.join(", "))
}

fn has_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn out_of_bounds(value: &Value, schema: &Value) -> Option<String> {
    let bound = |name: &str| schema[name].as_f64();
    let outside = |size: f64, least: Option<f64>, most: Option<f64>| {
        least.is_some_and(|least| size < least) || most.is_some_and(|most| size > most)
    };
    let range = |least: Option<f64>, most: Option<f64>| match (least, most) {
        (Some(least), Some(most)) => format!("between {least} and {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, most) => format!("at most {}", most.unwrap_or_default()),
    };
    #[allow(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
    let (what, size, least, most) = match value {
        Value::Number(number) => ("", number.as_f64()?, bound("minimum"), bound("maximum")),
        Value::String(text) => {
            if let Some(pattern) = schema["pattern"].as_str()
                && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
            {
                return Some(format!("{text:?} must match {pattern}"));
            }
            ("have a length ", text.chars().count() as f64, bound("minLength"), bound("maxLength"))
        }
        Value::Array(items) => ("have a length ", items.len() as f64, bound("minItems"), bound("maxItems")),
        Value::Object(fields) => {
            ("have a length ", fields.len() as f64, bound("minProperties"), bound("maxProperties"))
        }
        _ => return None,
    };
    outside(size, least, most).then(|| {
        let be = if what.is_empty() { "be " } else { what };
        format!("must {be}{}, but is {size}", range(least, most))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::admit;

    fn faults(spec: &str) -> Vec<String> {
        let spec: Value = serde_saphyr::from_str(spec).unwrap();
        let object = json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp", "metadata": {"name": "shop"}, "spec": spec,
        });
        admit(object).err().into_iter().flatten().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn a_fresh_app_is_admitted() {
        assert_eq!(faults("image: x"), Vec::<String>::new());
        assert_eq!(
            faults("{image: x, resources: {limits: {cpu: 1}}, affinity: {anything: {goes: 1}}}"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_the_schema_refuses_is_named() {
        for (spec, said) in [
            ("{}", "spec.image: must be set"),
            ("{image: ''}", "spec.image: must have a length between 1 and 1024, but is 0"),
            ("{image: 5}", "spec.image: must be of type string, but is 5"),
            ("{image: x, replica: 3}", "spec.replica: there is no field \"replica\" here; there are"),
            ("{image: x, replicas: -1}", "spec.replicas: must be between 0 and 10000, but is -1"),
            (
                "{image: x, strategy: {type: Sudden}}",
                "spec.strategy.type: must be one of Rolling, Recreate, BlueGreen, Canary, but is \"Sudden\"",
            ),
            ("{image: x, shutdown: {grace: 90}}", "spec.shutdown.grace: must be of type string, but is 90"),
            ("{image: x, shutdown: {grace: 1d}}", "spec.shutdown.grace: \"1d\" must match"),
            ("{image: x, hosts: [Shop]}", "spec.hosts[0]: \"Shop\" must match"),
            ("{image: x, env: [{value: a}]}", "spec.env[0].name: must be set"),
            ("{image: x, env: null}", "spec.env: must be set"),
            (
                "{image: x, database: {urlFrom: {secretKeyRef: {name: a, key: b, namespace: c}}}}",
                "there is no field \"namespace\"",
            ),
            (
                "{image: x, strategy: {rolling: {maxSurge: 101%}}}",
                "spec.strategy.rolling.maxSurge: \"101%\" must match",
            ),
            ("{image: x, hosts: ['*.a']}", "spec.hosts: hosts[0] must not be a wildcard"),
            ("{image: x, affinity: {nodeAffinity: 3}}", "spec.affinity: "),
        ] {
            let faults = faults(spec);
            assert!(faults.len() == 1 && faults[0].contains(said), "{spec}: {faults:?}");
        }
    }

    #[test]
    fn what_no_schema_speaks_of_is_named_as_well() {
        let object = json!({"apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
            "metadata": {"name": "shop", "labels": 5}, "spec": {"image": "shop:1"}});
        let faults: Vec<_> = admit(object).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(faults, ["the object: invalid type: integer `5`, expected a map"]);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(faults("{imagee: x, replicas: many, port: 0}").len(), 4);
    }
}
