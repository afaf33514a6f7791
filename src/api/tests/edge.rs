//! What the resource lets through of `hosts` and `traffic`, an HTTPRoute and an Ingress take.
//!
//! Their own rules stand here as their projects have them; `e2e/tests/rules.rs` asks the real ones the same.

use kube::core::cel::Validator;
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::rules::{accepted, object, refused, verdict};
use crate::api::schema;

/// `Hostname` of the Gateway API, v1.4.0: config/crd/standard/gateway.networking.k8s.io_httproutes.yaml.
const HOSTNAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The two rules on `parentRefs`, from the same file.
const ONE_SECTION_OR_NONE: &str = "self.all(p1, self.all(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.__namespace__) || p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__ )) ? ((!has(p1.sectionName) || p1.sectionName == '') == (!has(p2.sectionName) || p2.sectionName == '')) : true))";
const UNIQUE_SECTIONS: &str = "self.all(p1, self.exists_one(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && (((!has(p1.__namespace__) || p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__ )) && (((!has(p1.sectionName) || p1.sectionName == '') && (!has(p2.sectionName) || p2.sectionName == '')) || (has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName))))";
/// `dns1123SubdomainFmt` of k8s.io/apimachinery: names of objects, and hosts of an Ingress.
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// `wildcardDNS1123SubdomainFmt` of the same.
const WILDCARD: &str = r"^\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap().is_match(text)
}

/// The bounds and the pattern of a string in our schema.
fn fits(pointer: &str, text: &str) -> bool {
    let schema = schema::spec().pointer(pointer).unwrap();
    let bound = |name: &str| usize::try_from(schema[name].as_u64().unwrap()).unwrap();
    (bound("minLength")..=bound("maxLength")).contains(&text.len())
        && matches(schema["pattern"].as_str().unwrap(), text)
}

const HOST: &str = "/properties/hosts/items";

/// Whether the resource takes this as a second host beside an edge.
fn we_take(host: &str) -> bool {
    let mut app =
        object("{image: x, hosts: [a], traffic: {ingress: {}, gateway: {parentRefs: [{name: a}]}}}");
    app["spec"]["hosts"] = json!(["a", host]);
    // all rules but those on addresses are about other fields
    let judged = host.ends_with(|last: char| last.is_ascii_digit());
    fits(HOST, host) && (!judged || verdict(&app, None).is_ok())
}

fn http_route_takes(host: &str) -> bool {
    (1..=253).contains(&host.len()) && matches(HOSTNAME, host)
}

/// `validateIngressRules` and `validateIngressTLS` of Kubernetes (pkg/apis/networking/validation).
fn ingress_takes(host: &str) -> bool {
    // as ParseIPSloppy reads IPv4, with zeros in front
    let numbers: Vec<_> = host.split('.').map(|part| part.parse::<u64>().ok()).collect();
    let ip = numbers.len() == 4 && numbers.iter().all(|part| part.is_some_and(|number| number < 256));
    let pattern = if host.contains('*') { WILDCARD } else { SUBDOMAIN };
    !ip && (1..=253).contains(&host.len()) && matches(pattern, host)
}

#[test]
fn hosts() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    for fine in [
        "a",
        "localhost",
        "shop.example.com",
        "*.example.com",
        "*.a",
        "1.example.com",
        "1.2.3",
        "1.2.3.4.5",
        "*.1.2.3.4",
        "xn--bcher-kva.example",
        "a--b.c",
        &label,
        &longest,
    ] {
        assert!(we_take(fine) && http_route_takes(fine) && ingress_takes(fine), "{fine}");
    }
    for bad in [
        "", ".", "a..b", "a.", ".a", "a.-b", "a-.b", "-a", "A.b", "a_b.c", "a b", "é.fr", "*", "*.", "*.*.a",
        "a.*.b", "*a.b", "a.*", "**.a", "a:80", "a/b", "::1", "[::1]", "http://a", "a.b\n",
    ] {
        assert!(!we_take(bad) && !http_route_takes(bad) && !ingress_takes(bad), "{bad:?}");
    }
    // what one of the two refuses, or DNS does
    for bad in ["10.0.0.1", "010.0.0.1", "999.1.1.1", &format!("{label}a.b"), &format!("{longest}a")] {
        assert!(!we_take(bad), "{bad}");
    }
}

#[test]
fn an_address_may_be_a_host_where_nothing_routes_by_it() {
    accepted("{image: x, hosts: [10.0.0.1]}");
    for edge in ["ingress: {}", "gateway: {parentRefs: [{name: a}]}"] {
        refused(
            &format!("{{image: x, hosts: [a, 10.0.0.1], traffic: {{{edge}}}}}"),
            "hosts must not be IP addresses",
        );
    }
}

proptest! {
    // each compiles every rule of the resource
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_host_we_take_both_take(host in r"(\*\.)?[a-b0-9A.*_-]{0,24}", ip in r"[0-9]{1,3}(\.[0-9]{1,3}){0,4}") {
        for host in [host, ip] {
            prop_assert!(!we_take(&host) || http_route_takes(&host) && ingress_takes(&host), "{}", host);
        }
    }
}

proptest! {
    #[test]
    fn a_name_we_take_is_one(name in r"[a-b0-9A.*_-]{0,12}") {
        let edge = "/properties/traffic/properties";
        for field in [
            "gateway/properties/parentRefs/items/properties/name",
            "gateway/properties/parentRefs/items/properties/sectionName",
            "ingress/properties/className",
            "ingress/properties/tls/properties/secretName",
        ] {
            let fits = fits(&format!("{edge}/{field}"), &name);
            prop_assert_eq!(fits, !name.is_empty() && matches(SUBDOMAIN, &name), "{} {}", field, name);
        }
    }
}

/// Every list of two references, and a good part of those of three.
#[test]
fn parent_refs_are_judged_as_an_http_route_judges_them() {
    let mut refs = Vec::new();
    for name in ["a", "b"] {
        for namespace in [None, Some("x"), Some("y")] {
            for section in [None, Some("s"), Some("t")] {
                let mut one = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name});
                if let Some(namespace) = namespace {
                    one["namespace"] = json!(namespace);
                }
                if let Some(section) = section {
                    one["sectionName"] = json!(section);
                }
                refs.push(one);
            }
        }
    }
    let mut lists: Vec<Vec<Value>> = refs.iter().map(|one| vec![one.clone()]).collect();
    for (at, one) in refs.iter().enumerate() {
        lists.extend(refs.iter().map(|two| vec![one.clone(), two.clone()]));
        lists.extend(
            refs.iter()
                .skip(at % 9)
                .step_by(9)
                .map(|two| vec![one.clone(), two.clone(), refs[at / 2].clone()]),
        );
    }
    let ours =
        schema::spec().pointer("/properties/traffic/properties/gateway/properties/parentRefs").unwrap();
    let mut theirs = ours.clone();
    theirs["x-kubernetes-validations"] = json!([
        {"rule": ONE_SECTION_OR_NONE, "message": "one"}, {"rule": UNIQUE_SECTIONS, "message": "unique"}
    ]);
    let mut taken = 0;
    for list in &lists {
        let list = json!(list);
        let by = |schema: &Value| Validator::new().validate(schema, &list, None).is_ok();
        assert_eq!(by(ours), by(&theirs), "{list}");
        taken += usize::from(by(ours));
    }
    assert!(taken > 100 && taken < lists.len() - 50, "{taken} of {}", lists.len());
    let ports = |one: u16, two: u16| {
        format!(
            "{{image: x, hosts: [a], traffic: {{gateway: {{parentRefs: [{{name: a, port: {one}}}, {{name: a, port: {two}}}]}}}}}}"
        )
    };
    accepted(&ports(80, 443));
    refused(&ports(80, 80), "must not name a Gateway twice");
}

/// `ValidateIngressCreate`: an annotation of old that names a class must name the same.
#[test]
fn an_ingress_has_one_class() {
    let ingress = |rest: &str| format!("{{image: x, hosts: [a], traffic: {{ingress: {{{rest}}}}}}}");
    let annotation = |class: &str| format!("annotations: {{a: b, kubernetes.io/ingress.class: {class}}}");
    accepted(&ingress(&annotation("nginx")));
    accepted(&ingress(&format!("className: nginx, {}", annotation("nginx"))));
    accepted(&ingress("className: nginx, annotations: {a: b}"));
    refused(&ingress(&format!("className: nginx, {}", annotation("traefik"))), "another class");
}
