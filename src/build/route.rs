//! What leads requests from outside to the Services: an HTTPRoute, an Ingress.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::{metadata, unless_empty};
use crate::api::{
    BackendRef, HttpRoute, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, PathMatch, ValidatedApp, labels,
    names,
};

/// The route for the app's hosts, if gateways are asked for. It leads to the active Service; with `preview`, so many
/// percent of the requests go to the preview Service.
pub fn http_route(app: &ValidatedApp, preview: Option<u32>) -> Option<HttpRoute> {
    let gateway = app.spec.traffic.gateway.as_ref()?;
    let share = preview.map(|percent| i32::try_from(percent.min(100)).unwrap_or(100));
    let backend = |name: String, weight: i32| BackendRef {
        name,
        port: Some(app.spec.traffic.service.port),
        weight: Some(weight),
    };
    let active = backend(names::active_service(&app.name), 100 - share.unwrap_or_default());
    let candidate = share.map(|weight| backend(names::preview_service(&app.name), weight));
    let everything = PathMatch { kind: "PathPrefix".to_owned(), value: "/".to_owned() };
    let rule = HttpRouteRule {
        matches: vec![HttpRouteMatch { path: Some(everything) }],
        backend_refs: std::iter::once(active).chain(candidate).collect(),
    };
    Some(HttpRoute {
        metadata: metadata(app, names::http_route(&app.name), labels::of_app(&app.name)),
        spec: HttpRouteSpec {
            parent_refs: gateway.parent_refs.clone(),
            hostnames: app.hosts.clone(),
            rules: vec![rule],
        },
        status: None,
    })
}

/// The Ingress for the app's hosts, if one is asked for. It leads to the active Service.
pub fn ingress(app: &ValidatedApp) -> Option<Ingress> {
    let wanted = app.spec.traffic.ingress.as_ref()?;
    let port =
        ServiceBackendPort { number: Some(app.spec.traffic.service.port), ..ServiceBackendPort::default() };
    let service = IngressServiceBackend { name: names::active_service(&app.name), port: Some(port) };
    let path = HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend { service: Some(service), ..IngressBackend::default() },
    };
    let rule = |host: &String| IngressRule {
        host: Some(host.clone()),
        http: Some(HTTPIngressRuleValue { paths: vec![path.clone()] }),
    };
    let tls = wanted.tls.as_ref().map(|tls| {
        vec![IngressTLS { hosts: Some(app.hosts.clone()), secret_name: Some(tls.secret_name.clone()) }]
    });
    let mut metadata = metadata(app, names::ingress(&app.name), labels::of_app(&app.name));
    metadata.annotations = unless_empty(wanted.annotations.clone());
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            rules: Some(app.hosts.iter().map(rule).collect()),
            tls,
            ..IngressSpec::default()
        }),
        status: None,
    })
}
