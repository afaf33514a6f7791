//! The control plane: etcd, API server, controller manager, scheduler.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{ServerOptions, ledger::Ledger, pki::Authority, tools::BinDir};

/// What the control plane needs to know of its surroundings.
pub struct Plan<'a> {
    /// Where what is started is written down.
    pub ledger: &'a Ledger,
    /// Who signs certificates.
    pub authority: &'a Authority,
    /// Where the programs are.
    pub bin: &'a BinDir,
    /// The address the API server listens on.
    pub address: Ipv4Addr,
    /// The API server's port.
    pub port: u16,
    /// The range of Service addresses.
    pub services: &'a str,
    /// The first address of that range, which is the API server's Service.
    pub first_service: Ipv4Addr,
    /// Whether pods can reach the API server at its address.
    pub reachable_from_pods: bool,
    /// After how many seconds without a sign of life a node counts as lost.
    pub node_grace_seconds: u32,
    /// What the API server does.
    pub server: &'a ServerOptions,
}

/// Records the metadata of requests, once, when they have been answered.
fn audit_policy(users: &[String]) -> serde_json::Value {
    let mut rules = vec![json!({"level": "Metadata"})];
    if !users.is_empty() {
        rules = vec![json!({"level": "Metadata", "users": users}), json!({"level": "None"})];
    }
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules,
    })
}

/// Requests per second that the controller manager and the scheduler may make:
/// with the default of 20 they, not the operator, would be what a test measures.
const CLIENT_RATE: [&str; 2] = ["--kube-api-qps=500", "--kube-api-burst=1000"];

/// The group whose members may do anything.
pub const MASTERS: &str = "system:masters";

/// How often something is asked that has no event to wait for, such as whether
/// the API server answers yet.
const ASK: Duration = Duration::from_millis(50);

/// Ports of this machine that are free now, outside the range the kernel hands
/// out to clients, all different.
pub fn free_ports<const N: usize>(address: Ipv4Addr) -> Result<[u16; N]> {
    use std::hash::{BuildHasher as _, Hasher as _};
    /// Below the kernel's usual range for clients, above what services use.
    const RANGE: std::ops::Range<u16> = 14_000..32_000;
    // The standard library's only source of randomness.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let first = u16::try_from(random % u64::from(RANGE.end - RANGE.start)).unwrap_or_default();
    let mut ports = [0; N];
    let mut held = Vec::new();
    let mut candidates = (RANGE.start + first..RANGE.end).chain(RANGE.start..RANGE.start + first);
    for port in &mut ports {
        let Some((free, listener)) =
            candidates.find_map(|port| Some((port, TcpListener::bind((address, port)).ok()?)))
        else {
            bail!("no free port between {} and {} on {address}", RANGE.start, RANGE.end);
        };
        *port = free;
        held.push(listener);
    }
    Ok(ports)
}

/// `program` with `arguments`.
pub fn command<const N: usize>(
    bin: &BinDir,
    program: &str,
    arguments: [impl Into<OsString>; N],
) -> Vec<OsString> {
    let mut command = vec![bin.program(program).into_os_string()];
    command.extend(arguments.into_iter().map(Into::into));
    command
}

/// Starts etcd and the API server, and returns once the API server is ready.
pub async fn start(plan: &Plan<'_>) -> Result<kube::Client> {
    let dir = plan.ledger.dir();
    credentials(plan)?;
    let [etcd, peer] = free_ports(Ipv4Addr::LOCALHOST)?;
    let etcd = format!("http://127.0.0.1:{etcd}");
    let peer = format!("http://127.0.0.1:{peer}");
    plan.ledger.spawn(
        "etcd",
        None,
        command(
            plan.bin,
            "etcd",
            [
                "--name=e2e".to_owned(),
                format!("--data-dir={}", dir.join("etcd").display()),
                format!("--listen-client-urls={etcd}"),
                format!("--advertise-client-urls={etcd}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=e2e={peer}"),
                // Its data need not survive the machine.
                "--unsafe-no-fsync".to_owned(),
                // Ten thousand apps outgrow the 2 GiB that it may have otherwise.
                format!("--quota-backend-bytes={}", 8_u64 << 30),
                "--log-level=warn".to_owned(),
            ],
        ),
    )?;
    api_server(plan, &etcd)?;
    let client = client(&dir.join("kubeconfig")).await?;
    ready(plan.ledger, &client).await?;
    Ok(client)
}

/// Starts the controller manager and the scheduler: they give up when the API
/// server is not there yet.
pub fn start_controllers(plan: &Plan<'_>) -> Result<()> {
    let pki = |file: &str| plan.authority.path(file).display().to_string();
    let mut arguments = command(
        plan.bin,
        "kube-controller-manager",
        [
            format!("--kubeconfig={}", pki("controller-manager.kubeconfig")),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            // One identity per controller, as in production: the audit log tells them apart.
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", pki("sa.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--cluster-signing-cert-file={}", pki("ca.crt")),
            format!("--cluster-signing-key-file={}", pki("ca.key")),
            format!("--node-monitor-grace-period={}s", plan.node_grace_seconds),
            "--node-monitor-period=2s".to_owned(),
        ],
    );
    arguments.extend(CLIENT_RATE.map(Into::into));
    plan.ledger.spawn("kube-controller-manager", None, arguments)?;
    let mut arguments = command(
        plan.bin,
        "kube-scheduler",
        [
            format!("--kubeconfig={}", pki("scheduler.kubeconfig")),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ],
    );
    arguments.extend(CLIENT_RATE.map(Into::into));
    plan.ledger.spawn("kube-scheduler", None, arguments)?;
    Ok(())
}

fn credentials(plan: &Plan<'_>) -> Result<()> {
    let authority = plan.authority;
    authority.service_accounts()?;
    let server = authority.server(
        &[
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ],
        &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(plan.address), IpAddr::V4(plan.first_service)],
    )?;
    authority.keep("apiserver", &server)?;
    authority.keep("kubelet-client", &authority.client("kube-apiserver-kubelet-client", &[MASTERS])?)?;
    let url = plan.ledger.record().server;
    for (file, user) in
        [("controller-manager", "system:kube-controller-manager"), ("scheduler", "system:kube-scheduler")]
    {
        authority.kubeconfig(&authority.path(&format!("{file}.kubeconfig")), &url, user, &[])?;
    }
    let admin = plan.ledger.dir().join("kubeconfig");
    authority.kubeconfig(&admin, &url, "admin", &[MASTERS])
}

fn api_server(plan: &Plan<'_>, etcd: &str) -> Result<()> {
    let dir = plan.ledger.dir();
    let pki = |file: &str| plan.authority.path(file).display().to_string();
    let policy = dir.join("audit-policy.json");
    fs::write(&policy, audit_policy(&plan.server.audited).to_string())
        .with_context(|| format!("writing {}", policy.display()))?;
    let mut arguments = command(
        plan.bin,
        "kube-apiserver",
        [
            format!("--etcd-servers={etcd}"),
            format!("--bind-address={}", plan.address),
            format!("--advertise-address={}", plan.address),
            format!("--secure-port={}", plan.port),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--service-account-key-file={}", pki("sa.pub")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-cluster-ip-range={}", plan.services),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", dir.join("audit.log").display()),
            "--audit-log-maxsize=8192".to_owned(),
            // A lost node's pods are replaced within a test's patience.
            "--default-not-ready-toleration-seconds=10".to_owned(),
            "--default-unreachable-toleration-seconds=10".to_owned(),
        ],
    );
    if !plan.reachable_from_pods {
        // A loopback address is refused as an endpoint.
        arguments.push("--endpoint-reconciler-type=none".into());
    }
    let gates: Vec<String> = plan.server.without.iter().map(|feature| format!("{feature}=false")).collect();
    if !gates.is_empty() {
        arguments.push(format!("--feature-gates={}", gates.join(",")).into());
    }
    plan.ledger.spawn("kube-apiserver", None, arguments)?;
    Ok(())
}

/// A client with the identity in a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let config = kube::config::Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
        .await
        .with_context(|| format!("using {}", kubeconfig.display()))?;
    kube::Client::try_from(config).context("making a client")
}

/// Waits until `question` is answered, and says what was waited for when a
/// process dies or patience ends.
pub async fn until<F>(
    ledger: &Ledger,
    what: &str,
    patience: Duration,
    mut question: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    loop {
        let last = question().await;
        if let Ok(true) = last {
            return Ok(());
        }
        ledger.all_alive().with_context(|| format!("waiting for {what}"))?;
        if start.elapsed() > patience {
            let error =
                last.err().map_or_else(String::new, |error| format!("; the last answer was: {error:#}"));
            bail!("{what}: not there after {patience:?}{error}");
        }
        tokio::time::sleep(ASK).await;
    }
}

async fn ready(ledger: &Ledger, client: &kube::Client) -> Result<()> {
    until(ledger, "the API server to be ready", Duration::from_mins(1), || async {
        let request = http::Request::get("/readyz").body(Vec::new()).context("asking for readiness")?;
        Ok(client.request_text(request).await? == "ok")
    })
    .await
}
