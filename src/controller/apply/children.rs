//! Making and repairing one child: whose it is, who owns its fields, and what an apply leaves different.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{Applied, Applier, Halt};
use crate::{
    api::labels,
    controller::{
        drift::{Persisting, between, hash, mark, which},
        errors::Verdict,
        kind::Kind,
        snapshot::controller,
        writer::{Child, MANAGER},
    },
    plan::{Event, EventKind, Fault},
};

impl Applier<'_> {
    /// Makes a child that is missing, or repairs it.
    pub(super) async fn ensure<K: Child>(
        &self,
        observed: &[std::sync::Arc<K>],
        desired: &K,
        applied: &mut Applied,
    ) -> Result<(), Halt> {
        let name = desired.meta().name.as_deref().unwrap_or_default();
        match self.snapshot.find(observed, name) {
            None => self.create(desired).await,
            Some(seen) => {
                let version = seen.meta().resource_version.clone().unwrap_or_default();
                self.apply(desired, &version, applied).await
            }
        }
    }

    pub(super) async fn apply<K: Child>(
        &self,
        desired: &K,
        version: &str,
        applied: &mut Applied,
    ) -> Result<(), Halt> {
        let (mut made, refused) = match self.writer.apply(self.key, desired, version).await {
            // What was posted and is not wanted any more may not go with what is wanted.
            Err(error) if error.is_invalid() => match Box::pin(self.posted(desired, version)).await? {
                Some(there) => (there, true),
                None => return Err(error.into()),
            },
            made => (made?, false),
        };
        let marks = matches!(Kind::of::<K>(), Kind::Service | Kind::Ingress | Kind::HttpRoute);
        if (refused || (marks && !self.only_moves(desired)))
            && let Some(managed) = as_applied(made.meta())
        {
            made = Box::pin(self.own_what_was_posted(&made, managed, desired)).await?;
        }
        let fields = between(desired, &made);
        let which = which(desired);
        if fields.is_empty() {
            applied.drifts.insert(which, None);
            return Ok(());
        }
        let note = format!(
            "{} {} still differs in {} after it was applied: another program changes it; it is left so until the \
             spec changes",
            which.0,
            which.1,
            fields.join(", ")
        );
        applied.events.push(Event { kind: EventKind::Warning, reason: "DriftPersists", note });
        applied.drifts.insert(which, Some(Persisting { wanted: hash(desired), fields }));
        Ok(())
    }

    /// It is a Service of which nothing but the selector is wanted otherwise than when it was last written. That is one
    /// value, which is replaced as a whole, so that nothing is left behind.
    fn only_moves<K: Child>(&self, desired: &K) -> bool {
        let name = desired.meta().name.as_deref().unwrap_or_default();
        let seen = self.snapshot.find(&self.snapshot.services, name);
        let known = seen.and_then(|seen| mark(&seen.metadata));
        Kind::of::<K>() == Kind::Service && known.is_some() && known == mark(desired.meta())
    }

    /// The object as it is now, if it is still of that version and has fields that a POST of ours set.
    async fn posted<K: Child>(&self, desired: &K, version: &str) -> Result<Option<K>, Halt> {
        let name = desired.meta().name.as_deref().unwrap_or_default();
        let there = self.writer.get::<K>(self.key, name).await?;
        Ok(there.filter(|there| {
            there.meta().resource_version.as_deref() == Some(version) && as_applied(there.meta()).is_some()
        }))
    }

    /// What a POST made belongs to an `Update`, which no apply ever takes fields from. Once, when more is wanted otherwise
    /// of a Service than where it leads, or when an apply was refused for what it left behind, that entry is turned into
    /// one of `Apply` (as client-go's csaupgrade does), and applied again.
    async fn own_what_was_posted<K: Child>(&self, made: &K, managed: Value, desired: &K) -> Result<K, Halt> {
        let meta = made.meta();
        let patch = json!({"metadata": {"resourceVersion": meta.resource_version, "managedFields": managed}});
        let name = meta.name.as_deref().unwrap_or_default();
        let version = self.writer.merge::<K>(self.key, name, &patch).await?.version();
        Ok(self.writer.apply(self.key, desired, &version).await?)
    }

    /// Makes a child. One that is there already is looked at.
    pub(super) async fn create<K: Child>(&self, object: &K) -> Result<(), Halt> {
        let error = match self.writer.create(self.key, object).await {
            Ok(_) => return Ok(()),
            Err(error) if error.verdict() == Verdict::Exists => error,
            Err(error) => return Err(error.into()),
        };
        let name = object.meta().name.as_deref().unwrap_or_default();
        let Some(there) = self.writer.get::<K>(self.key, name).await? else {
            return Err(Halt::Call(Box::new(error)));
        };
        match self.relation(there.meta()) {
            Relation::Leaving => {
                Err(Halt::Wait(format!("{} {name} of an earlier app is still going", Kind::of::<K>())))
            }
            Relation::Foreign => Err(Halt::Fault(name_conflict(
                Kind::of::<K>(),
                &self.key.namespace,
                object.meta(),
                there.meta(),
            ))),
            Relation::Ours if same_labels(object.meta(), there.meta()) => {
                // The cache has yet to show it.
                self.writer.saw(self.key, &there);
                Err(Halt::Call(Box::new(error)))
            }
            Relation::Ours => {
                // Its labels were changed, so that no watch of ours shows it.
                let version = there.meta().resource_version.clone().unwrap_or_default();
                self.writer.apply(self.key, object, &version).await?;
                Ok(())
            }
        }
    }

    fn relation(&self, meta: &ObjectMeta) -> Relation {
        let ours = controller(meta) == Some(self.app.uid.as_str());
        let earlier = meta.owner_references.iter().flatten().any(|owner| {
            owner.kind == "PhoenixApp"
                && owner.name == self.app.name.as_str()
                && owner.uid != self.app.uid.as_str()
        });
        if meta.deletion_timestamp.is_some() || (!ours && earlier) {
            Relation::Leaving
        } else if ours {
            Relation::Ours
        } else {
            Relation::Foreign
        }
    }
}

/// Says whose an object is that stands where one of ours is to be. Two apps may need one name: worker `eu` of app `shop`
/// has the Deployment `shop-eu-<revision>`, and so has app `shop-eu`, if the two are specified alike.
fn name_conflict(kind: Kind, namespace: &str, wanted: &ObjectMeta, there: &ObjectMeta) -> Fault {
    let worker = |meta: &ObjectMeta| meta.labels.as_ref()?.get(labels::WORKER).cloned();
    let name = wanted.name.as_deref().unwrap_or_default();
    let other = there.owner_references.iter().flatten().find(|owner| owner.kind == "PhoenixApp");
    let cure = match (other, worker(wanted), worker(there)) {
        (None, ..) => {
            "does not belong to this app; delete or rename it, or give the app another name".to_owned()
        }
        (Some(other), Some(worker), _) => {
            format!(
                "belongs to PhoenixApp {}; give worker {worker} of this app, or one of the apps, another name",
                other.name
            )
        }
        (Some(other), None, Some(worker)) => {
            format!(
                "belongs to worker {worker} of PhoenixApp {}; give that worker, or one of the apps, another name",
                other.name
            )
        }
        (Some(other), None, None) => {
            format!("belongs to PhoenixApp {}; give one of the apps another name", other.name)
        }
    };
    Fault {
        reason: "NameConflict".to_owned(),
        message: format!("{kind} {namespace}/{name} is there already and {cure}"),
    }
}

enum Relation {
    Ours,
    Leaving,
    Foreign,
}

/// Whether the watches of ours that show one show the other.
fn same_labels(wanted: &ObjectMeta, there: &ObjectMeta) -> bool {
    let label = |meta: &ObjectMeta, key: &str| meta.labels.as_ref().and_then(|all| all.get(key)).cloned();
    [labels::APP, labels::MIGRATION, labels::SMOKE, labels::REVISION, labels::WORKER]
        .iter()
        .all(|key| label(wanted, key) == label(there, key))
}

/// The object's `managedFields` with our entry of a POST made part of that of our applies, or made into one; none when
/// there is nothing to change.
fn as_applied(meta: &ObjectMeta) -> Option<Value> {
    let entries = meta.managed_fields.as_ref()?;
    let ours = |operation: &str| {
        entries.iter().find(|entry| {
            entry.manager.as_deref() == Some(MANAGER)
                && entry.operation.as_deref() == Some(operation)
                && entry.subresource.is_none()
        })
    };
    let (posted, applied) = (ours("Update")?, ours("Apply"));
    let mut own = applied.unwrap_or(posted).clone();
    own.operation = Some("Apply".to_owned());
    merge(&mut own.fields_v1.as_mut()?.0, &posted.fields_v1.as_ref()?.0);
    let others = entries.iter().filter(|entry| *entry != posted && Some(*entry) != applied);
    let kept: Vec<_> = std::iter::once(&own).chain(others).collect();
    serde_json::to_value(kept).ok()
}

fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (key, value) in from {
            merge(into.entry(key.clone()).or_insert_with(|| json!({})), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn owned(owner: &str, labels: &Value) -> ObjectMeta {
        let owner =
            json!({"apiVersion": "a", "kind": "PhoenixApp", "name": owner, "uid": "u", "controller": true});
        meta(json!({"name": "shop-eu-0123456789", "labels": labels, "ownerReferences": [owner]}))
    }

    #[test]
    fn a_conflict_names_whose_the_object_is() {
        let worker = json!({labels::WORKER: "eu"});
        let (web, of_worker) = (owned("shop-eu", &json!({})), owned("shop", &worker));
        let said = |wanted, there| name_conflict(Kind::Deployment, "prod", wanted, there).message;
        for (text, words) in [
            (said(&of_worker, &web), ["PhoenixApp shop-eu;", "worker eu of this app"]),
            (said(&web, &of_worker), ["worker eu of PhoenixApp shop;", "that worker, or one of the apps"]),
            (said(&web, &owned("shop", &json!({}))), ["PhoenixApp shop;", "one of the apps another name"]),
            (said(&web, &meta(json!({}))), ["does not belong to this app", "delete or rename it"]),
        ] {
            assert!(text.starts_with("Deployment prod/shop-eu-0123456789 is there already and "), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
