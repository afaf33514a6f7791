//! Argo Rollouts, with canary Rollouts of the same pods behind the same Services.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::account::Account;
use super::contender::Contender;
use super::program::{self, Launch};
use super::work::{self, Object, PAUSE, REPLICAS, WEIGHT};
use crate::cluster::{
    module,
    tools::{self, Group},
};
use crate::fixtures::image;
use crate::harness::Lab;

/// Who it is to the API server.
pub const USER: &str = "system:serviceaccount:argo-rollouts:argo-rollouts";
/// Its role, and the binding of it.
const ROLE: &str = "argo-rollouts-clusterrole.yaml";
const BINDING: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argo-rollouts}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: argo-rollouts}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: 'system:serviceaccount:argo-rollouts:argo-rollouts'}]
";

/// What it watches.
const KINDS: [&str; 5] =
    ["analysisruns", "analysistemplates", "clusteranalysistemplates", "experiments", "rollouts"];

/// The label by which its pods are found.
const APP: &str = "app";

/// Argo Rollouts.
pub struct Peer {
    launch: Launch,
    name: &'static str,
    namespace: String,
}

impl Peer {
    /// Defines its kinds on a cluster and binds its rights. As its manifests install it, it asks 40 times a second at
    /// most; `unthrottled`: 500 times, like the controllers of Kubernetes beside it.
    pub async fn prepare(lab: &Lab, namespace: &str, unthrottled: bool) -> Result<Self> {
        let dir = tokio::task::spawn_blocking(definitions).await.context("finding its definitions")??;
        for entry in std::fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = entry.context("listing the definitions")?.path();
            let path = path.to_str().context("a path in UTF-8")?;
            lab.kubectl(&["apply", "--server-side", "-f", path], None).await?;
        }
        for kind in KINDS {
            lab.established(&format!("{kind}.argoproj.io")).await?;
        }
        lab.kubectl(&["apply", "--server-side", "-f", "-"], Some(BINDING)).await?;
        let (metrics, health) = (crate::process::free_address()?, crate::process::free_address()?);
        let account = Account::make(lab, USER).await?;
        let mut arguments = vec![
            // The operator beside which it is measured has no second replica either.
            "--leader-elect=false".to_owned(),
            format!("--metricsPort={}", metrics.port()),
            format!("--healthzPort={}", health.port()),
        ];
        if unthrottled {
            arguments.extend(["--qps=500".to_owned(), "--burst=1000".to_owned()]);
        }
        let name = if unthrottled { "argo-rollouts-500-qps" } else { "argo-rollouts" };
        let launch = Launch {
            program: program(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            account,
            metrics,
            log: program::log(name)?,
        };
        ensure!(launch.program.is_absolute(), "the program is not where it was built");
        Ok(Self { launch, name, namespace: namespace.to_owned() })
    }
}

fn program() -> PathBuf {
    crate::cluster::tool("rollouts-controller")
}

/// Its kinds and its role, as its module has them.
fn definitions() -> Result<PathBuf> {
    tools::ensure(&[Group::Rollouts])?;
    let from = ["manifests/crds", "manifests/role"];
    let wanted = |name: &str| {
        name == ROLE
            || Path::new(name).file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("-crd"))
    };
    module::files(Group::Rollouts, "github.com/argoproj/argo-rollouts", "definitions", &from, wanted)
}

impl Contender for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn user(&self) -> &'static str {
        USER
    }

    fn resource(&self) -> ApiResource {
        ApiResource {
            group: "argoproj.io".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "argoproj.io/v1alpha1".to_owned(),
            kind: "Rollout".to_owned(),
            plural: "rollouts".to_owned(),
        }
    }

    fn launch(&self) -> &Launch {
        &self.launch
    }

    fn manifest(&self, name: &str, tag: &str) -> Result<Value> {
        let template = template(name, tag, &self.namespace)?;
        let steps = json!([{"setWeight": WEIGHT}, {"pause": {"duration": format!("{PAUSE}s")}}]);
        Ok(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": name},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": {APP: name}},
                "strategy": {"canary": {"steps": steps, "maxSurge": 1, "maxUnavailable": 0}},
                "template": template,
            },
        }))
    }

    fn beside(&self, name: &str) -> Result<Vec<Object>> {
        let objects =
            work::objects(work::children(work::phoenix_app(name, "v1", &json!({})), &self.namespace, None)?)?;
        let kept =
            |object: &Object| !["Deployment", "ControllerRevision"].contains(&object.resource.kind.as_str());
        Ok(objects
            .into_iter()
            .filter(kept)
            .map(|object| {
                let mut object = object.alone();
                match object.resource.kind.as_str() {
                    "Service" => object.manifest["spec"]["selector"] = json!({APP: name}),
                    "PodDisruptionBudget" => {
                        object.manifest["spec"]["selector"] = json!({"matchLabels": {APP: name}});
                    }
                    _ => {}
                }
                object
            })
            .collect())
    }

    fn release(&self, name: &str, tag: &str) -> Result<Value> {
        let template = template(name, tag, &self.namespace)?;
        Ok(json!({"spec": {"template": {"spec": {"containers": template["spec"]["containers"]}}}}))
    }

    fn canary(&self) -> Option<Value> {
        None
    }

    fn children(&self) -> Result<(Vec<ApiResource>, usize)> {
        Ok((vec![ApiResource::erase::<ReplicaSet>(&())], 1))
    }

    fn healthy(&self, object: &Value) -> bool {
        let status = &object["status"];
        let observed = status["observedGeneration"].as_str().and_then(|text| text.parse::<i64>().ok());
        status["phase"] == "Healthy"
            && observed.is_some()
            && observed == object["metadata"]["generation"].as_i64()
            && status["currentPodHash"].is_string()
            && status["currentPodHash"] == status["stableRS"]
            && status["availableReplicas"] == REPLICAS
    }

    fn judged(&self, metrics: &str) -> usize {
        metrics.lines().filter(|line| line.starts_with("rollout_reconcile_count{")).count()
    }
}

/// The pods that the operator would make of the app, without its labels.
fn template(name: &str, tag: &str, namespace: &str) -> Result<Value> {
    let children = work::children(work::phoenix_app(name, tag, &json!({})), namespace, None)?;
    let deployment = children.deployment.spec.context("a Deployment without a spec")?;
    let mut template = serde_json::to_value(deployment.template).context("writing a template as JSON")?;
    ensure!(template["spec"]["containers"][0]["image"] == image(tag), "not the pods that were asked for");
    let mut labels = template["metadata"]["labels"].clone();
    labels[APP] = json!(name);
    template["metadata"] = json!({"labels": labels});
    Ok(template)
}
