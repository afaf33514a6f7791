//! The HTTPRoute: its weights, and what the gateways say of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{GatewayRef, HttpRoute, ParentStatus},
    plan::{RouteAnswer, RouteObs},
};

/// What is to be seen of a route of the app `app`.
pub(super) fn route_obs(app: &str, route: &HttpRoute) -> RouteObs {
    RouteObs {
        version: route.metadata.resource_version.clone().unwrap_or_default(),
        uid: route.metadata.uid.clone().unwrap_or_default(),
        generation: route.metadata.generation.unwrap_or_default(),
        preview: preview(app, route),
        answer: answer(route),
        drifted: false,
    }
}

/// Percent of the requests for the preview Service, rounded up: what gets any does not count as getting none.
fn preview(app: &str, route: &HttpRoute) -> Option<u32> {
    let name = format!("{app}-preview");
    let backends = || route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
    let weight = |weight: Option<i32>| u64::try_from(weight.unwrap_or(1)).unwrap_or_default();
    let total: u64 = backends().map(|backend| weight(backend.weight)).sum();
    let named = backends().any(|backend| backend.name == name);
    let part: u64 =
        backends().filter(|backend| backend.name == name).map(|backend| weight(backend.weight)).sum();
    named.then(|| u32::try_from((part * 100).div_ceil(total.max(1))).unwrap_or(100))
}

/// What all gateways together say: one that has yet to answer counts most, then one that refuses.
fn answer(route: &HttpRoute) -> RouteAnswer {
    let generation = route.metadata.generation.unwrap_or_default();
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let answers: Vec<(&GatewayRef, Option<&ParentStatus>)> =
        route.spec.parent_refs.iter().map(|parent| (parent, status_of(route, namespace, parent))).collect();
    if answers.iter().all(|(_, status)| status.is_none()) {
        return RouteAnswer::Unseen;
    }
    let mut refused = None;
    for (parent, status) in answers {
        let gateway = format!("Gateway {}/{}", parent.namespace.as_deref().unwrap_or(namespace), parent.name);
        let condition = |kind: &str| {
            let mut conditions = status.iter().flat_map(|status| &status.conditions);
            conditions
                .find(|one| one.type_ == kind && one.observed_generation.unwrap_or_default() >= generation)
        };
        let Some(accepted) = condition("Accepted") else { return RouteAnswer::Pending(gateway) };
        let no = [Some(accepted), condition("ResolvedRefs")]
            .into_iter()
            .flatten()
            .find(|condition| condition.status != "True");
        if let Some(Condition { type_, reason, message, .. }) = no {
            let message = format!("{gateway} says {type_} is false: {message}");
            refused.get_or_insert(RouteAnswer::Refused { reason: reason.clone(), message });
        } else if condition("ResolvedRefs").is_none() {
            return RouteAnswer::Pending(gateway);
        }
    }
    refused.unwrap_or(RouteAnswer::Accepted)
}

fn status_of<'a>(route: &'a HttpRoute, namespace: &str, parent: &GatewayRef) -> Option<&'a ParentStatus> {
    let place = |parent: &GatewayRef| parent.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    let of_it = |status: &&ParentStatus| {
        let other = &status.parent_ref;
        other.name == parent.name
            && place(other) == place(parent)
            && other.section_name == parent.section_name
            && other.port == parent.port
    };
    // A controller that a Gateway had before leaves its word behind.
    let seen = |status: &&ParentStatus| {
        status.conditions.iter().filter_map(|condition| condition.observed_generation).max()
    };
    route.status.iter().flat_map(|status| &status.parents).filter(of_it).max_by_key(seen)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn route(weights: &Value, parents: &Value) -> HttpRoute {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "shop", "namespace": "prod", "generation": 3},
            "spec": {
                "parentRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "gateways"},
                    {"name": "local", "sectionName": "http"},
                ],
                "hostnames": ["shop.example.com"],
                "rules": [{"backendRefs": weights}],
            },
            "status": {"parents": parents},
        }))
        .unwrap()
    }

    fn says(parent: &Value, accepted: &str, resolved: &str, generation: i64) -> Value {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "Why", "message": "because",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation})
        };
        json!({"parentRef": parent, "controllerName": "example.com/gateway",
            "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", resolved)]})
    }

    #[test]
    fn weights_are_shares_of_their_sum() {
        let seen = |weights: Value| preview("shop", &route(&weights, &json!([])));
        assert_eq!(seen(json!([{"name": "shop", "weight": 100}])), None);
        assert_eq!(
            seen(json!([{"name": "shop", "weight": 90}, {"name": "shop-preview", "weight": 10}])),
            Some(10)
        );
        assert_eq!(
            seen(json!([{"name": "shop", "weight": 100}, {"name": "shop-preview", "weight": 0}])),
            Some(0)
        );
        assert_eq!(seen(json!([{"name": "shop", "weight": 999}, {"name": "shop-preview"}])), Some(1));
        assert_eq!(seen(json!([{"name": "shop-preview", "weight": 0}])), Some(0));
    }

    #[test]
    fn every_gateway_has_a_say() {
        let public = json!({"name": "public", "namespace": "gateways"});
        let local = json!({"name": "local", "namespace": "prod", "sectionName": "http"});
        let seen = |parents: Value| answer(&route(&json!([]), &parents));
        assert_eq!(seen(json!([])), RouteAnswer::Unseen);
        assert_eq!(
            seen(json!([says(&json!({"name": "other"}), "True", "True", 3)])),
            RouteAnswer::Unseen,
            "of another route's time"
        );
        let pending = |name: &str| RouteAnswer::Pending(format!("Gateway {name}"));
        assert_eq!(seen(json!([says(&public, "True", "True", 3)])), pending("prod/local"));
        assert_eq!(
            seen(json!([says(&public, "True", "True", 2), says(&local, "True", "True", 3)])),
            pending("gateways/public"),
            "it has not seen the last change"
        );
        assert_eq!(
            seen(json!([says(&public, "True", "True", 3), says(&local, "True", "True", 3)])),
            RouteAnswer::Accepted
        );
        let stale = says(&local, "False", "True", 2);
        assert_eq!(
            seen(json!([stale, says(&public, "True", "True", 3), says(&local, "True", "True", 3), stale])),
            RouteAnswer::Accepted,
            "the word of a controller that is gone"
        );
        for (accepted, resolved, which) in [("False", "True", "Accepted"), ("True", "False", "ResolvedRefs")]
        {
            let message = format!("Gateway prod/local says {which} is false: because");
            assert_eq!(
                seen(json!([says(&public, "True", "True", 3), says(&local, accepted, resolved, 3)])),
                RouteAnswer::Refused { reason: "Why".to_owned(), message }
            );
        }
    }
}
