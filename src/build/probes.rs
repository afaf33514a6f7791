//! Probes of the app's container.

use k8s_openapi::{
    api::core::v1::{HTTPGetAction, HTTPHeader, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::api;

/// What a probe sends unless the user says otherwise. Phoenix 1.8 turns `force_ssl` on, and would answer with a
/// redirect to its host, which a kubelet counts as success.
const HEADERS: [(&str, &str); 2] = [("Host", "localhost"), ("X-Forwarded-Proto", "https")];

/// A probe as the kubelet wants it; `port` is the app's.
pub(super) fn probe(probe: api::Probe<'_>, port: i32) -> Probe {
    let port = IntOrString::Int(probe.port.unwrap_or(port));
    let (http_get, tcp_socket) = match probe.path {
        Some(path) => {
            let action = HTTPGetAction {
                path: Some(path.to_owned()),
                port,
                http_headers: Some(headers(&probe)),
                ..Default::default()
            };
            (Some(action), None)
        }
        None => (None, Some(TCPSocketAction { port, host: None })),
    };
    Probe {
        http_get,
        tcp_socket,
        period_seconds: Some(probe.period.as_i32_secs()),
        timeout_seconds: Some(probe.timeout.as_i32_secs()),
        failure_threshold: Some(probe.failure_threshold),
        ..Probe::default()
    }
}

fn headers(probe: &api::Probe<'_>) -> Vec<HTTPHeader> {
    let header = |name: &str, value: &str| HTTPHeader { name: name.to_owned(), value: value.to_owned() };
    let ours = HEADERS
        .into_iter()
        .filter(|(name, _)| !probe.headers.keys().any(|set| set.eq_ignore_ascii_case(name)))
        .map(|(name, value)| header(name, value));
    ours.chain(probe.headers.iter().map(|(name, value)| header(name, value))).collect()
}
