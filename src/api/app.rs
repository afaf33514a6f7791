//! The resource itself: `PhoenixApp` and the top level of its spec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    clustering::ClusteringSpec,
    data::{DatabaseSpec, SecretsSpec},
    health::HealthSpec,
    migrations::MigrationsSpec,
    pod::{
        ExtraPort, ImagePullPolicy, ImagePullSecret, PodMetadata, ReleaseSpec, SecuritySpec, ShutdownSpec,
        TopologySpread,
    },
    status::PhoenixAppStatus,
    strategy::StrategySpec,
    traffic::{PodDisruptionBudgetSpec, TrafficSpec},
    volumes::Volume,
    workers::Worker,
};

/// A name in DNS, the labels of which have at most 63 characters, or such a name under `*.`.
const HOST: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

/// What a Phoenix app is to be. Only `image` must be given.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "phoenix-operator.dev",
    version = "v1alpha1",
    kind = "PhoenixApp",
    namespaced,
    shortname = "phx",
    shortname = "pxa",
    category = "phoenix",
    status = "PhoenixAppStatus",
    derive = "PartialEq",
    doc = "An Elixir/Phoenix release that serves requests: its pods, its migrations, its traffic.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the app serves as it is wanted"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the app stands"
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".spec.image",
        description = "The wanted image"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Wanted pods"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1,
        description = "What is waited for"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name must start with a letter and hold only lowercase letters, digits and '-': Services are named after it; rename the app"
    ),
    validation = Rule::new("self.metadata.name.size() <= 40").message(
        "metadata.name must have at most 40 characters, because the names of children add to it; shorten it"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(self.strategy.type in ['BlueGreen', 'Canary']) || !has(self.volumes) || !self.volumes.exists(v, has(v.persistentVolumeClaim))"
    )
    .message(
        "strategy.type BlueGreen and Canary run two revisions at once, and must not share a persistentVolumeClaim between them; use Rolling or Recreate"
    ),
    validation = Rule::new(
        "duration(self.strategy.progressDeadline).getSeconds() > duration(self.health.startup.period).getSeconds() * self.health.startup.failureThreshold"
    )
    .message(
        "strategy.progressDeadline must be longer than a pod may take to start (health.startup.period times health.startup.failureThreshold); raise the one or lower the other"
    ),
    validation = Rule::new(
        "!has(self.extraPorts) || self.extraPorts.all(p, p.expose != 'Service' || p.protocol != 'TCP' || p.port != self.traffic.service.port)"
    )
    .message(
        "extraPorts must not take traffic.service.port, which the Service maps to port; choose another number, or expose: Peers or None"
    ),
    validation = Rule::new(
        "(!has(self.traffic.gateway) && !has(self.traffic.ingress)) || (has(self.hosts) && self.hosts.size() > 0 && (!has(self.traffic.gateway) || self.hosts.size() <= 16))"
    )
    .message(
        "traffic.gateway and traffic.ingress route by hosts, of which there must be one, and with traffic.gateway at most 16; name them in hosts"
    ),
    validation = Rule::new(
        "(!has(self.traffic.gateway) && !has(self.traffic.ingress)) || !has(self.hosts) || self.hosts.all(h, !h.matches('^([0-9]+[.]){3}[0-9]+$'))"
    )
    .message(
        "hosts must not be IP addresses with traffic.gateway or traffic.ingress, which route by names; name the app in DNS"
    ),
    validation = Rule::new(
        "!(has(self.migrations.contract) || has(self.migrations.rollback) || (has(self.migrations.before) && self.migrations.before.size() > 0)) || (has(self.migrations.mode) ? self.migrations.mode == 'Job' : has(self.migrations.command) || has(self.database))"
    )
    .message(
        "migrations.before, contract and rollback must stand around a migration by Job; set database, migrations.command or mode: Job, or remove them"
    ),
    validation = Rule::new("!has(self.extraPorts) || self.extraPorts.all(p, p.port != self.port)")
        .message("extraPorts must not repeat port, which is already served as http; choose another number"),
    validation = Rule::new(
        "!has(self.extraPorts) || self.clustering.mode == 'Disabled' || self.extraPorts.all(p, p.port != 4369 && (p.port < self.clustering.distributionPorts.min || p.port > self.clustering.distributionPorts.max))"
    )
    .message(
        "extraPorts must not take 4369 or one of clustering.distributionPorts, which Erlang distribution uses; choose another number"
    ),
    validation = Rule::new(
        "!has(self.env) || !has(self.clustering.isolation) || self.clustering.isolation != 'PerRevision' || !self.env.exists(e, e.name == 'RELEASE_COOKIE')"
    )
    .message(
        "env must not set RELEASE_COOKIE with clustering.isolation PerRevision, where each revision has a cookie of its own; name your Secret in secrets.cookie, of which it is made"
    ),
    validation = Rule::new(
        "self.clustering.mode == 'Disabled' || (self.port != 4369 && (self.port < self.clustering.distributionPorts.min || self.port > self.clustering.distributionPorts.max))"
    )
    .message(
        "port must not be 4369 or one of clustering.distributionPorts, which Erlang distribution uses; choose another number"
    )
)]
pub struct PhoenixAppSpec {
    /// The image that holds the release. Example: `registry.example.com/shop:1.4.2`, or by digest.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// When nodes pull the image. Absent: `Always` for the tag `latest`, else `IfNotPresent`, as in any pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets in this namespace with which nodes pull the image. Example: `[{name: registry-login}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// The release inside the image. Example: `{name: shop, root: /app}`
    #[serde(default)]
    pub release: ReleaseSpec,
    /// Wanted pods. An autoscaler may own this field through the scale subresource. Example: `3`
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// The port on which the endpoint listens, given to the app as PORT. Example: `4000`
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// More ports of the pods. Example: `[{name: metrics, port: 9568, expose: None}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(p, self.exists_one(q, q.port == p.port))")
            .message("extraPorts must not use a port number twice; choose another number")
    )]
    pub extra_ports: Vec<ExtraPort>,
    /// Names under which the app is reached. The first is PHX_HOST. Example: `[shop.example.com]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = HOST))
    )]
    #[x_kube(validation = Rule::new("self.size() == 0 || !self[0].startsWith('*')").message(
        "hosts[0] must not be a wildcard, because it becomes PHX_HOST; put a plain name first"
    ))]
    pub hosts: Vec<String>,
    /// Environment of the app; beats everything the operator injects. `$(NAME)` refers to an entry before it,
    /// injected ones included. Example: `[{name: LOG_LEVEL, value: info}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, !(e.name in ['RELEASE_NAME', 'RELEASE_VSN']))").message(
            "env must not set RELEASE_NAME or RELEASE_VSN: the release in the image sets them; use release.name to name the release"
        ),
        validation = Rule::new("self.all(e, !(e.name in ['PHOENIX_REVISION', 'PHOENIX_HEADLESS_SERVICE', 'PHOENIX_HEADLESS_FQDN', 'PHOENIX_CLUSTER_SELECTOR']))").message(
            "env must not set PHOENIX_REVISION, PHOENIX_HEADLESS_SERVICE, PHOENIX_HEADLESS_FQDN or PHOENIX_CLUSTER_SELECTOR: they state facts; give your own name the value, as in {name: K8S_SERVICE, value: $(PHOENIX_HEADLESS_SERVICE)}"
        )
    )]
    pub env: Vec<EnvVar>,
    /// Whole Secrets and ConfigMaps as environment; a later one beats an earlier one, `env` beats all.
    /// Example: `[{secretRef: {name: shop-secrets}}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvFromSource>,
    /// CPU and memory of one pod. Example: `{requests: {cpu: 250m, memory: 512Mi}, limits: {memory: 512Mi}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels and annotations of the pods; a change is a new revision. Example: `{labels: {team: shop}}`
    #[serde(default)]
    pub pod_metadata: PodMetadata,
    /// The app's database; setting it turns migrations on.
    /// Example: `{urlFrom: {secretKeyRef: {name: shop-db-app, key: uri}}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSpec>,
    /// SECRET_KEY_BASE and the Erlang cookie; generated unless taken from your Secrets.
    #[serde(default)]
    pub secrets: SecretsSpec,
    /// How the kubelet asks the app how it is. Example: `{readiness: {path: /health}}`
    #[serde(default)]
    pub health: HealthSpec,
    /// How the nodes find each other. Example: `{nodeBasename: shop}`
    #[serde(default)]
    pub clustering: ClusteringSpec,
    /// The migration that runs before any pod of a revision. Example: `{command: [/app/bin/migrate], timeout: 2h}`
    #[serde(default)]
    pub migrations: MigrationsSpec,
    /// How one revision takes the place of another. Example: `{type: Recreate}`
    #[serde(default)]
    pub strategy: StrategySpec,
    /// How a pod ends. Example: `{endpointLag: 15s, grace: 2m}`
    #[serde(default)]
    pub shutdown: ShutdownSpec,
    /// Pods beside the web pods that take no requests. Example: `[{name: jobs, command: [/app/bin/jobs]}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub workers: Vec<Worker>,
    /// Files and directories of the pods; the migration sees all but the PersistentVolumeClaims.
    /// Example: `[{name: uploads, mountPath: /data, persistentVolumeClaim: {claimName: shop-uploads}}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(v, self.exists_one(w, w.mountPath == v.mountPath))")
            .message("volumes must not use a mountPath twice; mount one of them elsewhere")
    )]
    pub volumes: Vec<Volume>,
    /// How requests reach the pods. Example: `{service: {type: LoadBalancer, port: 80}}`
    #[serde(default)]
    pub traffic: TrafficSpec,
    /// Whether node drains must leave all pods but one. Example: `{mode: Disabled}`
    #[serde(default)]
    pub pod_disruption_budget: PodDisruptionBudgetSpec,
    /// How pods are spread. Absent: over nodes, as far as possible; `[]`: not at all.
    /// Example: `[{topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub topology_spread: Option<Vec<TopologySpread>>,
    /// Labels a node must have. Example: `{kubernetes.io/arch: arm64}`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods put up with. Example: `[{key: dedicated, operator: Equal, value: web, effect: NoSchedule}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Node and pod affinity, as in a pod (core/v1 Affinity).
    /// Example: `{nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [...]}}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::any_object")]
    pub affinity: Option<Value>,
    /// Priority of the pods. Example: `high-priority`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// ServiceAccount of the pods. Absent: one named after the app. Its token is in the pod, and it may list pods and
    /// endpoints, with clustering.mode KubernetesAPI only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Revisions kept to return to. Example: `5`
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub revision_history_limit: i32,
    /// User and privileges of the containers. Example: `{runAsUser: 1000}`
    #[serde(default)]
    pub security: SecuritySpec,
    /// `true`: the operator writes nothing but the status; pods stay as they are.
    #[serde(default)]
    pub suspend: bool,
}

impl PhoenixApp {
    /// The command that its annotation holds.
    pub fn command(&self) -> Option<&String> {
        self.metadata.annotations.as_ref()?.get(super::labels::COMMAND)
    }
}

const fn two() -> i32 {
    2
}

const fn port() -> i32 {
    4000
}

const fn five() -> i32 {
    5
}
