//! What leads requests from outside to the Services.

use serde_json::json;

use crate::api::testing::app;
use crate::build::{http_route, ingress};

const ROUTED: &str = "{image: x, hosts: [shop.example.com, '*.shop.example.com'], traffic: {service: {port: 8080}, \
                      gateway: {parentRefs: [{name: public, namespace: gateways, sectionName: https, port: 443}]}}}";

#[test]
fn nothing_is_routed_that_was_not_asked_for() {
    let app = app("{image: x, hosts: [shop.example.com]}");
    assert_eq!(http_route(&app, None), None);
    assert_eq!(ingress(&app), None);
}

#[test]
fn a_route_leads_to_the_service_and_by_weight_to_the_candidate() {
    let app = app(ROUTED);
    let spec = |share| serde_json::to_value(http_route(&app, share).unwrap().spec).unwrap();
    let rest = spec(None);
    let parent = json!({"name": "public", "namespace": "gateways", "sectionName": "https", "port": 443});
    assert_eq!(rest["parentRefs"], json!([parent]));
    assert_eq!(rest["hostnames"], json!(["shop.example.com", "*.shop.example.com"]));
    assert_eq!(
        rest["rules"],
        json!([{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": "shop", "port": 8080, "weight": 100}],
        }])
    );
    let weights = |share| {
        let backends = spec(Some(share))["rules"][0]["backendRefs"].clone();
        let weight = |at: usize, name: &str| {
            assert_eq!(backends[at]["name"], name);
            backends[at]["weight"].as_i64().unwrap()
        };
        (weight(0, "shop"), weight(1, "shop-preview"))
    };
    assert_eq!(weights(0), (100, 0));
    assert_eq!(weights(10), (90, 10));
    assert_eq!(weights(100), (0, 100));
}

#[test]
fn an_ingress_leads_every_host_to_the_service() {
    let app = app(
        "{image: x, hosts: [shop.example.com, www.example.com], traffic: {ingress: {className: nginx, tls: \
         {secretName: shop-tls}, annotations: {cert-manager.io/issuer: letsencrypt}}}}",
    );
    let ingress = ingress(&app).unwrap();
    assert_eq!(ingress.metadata.annotations.as_ref().unwrap()["cert-manager.io/issuer"], "letsencrypt");
    let spec = serde_json::to_value(ingress.spec).unwrap();
    assert_eq!(spec["ingressClassName"], "nginx");
    assert_eq!(
        spec["tls"],
        json!([{"hosts": ["shop.example.com", "www.example.com"], "secretName": "shop-tls"}])
    );
    let paths = json!([{
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": "shop", "port": {"number": 80}}},
    }]);
    assert_eq!(
        spec["rules"],
        json!([
            {"host": "shop.example.com", "http": {"paths": paths}},
            {"host": "www.example.com", "http": {"paths": paths}},
        ])
    );
}
