//! From what the API server accepted to what `plan` and `build` can rely on.
//!
//! The schema and its CEL rules refuse nearly everything wrong at admission. This is for the rest: what they cannot
//! see, and objects stored before a rule existed.

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Affinity;
use serde::{Deserialize, Serialize};

use super::{
    Amount, BlueGreenSpec, CanaryStep, Canonical, Isolation, MigrationsMode, OnFailure, Pause, PhoenixApp,
    PhoenixAppSpec, PodDisruptionBudgetMode, SmokeTestStep, StrategyKind, StrategySpec,
    names::{AppName, Namespace, ResourceVersion, Uid},
};

/// A field that cannot be acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// Path of the field, as `spec.hosts[0]`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// An app that can be planned and built: every field parsed, every conditional default resolved.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and none depends on another")]
pub struct ValidatedApp {
    /// Its name.
    pub name: AppName,
    /// Its namespace.
    pub namespace: Namespace,
    /// What tells it from an earlier one of the same name.
    pub uid: Uid,
    /// The state in which it was read; none when it was read from a file.
    pub resource_version: Option<ResourceVersion>,
    /// Counts changes of the spec.
    pub generation: i64,
    /// Deletion was asked for: nothing is written any more.
    pub deleting: bool,
    /// Nothing but the status is written.
    pub suspend: bool,
    /// The annotation `phoenix-operator.dev/command`, not yet understood.
    pub command: Option<String>,
    /// Wanted pods.
    pub replicas: u32,
    /// How one revision takes the place of another.
    pub strategy: Strategy,
    /// Most pods of a revision no longer needed that stop at once; none: all.
    pub drain_batch: Option<u32>,
    /// Revisions kept.
    pub revision_history_limit: usize,
    /// Whether the pods mount a PersistentVolumeClaim.
    pub has_pvc: bool,
    /// Who migrates.
    pub migrations_mode: MigrationsMode,
    /// How the Job is run; none unless the mode is `Job`.
    pub migration: Option<MigrationSettings>,
    /// Names under which the app is reached.
    pub hosts: Vec<String>,
    /// Name of the release.
    pub release_name: String,
    /// The part of the node name before the `@`.
    pub node_basename: String,
    /// Whether revisions share one cluster.
    pub isolation: Isolation,
    /// Node and pod affinity.
    pub affinity: Option<Affinity>,
    /// Whether a `PodDisruptionBudget` is wanted from two replicas on.
    pub disruption_budget: bool,
    /// What the user set of everything that reaches a pod.
    pub canonical: Canonical,
    /// Everything else, as the user set it.
    pub spec: PhoenixAppSpec,
}

/// How one revision takes the place of another, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Which one.
    pub kind: StrategyKind,
    /// How long a rollout may go without one more available pod.
    pub progress_deadline: Duration,
    /// How long a pod must be ready before it is available.
    pub min_ready: Duration,
    /// Pods above the wanted number.
    pub max_surge: Amount,
    /// Pods below the wanted number.
    pub max_unavailable: Amount,
    /// Revisions kept deployed without pods.
    pub rollback_window: usize,
    /// What a failed rollout does.
    pub on_failure: OnFailure,
    /// What stands before all requests move.
    pub steps: Vec<CanaryStep>,
    /// Blue-green pods that stand ready before the promotion; none: all.
    pub preview_replicas: Option<u32>,
    /// How long a blue-green promotion can be taken back by itself.
    pub blue_green_bake: Duration,
    /// How long a canary's promotion can be taken back by itself.
    pub canary_bake: Duration,
    /// How long the revision before is kept after a blue-green promotion.
    pub keep_old: Duration,
    /// Pods of it that are kept.
    pub keep_old_replicas: u32,
}

/// What stands before all requests move: a canary's steps as they are, or a blue-green's wait for time or a person.
fn steps(strategy: &StrategySpec) -> Vec<CanaryStep> {
    let tests = !strategy.smoke_tests.is_empty();
    let smoke_test =
        tests.then(|| CanaryStep { smoke_test: Some(SmokeTestStep::default()), ..CanaryStep::default() });
    match strategy.kind {
        // after the first batch, or after the last
        StrategyKind::Rolling | StrategyKind::Recreate => smoke_test.into_iter().collect(),
        StrategyKind::Canary => strategy.canary.steps.clone(),
        StrategyKind::BlueGreen => {
            let BlueGreenSpec { auto_promote, auto_promote_after, .. } = strategy.blue_green;
            let pause = match (auto_promote, auto_promote_after) {
                (false, _) => Some(Pause::default()),
                (true, Some(after)) => Some(Pause { duration: Some(after) }),
                (true, None) => None,
            };
            let pause = pause.map(|pause| CanaryStep { pause: Some(pause), ..CanaryStep::default() });
            smoke_test.into_iter().chain(pause).collect()
        }
    }
}

impl Strategy {
    /// Surge and unavailable pods at so many wanted ones. Should both be nothing, one pod may be unavailable, as in a
    /// Deployment (`ResolveFenceposts` of its controller): else no pod could ever be replaced.
    pub fn limits(&self, replicas: u32) -> Limits {
        let (surge, unavailable) =
            (self.max_surge.rounded_up(replicas), self.max_unavailable.rounded_down(replicas));
        if surge == 0 && unavailable == 0 {
            Limits { surge, unavailable: 1 }
        } else {
            Limits { surge, unavailable }
        }
    }
}

/// How far a rolling rollout may leave the wanted number of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pods above.
    pub surge: u32,
    /// Pods below.
    pub unavailable: u32,
}

/// How a migration Job is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationSettings {
    /// How long it may take, all retries included.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retries: u32,
}

impl ValidatedApp {
    /// How a Job is run, should a stored revision ask for one whatever the present mode.
    pub fn migration_settings(&self) -> MigrationSettings {
        self.migration.unwrap_or(MigrationSettings {
            timeout: self.spec.migrations.timeout.into(),
            retries: u32::try_from(self.spec.migrations.retries).unwrap_or_default(),
        })
    }
}

impl TryFrom<&PhoenixApp> for ValidatedApp {
    type Error = Vec<Invalid>;

    fn try_from(app: &PhoenixApp) -> Result<Self, Vec<Invalid>> {
        let mut faults = Faults(Vec::new());
        let PhoenixApp { metadata, spec, status: _ } = app;
        let name = faults.parse::<AppName>("metadata.name", metadata.name.as_deref());
        let namespace = faults.parse::<Namespace>("metadata.namespace", metadata.namespace.as_deref());
        let uid = faults.parse::<Uid>("metadata.uid", metadata.uid.as_deref());
        let affinity = spec.affinity.as_ref().and_then(|value| match Affinity::deserialize(value) {
            Ok(affinity) => Some(affinity),
            Err(error) => {
                faults.add("spec.affinity", format!("{error}; write it as core/v1 Affinity"));
                None
            }
        });
        check(spec, &mut faults);
        let replicas = faults.count("spec.replicas", spec.replicas);
        let retries = faults.count("spec.migrations.retries", spec.migrations.retries);
        let rollback_window = faults.count("spec.strategy.rollbackWindow", spec.strategy.rollback_window);
        let history = faults.count("spec.revisionHistoryLimit", spec.revision_history_limit);
        let (Some(name), Some(namespace), Some(uid), true) = (name, namespace, uid, faults.0.is_empty())
        else {
            return Err(faults.0);
        };
        let migrations_mode = migrations_mode(spec);
        let (max_surge, max_unavailable) = match spec.strategy.kind {
            StrategyKind::Canary => (spec.strategy.canary.max_surge, spec.strategy.canary.max_unavailable),
            _ => (spec.strategy.rolling.max_surge, spec.strategy.rolling.max_unavailable),
        };
        let release_name = spec.release.name.clone().unwrap_or_else(|| name.as_str().replace('-', "_"));
        Ok(Self {
            resource_version: metadata.resource_version.as_deref().and_then(|version| version.parse().ok()),
            generation: metadata.generation.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            suspend: spec.suspend,
            command: app.command().cloned(),
            replicas,
            strategy: Strategy {
                kind: spec.strategy.kind,
                progress_deadline: spec.strategy.progress_deadline.into(),
                min_ready: spec.strategy.min_ready.into(),
                max_surge,
                max_unavailable,
                rollback_window: to_usize(rollback_window),
                on_failure: spec.strategy.on_failure,
                steps: steps(&spec.strategy),
                preview_replicas: spec.strategy.blue_green.preview_replicas.and_then(positive),
                blue_green_bake: spec.strategy.blue_green.bake.into(),
                canary_bake: spec.strategy.canary.bake.into(),
                keep_old: spec.strategy.blue_green.keep_old.into(),
                keep_old_replicas: positive(spec.strategy.blue_green.keep_old_replicas).unwrap_or_default(),
            },
            drain_batch: spec.shutdown.drain_batch.and_then(positive),
            revision_history_limit: to_usize(history),
            has_pvc: spec.volumes.iter().any(|volume| volume.persistent_volume_claim.is_some()),
            migrations_mode,
            migration: (migrations_mode == MigrationsMode::Job)
                .then(|| MigrationSettings { timeout: spec.migrations.timeout.into(), retries }),
            hosts: spec.hosts.clone(),
            node_basename: spec.clustering.node_basename.clone().unwrap_or_else(|| release_name.clone()),
            release_name,
            isolation: isolation(spec),
            affinity,
            disruption_budget: spec.pod_disruption_budget.mode == PodDisruptionBudgetMode::Auto,
            canonical: Canonical::of(spec),
            spec: spec.clone(),
            name,
            namespace,
            uid,
        })
    }
}

/// `Job` when there is something to migrate with. Only what the user set counts: `migrations: {timeout: 2h}` turns
/// nothing on.
fn migrations_mode(spec: &PhoenixAppSpec) -> MigrationsMode {
    spec.migrations.mode.unwrap_or(if spec.database.is_some() || spec.migrations.command.is_some() {
        MigrationsMode::Job
    } else {
        MigrationsMode::Disabled
    })
}

/// The schema refuses what is below one.
fn positive(count: i32) -> Option<u32> {
    u32::try_from(count).ok().filter(|count| *count > 0)
}

/// Old and new nodes share a cluster where they overlap for moments only; where a person may look at the new revision
/// for days, neither may disturb the other.
fn isolation(spec: &PhoenixAppSpec) -> Isolation {
    spec.clustering.isolation.unwrap_or(match spec.strategy.kind {
        StrategyKind::Rolling | StrategyKind::Recreate => Isolation::Shared,
        StrategyKind::BlueGreen | StrategyKind::Canary => Isolation::PerRevision,
    })
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// What builders take for granted, also of objects stored before a rule existed.
fn check(spec: &PhoenixAppSpec, faults: &mut Faults) {
    if spec.hosts.first().is_some_and(|host| host.starts_with('*')) {
        faults.add(
            "spec.hosts[0]",
            "must not be a wildcard, because it becomes PHX_HOST; put a plain name first",
        );
    }
    if spec.hosts.len() > 16 && spec.traffic.gateway.is_some() {
        faults.add("spec.hosts", "must hold at most 16 hosts, as many as an HTTPRoute may have");
    }
    if spec.hosts.is_empty() && (spec.traffic.gateway.is_some() || spec.traffic.ingress.is_some()) {
        faults.add("spec.hosts", "must name a host, by which traffic.gateway and traffic.ingress route");
    }
    let ports = spec.clustering.distribution_ports;
    if ports.min >= ports.max || ports.max - ports.min >= 64 {
        faults.add("spec.clustering.distributionPorts", "must hold 2 to 64 ports; write min below max");
    }
    if matches!(spec.strategy.kind, StrategyKind::BlueGreen | StrategyKind::Canary)
        && spec.volumes.iter().any(|volume| volume.persistent_volume_claim.is_some())
    {
        faults.add(
            "spec.volumes",
            "a persistentVolumeClaim cannot be mounted by two revisions at once; use type Rolling or Recreate",
        );
    }
    if spec.strategy.rolling.max_surge.is_zero() && spec.strategy.rolling.max_unavailable.is_zero() {
        faults.add(
            "spec.strategy.rolling",
            "maxSurge and maxUnavailable must not both be zero; raise one of them",
        );
    }
    check_workers(spec, faults);
    for (index, volume) in spec.volumes.iter().enumerate() {
        let sources = [
            volume.empty_dir.is_some(),
            volume.persistent_volume_claim.is_some(),
            volume.secret.is_some(),
            volume.config_map.is_some(),
            volume.projected.is_some(),
        ];
        if sources.into_iter().filter(|set| *set).count() != 1 {
            faults.add(
                format!("spec.volumes[{index}]"),
                "must have exactly one of emptyDir, persistentVolumeClaim, secret, configMap and projected",
            );
        }
    }
    if spec.migrations.has_phases() && migrations_mode(spec) != MigrationsMode::Job {
        faults.add(
            "spec.migrations",
            "before, contract and rollback must stand around a migration by Job; set database or migrations.command, \
             or remove them",
        );
    }
    for (field, env) in [("spec.env", &spec.env), ("spec.migrations.env", &spec.migrations.env)] {
        for (index, entry) in env.iter().enumerate() {
            if env[..index].iter().any(|earlier| earlier.name == entry.name) {
                faults.add(
                    format!("{field}[{index}].name"),
                    format!("{:?} is there already; remove one", entry.name),
                );
            }
        }
    }
    if let (Isolation::PerRevision, Some(index)) =
        (isolation(spec), spec.env.iter().position(|entry| entry.name == "RELEASE_COOKIE"))
    {
        faults.add(
            format!("spec.env[{index}]"),
            format!(
                "must not set RELEASE_COOKIE while each revision has a cookie of its own, which is the default with \
                 strategy.type {}; name your Secret in secrets.cookie, or set clustering.isolation: Shared",
                spec.strategy.kind.as_str()
            ),
        );
    }
    if spec.clustering.mode.connects() {
        let taken = |port: i32| port == 4369 || (ports.min..=ports.max).contains(&port);
        if taken(spec.port) {
            faults.add("spec.port", "is used by Erlang distribution; choose another number");
        }
        for (index, port) in spec.extra_ports.iter().enumerate().filter(|(_, port)| taken(port.port)) {
            faults.add(
                format!("spec.extraPorts[{index}].port"),
                format!("{} is used by Erlang distribution; choose another number", port.port),
            );
        }
    }
}

/// Variables that state facts, or that the release itself sets: see the rules of `spec.env`.
const NOT_IN_A_WORKER: [&str; 6] = [
    "RELEASE_NAME",
    "RELEASE_VSN",
    "PHOENIX_REVISION",
    "PHOENIX_HEADLESS_SERVICE",
    "PHOENIX_HEADLESS_FQDN",
    "PHOENIX_CLUSTER_SELECTOR",
];

fn check_workers(spec: &PhoenixAppSpec, faults: &mut Faults) {
    for (index, worker) in spec.workers.iter().enumerate() {
        let field = format!("spec.workers[{index}]");
        if spec.workers[..index].iter().any(|earlier| earlier.name == worker.name) {
            faults.add(format!("{field}.name"), format!("{:?} is there already; rename one", worker.name));
        }
        faults.count(&format!("{field}.replicas"), worker.replicas);
        for (at, entry) in worker.env.iter().enumerate() {
            let name = &entry.name;
            let field = format!("{field}.env[{at}].name");
            if worker.env[..at].iter().any(|earlier| earlier.name == *name) {
                faults.add(field, format!("{name:?} is there already; remove one"));
            } else if NOT_IN_A_WORKER.contains(&name.as_str()) {
                faults.add(field, format!("{name} states a fact about the pod; choose another name"));
            } else if name == "RELEASE_COOKIE" {
                faults
                    .add(field, "a worker has the cookie of its cluster; set it for all, in secrets.cookie");
            }
        }
    }
}

struct Faults(Vec<Invalid>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Invalid { field: field.into(), message: message.into() });
    }

    fn parse<T>(&mut self, field: &str, text: Option<&str>) -> Option<T>
    where
        T: std::str::FromStr<Err = super::names::NameError>,
    {
        text.unwrap_or_default().parse().map_err(|error: T::Err| self.add(field, error.to_string())).ok()
    }

    fn count(&mut self, field: &str, value: i32) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.add(field, format!("must not be negative, but is {value}"));
            0
        })
    }
}
