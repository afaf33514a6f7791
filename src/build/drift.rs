//! Whether what is observed is still what was written.
//!
//! Every field we want must be as we want it; what others add beside it is theirs, except in a selector. Both sides are first brought to
//! one form: the API server writes quantities its own way, leaves out empty values and fills in defaults.

use serde_json::Value;

/// Lists whose items are found by a key, as in server-side apply; the others are compared as a whole.
const KEYS: [(&str, &[&str]); 9] = [
    ("containers", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("ports", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// Maps that are one value, in server-side apply too: with one key more they select other pods.
const WHOLE: [&str; 2] = ["matchLabels", "selector"];

/// Fields that hold a quantity, and maps of quantities.
const QUANTITIES: [&str; 5] = ["divisor", "limits", "requests", "sizeLimit", "storage"];

/// Paths of fields in `desired` that differ in `observed`, such as `spec.template.spec.containers[app].image`.
pub fn drift(desired: &Value, observed: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    let root = Place { within: None, step: Step::Root, field: "", quantity: false };
    compare(desired, Some(observed), &root, &mut paths);
    paths
}

/// Where something stands: nearly always nothing differs, so the path is written only when it is asked for.
struct Place<'a> {
    within: Option<&'a Place<'a>>,
    step: Step<'a>,
    /// Name of the field; that of the list for its items.
    field: &'a str,
    /// Scalars here are quantities.
    quantity: bool,
}

/// What leads from a place to one within it.
enum Step<'a> {
    Root,
    Field(&'a str),
    /// Of a list, by its keys.
    Keyed(&'a Value, &'static [&'static str]),
    Index(usize),
}

impl<'a> Place<'a> {
    fn field(&'a self, name: &'a str) -> Self {
        let quantity = self.quantity || QUANTITIES.contains(&name);
        Self { within: Some(self), step: Step::Field(name), field: name, quantity }
    }

    fn item(&'a self, step: Step<'a>) -> Self {
        Self { within: Some(self), step, field: self.field, quantity: self.quantity }
    }

    fn path(&self) -> String {
        let before = self.within.map(Self::path).unwrap_or_default();
        match self.step {
            Step::Root => before,
            Step::Field(name) if before.is_empty() => name.to_owned(),
            Step::Field(name) => format!("{before}.{name}"),
            Step::Index(index) => format!("{before}[{index}]"),
            Step::Keyed(item, keys) => {
                let values: Vec<&str> = key(item, keys).flatten().collect();
                format!("{before}[{}]", values.join(","))
            }
        }
    }
}

fn compare(desired: &Value, observed: Option<&Value>, place: &Place<'_>, paths: &mut Vec<String>) {
    let observed = observed.filter(|value| !value.is_null());
    match (desired, observed) {
        (desired, None) => {
            if !is_empty(desired) {
                paths.push(place.path());
            }
        }
        (Value::Null, Some(_)) => {} // not wanted at all: someone else's
        (Value::Object(desired), Some(Value::Object(observed))) => {
            for (name, value) in desired {
                compare(value, observed.get(name), &place.field(name), paths);
            }
            if WHOLE.contains(&place.field) && observed.keys().any(|name| !desired.contains_key(name)) {
                paths.push(place.path());
            }
        }
        (Value::Array(desired), Some(Value::Array(observed))) => lists(desired, observed, place, paths),
        (desired, Some(observed)) => {
            if !same_scalar(desired, observed, place.quantity) {
                paths.push(place.path());
            }
        }
    }
}

/// What the API server may leave out: Go's zero values.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn lists(desired: &[Value], observed: &[Value], place: &Place<'_>, paths: &mut Vec<String>) {
    let keys = KEYS.iter().find_map(|(list, keys)| (*list == place.field).then_some(*keys));
    let keyed = keys.filter(|keys| desired.iter().all(|item| key(item, keys).all(|value| value.is_some())));
    if let Some(keys) = keyed {
        for item in desired {
            let found = observed.iter().find(|other| key(other, keys).eq(key(item, keys)));
            compare(item, found.or(Some(&Value::Null)), &place.item(Step::Keyed(item, keys)), paths);
        }
    } else if desired.len() == observed.len() {
        for (index, (item, other)) in desired.iter().zip(observed).enumerate() {
            compare(item, Some(other), &place.item(Step::Index(index)), paths);
        }
    } else {
        paths.push(place.path());
    }
}

/// What an item of a list is found by; a value for each key, none where there is none.
fn key<'a>(item: &'a Value, keys: &'static [&'static str]) -> impl Iterator<Item = Option<&'a str>> {
    keys.iter().map(|key| item.get(key).and_then(Value::as_str))
}

fn same_scalar(desired: &Value, observed: &Value, quantity: bool) -> bool {
    if desired == observed {
        return true;
    }
    match (text(desired), text(observed)) {
        // an IntOrString may come back as the other of its two forms
        (Some(desired), Some(observed)) if desired == observed => true,
        (Some(desired), Some(observed)) if quantity => {
            matches!((nanos(&desired), nanos(&observed)), (Some(one), Some(other)) if one == other)
        }
        _ => false,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A quantity in billionths, the finest that Kubernetes keeps; what is finer still rounds up (away from zero).
/// None when the text is no quantity, or beyond the range of one.
///
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
fn nanos(text: &str) -> Option<i128> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (power, binary) = scale(suffix)?;
    let scaled = digits.checked_mul(1_i128.checked_shl(binary)?)?;
    // digits * 10^power / 10^fraction, in units of 10^-9
    let exponent = power.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let factor = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let value = if exponent >= 0 {
        scaled.checked_mul(factor)?
    } else {
        scaled / factor + i128::from(scaled % factor != 0)
    };
    Some(if negative { -value } else { value })
}

/// Powers of ten and of two that a suffix stands for.
fn scale(suffix: &str) -> Option<(i32, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{drift, nanos};

    #[test]
    fn a_selector_with_a_key_more_is_another_selector() {
        let desired = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"selector": {"app": "shop"}}});
        let observed = json!({"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"selector": {"app": "shop", "c": "d"}}});
        assert_eq!(drift(&desired, &observed), ["spec.selector"]);
        let desired = json!({"spec": {"selector": {"matchLabels": {"app": "shop"}}}});
        let observed = json!({"spec": {"selector": {"matchLabels": {"app": "shop", "c": "d"}}}});
        assert_eq!(drift(&desired, &observed), ["spec.selector.matchLabels"]);
        assert!(drift(&desired, &desired).is_empty());
    }

    #[test]
    fn quantities_have_one_value_and_many_forms() {
        for (one, other) in [
            ("1000m", "1"),
            ("1Gi", "1024Mi"),
            ("1Gi", "1073741824"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("1E", "1000P"),
            ("12e-1", "1200m"),
            ("0", "0m"),
            ("-1", "-1000m"),
            ("+1", "1"),
            ("100n", "0.1u"),
            ("8Ei", "9223372036854775808"),
            ("0.0000000001", "1n"), // rounds up
        ] {
            assert_eq!(nanos(one), nanos(other), "{one} {other}");
            assert!(nanos(one).is_some(), "{one}");
        }
        for (one, other) in [("1", "1m"), ("1k", "1Ki"), ("1M", "1m"), ("1", "-1")] {
            assert_ne!(nanos(one), nanos(other), "{one} {other}");
        }
        for text in ["", "-", ".", "m", "1x", "1..2", "1.2.3", "1 Gi", "1ki", "1e", "1e99", "１", "1mi"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn equal_in_other_words() {
        for (desired, observed) in [
            (
                json!({"limits": {"cpu": "1000m", "memory": "1Gi"}}),
                json!({"limits": {"cpu": "1", "memory": "1024Mi"}}),
            ),
            (json!({"limits": {"cpu": 1}}), json!({"limits": {"cpu": "1"}})),
            (json!({"emptyDir": {"sizeLimit": "1024Mi"}}), json!({"emptyDir": {"sizeLimit": "1Gi"}})),
            (json!({"a": {}, "b": [], "c": null, "d": "", "e": 0, "f": false, "g": {"h": {}}}), json!({})),
            (json!({"a": null}), json!({"a": 3})),
            (json!({"targetPort": 4000}), json!({"targetPort": "4000"})),
            (json!({"a": 1}), json!({"a": 1, "b": {"defaulted": true}})),
            (
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}]}),
                json!({"env": [{"name": "X"}, {"name": "B"}, {"name": "A", "value": "1"}]}),
            ),
            (
                json!({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}),
                json!({"volumeMounts": [{"name": "t", "mountPath": "/t"}, {"name": "a", "mountPath": "/a"}]}),
            ),
            (json!({"args": ["a", "b"]}), json!({"args": ["a", "b"]})),
        ] {
            assert_eq!(drift(&desired, &observed), Vec::<String>::new(), "{desired} {observed}");
        }
    }

    #[test]
    fn differences_are_named() {
        for (desired, observed, paths) in [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), vec!["a.b"]),
            (json!({"a": {"b": 1}}), json!({}), vec!["a"]),
            (json!({"a": 1}), json!({"a": null}), vec!["a"]),
            (json!({"a": true}), json!({"a": false}), vec!["a"]),
            (json!({"a": 0}), json!({"a": 3}), vec!["a"]),
            (json!({"a": {"b": 1}}), json!({"a": [1]}), vec!["a"]),
            (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), vec!["limits.cpu"]),
            // only where a quantity stands: elsewhere text is text
            (json!({"value": "1000m"}), json!({"value": "1"}), vec!["value"]),
            (
                json!({"containers": [{"name": "app", "image": "a"}]}),
                json!({"containers": [{"name": "mesh", "image": "m"}, {"name": "app", "image": "b"}]}),
                vec!["containers[app].image"],
            ),
            (json!({"env": [{"name": "A"}]}), json!({"env": [{"name": "B"}]}), vec!["env[A]"]),
            (json!({"args": ["a", "b"]}), json!({"args": ["a"]}), vec!["args"]),
            (json!({"args": ["a", "b"]}), json!({"args": ["b", "a"]}), vec!["args[0]", "args[1]"]),
        ] {
            assert_eq!(drift(&desired, &observed), paths, "{desired} {observed}");
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{1,3}|limits|env|name|ports", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Adds fields to objects, as defaulting and other writers do.
    fn grown(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields: serde_json::Map<_, _> =
                    fields.iter().map(|(name, value)| (name.clone(), grown(value))).collect();
                fields.insert("zzzz".to_owned(), json!("added"));
                Value::Object(fields)
            }
            Value::Array(items) => items.iter().map(grown).collect(),
            scalar => scalar.clone(),
        }
    }

    proptest! {
        #[test]
        fn nothing_drifts_from_itself(value in tree()) {
            prop_assert_eq!(drift(&value, &value), Vec::<String>::new());
        }

        #[test]
        fn what_others_add_is_theirs(value in tree()) {
            prop_assert_eq!(drift(&value, &grown(&value)), Vec::<String>::new());
        }

        #[test]
        fn it_never_panics(one in tree(), other in tree()) {
            let _ = drift(&one, &other);
        }

        #[test]
        fn millis_and_wholes_agree(whole in 0_i64..1_000_000_000) {
            prop_assert_eq!(nanos(&whole.to_string()), nanos(&format!("{whole}000m")));
            prop_assert_eq!(nanos(&format!("{whole}Gi")), nanos(&format!("{}Mi", whole * 1024)));
            prop_assert_eq!(nanos(&format!("{whole}k")), nanos(&format!("{whole}e3")));
        }

        #[test]
        fn quantities_never_panic(text in "[-+]?[0-9.]{0,45}[a-zA-Z]{0,2}[-0-9]{0,12}|\\PC{0,8}") {
            let _ = nanos(&text);
        }

        #[test]
        fn a_changed_leaf_is_found(number in 1_i64.., other in 1_i64..) {
            prop_assume!(number != other);
            let of = |n: i64| json!({"spec": {"template": {"containers": [{"name": "app", "n": n}]}}});
            prop_assert_eq!(drift(&of(number), &of(other)), vec!["spec.template.containers[app].n"]);
        }
    }
}
