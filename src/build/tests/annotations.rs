//! Which annotations reach an Ingress and a Service.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

use crate::api::{ValidatedApp, testing::app};
use crate::build::{
    AllowedAnnotations, ServiceSelector, Settings, active_service, ingress_is_refused, refused_annotations,
    with_allowed_annotations,
};

fn allowing(prefixes: &[&str]) -> Settings {
    let allowed_annotations = AllowedAnnotations(prefixes.iter().map(|&prefix| prefix.to_owned()).collect());
    Settings { allowed_annotations, ..Settings::default() }
}

fn service(app: &ValidatedApp, settings: &Settings, there: Option<&Service>) -> Service {
    with_allowed_annotations(active_service(app, &ServiceSelector::Wide), app, settings, there)
}

fn annotations(service: &Service) -> BTreeMap<&str, &str> {
    let all = service.metadata.annotations.iter().flatten();
    all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn kind(service: &Service) -> &str {
    service.spec.as_ref().unwrap().type_.as_deref().unwrap()
}

const ANNOTATED: &str = "{image: x, hosts: [a], traffic: {ingress: {annotations: {cert-manager.io/issuer: a, \
                         nginx.ingress.kubernetes.io/configuration-snippet: b}}, service: {type: LoadBalancer, \
                         annotations: {example.com/internal: 'true', external-dns.io/name: c}}}}";

#[test]
fn any_is_allowed_unless_said() {
    let (app, any) = (app(ANNOTATED), allowing(&[]));
    assert!(!ingress_is_refused(&app, &any));
    assert_eq!(refused_annotations(&app, &any), None);
    assert_eq!(service(&app, &any, None), active_service(&app, &ServiceSelector::Wide));
    let these = allowing(&["cert-manager.io/", "nginx.", "external-dns.io/", "example.com/internal"]);
    assert!(!ingress_is_refused(&app, &these));
    assert_eq!(refused_annotations(&app, &these), None);
    assert_eq!(service(&app, &these, None), active_service(&app, &ServiceSelector::Wide));
}

#[test]
fn what_is_refused_is_named_with_what_to_do() {
    let app = app(ANNOTATED);
    let some = allowing(&["cert-manager.io/", "external-dns.io/"]);
    assert!(ingress_is_refused(&app, &some));
    let said = refused_annotations(&app, &some).unwrap();
    for word in [
        "spec.traffic.ingress.annotations must not hold nginx.ingress.kubernetes.io/configuration-snippet,",
        "spec.traffic.service.annotations must not hold example.com/internal,",
        "begin with cert-manager.io/, external-dns.io/ (--allowed-annotation)",
        "remove it, or have it allowed",
    ] {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    let of_service = refused_annotations(&app, &allowing(&["cert-manager.io/", "nginx."])).unwrap();
    assert!(!of_service.contains("ingress.annotations") && of_service.contains("external-dns.io/name"));
    assert!(!ingress_is_refused(&app, &allowing(&["cert-manager.io/", "nginx."])));
    assert!(ingress_is_refused(&app, &allowing(&["-"])), "no key begins so");
}

#[test]
fn a_service_is_opened_no_further_while_an_annotation_is_refused() {
    let (spec, some) = (app(ANNOTATED), allowing(&["external-dns.io/"]));
    // a new one
    let made = service(&spec, &some, None);
    assert_eq!(annotations(&made), [("external-dns.io/name", "c")].into());
    assert_eq!(kind(&made), "ClusterIP");
    assert_eq!(service(&spec, &some, Some(&made)), made, "it is not written again");
    // one from before it was refused, since when the app has asked for another value
    let before = app(&ANNOTATED.replace("'true'", "'false'"));
    let before = active_service(&before, &ServiceSelector::Wide);
    let kept = service(&spec, &some, Some(&before));
    assert_eq!(annotations(&kept), [("example.com/internal", "false"), ("external-dns.io/name", "c")].into());
    assert_eq!(kind(&kept), "LoadBalancer");
    // and it may be closed
    let closed = app(&ANNOTATED.replace("LoadBalancer", "ClusterIP"));
    assert_eq!(kind(&service(&closed, &some, Some(&before))), "ClusterIP");
}
