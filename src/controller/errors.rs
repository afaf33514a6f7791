//! What a call can fail with, and what follows from it: wait for news, try again, or tell people.

use std::{fmt, time::Duration};

use kube::core::Status;

use super::kind::Kind;
use crate::{plan::Fault, telemetry::causes};

/// What was called, for messages and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The RBAC verb.
    pub verb: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, kind, namespace, name } = self;
        write!(f, "cannot {verb} {kind} {namespace}/{name}")
    }
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time. It may still have been carried out.
    #[error("{call}: no answer within {} s", .after.as_secs_f32())]
    Timeout {
        /// What was called.
        call: Call,
        /// How long it was waited for.
        after: Duration,
    },
    /// Another may lead: nothing was sent.
    #[error("{call}: not the leader any more")]
    Deposed {
        /// What would have been called.
        call: Call,
    },
    /// The API server said no.
    #[error("{call}: {} ({} {})", .status.message, .status.code, .status.reason)]
    Refused {
        /// What was called.
        call: Call,
        /// Its answer.
        status: Box<Status>,
    },
    /// The API server was not reached, or its answer not understood.
    #[error("{call}: {}", causes(.source))]
    Transport {
        /// What was called.
        call: Call,
        /// Why.
        source: kube::Error,
    },
}

/// What follows from a failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object is not as it was planned from: the caches will say how it is.
    Outdated,
    /// An object of this name is there already.
    Exists,
    /// Worth trying again after a while.
    Transient,
    /// Only a person or another program can remove the cause.
    Fault(Fault),
}

impl CallError {
    /// From an error of the client.
    pub fn of(call: Call, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused { call, status },
            source => Self::Transport { call, source },
        }
    }

    /// The value of the metric's label `result`.
    pub const fn result(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Transport { .. } => "unreachable",
            Self::Deposed { .. } => "deposed",
            Self::Refused { status, .. } => match status.code {
                400..=499 => match status.code {
                    403 => "forbidden",
                    404 => "not_found",
                    409 => "conflict",
                    422 => "invalid",
                    429 => "throttled",
                    _ => "refused",
                },
                _ => "server_error",
            },
        }
    }

    /// The server found the object invalid.
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code == 422)
    }

    /// What follows from it.
    pub fn verdict(&self) -> Verdict {
        let Self::Refused { call, status } = self else { return Verdict::Transient };
        match status.code {
            409 if status.reason == "AlreadyExists" => Verdict::Exists,
            404 if is_missing_role(status) => self.fault(
                "RoleMissing",
                "install the role that the chart brings, or name another with --peers-role",
            ),
            404 | 409 if is_missing_namespace(call, status) => Verdict::Transient,
            404 | 409 | 410 => Verdict::Outdated,
            500 if status.message.contains("failed calling webhook") => self.fault(
                "WebhookUnreachable",
                "see to the webhook that the message names, or to its configuration",
            ),
            401 | 408 | 429 | 500.. => Verdict::Transient,
            403 => self.forbidden(call, status),
            422 => self.fault("Invalid", "correct the spec so that this object is valid"),
            _ if is_admission(status) => self.denied(),
            _ => self.fault("Refused", "correct what the message names"),
        }
    }

    fn forbidden(&self, call: &Call, status: &Status) -> Verdict {
        let terminating = status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .any(|cause| cause.reason == "NamespaceTerminating");
        if terminating {
            Verdict::Transient
        } else if status.message.contains("exceeded quota") {
            self.fault("QuotaExceeded", "raise the ResourceQuota or remove what is not needed")
        } else if is_admission(status) {
            self.denied()
        } else {
            let Call { verb, kind, namespace, .. } = call;
            self.fault("Forbidden", &format!("allow the operator to {verb} {kind} in namespace {namespace}"))
        }
    }

    /// Nothing else stopped it than what this one write leads to, as a webhook that does not answer.
    pub fn unanswered(&self) -> Option<Fault> {
        let unanswered = match self {
            Self::Timeout { .. } => true,
            Self::Refused { status, .. } => status.code >= 500,
            Self::Deposed { .. } | Self::Transport { .. } => false,
        };
        unanswered.then(|| Fault { reason: "Unanswered".to_owned(), message: self.to_string() })
    }

    fn denied(&self) -> Verdict {
        self.fault("AdmissionDenied", "correct what the admission policy names, or the policy")
    }

    fn fault(&self, reason: &str, cure: &str) -> Verdict {
        Verdict::Fault(Fault { reason: reason.to_owned(), message: format!("{self}; {cure}") })
    }
}

fn is_admission(status: &Status) -> bool {
    let message = &status.message;
    message.contains("admission webhook") || message.contains("ValidatingAdmissionPolicy")
}

/// A 404 for a binding names the role when it is that which is missing, and the binding otherwise.
fn is_missing_role(status: &Status) -> bool {
    let named =
        |resource: &str| status.message.starts_with(&format!("{resource}.rbac.authorization.k8s.io "));
    named("clusterroles") || named("roles")
}

/// A 404 for a write into a namespace that is not there (any more) names the namespace.
fn is_missing_namespace(call: &Call, status: &Status) -> bool {
    call.verb == "create" && status.code == 404
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> CallError {
        let call = Call {
            verb: "patch",
            kind: Kind::Deployment,
            namespace: "prod".to_owned(),
            name: "shop-7f3a9c1d2e".to_owned(),
        };
        let status = Status {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..Status::failure(message, reason)
        };
        CallError::Refused { call, status: status.boxed() }
    }

    fn fault(error: &CallError) -> Fault {
        match error.verdict() {
            Verdict::Fault(fault) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn why_the_server_is_not_reached_is_told_once_and_to_the_end() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let connect = anyhow::Error::new(refused).context("client error (Connect)");
        let source = kube::Error::Service(connect.into());
        let call = Call { verb: "watch", kind: Kind::Pod, namespace: "*".to_owned(), name: "*".to_owned() };
        assert_eq!(
            CallError::of(call, source).to_string(),
            "cannot watch Pod */*: ServiceError: client error (Connect): connection refused"
        );
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for code in [401, 408, 429, 500, 503, 504] {
            assert_eq!(refused(code, "", "").verdict(), Verdict::Transient, "{code}");
        }
    }

    #[test]
    fn what_one_write_leads_to_may_not_answer() {
        for code in [500, 503, 504] {
            let error = refused(code, "", "no answer");
            assert_eq!(error.unanswered().unwrap().message, error.to_string());
        }
        for code in [401, 409, 429] {
            assert_eq!(refused(code, "", "").unanswered(), None, "{code}");
        }
    }

    #[test]
    fn conflicts_wait_for_news() {
        assert_eq!(refused(409, "Conflict", "").verdict(), Verdict::Outdated);
        assert_eq!(refused(404, "NotFound", "").verdict(), Verdict::Outdated);
        assert_eq!(refused(409, "AlreadyExists", "").verdict(), Verdict::Exists);
    }

    #[test]
    fn a_role_that_is_not_there_is_a_persons_to_bring() {
        for role in ["clusterroles", "roles"] {
            let message = format!("{role}.rbac.authorization.k8s.io \"phoenix-operator-peers\" not found");
            let fault = fault(&refused(404, "NotFound", &message));
            assert_eq!(fault.reason, "RoleMissing");
            assert!(fault.message.contains(&message) && fault.message.contains("--peers-role"), "{fault:?}");
        }
        let gone = "rolebindings.rbac.authorization.k8s.io \"shop-peers\" not found";
        assert_eq!(refused(404, "NotFound", gone).verdict(), Verdict::Outdated);
    }

    #[test]
    fn a_missing_right_names_the_verb_and_the_resource() {
        let fault = fault(&refused(403, "Forbidden", "deployments.apps is forbidden: no such right"));
        assert_eq!(fault.reason, "Forbidden");
        assert_eq!(
            fault.message,
            "cannot patch Deployment prod/shop-7f3a9c1d2e: deployments.apps is forbidden: no such right \
             (403 Forbidden); allow the operator to patch Deployment in namespace prod"
        );
    }

    #[test]
    fn other_refusals_keep_the_servers_words() {
        for (code, message, reason) in [
            (422, "spec.replicas: Invalid value: -1", "Invalid"),
            (403, "exceeded quota: small, requested: count/deployments.apps=1", "QuotaExceeded"),
            (403, r#"admission webhook "p.example.com" denied the request: no"#, "AdmissionDenied"),
            (400, r#"admission webhook "p.example.com" denied the request: no"#, "AdmissionDenied"),
            (400, "cannot be handled", "Refused"),
            (500, r#"failed calling webhook "p.example.com": connection refused"#, "WebhookUnreachable"),
        ] {
            let fault = fault(&refused(code, "", message));
            assert_eq!(fault.reason, reason);
            assert!(fault.message.contains(message), "{}", fault.message);
        }
    }
}
