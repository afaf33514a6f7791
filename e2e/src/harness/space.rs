//! One test's namespace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use phoenix_operator::api::{Phase, PhoenixApp, PhoenixAppStatus};
use serde_json::{Value, json};

use super::diagnosis;
use super::judge::{self, Judged, Judges};
use super::lab::Lab;
use super::operator::{Operator, OperatorOptions};
use super::record::{Record, Seen};
use super::rights;

/// Who the harness is to the API server.
const MANAGER: &str = "e2e";

/// A namespace, everything that happens in it, and the files about it.
pub struct Space {
    lab: Arc<Lab>,
    test: String,
    name: String,
    record: Record,
}

impl Space {
    pub(super) async fn create(lab: Arc<Lab>, test: &str) -> Result<Self> {
        let name = format!("{test}-{}", std::process::id());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let api: Api<Namespace> = Api::all(lab.client().clone());
        api.create(&PostParams::default(), &namespace).await.context("making a namespace")?;
        let record = Record::start(lab.client(), &name).await?;
        Ok(Self { lab, test: test.to_owned(), name, record })
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab it is in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Everything that happened in it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Starts an operator that looks after this namespace, as the restricted user.
    pub async fn operator(&self) -> Result<Operator> {
        let options = OperatorOptions { namespaces: vec![self.name.clone()], ..OperatorOptions::default() };
        self.operator_with(&options).await
    }

    /// Starts an operator as asked for.
    pub async fn operator_with(&self, options: &OperatorOptions) -> Result<Operator> {
        let log = match &options.instance {
            None => self.operator_log(),
            Some(instance) => self.operator_log().with_extension(format!("{instance}.log")),
        };
        make_parent(&log)?;
        Operator::start(options, self.lab.restricted(), &log).await
    }

    /// Options for an operator of this namespace that stands for a Lease in it.
    pub async fn standing(&self, instance: &str) -> Result<OperatorOptions> {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "leader"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "phoenix-operator-leader",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": rights::USER}],
        });
        self.kubectl(&["apply", "--server-side", "-f", "-"], Some(&binding.to_string())).await?;
        Ok(OperatorOptions {
            namespaces: vec![self.name.clone()],
            lease: Some(self.name.clone()),
            instance: Some(instance.to_owned()),
            ..OperatorOptions::default()
        })
    }

    pub(super) fn operator_log(&self) -> PathBuf {
        target().join("e2e-logs").join(format!("{}-operator.log", self.test))
    }

    /// Runs the real kubectl in this namespace.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let arguments = [&["--namespace", &self.name], arguments].concat();
        self.lab.kubectl(&arguments, input).await
    }

    fn apps(&self) -> Api<PhoenixApp> {
        Api::namespaced(self.lab.client().clone(), &self.name)
    }

    /// Applies an app, server-side; gives back its generation. What was applied before and is absent now is
    /// removed.
    pub async fn apply(&self, app: &str, spec: &Value) -> Result<i64> {
        let manifest = json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
            "metadata": {"name": app}, "spec": spec,
        });
        let params = PatchParams::apply(MANAGER).force();
        let applied = self.apps().patch(app, &params, &Patch::Apply(&manifest)).await;
        let applied = applied.with_context(|| format!("applying PhoenixApp {}/{app}", self.name))?;
        Ok(applied.metadata.generation.unwrap_or_default())
    }

    /// Gives the app a command, as `retry 7f3a9c1d2e/3`.
    pub async fn command(&self, app: &str, command: &str) -> Result<()> {
        let annotation = json!({"metadata": {"annotations": {"phoenix-operator.dev/command": command}}});
        self.apps().patch(app, &PatchParams::default(), &Patch::Merge(&annotation)).await?;
        Ok(())
    }

    /// Makes a Secret of plain text.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) -> Result<()> {
        let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data}))?;
        let api: Api<Secret> = Api::namespaced(self.lab.client().clone(), &self.name);
        api.create(&PostParams::default(), &secret).await.with_context(|| format!("making Secret {name}"))?;
        Ok(())
    }

    /// Makes a database and a Secret of its name, whose key `uri` is its URL; gives back the Secret's name.
    pub async fn database(&self) -> Result<String> {
        let database = self.database_name();
        let postgres = self.lab.postgres()?;
        postgres.create_database(&database).await?;
        self.secret("db", &[("uri", &postgres.url(&database))]).await?;
        Ok("db".to_owned())
    }

    /// The name of this test's database.
    pub fn database_name(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Waits until something is found in the record. The error says what was waited for and how everything
    /// stands.
    pub async fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        found: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        match self.record.until(within, found).await? {
            Some(value) => Ok(value),
            None => {
                bail!("{}: waited {within:?} in vain for {what}\n{}", self.test, diagnosis::of(self).await)
            }
        }
    }

    /// Waits until the status speaks of this generation or a later one, and is as wanted.
    pub async fn wait_for(
        &self,
        app: &str,
        generation: i64,
        what: &str,
        within: Duration,
        wanted: impl Fn(&PhoenixAppStatus) -> bool,
    ) -> Result<PhoenixAppStatus> {
        let found = |seen: &Seen| {
            let status = seen.status(app)?;
            (status.observed_generation >= generation && wanted(&status)).then_some(status)
        };
        self.wait(what, within, found).await
    }

    /// Waits for a phase.
    pub async fn wait_phase(
        &self,
        app: &str,
        generation: i64,
        phase: Phase,
        within: Duration,
    ) -> Result<PhoenixAppStatus> {
        let what = format!("phase {phase:?} of PhoenixApp {app} at generation {generation}");
        self.wait_for(app, generation, &what, within, |status| status.phase == Some(phase)).await
    }

    /// Writes every distinct status to `target/e2e-status/<test>.jsonl`, and judges them.
    pub async fn judge_statuses(&self) -> Result<Judged> {
        let objects = self.record.look(judge::distinct);
        let path = target().join("e2e-status").join(format!("{}.jsonl", self.test));
        make_parent(&path)?;
        let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
        std::fs::write(&path, lines.join("\n") + "\n")
            .with_context(|| format!("writing {}", path.display()))?;
        let judges = Judges { kstatus: self.lab.tool("kstatus"), argocd: self.lab.tool("argocd-lua") };
        judge::judge_statuses(&judges, &objects).await
    }

    /// How everything in it stands, for a person.
    pub async fn describe(&self) -> String {
        diagnosis::of(self).await
    }

    /// Deletes the namespace; what runs in it stops in its own time, its grace is cut short.
    pub async fn close(&self) -> Result<()> {
        // Without the apps first, the operator would make the children anew that the namespace loses.
        let apps = self.apps();
        for app in apps.list(&kube::api::ListParams::default()).await?.items {
            apps.delete(&app.name_any(), &DeleteParams::default()).await?;
        }
        self.kubectl(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"], None)
            .await?;
        let api: Api<Namespace> = Api::all(self.lab.client().clone());
        api.delete(&self.name, &DeleteParams::default()).await.context("deleting a namespace")?;
        Ok(())
    }
}

/// The workspace's `target`, wherever cargo builds.
pub(super) fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a path without a parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))
}
