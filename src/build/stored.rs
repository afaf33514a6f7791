//! A `ControllerRevision` as it is kept: its data are text. As a tree of values they would take ten times that.

use std::borrow::Cow;

use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, core::NamespaceResourceScope};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A `ControllerRevision` with its data as text.
///
/// [`Revision::from_stored`](super::Revision::from_stored) reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredRevision {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its number.
    #[serde(default)]
    pub revision: i64,
    /// What it stores.
    pub data: Option<Box<RawValue>>,
}

impl Resource for StoredRevision {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ControllerRevision::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ControllerRevision::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ControllerRevision::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ControllerRevision::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
impl From<ControllerRevision> for StoredRevision {
    fn from(object: ControllerRevision) -> Self {
        serde_json::from_str(&serde_json::to_string(&object).unwrap()).unwrap()
    }
}
