//! One real node: containerd, kubelet and kube-proxy in a network namespace.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    cgroup,
    control::{self, Plan},
    ledger::Ledger,
    network::{self, Network},
    packages,
    process::{self, NODE_MARK, Process},
    tools::BinDir,
};

/// The image that holds a pod's namespaces; loaded, never pulled.
pub const SANDBOX_IMAGE: &str = "registry.local/pause:1";

/// One node's place on this machine.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    index: u8,
    network: Network,
    /// Its files.
    dir: PathBuf,
    /// Its sockets and mounts.
    run: PathBuf,
    cgroup: String,
}

impl Place {
    /// The place of a node, counted from zero.
    pub fn new(ledger: &Ledger, network: Network, index: u8) -> Self {
        let name = network::node_name(index);
        Self {
            dir: ledger.dir().join("nodes").join(&name),
            run: network.run_dir().join(&name),
            cgroup: format!("{}-{name}", ledger.record().id),
            name,
            index,
            network,
        }
    }

    fn socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Makes its directories and its control group.
    pub fn create(&self, ledger: &Ledger) -> Result<()> {
        for dir in ["cni", "kubelet", "pod-logs", "volume-plugins"] {
            let dir = self.dir.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        }
        fs::create_dir_all(&self.run).with_context(|| format!("making {}", self.run.display()))?;
        ledger.update(|record| record.cgroups.push(self.cgroup.clone()))?;
        cgroup::create(&self.cgroup)
    }

    /// Starts its container runtime.
    pub fn start_runtime(&self, plan: &Plan<'_>) -> Result<()> {
        self.write("cni/10-bridge.conflist", &self.cni_config(&plan.ledger.record().id).to_string())?;
        let config = self.write("containerd.toml", &self.runtime_config(plan.bin)?)?;
        let program = plan.bin.program("containerd");
        let mut path = program.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
        path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        let netns = self.network.netns_path(&self.name);
        plan.ledger.spawn_with(
            &format!("containerd-{}", self.name),
            Some(&netns),
            vec![("PATH", path), (NODE_MARK, self.cgroup.clone().into())],
            control::command(plan.bin, "containerd", [format!("--config={}", config.display())]),
        )?;
        Ok(())
    }

    /// Starts kubelet and kube-proxy.
    pub fn start_kubelet(&self, plan: &Plan<'_>) -> Result<()> {
        let authority = plan.authority;
        let server = plan.ledger.record().server;
        let kubeconfig = authority.path(&format!("kubelet-{}.kubeconfig", self.name));
        let user = format!("system:node:{}", self.name);
        authority.kubeconfig(&kubeconfig, &server, &user, &["system:nodes"])?;
        let config = self.kubelet_config(plan);
        let config = self.write("kubelet.json", &format!("{config:#}"))?;
        let command = control::command(
            plan.bin,
            "kubelet",
            [
                format!("--config={}", config.display()),
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--hostname-override={}", self.name),
                format!("--node-ip={}", self.network.node_ip(self.index)),
                format!("--root-dir={}", self.dir.join("kubelet").display()),
                format!("--cert-dir={}", self.dir.join("kubelet/pki").display()),
                format!("--node-labels=topology.kubernetes.io/zone=zone-{}", self.index + 1),
                "--v=2".to_owned(),
            ],
        );
        self.spawn(plan.ledger, "kubelet", command)?;
        let netns = self.network.netns_path(&self.name);
        start_proxy(plan, self.network, &self.name, &self.name, &netns, self.mark())
    }

    fn mark(&self) -> Vec<(&'static str, OsString)> {
        vec![(NODE_MARK, self.cgroup.clone().into())]
    }

    fn spawn(&self, ledger: &Ledger, what: &str, command: Vec<OsString>) -> Result<()> {
        let netns = self.network.netns_path(&self.name);
        ledger.spawn_with(&format!("{what}-{}", self.name), Some(&netns), self.mark(), command)?;
        Ok(())
    }

    /// Loads an OCI archive into the container runtime.
    pub fn load(&self, bin: &BinDir, archive: &Path) -> Result<()> {
        let socket = self.socket();
        let socket = socket.to_str().context("a socket path in UTF-8")?;
        let path = archive.to_str().context("an archive path in UTF-8")?;
        process::run(bin.program("ctr"), &["-a", socket, "-n", "k8s.io", "images", "import", path])
            .with_context(|| format!("loading {path} into {}", self.name))?;
        Ok(())
    }

    /// Whether the container runtime answers.
    pub fn runtime_ready(&self, bin: &BinDir) -> Result<bool> {
        let socket = self.socket();
        if !socket.exists() {
            return Ok(false);
        }
        let socket = socket.to_str().context("a socket path in UTF-8")?;
        process::run(bin.program("ctr"), &["-a", socket, "--connect-timeout=1s", "version"])?;
        Ok(true)
    }

    /// Everything that runs on the node: its programs, the containers' keepers,
    /// the containers.
    fn everything(&self) -> Vec<Process> {
        let mut all = process::marked(NODE_MARK, &self.cgroup);
        all.extend(cgroup::members(&self.cgroup));
        all
    }

    /// The node is gone from one moment to the next: first its network, then
    /// everything on it stands still.
    pub fn stop(&self) -> Result<()> {
        self.network.set_link(&self.name, false)?;
        // Again for what was being started in the first pass.
        for _ in 0..2 {
            for process in self.everything() {
                process.signal(Signal::STOP)?;
            }
        }
        Ok(())
    }

    /// The node is back, with all that was on it.
    pub fn start(&self) -> Result<()> {
        for process in self.everything() {
            process.signal(Signal::CONT)?;
        }
        self.network.set_link(&self.name, true)
    }

    fn cni_config(&self, id: &str) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": format!("{id}-{}", self.name),
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": true,
                    // Every place has routes to the pods: nothing needs another's address.
                    "ipMasq": false,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.run.join("ipam"),
                        "ranges": [[{"subnet": self.network.pods(self.index)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
            ],
        })
    }

    fn runtime_config(&self, bin: &BinDir) -> Result<String> {
        let runc = packages::find("runc").context("no runc: install the package runc")?;
        let quote = |path: &Path| format!("'{}'", path.display());
        Ok(format!(
            "version = 3
root = {root}
state = {state}
[grpc]
address = {socket}
[debug]
level = 'warn'
[plugins.'io.containerd.internal.v1.opt']
path = {opt}
[plugins.'io.containerd.nri.v1.nri']
disable = true
[plugins.'io.containerd.shim.v1.manager']
socket_dir = {shims}
[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{SANDBOX_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
runtime_path = {shim}
sandboxer = 'podsandbox'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = {runc}
Root = {runc_root}
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{plugins}]
conf_dir = {cni}
",
            root = quote(&self.dir.join("containerd")),
            state = quote(&self.run.join("state")),
            socket = quote(&self.socket()),
            opt = quote(&self.dir.join("opt")),
            // At most 42 bytes.
            shims = quote(&self.run.join("s")),
            shim = quote(&bin.program("containerd-shim-runc-v2")),
            runc = quote(&runc),
            runc_root = quote(&self.run.join("runc")),
            plugins = quote(&packages::plugin_dir()?),
            cni = quote(&self.dir.join("cni")),
        ))
    }

    fn kubelet_config(&self, plan: &Plan<'_>) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": plan.authority.path("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup),
            "failCgroupV1": false,
            "failSwapOn": false,
            "localStorageCapacityIsolation": false,
            "clusterDNS": [self.network.dns_service()],
            "clusterDomain": "cluster.local",
            "resolvConf": self.dir.join("resolv.conf"),
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "podLogsDir": self.dir.join("pod-logs"),
            "volumePluginDir": self.dir.join("volume-plugins"),
            // Not to evict because of what else fills this machine's disk.
            "evictionHard": {
                "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
                "imagefs.available": "1%", "imagefs.inodesFree": "1%",
            },
            // A loaded image could not be pulled again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "oomScoreAdj": 0,
            "serializeImagePulls": false,
            // A renewal each quarter of the lease: the grace period holds several.
            "nodeStatusUpdateFrequency": "4s",
            "nodeLeaseDurationSeconds": 16,
        })
    }

    /// Writes the name server configuration that pods of policy `Default` get:
    /// there is none outside.
    pub fn write_resolver(&self) -> Result<()> {
        self.write("resolv.conf", "options ndots:5\n").map(drop)
    }
}

/// Starts a kube-proxy in a namespace, as the node `node`.
pub fn start_proxy(
    plan: &Plan<'_>,
    network: Network,
    place: &str,
    node: &str,
    netns: &Path,
    env: Vec<(&str, OsString)>,
) -> Result<()> {
    let authority = plan.authority;
    let kubeconfig = authority.path("kube-proxy.kubeconfig");
    authority.kubeconfig(&kubeconfig, &plan.ledger.record().server, "system:kube-proxy", &[])?;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 50, "burst": 100},
        "hostnameOverride": node,
        // What does not come from a pod gets the translator's address, or the answer
        // would go around it.
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": network.all_pods(),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // Not ours to set in a network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "nftables": {"minSyncPeriod": "100ms"},
    });
    let path = plan.ledger.dir().join(format!("kube-proxy-{place}.json"));
    fs::write(&path, format!("{config:#}")).with_context(|| format!("writing {}", path.display()))?;
    let command = control::command(plan.bin, "kube-proxy", [format!("--config={}", path.display())]);
    plan.ledger.spawn_with(&format!("kube-proxy-{place}"), Some(netns), env, command)?;
    Ok(())
}

/// How long a container runtime may take to answer.
pub const RUNTIME_PATIENCE: Duration = Duration::from_secs(30);
