//! PURE. Takes out of objects what must not leave a cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::controller::pods;

/// What stands in the place of something taken out.
pub const REDACTED: &str = "REDACTED";

/// Annotations that hold whole objects, values and all.
const WHOLE: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "phoenix-operator.dev/identity"];
/// Values shorter than this may stand anywhere, and say little.
const TELLING: usize = 6;

/// Values that were taken out, to be taken out of everything else too.
pub type Taken = BTreeSet<String>;

/// Takes out values of environments, of `ConfigMap`s, of probes' headers, what containers said last, and copies of whole
/// objects. Where a value comes from (`valueFrom`) stays: it is a name.
pub fn object(value: &mut Value, taken: &mut Taken) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
                annotations.retain(|key, _| !WHOLE.contains(&key.as_str()));
            }
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    "env" | "httpHeaders" | "headers" if value.is_array() => list(value, taken),
                    "headers" | "defaults" | "stringData" | "binaryData" => map(value, taken),
                    "data" if value.as_object().is_some_and(|data| data.values().all(Value::is_string)) => {
                        map(value, taken);
                    }
                    "logTail" => take(value, taken, false),
                    "terminated" => {
                        if let Some(message) = value.get_mut("message") {
                            take(message, taken, false);
                        }
                    }
                    _ => object(value, taken),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| object(item, taken)),
        Value::String(said) => *said = unquoted(said),
        _ => {}
    }
}

/// Without what containers said, where a line quotes it.
fn unquoted(line: &str) -> String {
    let quote = pods::QUOTES.iter().filter_map(|quote| line.find(quote).map(|at| at + quote.len())).min();
    quote.map_or_else(|| line.to_owned(), |at| format!("{}{REDACTED}", &line[..at]))
}

/// Names and values.
fn list(value: &mut Value, taken: &mut Taken) {
    for entry in value.as_array_mut().into_iter().flatten() {
        if let Some(value) = entry.get_mut("value") {
            take(value, taken, true);
        }
    }
}

/// Values by name.
fn map(value: &mut Value, taken: &mut Taken) {
    for value in value.as_object_mut().into_iter().flatten().map(|(_, value)| value) {
        take(value, taken, true);
    }
}

fn take(value: &mut Value, taken: &mut Taken, remember: bool) {
    if let Some(text) =
        value.as_str().filter(|text| remember && text.len() >= TELLING && !text.contains("$("))
    {
        taken.insert(text.to_owned());
    }
    *value = Value::String(REDACTED.to_owned());
}

/// Takes out of a text every value that was taken out of an object, the longest first; and what looks like a URL with
/// a password.
pub fn text(text: &str, taken: &Taken) -> String {
    let mut values: Vec<&String> = taken.iter().collect();
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let lines: Vec<String> = text.lines().map(unquoted).collect();
    let end = if text.ends_with('\n') { "\n" } else { "" };
    let text = lines.join("\n") + end;
    let bare = values.into_iter().fold(text, |text, value| text.replace(value, REDACTED));
    match regex::Regex::new(r"://[^\s/:@]*:[^\s/@]+@") {
        Ok(password) => password.replace_all(&bare, "://REDACTED@").into_owned(),
        Err(_) => bare,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        let mut taken = Taken::new();
        let mut seen = json!({
            "metadata": {"name": "shop", "managedFields": [1], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{topsecret}", "team": "a"}},
            "spec": {"template": {"spec": {"containers": [{"env": [
                {"name": "API_KEY", "value": "topsecret"},
                {"name": "NODE", "value": "x@$(POD_IP)"},
                {"name": "URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}}],
                "readinessProbe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": "Bearer x"}]}}}]}}},
            "data": {"canonical": {"env": [{"name": "API_KEY", "value": "topsecret"}]}, "defaults": {"A": "defaulted"}},
            "status": {"migration": {"logTail": "topsecret"}, "lastState": {"terminated": {"message": "topsecret", "exitCode": 1}}},
        });
        object(&mut seen, &mut taken);
        let mut said = json!({"message": "it failed; its log says: ** (MatchError) hunter2", "http": {"headers": {"Authorization": "Bearer y"}}});
        object(&mut said, &mut taken);
        assert!(!said.to_string().contains("hunter2") && !said.to_string().contains("Bearer"), "{said}");
        assert!(!text("pod a crashes: ** (X) hunter2\nand more", &taken).contains("hunter2"));
        let all = seen.to_string();
        assert!(!all.contains("topsecret") && !all.contains("Bearer") && !all.contains("defaulted"), "{all}");
        for kept in ["API_KEY", "secretKeyRef", "exitCode", "Authorization", "team"] {
            assert!(all.contains(kept), "{kept}");
        }
        assert_eq!(text("it said topsecret", &taken), "it said REDACTED");
        assert_eq!(text("ecto://app:pw@db/shop x", &taken), "ecto://REDACTED@db/shop x");
        assert!(!taken.iter().any(|value| value.contains("POD_IP")));
    }

    #[test]
    fn a_config_map_keeps_its_keys() {
        let mut map = json!({"kind": "ConfigMap", "data": {"PHX_HOST": "localhost"}});
        object(&mut map, &mut Taken::new());
        assert_eq!(map["data"]["PHX_HOST"], REDACTED);
    }
}
