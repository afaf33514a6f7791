//! Apps and cases for tests on fake nodes, where an image's tag says how its pods behave.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use phoenix_operator::api::{Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::audit::{Audit, Request, is_asked};
use crate::harness::{Judged, Lab, Seen, Space};

/// How long anything may take that ought to take seconds.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a case comes to.
pub type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A case: its name, which also names its namespace, and what is done.
pub type Case = (&'static str, fn(Arc<Space>) -> Running);

/// Functions from `Arc<Space>` as cases.
#[macro_export]
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        vec![$((stringify!($case), (|space| Box::pin($case(space))) as fn(_) -> $crate::fixtures::Running)),+]
    };
}

/// Runs cases, so many at a time, each in a namespace of its own, and judges every status seen in each. Prints
/// what each came to; errors with the names of those that failed, after how everything stood in them.
///
/// `PHOENIX_E2E_CASE` picks those whose name contains it.
pub async fn run(lab: &Arc<Lab>, at_once: usize, cases: Vec<Case>) -> Result<Judged> {
    let picked = std::env::var("PHOENIX_E2E_CASE").unwrap_or_default();
    let turns = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(&picked)) {
        let (lab, turns) = (Arc::clone(lab), Arc::clone(&turns));
        running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (name, one(&lab, name, case).await)
        });
    }
    let mut all = Judged::new();
    let mut failed = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (name, result) = ended.context("a case's runner ended in disorder")?;
        match result {
            Ok(judged) => {
                for (phase, verdicts) in judged {
                    for (verdict, count) in verdicts {
                        *all.entry(phase.clone()).or_default().entry(verdict).or_default() += count;
                    }
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                eprintln!("\ncase {name} FAILED: {error}\n");
                let why = error.lines().next().unwrap_or_default();
                failed.push(format!("{name} ({})", why.chars().take(300).collect::<String>()));
            }
        }
    }
    println!("statuses judged by kstatus and Argo CD: {all:?}");
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(all)
}

async fn one(lab: &Arc<Lab>, name: &str, case: fn(Arc<Space>) -> Running) -> Result<Judged> {
    let space = Arc::new(lab.space(&name.replace('_', "-")).await?);
    let began = std::time::Instant::now();
    let ended = tokio::spawn(case(Arc::clone(&space))).await;
    let result = ended.unwrap_or_else(|panic| Err(anyhow::anyhow!("{panic}")));
    if let Err(error) = result {
        bail!("{error:#}\nhow everything stands now:\n{}", space.describe().await);
    }
    let judged = space.judge_statuses().await?;
    println!("case {name}: {:?}, statuses {judged:?}", began.elapsed());
    space.close().await?;
    Ok(judged)
}

/// Waits until nothing is asked in the space's namespace any more, and returns where the audit log ends then. The event that
/// tells of a rollout's end, and what is noted on its revision, follow the status.
pub async fn at_rest(space: &Space, audit: &Audit) -> Result<u64> {
    let counts = |request: &Request| request.namespace == space.name() && is_asked(request);
    audit.until_rest(Duration::from_secs(1), PATIENCE, counts).await?;
    audit.end()
}

/// An image whose tag says how its pods behave.
pub fn image(tag: &str) -> String {
    format!("registry.local/shop:{tag}")
}

/// The smallest app.
pub fn plain(tag: &str) -> Value {
    json!({"image": image(tag)})
}

/// An app that migrates in a Job.
pub fn migrating(tag: &str) -> Value {
    json!({"image": image(tag), "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}}})
}

/// An app whose rollout fails after so many seconds without progress.
pub fn impatient(mut spec: Value, seconds: u32) -> Value {
    spec["health"] = json!({"startup": {"period": "1s", "failureThreshold": 1}});
    spec["strategy"] = json!({"progressDeadline": format!("{seconds}s")});
    spec
}

/// With some fields set anew.
pub fn with(mut spec: Value, fields: &Value) -> Value {
    if let (Some(spec), Some(fields)) = (spec.as_object_mut(), fields.as_object()) {
        spec.extend(fields.clone());
    }
    spec
}

/// Value of a label.
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    let labels = object.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(key)?.as_str()).unwrap_or_default()
}

/// The revision whose pod template holds an image, by the Deployments there ever were.
pub fn revision_of(seen: &Seen, image: &str) -> Option<String> {
    let holds = |object: &Value| {
        object.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str) == Some(image)
    };
    let found = seen.history("Deployment").find(|event| holds(&event.object))?;
    Some(label(&found.object, labels::REVISION).to_owned())
}

/// All that follows an app's promotion has been written: its facts are on the revision, the Service names that
/// revision alone, and the migration Job is gone.
pub fn settled(seen: &Seen, app: &str) -> Option<()> {
    let status = seen.status(app)?;
    let stable = status.stable.filter(|_| status.candidate.is_none())?;
    let revision = seen.get("ControllerRevision", &format!("{app}-{stable}"))?;
    let promotion = revision["metadata"]["annotations"].get(labels::PROMOTION)?.as_str()?;
    let points = seen.get("Service", app)?["spec"]["selector"].get(labels::REVISION);
    let narrow = status.ready_replicas == 0 || points.and_then(Value::as_str) == Some(stable.as_str());
    let jobs = seen.all("Job").filter(|job| label(job, labels::APP) == app).count();
    (promotion == status.promotion.to_string() && narrow && jobs == 0).then_some(())
}

/// UIDs of the app's serving pods that are not going.
pub fn pod_uids(seen: &Seen, app: &str) -> BTreeSet<String> {
    seen.web_pods(app).iter().map(|pod| pod["metadata"]["uid"].to_string()).collect()
}

/// What the operator wrote of every Deployment: name to generation, and hashes of the pods' templates.
pub fn templates(seen: &Seen) -> BTreeMap<String, (i64, BTreeSet<String>)> {
    let mut templates = BTreeMap::new();
    for deployment in seen.all("Deployment") {
        let revision = label(deployment, labels::REVISION);
        let app = label(deployment, labels::APP);
        let hashes = seen
            .all("Pod")
            .filter(|pod| label(pod, labels::REVISION) == revision && label(pod, labels::APP) == app)
            .map(|pod| label(pod, "pod-template-hash").to_owned())
            .filter(|hash| !hash.is_empty())
            .collect();
        let name = deployment["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let generation = deployment["metadata"]["generation"].as_i64().unwrap_or_default();
        templates.insert(name, (generation, hashes));
    }
    templates
}

/// A condition of a status: its state and reason.
pub fn condition<'a>(status: &'a PhoenixAppStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.as_str(), found.reason.as_str()))
}

/// The message of a condition.
pub fn message<'a>(status: &'a PhoenixAppStatus, kind: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == kind).map_or("", |found| &found.message)
}

/// Waits until the app is healthy, and says that what leads requests into the cluster is refused for this reason.
pub async fn edge_refused(space: &Space, generation: i64, reason: &str) -> Result<PhoenixAppStatus> {
    let refused = |status: &PhoenixAppStatus| {
        status.phase == Some(Phase::Healthy) && condition(status, "EdgeRefused") == Some(("True", reason))
    };
    space.wait_for("shop", generation, "the condition", PATIENCE, refused).await
}

/// Waits until nothing of that is refused any more, and holds that there is an Ingress of this class.
pub async fn edge_accepted(space: &Space, generation: i64, class: &str) -> Result<()> {
    let cleared = |status: &PhoenixAppStatus| condition(status, "EdgeRefused").is_none();
    space.wait_for("shop", generation, "the condition to go", PATIENCE, cleared).await?;
    let found = space.field("ingress/shop", "{.spec.ingressClassName}").await?;
    ensure!(found == class, "{found}");
    Ok(())
}

/// Holds that no pod of a revision was there before its migration was recorded. Gives back how many migration pods
/// it had.
pub fn migrated_first(seen: &Seen, app: &str, revision: &str) -> Result<usize> {
    let recorded = seen.migrated_at(revision).context("no migration is recorded")?;
    let first = seen.first_pod(revision).context("no pod of the revision was seen")?;
    ensure!(recorded < first, "a pod of {revision} was there at {first}, its migration done at {recorded}");
    Ok(seen.migration_pods(app, revision).len())
}

impl Space {
    /// Applies an app and waits until it is healthy and [settled]; gives back its status.
    pub async fn roll_out(&self, app: &str, spec: &Value) -> Result<PhoenixAppStatus> {
        let generation = self.apply(app, spec).await?;
        let status = self.wait_phase(app, generation, Phase::Healthy, PATIENCE).await?;
        self.wait("the writes that follow a promotion", PATIENCE, |seen| settled(seen, app)).await?;
        Ok(status)
    }

    /// The names of all objects in the namespace, events and what Kubernetes itself puts there aside.
    pub async fn everything(&self) -> Result<BTreeSet<String>> {
        let kinds = ["api-resources", "--namespaced", "--verbs=list", "-o", "name"];
        let kinds = self.kubectl(&kinds, None).await?;
        let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
        let names =
            self.kubectl(&["get", &kinds.join(","), "-o", "name", "--ignore-not-found"], None).await?;
        let own = |name: &&str| !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(name);
        Ok(names.lines().filter(own).map(str::to_owned).collect())
    }

    /// A field of an object, by JSON path, as kubectl prints it.
    pub async fn field(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")], None).await
    }
}
