//! The Services: the active one, for requests, and the headless one, for the nodes.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Revision, metadata, unless_empty};
use crate::api::{Expose, ExtraPort, RevisionName, ServiceType, ValidatedApp, labels, names};

/// The port of epmd, Erlang's port mapper.
pub(super) const EPMD: i32 = 4369;

/// Whose pods the active Service selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceSelector {
    /// Those of every revision.
    Wide,
    /// Those of one.
    Only(RevisionName),
}

impl ServiceSelector {
    /// The labels to match.
    pub fn labels(&self, app: &ValidatedApp) -> std::collections::BTreeMap<String, String> {
        match self {
            Self::Wide => labels::select_web(&app.name),
            Self::Only(revision) => labels::select_revision(&app.name, revision),
        }
    }
}

/// The Service that requests go through.
pub fn active_service(app: &ValidatedApp, selector: &ServiceSelector) -> Service {
    let wanted = &app.spec.traffic.service;
    let http = ServicePort {
        name: Some("http".to_owned()),
        port: wanted.port,
        target_port: Some(IntOrString::Int(app.spec.port)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let mut metadata = metadata(app, names::active_service(&app.name), labels::of_app(&app.name));
    metadata.annotations = unless_empty(wanted.annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(wanted.kind.as_str().to_owned()),
            selector: Some(selector.labels(app)),
            ports: Some(std::iter::once(http).chain(extra(app, Expose::Service)).collect()),
            // named, so that it is put right when somebody sets it: requests would go to pods that are not ready
            publish_not_ready_addresses: Some(false),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The Service that leads to the pods of a blue-green candidate once they are ready; without one it leads nowhere.
pub fn preview_service(app: &ValidatedApp, revision: Option<&RevisionName>) -> Service {
    let mut service = active_service(app, &ServiceSelector::Wide);
    service.metadata = metadata(app, names::preview_service(&app.name), labels::of_app(&app.name));
    if let Some(spec) = service.spec.as_mut() {
        spec.type_ = Some(ServiceType::ClusterIP.as_str().to_owned());
        let mut selector = labels::select_web(&app.name);
        let revision = revision.map_or(labels::NO_REVISION, RevisionName::as_str);
        selector.insert(labels::REVISION.to_owned(), revision.to_owned());
        spec.selector = Some(selector);
    }
    service
}

/// The Service by which the nodes find each other, through DNS or through its Endpoints (which bear its labels).
///
/// Pods are listed before they are ready and while they end: a node that the database keeps from being ready must not
/// lose its peers, and one that drains must hand over. One address family, that of the pods' own address: a node has
/// one name.
///
/// It is that of all revisions that share a cluster, or that of one that is isolated, whose ports are its own and not
/// those of the present spec.
pub fn headless_service(app: &ValidatedApp, isolated: Option<&Revision>) -> Service {
    let name = isolated.map(|revision| &revision.name);
    let cluster = names::cluster(&app.name, name);
    let mut labels =
        name.map_or_else(|| labels::of_app(&app.name), |name| labels::of_revision(&app.name, name));
    labels.insert(labels::CLUSTER.to_owned(), cluster.clone());
    let clustering =
        isolated.map_or_else(|| app.spec.clustering.clone(), |revision| revision.canonical.clustering());
    let distribution = clustering.distribution_ports;
    let connected = clustering.mode.connects();
    let nodes = std::iter::once(("epmd".to_owned(), EPMD))
        .chain((distribution.min..=distribution.max).map(|port| (format!("dist-{port}"), port)))
        .map(|(name, port)| ServicePort {
            name: Some(name),
            port,
            target_port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            // meshes that guess the protocol wait for the client to speak first; here the server may
            app_protocol: Some("tcp".to_owned()),
            ..ServicePort::default()
        });
    Service {
        metadata: metadata(app, names::headless_service(&app.name, name), labels),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            ip_family_policy: Some("SingleStack".to_owned()),
            ip_families: clustering.ip_family.map(|family| vec![family.as_str().to_owned()]),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::select_cluster(&app.name, &cluster)),
            ports: Some(nodes.filter(|_| connected).chain(extra(app, Expose::Peers)).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn extra(app: &ValidatedApp, expose: Expose) -> impl Iterator<Item = ServicePort> {
    let port = |extra: &ExtraPort| ServicePort {
        name: Some(extra.name.clone()),
        port: extra.port,
        target_port: Some(IntOrString::Int(extra.port)),
        protocol: Some(extra.protocol.as_str().to_owned()),
        ..ServicePort::default()
    };
    app.spec.extra_ports.iter().filter(move |extra| extra.expose == expose).map(port)
}
