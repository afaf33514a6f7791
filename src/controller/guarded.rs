//! An object as the API server sends it: read, or at least known by its metadata when it cannot be.
//!
//! `kube`'s `DeserializeGuard` does the same by way of a tree of values that it copies, which took a sixth of all CPU
//! time.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;

/// An object, if it can be read.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Box<Invalid>>);

/// One that cannot be.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// What it is called, and in which version.
    pub metadata: ObjectMeta,
    /// What is wrong with it.
    pub error: String,
}

impl<K: Resource> Guarded<K> {
    /// Its metadata.
    pub fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }
}

/// All that is read of one that cannot be read.
#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = without_managed_fields(raw.get());
        match serde_json::from_str(&text) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let Named { metadata } = serde_json::from_str(&text).map_err(D::Error::custom)?;
                let error = error.to_string();
                // Where in a text that nobody else sees.
                let error = error.split(" at line ").next().unwrap_or_default().to_owned();
                Ok(Self(Err(Box::new(Invalid { metadata, error }))))
            }
        }
    }
}

/// Who set which field is a large part of most objects, and is read nowhere: it is cut out of the text.
fn without_managed_fields(text: &str) -> Cow<'_, str> {
    const FIELD: &str = "\"managedFields\":[";
    // A quote inside of a string is escaped, so this is a key.
    let Some(at) = text.find(FIELD) else { return Cow::Borrowed(text) };
    let Some(length) = end_of_list(&text.as_bytes()[at + FIELD.len()..]) else { return Cow::Borrowed(text) };
    let rest = &text[at + FIELD.len() + length..];
    Cow::Owned([&text[..at], FIELD, "]", rest].concat())
}

/// How long the rest of a list is, its closing bracket included.
fn end_of_list(text: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (1_usize, false, false);
    for (at, letter) in text.iter().enumerate() {
        match letter {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' if !quoted => depth += 1,
            b']' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{ObjectList, WatchEvent};

    use super::*;

    #[test]
    fn who_set_what_is_left_out_and_nothing_else() {
        let text = r#"{"metadata":{"name":"a","managedFields":[{"manager":"x]\"]","fieldsV1":{"f:a":["]"]}},{}],"uid":"u"},"data":{"k":"\"managedFields\":[1]"}}"#;
        let Guarded(Ok(map)) = serde_json::from_str::<Guarded<ConfigMap>>(text).unwrap() else {
            panic!("it cannot be read")
        };
        assert_eq!(map.metadata.managed_fields, Some(Vec::new()));
        assert_eq!(map.metadata.uid.as_deref(), Some("u"));
        assert_eq!(map.data.unwrap()["k"], "\"managedFields\":[1]");
        assert!(matches!(without_managed_fields(r#"{"managedFields":[1,"#), Cow::Borrowed(_)), "cut short");
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other() {
        let list = r#"{"metadata":{"resourceVersion":"9"},"items":[
            {"metadata":{"name":"a","resourceVersion":"7"},"data":{"k":1}}, {"metadata":{"name":"b"}}]}"#;
        let list: ObjectList<Guarded<ConfigMap>> = serde_json::from_str(list).unwrap();
        let invalid = list.items[0].0.as_ref().unwrap_err();
        assert_eq!(invalid.error, "invalid type: integer `1`, expected a string");
        assert_eq!(list.items[0].meta().resource_version.as_deref(), Some("7"));
        assert_eq!(list.items[1].meta().name.as_deref(), Some("b"));
        let event = r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#;
        let event: WatchEvent<Guarded<ConfigMap>> = serde_json::from_str(event).unwrap();
        assert!(matches!(event, WatchEvent::Added(Guarded(Ok(_)))));
    }
}
