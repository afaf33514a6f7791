//! The environment of pods and migrations.
//!
//! Three strengths. Weak defaults come as the first `envFrom`, so that the user's `envFrom` beats them without the
//! operator reading any Secret. Strong values are `env` entries. The user's `env` beats everything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceRequirements,
    SecretEnvSource, SecretKeySelector,
};

use super::{Effective, Settings};
use crate::api::{
    ClusteringMode, IpFamily, Isolation, RevisionName, SecretSource, ValidatedApp, Worker, labels, names,
};

const ERL_ZFLAGS: &str = "ERL_ZFLAGS";

/// What the emulator reads flags from, beside its command line.
const EMULATOR_FLAGS: [&str; 3] = ["ERL_AFLAGS", "ERL_FLAGS", ERL_ZFLAGS];

/// The flag that chooses what distribution runs over.
const PROTO_DIST: &str = "-proto_dist";

/// What makes a release serve requests.
const SERVES: &str = "PHX_SERVER";
/// Where the user's own cookie stands when the one of a revision is made of it.
const USERS_COOKIE: &str = "PHOENIX_COOKIE";

/// What a migration must not take over from the app: it is no node, serves nothing and must not skip itself.
const NOT_IN_A_JOB: [&str; 5] =
    ["DNS_CLUSTER_QUERY", "PHX_SERVER", "RELEASE_DISTRIBUTION", "RELEASE_NODE", "SKIP_MIGRATIONS"];

/// What the environment says about where the app runs.
pub(super) struct Facts {
    pub revision: RevisionName,
    /// Id of the Erlang cluster: value of the cluster label.
    pub cluster: String,
    isolated: bool,
    cluster_domain: String,
    headless: String,
    headless_fqdn: String,
    cluster_selector: String,
}

impl Facts {
    pub fn of(
        app: &ValidatedApp,
        revision: &RevisionName,
        effective: &Effective,
        settings: &Settings,
    ) -> Self {
        let isolated = effective.isolation == Isolation::PerRevision;
        let of = isolated.then_some(revision);
        let cluster = names::cluster(&app.name, of);
        Self {
            revision: revision.clone(),
            isolated,
            cluster_domain: settings.cluster_domain.clone(),
            headless: names::headless_service(&app.name, of),
            headless_fqdn: names::headless_fqdn(&app.name, of, &app.namespace, &settings.cluster_domain),
            // the app too: two apps of one spec have revisions of one name
            cluster_selector: labels::to_text(&labels::select_cluster(&app.name, &cluster)),
            cluster,
        }
    }
}

/// Environment of a pod that serves.
pub(super) fn of_pod(app: &ValidatedApp, facts: &Facts) -> Vec<EnvVar> {
    let zflags = zflags(app, app.spec.resources.as_ref(), app.spec.clustering.mode.connects());
    merge(strong(app, facts), &[&app.spec.env], &zflags)
}

/// Environment of a worker: the app's, without what makes it serve requests, and its own.
pub(super) fn of_worker(app: &ValidatedApp, facts: &Facts, worker: &Worker) -> Vec<EnvVar> {
    let mut injected = strong(app, facts);
    injected.retain(|entry| entry.name != SERVES);
    let of_app: Vec<_> = app.spec.env.iter().filter(|entry| entry.name != SERVES).cloned().collect();
    let resources = worker.resources.as_ref().or(app.spec.resources.as_ref());
    let own: Vec<_> = worker.env.iter().map(|entry| value(&entry.name, entry.value.clone())).collect();
    merge(injected, &[&of_app, &own], &zflags(app, resources, app.spec.clustering.mode.connects()))
}

/// Environment of the migration: the app's, but no node of its cluster and no server.
pub(super) fn of_job(app: &ValidatedApp, facts: &Facts) -> Vec<EnvVar> {
    let mut injected = strong(app, facts);
    let cookies = [USERS_COOKIE, "RELEASE_COOKIE"];
    injected.retain(|entry| {
        let name = entry.name.as_str();
        let of_its_cluster = facts.isolated && cookies.contains(&name);
        !NOT_IN_A_JOB.contains(&name) && !of_its_cluster
    });
    injected.insert(3, value("RELEASE_DISTRIBUTION", "none"));
    // beats the weak default that tells the app's pods to leave migrations to the Job
    injected.insert(4, value("SKIP_MIGRATIONS", "false"));
    let of_app: Vec<_> =
        app.spec.env.iter().filter(|entry| !NOT_IN_A_JOB.contains(&entry.name.as_str())).cloned().collect();
    let resources = app.spec.migrations.resources.as_ref().or(app.spec.resources.as_ref());
    merge(injected, &[&of_app, &app.spec.migrations.env], &zflags(app, resources, false))
}

/// Weak defaults, then the user's sources: among `envFrom` the last wins.
pub(super) fn sources(app: &ValidatedApp, revision: &RevisionName) -> Vec<EnvFromSource> {
    let generated = EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: names::generated_secret(&app.name), optional: None }),
        ..EnvFromSource::default()
    };
    let defaults = EnvFromSource {
        config_map_ref: Some(ConfigMapEnvSource {
            name: names::defaults_config_map(&app.name, revision),
            optional: None,
        }),
        ..EnvFromSource::default()
    };
    [generated, defaults].into_iter().chain(app.spec.env_from.iter().cloned()).collect()
}

/// Names of injected variables that the user's `env` replaces, in their order. For an event: it is allowed, and
/// seldom meant. A literal `ERL_ZFLAGS` is joined with ours and so is not among them.
pub fn overridden_env(app: &ValidatedApp) -> Vec<String> {
    let isolated = app.isolation == Isolation::PerRevision;
    let user = |name: &str| app.spec.env.iter().find(|entry| entry.name == name);
    let mut names: Vec<String> = names_of_strong(app, isolated)
        .into_iter()
        .filter(|name| user(name).is_some())
        .map(str::to_owned)
        .collect();
    if user(ERL_ZFLAGS).is_some_and(|entry| entry.value_from.is_some()) {
        names.push(ERL_ZFLAGS.to_owned());
    }
    names
}

/// Strong values in their order: a later one may refer to an earlier one.
fn strong(app: &ValidatedApp, facts: &Facts) -> Vec<EnvVar> {
    names_of_strong(app, facts.isolated)
        .into_iter()
        .filter_map(|name| strong_value(name, app, facts))
        .collect()
}

fn names_of_strong(app: &ValidatedApp, isolated: bool) -> Vec<&'static str> {
    let spec = &app.spec;
    let pool_size = spec.database.as_ref().and_then(|database| database.pool_size);
    [
        ("POD_IP", true),
        ("POD_NAME", true),
        ("POD_NAMESPACE", true),
        ("RELEASE_DISTRIBUTION", true),
        ("RELEASE_NODE", true),
        ("PORT", true),
        ("PHX_SERVER", true),
        ("DATABASE_URL", spec.database.is_some()),
        ("POOL_SIZE", pool_size.is_some()),
        ("SECRET_KEY_BASE", spec.secrets.secret_key_base.is_some()),
        (USERS_COOKIE, isolated && spec.secrets.cookie.is_some()),
        ("RELEASE_COOKIE", isolated || spec.secrets.cookie.is_some()),
        ("PHX_HOST", !app.hosts.is_empty()),
        ("DNS_CLUSTER_QUERY", spec.clustering.mode == ClusteringMode::Dns),
        // libcluster asks kubernetes.default.svc.<domain>
        ("CLUSTER_DOMAIN", spec.clustering.mode == ClusteringMode::KubernetesApi),
        ("PHOENIX_HEADLESS_SERVICE", true),
        ("PHOENIX_HEADLESS_FQDN", true),
        ("PHOENIX_CLUSTER_SELECTOR", true),
        ("PHOENIX_REVISION", true),
    ]
    .into_iter()
    .filter_map(|(name, wanted)| wanted.then_some(name))
    .collect()
}

fn strong_value(name: &'static str, app: &ValidatedApp, facts: &Facts) -> Option<EnvVar> {
    let spec = &app.spec;
    Some(match name {
        "POD_IP" => field(name, "status.podIP"),
        "POD_NAME" => field(name, "metadata.name"),
        "POD_NAMESPACE" => field(name, "metadata.namespace"),
        "RELEASE_DISTRIBUTION" => value(name, "name"),
        // without clustering the node keeps a name of its own, so that rpc and remote work inside the pod
        "RELEASE_NODE" => match spec.clustering.mode {
            // an IPv6 address stands there without brackets
            ClusteringMode::Dns | ClusteringMode::KubernetesApi => {
                value(name, format!("{}@$(POD_IP)", app.node_basename))
            }
            ClusteringMode::Disabled => value(name, format!("{}@127.0.0.1", app.node_basename)),
        },
        "PORT" => value(name, spec.port.to_string()),
        "PHX_SERVER" => value(name, "true"),
        "DATABASE_URL" => secret(name, &spec.database.as_ref()?.url_from),
        "POOL_SIZE" => value(name, spec.database.as_ref()?.pool_size?.to_string()),
        "SECRET_KEY_BASE" => secret(name, spec.secrets.secret_key_base.as_ref()?),
        USERS_COOKIE => secret(name, spec.secrets.cookie.as_ref()?),
        "RELEASE_COOKIE" if facts.isolated => value(name, isolated_cookie(app, facts)),
        "RELEASE_COOKIE" => secret(name, spec.secrets.cookie.as_ref()?),
        "PHX_HOST" => value(name, app.hosts.first()?.clone()),
        "DNS_CLUSTER_QUERY" | "PHOENIX_HEADLESS_FQDN" => value(name, facts.headless_fqdn.clone()),
        "CLUSTER_DOMAIN" => value(name, facts.cluster_domain.clone()),
        "PHOENIX_HEADLESS_SERVICE" => value(name, facts.headless.clone()),
        "PHOENIX_CLUSTER_SELECTOR" => value(name, facts.cluster_selector.clone()),
        "PHOENIX_REVISION" => value(name, facts.revision.to_string()),
        _ => return None,
    })
}

/// A cookie that no other revision has, of one that the operator never reads: the kubelet puts in what comes by that
/// name from `envFrom`, or the user's own. With the generated one it has 43 characters and the form that
/// `libcluster_postgres` needs, which makes a channel's name of it (at most 63, so a user's cookie has at most 52).
fn isolated_cookie(app: &ValidatedApp, facts: &Facts) -> String {
    let base = if app.spec.secrets.cookie.is_some() { USERS_COOKIE } else { "RELEASE_COOKIE" };
    format!("r{}$({base})", facts.revision)
}

/// Flags at the end of the emulator's command line: the distribution's ports, and no busy waiting where CPU time is
/// rationed. An earlier `-kernel` flag of the image wins over ours; never `+Q`, which would lower a larger one.
fn zflags(app: &ValidatedApp, resources: Option<&ResourceRequirements>, distribution: bool) -> String {
    let mut flags = Vec::new();
    if distribution {
        let ports = app.spec.clustering.distribution_ports;
        flags.push(format!("-kernel inet_dist_listen_min {} inet_dist_listen_max {}", ports.min, ports.max));
        if over_ipv6(app) {
            flags.push(format!("{PROTO_DIST} inet6_tcp"));
        }
    }
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    if limits.is_some_and(|limits| limits.contains_key("cpu")) {
        flags.push("+sbwt none +sbwtdcpu none +sbwtdio none".to_owned());
    }
    flags.join(" ")
}

/// Whether the emulator has to be told to use IPv6. Only once: OTP falls back to IPv4 when the flag is given twice, so
/// what the user says about it in a literal of `spec.env` stands alone.
fn over_ipv6(app: &ValidatedApp) -> bool {
    let clustering = &app.spec.clustering;
    let told = app.spec.env.iter().any(|entry| {
        EMULATOR_FLAGS.contains(&entry.name.as_str())
            && entry
                .value
                .as_deref()
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == PROTO_DIST))
    });
    // alone, a node is named by 127.0.0.1, which every pod has
    clustering.mode.connects() && clustering.ip_family == Some(IpFamily::IPv6) && !told
}

/// Injected entries, each replaced by the user's of the same name, then the rest of the user's. Of several layers the
/// last wins, at the place of the first.
///
/// `$(NAME)` refers to an entry before it. So an entry that moved forward, to the place of the one it replaces, takes
/// along what it refers to.
fn merge(injected: Vec<EnvVar>, layers: &[&[EnvVar]], zflags: &str) -> Vec<EnvVar> {
    let mut entries: Vec<EnvVar> = injected;
    if !zflags.is_empty() {
        entries.push(value(ERL_ZFLAGS, zflags));
    }
    let mut by_name: BTreeMap<String, usize> =
        entries.iter().enumerate().map(|(index, entry)| (entry.name.clone(), index)).collect();
    for entry in layers.iter().copied().flatten() {
        let entry = with_zflags(entry, zflags);
        if let Some(index) = by_name.get(&entry.name) {
            entries[*index] = entry;
        } else {
            by_name.insert(entry.name.clone(), entries.len());
            entries.push(entry);
        }
    }
    // the user's own order, in which a reference is meant
    let meant: BTreeMap<&str, usize> = layers
        .iter()
        .copied()
        .flatten()
        .enumerate()
        .map(|(index, entry)| (entry.name.as_str(), index))
        .collect();
    let mut order = Order { entries: &entries, by_name: &by_name, meant: &meant, placed: Vec::new() };
    for index in 0..entries.len() {
        order.place(index, &mut Vec::new());
    }
    order.placed.into_iter().map(|index| entries[index].clone()).collect()
}

struct Order<'a> {
    entries: &'a [EnvVar],
    by_name: &'a BTreeMap<String, usize>,
    meant: &'a BTreeMap<&'a str, usize>,
    placed: Vec<usize>,
}

impl Order<'_> {
    /// Places an entry after everything it refers to; a circle is cut where it closes.
    fn place(&mut self, index: usize, path: &mut Vec<usize>) {
        if self.placed.contains(&index) || path.contains(&index) {
            return;
        }
        path.push(index);
        let entry = &self.entries[index];
        let mine = self.meant.get(entry.name.as_str());
        for name in references(entry.value.as_deref().unwrap_or_default()) {
            let Some(other) = self.by_name.get(name) else { continue };
            // of the user's own entries only those written before it: the kubelet leaves the others as they are
            if mine.is_none() || self.meant.get(name).is_none_or(|theirs| Some(theirs) < mine) {
                self.place(*other, path);
            }
        }
        path.pop();
        self.placed.push(index);
    }
}

/// Names in `$(NAME)`; `$$(NAME)` is text.
fn references(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            let dollar = rest.find('$')?;
            let after = &rest[dollar + 1..];
            if let Some(text) = after.strip_prefix('$') {
                rest = text;
            } else if let Some(inner) = after.strip_prefix('(')
                && let Some(end) = inner.find(')')
            {
                rest = &inner[end + 1..];
                return Some(&inner[..end]);
            } else {
                rest = after;
            }
        }
    })
}

/// A literal `ERL_ZFLAGS` of the user comes after ours, where it wins.
fn with_zflags(entry: &EnvVar, zflags: &str) -> EnvVar {
    match &entry.value {
        Some(literal) if entry.name == ERL_ZFLAGS && !zflags.is_empty() && !literal.is_empty() => {
            value(ERL_ZFLAGS, format!("{zflags} {literal}"))
        }
        _ => entry.clone(),
    }
}

pub(super) fn value(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

fn field(name: &str, path: &str) -> EnvVar {
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: path.to_owned(),
        }),
        ..EnvVarSource::default()
    };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn secret(name: &str, source: &SecretSource) -> EnvVar {
    let selector = SecretKeySelector {
        name: source.secret_key_ref.name.clone(),
        key: source.secret_key_ref.key.clone(),
        optional: None,
    };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}
