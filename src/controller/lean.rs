//! How objects are read off the watches: only what is looked at of them, since there are many.

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{ObjectReference, Pod, PodSpec, PodStatus},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    networking::v1::Ingress,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use serde::{Deserialize, de::DeserializeOwned};

/// What is looked at of how a pod fares, beside its containers.
const CONDITIONS: [&str; 2] = ["PodScheduled", "Ready"];

/// Without what tells nothing once it is there: when it was made, and how it came by its name.
fn nameable(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta { creation_timestamp: None, generate_name: None, ..metadata }
}

/// Reads all of an object.
pub fn whole<K: DeserializeOwned>(text: &str) -> serde_json::Result<K> {
    serde_json::from_str(text)
}

/// Reads of a pod only where it is and how it fares.
pub fn pod(text: &str) -> serde_json::Result<Pod> {
    #[derive(Deserialize)]
    struct Lean {
        metadata: ObjectMeta,
        spec: Option<Place>,
        status: Option<PodStatus>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Place {
        node_name: Option<String>,
    }
    let Lean { metadata, spec, status } = serde_json::from_str(text)?;
    let node_name = spec.and_then(|spec| spec.node_name);
    let status = status.map(|mut status| {
        let initial = status.init_container_statuses.iter_mut();
        for container in initial.chain(&mut status.container_statuses).flatten() {
            container.container_id = None;
            container.image_id.clear();
            container.volume_mounts = None;
            container.allocated_resources = None;
            container.resources = None;
        }
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|condition| CONDITIONS.contains(&&*condition.type_));
            for condition in conditions {
                condition.last_transition_time = None;
                condition.last_probe_time = None;
                condition.observed_generation = None;
            }
        }
        PodStatus {
            host_ip: None,
            host_ips: None,
            pod_ips: None,
            qos_class: None,
            start_time: None,
            observed_generation: None,
            ..status
        }
    });
    let metadata = nameable(metadata);
    Ok(Pod { metadata, spec: Some(PodSpec { node_name, ..PodSpec::default() }), status })
}

/// Reads of the endpoints of a Service only which pods they are, and how they fare.
pub fn slice(text: &str) -> serde_json::Result<EndpointSlice> {
    #[derive(Deserialize)]
    struct Lean {
        metadata: ObjectMeta,
        endpoints: Option<Vec<One>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct One {
        conditions: Option<EndpointConditions>,
        target_ref: Option<Uid>,
    }
    #[derive(Deserialize)]
    struct Uid {
        uid: Option<String>,
    }
    let Lean { metadata, endpoints } = serde_json::from_str(text)?;
    let endpoints = endpoints.into_iter().flatten().map(|One { conditions, target_ref }| {
        let target_ref = target_ref.map(|Uid { uid }| ObjectReference { uid, ..ObjectReference::default() });
        Endpoint { conditions, target_ref, ..Endpoint::default() }
    });
    // When they last changed, which is noted there too, each change of a pod changes.
    let metadata = ObjectMeta { annotations: None, ..nameable(metadata) };
    Ok(EndpointSlice { metadata, endpoints: endpoints.collect(), ..EndpointSlice::default() })
}

/// Reads of a `ReplicaSet` only whose it is.
pub fn replica_set(text: &str) -> serde_json::Result<PartialObjectMeta<ReplicaSet>> {
    let set: PartialObjectMeta<ReplicaSet> = whole(text)?;
    let metadata = ObjectMeta { annotations: None, ..nameable(set.metadata) };
    Ok(PartialObjectMeta { metadata, ..set })
}

/// Reads an Ingress without its status, which tells nothing that is needed.
pub fn ingress(text: &str) -> serde_json::Result<Ingress> {
    Ok(Ingress { status: None, ..whole(text)? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::pods;

    fn read<K: DeserializeOwned>(read: fn(&str) -> serde_json::Result<K>, object: &Value) -> K {
        read(&object.to_string()).unwrap()
    }

    fn meta(name: &str) -> Value {
        json!({"name": name, "namespace": "prod", "uid": "u", "resourceVersion": "7", "generateName": "shop-",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Owner", "name": "shop", "uid": "o", "controller": true}]})
    }

    #[test]
    fn of_a_pod_is_kept_all_that_is_looked_at() {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "R", "message": "why", "observedGeneration": 3,
                "lastTransitionTime": "2026-01-01T00:00:00Z", "lastProbeTime": "2026-01-01T00:00:00Z"})
        };
        let container = |state: Value, ready: bool| {
            json!({"name": "app", "image": "shop:1", "imageID": "i", "ready": ready, "started": true, "restartCount": 3,
                "containerID": "c", "state": state, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}})
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let statuses = [
            json!({"phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.0.0.9", "startTime": "2026-01-01T00:00:00Z",
                "conditions": [condition("PodReadyToStartContainers", "True"), condition("Ready", "True")],
                "containerStatuses": [container(running.clone(), true)]}),
            json!({"phase": "Running", "conditions": [condition("Ready", "False")],
                "containerStatuses": [container(running, false)]}),
            json!({"phase": "Running", "conditions": [condition("Ready", "False")],
                "containerStatuses": [container(waiting, false)]}),
            json!({"phase": "Pending", "conditions": [condition("PodScheduled", "False")]}),
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
            json!({"phase": "Unknown", "reason": "NodeLost"}),
        ];
        for status in statuses {
            let object = json!({"metadata": meta("a"), "status": status,
                "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "shop:1"}]}});
            let (all, lean) = (read(whole::<Pod>, &object), read(pod, &object));
            assert_eq!(pods::is_ready(&lean), pods::is_ready(&all), "{object}");
            assert_eq!(pods::is_terminal(&lean), pods::is_terminal(&all), "{object}");
            assert_eq!(pods::crashes(&lean), pods::crashes(&all), "{object}");
            assert_eq!(pods::trouble(&lean, true), pods::trouble(&all, true), "{object}");
            let ip = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
            assert_eq!(ip(&lean), ip(&all));
            let reason = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.clone());
            assert_eq!(reason(&lean), reason(&all));
            assert_eq!(lean.spec.unwrap().node_name.as_deref(), Some("n"));
            assert_eq!(
                lean.metadata,
                ObjectMeta { creation_timestamp: None, generate_name: None, ..all.metadata }
            );
        }
    }

    #[test]
    fn of_endpoints_and_replica_sets_is_kept_whose_they_are() {
        let object = json!({"metadata": meta("a"), "addressType": "IPv4", "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "n", "targetRef": {"kind": "Pod", "name": "p", "uid": "pod"}}]});
        let (all, lean) = (read(whole::<EndpointSlice>, &object), read(slice, &object));
        assert_eq!(lean.endpoints.len(), 1);
        assert_eq!(lean.endpoints[0].conditions, all.endpoints[0].conditions);
        assert_eq!(lean.endpoints[0].target_ref.as_ref().unwrap().uid.as_deref(), Some("pod"));
        let object =
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta("a")});
        let set = read(replica_set, &object);
        for (lean, all) in [(lean.metadata, all.metadata.clone()), (set.metadata, all.metadata)] {
            let bare = ObjectMeta { creation_timestamp: None, generate_name: None, annotations: None, ..all };
            assert_eq!(lean, bare);
        }
    }
}
