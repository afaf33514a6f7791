//! How objects are read off the watches: only what is looked at of them, since there are many.

use k8s_openapi::api::{
    core::v1::{ObjectReference, Pod, PodSpec, PodStatus},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    networking::v1::Ingress,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, de::DeserializeOwned};

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
        PodStatus { host_ips: None, pod_ips: None, qos_class: None, ..status }
    });
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
    Ok(EndpointSlice { metadata, endpoints: endpoints.collect(), ..EndpointSlice::default() })
}

/// Reads an Ingress without its status, which tells nothing that is needed.
pub fn ingress(text: &str) -> serde_json::Result<Ingress> {
    Ok(Ingress { status: None, ..whole(text)? })
}
