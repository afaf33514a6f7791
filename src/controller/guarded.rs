//! An object as the API server sends it: read, or at least known by its metadata when it cannot be.
//!
//! `kube`'s `DeserializeGuard` does the same by way of a tree of values that it copies, which took a sixth of all CPU
//! time.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// An object's text, as it was sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Sent(Box<RawValue>);

/// Reads an object of its text, from which may be missing who set which field.
pub type Read<K> = fn(&str) -> serde_json::Result<K>;

/// One that cannot be read.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// What it is called, and in which version.
    pub metadata: ObjectMeta,
    /// What is wrong with it.
    pub error: String,
}

/// All that is read of one that cannot be read, or is gone.
#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

impl Sent {
    /// The object, unless it cannot be read. Errors when not even its metadata can be.
    pub fn read<K>(&self, read: Read<K>) -> serde_json::Result<Result<K, Box<Invalid>>> {
        let text = without_managed_fields(self.0.get());
        let error = match read(&text) {
            Ok(object) => return Ok(Ok(object)),
            Err(error) => complaint(&error),
        };
        let Named { metadata } = serde_json::from_str(&text)?;
        Ok(Err(Box::new(Invalid { metadata, error })))
    }

    /// Its metadata.
    pub fn meta(&self) -> serde_json::Result<ObjectMeta> {
        let Named { metadata } = serde_json::from_str(&without_managed_fields(self.0.get()))?;
        Ok(metadata)
    }
}

/// What is wrong with a text, without where: nobody else sees it.
pub fn complaint(error: &serde_json::Error) -> String {
    let complaint = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    complaint.strip_suffix(&place).unwrap_or(&complaint).to_owned()
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
        let sent: Sent = serde_json::from_str(text).unwrap();
        let map: ConfigMap = sent.read(|text| serde_json::from_str(text)).unwrap().unwrap();
        assert_eq!(map.metadata.managed_fields, Some(Vec::new()));
        assert_eq!(map.metadata.uid.as_deref(), Some("u"));
        assert_eq!(map.data.unwrap()["k"], "\"managedFields\":[1]");
        assert!(matches!(without_managed_fields(r#"{"managedFields":[1,"#), Cow::Borrowed(_)), "cut short");
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other() {
        let list = r#"{"metadata":{"resourceVersion":"9"},"items":[
            {"metadata":{"name":"a","resourceVersion":"7"},"data":{"k":1}}, {"metadata":{"name":"b"}}]}"#;
        let list: ObjectList<Sent> = serde_json::from_str(list).unwrap();
        let read = |sent: &Sent| sent.read::<ConfigMap>(|text| serde_json::from_str(text)).unwrap();
        let invalid = read(&list.items[0]).unwrap_err();
        assert_eq!(invalid.error, "invalid type: integer `1`, expected a string");
        assert_eq!(invalid.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(read(&list.items[1]).unwrap().metadata.name.as_deref(), Some("b"));
        let event = r#"{"type":"DELETED","object":{"metadata":{"name":"a"}}}"#;
        let event: WatchEvent<Sent> = serde_json::from_str(event).unwrap();
        let WatchEvent::Deleted(gone) = event else { panic!("{event:?}") };
        assert_eq!(gone.meta().unwrap().name.as_deref(), Some("a"));
        let nameless: Sent = serde_json::from_str("{}").unwrap();
        assert!(nameless.meta().is_err());
    }
}
