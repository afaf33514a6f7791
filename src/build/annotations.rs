//! Which annotations apps may put on what faces the outside: an Ingress and a Service tell controllers what to do, with
//! rights that whoever writes the app may not have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

use super::Settings;
use crate::api::{ServiceType, ValidatedApp};

/// Beginnings of the keys that are allowed; none given: any key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedAnnotations(pub Vec<String>);

impl AllowedAnnotations {
    fn allows(&self, key: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|prefix| key.starts_with(prefix))
    }

    fn refused<'a>(&self, annotations: &'a BTreeMap<String, String>) -> Vec<&'a str> {
        annotations.keys().map(String::as_str).filter(|key| !self.allows(key)).collect()
    }
}

/// Whether the Ingress that is asked for has an annotation that is not allowed. It is then not written, for without it
/// the Ingress might let in what it keeps out.
pub fn ingress_is_refused(app: &ValidatedApp, settings: &Settings) -> bool {
    let ingress = app.spec.traffic.ingress.as_ref();
    ingress.is_some_and(|ingress| !settings.allowed_annotations.refused(&ingress.annotations).is_empty())
}

/// What to say of annotations that are not allowed, and what becomes of their objects; none when all are.
pub fn refused_annotations(app: &ValidatedApp, settings: &Settings) -> Option<String> {
    let AllowedAnnotations(prefixes) = &settings.allowed_annotations;
    let traffic = &app.spec.traffic;
    let ingress = traffic.ingress.as_ref().map(|ingress| &ingress.annotations);
    let said: Vec<String> = [
        ("ingress", ingress, "the Ingress is not written, and one that is there stays as it is"),
        (
            "service",
            Some(&traffic.service.annotations),
            "the Service does without, keeps what it has, and is opened no further than it is",
        ),
    ]
    .into_iter()
    .filter_map(|(field, annotations, then)| {
        let refused = settings.allowed_annotations.refused(annotations?);
        (!refused.is_empty()).then(|| {
            format!(
                "spec.traffic.{field}.annotations must not hold {}, because the operator allows only keys that begin \
                 with {} (--allowed-annotation): {then}; remove it, or have it allowed",
                refused.join(", "),
                prefixes.join(", ")
            )
        })
    })
    .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// The active Service as it may be written while some of its annotations are not allowed: of those, what is there
/// stays. So does its type, unless `ClusterIP` is asked for: what is left out may be what keeps a load balancer private.
/// It is written all the same, because every rollout and every way back moves its selector.
pub fn with_allowed_annotations(
    mut service: Service,
    app: &ValidatedApp,
    settings: &Settings,
    there: Option<&Service>,
) -> Service {
    let wanted = &app.spec.traffic.service;
    let refused = settings.allowed_annotations.refused(&wanted.annotations);
    if refused.is_empty() {
        return service;
    }
    let kept = there.and_then(|there| there.metadata.annotations.as_ref());
    let mut annotations = service.metadata.annotations.take().unwrap_or_default();
    for key in refused {
        annotations.remove(key);
        let kept = kept.and_then(|kept| kept.get_key_value(key));
        annotations.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
    }
    service.metadata.annotations = super::unless_empty(annotations);
    if let Some(spec) = service.spec.as_mut().filter(|_| wanted.kind != ServiceType::ClusterIP) {
        let kind = there.and_then(|there| there.spec.as_ref()?.type_.clone());
        spec.type_ = Some(kind.unwrap_or_else(|| ServiceType::ClusterIP.as_str().to_owned()));
    }
    service
}
