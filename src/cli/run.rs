//! `phoenix-operator run`: the controller.

use std::{collections::BTreeSet, net::SocketAddr, num::NonZero, time::Duration};

use anyhow::Context as _;
use clap::{ArgAction, Args};

use crate::{
    analysis::Endpoint,
    build::{AllowedAnnotations, PeersRole, Settings},
    controller::{self, Options, Seat},
    telemetry::{self, LogFormat},
};

/// Most threads: what a watch sends is read by one of them at a time, and there is one watch a kind.
const MOST_WORKERS: usize = 4;

/// Look after every `PhoenixApp`, in a cluster or from outside (KUBECONFIG).
#[derive(Debug, Args)]
pub struct Run {
    /// A namespace to look after; may be repeated or a list. Absent: all.
    #[arg(long, env = "PHOENIX_OPERATOR_NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,
    /// The domain of the cluster's DNS. Absent: as in /etc/resolv.conf, else cluster.local.
    #[arg(long, env = "PHOENIX_OPERATOR_CLUSTER_DOMAIN")]
    cluster_domain: Option<String>,
    /// The role to which apps are bound whose nodes list their peers: ClusterRole/name, or Role/name for one of that
    /// name in each namespace. It may hold nothing that the operator does not hold.
    #[arg(long, env = "PHOENIX_OPERATOR_PEERS_ROLE", default_value = "ClusterRole/phoenix-operator-peers")]
    peers_role: PeersRole,
    /// Beginning of the keys of annotations that apps may put on their Ingress and their Service; may be repeated or a
    /// list. Absent: any. `-`, with which no key begins: none.
    #[arg(
        long,
        env = "PHOENIX_OPERATOR_ALLOWED_ANNOTATION",
        value_name = "PREFIX",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    allowed_annotation: Vec<String>,
    /// How log lines are written.
    #[arg(long, env = "PHOENIX_OPERATOR_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
    /// What is logged: a level, or a filter such as `info,phoenix_operator=debug`.
    #[arg(long, env = "PHOENIX_OPERATOR_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "PHOENIX_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Apps looked after at the same time.
    #[arg(long, env = "PHOENIX_OPERATOR_CONCURRENCY", default_value_t = 8)]
    concurrency: usize,
    /// Longest wait for any answer of the API server, as 10s.
    #[arg(long, env = "PHOENIX_OPERATOR_CALL_TIMEOUT", default_value = "10s")]
    call_timeout: crate::api::Duration,
    /// A Prometheus that apps' checks may ask: name=URL, and after commas bearer=FILE (a token) or ca=FILE. May be
    /// repeated. Apps name it; they never choose an address.
    #[arg(long, value_name = "NAME=URL")]
    prometheus: Vec<Endpoint>,
    /// Write only while holding a Lease, so that of several operators one works and the others wait. Turn it off where
    /// there is surely one, such as outside of the cluster.
    #[arg(long, env = "PHOENIX_OPERATOR_LEADER_ELECT", action = ArgAction::Set, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    leader_elect: bool,
    /// The Lease's namespace. Absent: that of the pod, or of the kubeconfig's context.
    #[arg(long, env = "PHOENIX_OPERATOR_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,
    /// The Lease's name; the same for all operators that look after the same apps.
    #[arg(long, env = "PHOENIX_OPERATOR_LEASE_NAME", default_value = "phoenix-operator")]
    lease_name: String,
    /// Names this process in events and in the Lease. In a pod: its name.
    #[arg(long, env = "HOSTNAME", default_value = "phoenix-operator")]
    instance: String,
}

impl Run {
    /// Runs until a signal to stop.
    ///
    /// # Errors
    /// When there is no way to the API server, or an argument cannot be used.
    pub fn run(self) -> anyhow::Result<()> {
        telemetry::init(self.log_format, &self.log_level)?;
        // A second provider linked in by a dependency would make the first TLS connection panic.
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| anyhow::anyhow!("a TLS provider was installed before"))?;
        let namespaces: BTreeSet<String> =
            self.namespace.into_iter().filter(|name| !name.is_empty()).collect();
        let cluster_domain = self.cluster_domain.unwrap_or_else(cluster_domain);
        let options = Options {
            namespaces,
            settings: Settings {
                cluster_domain,
                peers_role: self.peers_role,
                allowed_annotations: AllowedAnnotations(
                    self.allowed_annotation.into_iter().filter(|prefix| !prefix.is_empty()).collect(),
                ),
            },
            prometheus: self.prometheus,
            listen: self.listen,
            concurrency: self.concurrency,
            call_timeout: Duration::from(self.call_timeout),
            instance: self.instance,
            seat: self
                .leader_elect
                .then_some(Seat { namespace: self.lease_namespace, name: self.lease_name }),
        };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            runtime.worker_threads(workers()).enable_all().build().context("starting the runtime")?;
        // Among the tasks it talks to, not on a thread of its own that each of their words would have to wake.
        let result = runtime.block_on(runtime.spawn(controller::run(options)));
        let result = result.context("the operator ended in disorder").and_then(|result| result);
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }
}

/// Threads of the runtime: half of the processors, and no more than it has use for. It waits for the API server most of the
/// time, and each thread more costs what it takes to wake the others.
fn workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).clamp(1, MOST_WORKERS)
}

fn cluster_domain() -> String {
    let file = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    search_domain(&file).unwrap_or_else(|| Settings::default().cluster_domain)
}

/// The kubelet writes `search <namespace>.svc.<domain> svc.<domain> <domain> ...` into a pod's resolv.conf.
fn search_domain(file: &str) -> Option<String> {
    let line = file.lines().rfind(|line| line.split_whitespace().next() == Some("search"))?;
    let domain = line.split_whitespace().find_map(|word| word.strip_prefix("svc."))?;
    Some(domain.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Run, search_domain};

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn allowed_annotations_are_a_list_or_repeated() {
        let allowed = |arguments: &[&str]| {
            let arguments = std::iter::once("run").chain(arguments.iter().copied());
            Alone::try_parse_from(arguments).unwrap().run.allowed_annotation
        };
        assert_eq!(allowed(&["--allowed-annotation=-"]), ["-"]);
        assert_eq!(
            allowed(&["--allowed-annotation=a/,b/", "--allowed-annotation", "c/"]),
            ["a/", "b/", "c/"]
        );
        assert_eq!(allowed(&[]), [""; 0]);
    }

    #[test]
    fn the_domain_is_read_from_the_search_list() {
        let file =
            "nameserver 10.0.0.10\nsearch ops.svc.example.internal svc.example.internal example.internal\n";
        assert_eq!(search_domain(file).unwrap(), "example.internal");
        assert_eq!(search_domain("nameserver 1.1.1.1\nsearch lan\n"), None);
        assert_eq!(search_domain(""), None);
    }
}
