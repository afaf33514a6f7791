//! Commands that look into pods, by kubectl: `logs`, `cluster`, `remote`, `rpc`.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use tokio::process::Command;

use super::{exit::Exit, gather::gather, place::Cluster, view::ready_pods};
use crate::{
    api::{PhoenixApp, labels, names},
    controller::snapshot::Snapshot,
};

/// The container of every pod of an app.
pub const CONTAINER: &str = "app";

/// Show what the app's pods say.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Logs {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// Go on as more is said.
    #[arg(short, long)]
    follow: bool,
    /// Of the candidate's pods only.
    #[arg(long, group = "whose")]
    candidate: bool,
    /// Of the stable revision's pods only.
    #[arg(long, group = "whose")]
    stable: bool,
    /// Of the migration, and of what runs before it.
    #[arg(long, group = "whose")]
    migration: bool,
    /// Of what follows the rollout: a contract, or the way back of migrations.
    #[arg(long, group = "whose")]
    follow_up: bool,
    /// Of each pod so many of the last lines; -1: all.
    #[arg(long, default_value_t = 200, allow_negative_numbers = true)]
    tail: i64,
    /// Not older than this, as 10m.
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// Of the containers that ran before, after a crash.
    #[arg(short, long)]
    previous: bool,
}

/// Open a console (`IEx`) on a ready pod of the stable revision.
#[derive(Debug, Args)]
pub struct Remote {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// Evaluate an expression in a running node, and print what it prints.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub struct Rpc {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// The expression, as `IO.inspect(Node.list())`.
    expression: String,
    #[command(flatten)]
    which: Which,
}

/// Which pod.
#[derive(Debug, Args)]
pub struct Which {
    /// A pod of the candidate.
    #[arg(long, group = "pick")]
    candidate: bool,
    /// This pod.
    #[arg(long, value_name = "NAME", group = "pick")]
    pod: Option<String>,
}

/// The release's own program in an app's image: `/app/bin/shop`.
pub fn program(app: &PhoenixApp) -> String {
    let release = &app.spec.release;
    let name = app.metadata.name.clone().unwrap_or_default().replace('-', "_");
    let name = release.name.clone().unwrap_or(name);
    format!("{}/bin/{name}", release.root.trim_end_matches('/'))
}

/// PURE. Which pods `logs` is about, as a selector.
///
/// # Errors
/// When there is no such revision.
fn selector(app: &PhoenixApp, logs: &Logs) -> Result<String, String> {
    let name = app.metadata.name.clone().unwrap_or_default();
    let status = app.status.clone().unwrap_or_default();
    let web = format!("{}={name},{}={}", labels::APP, labels::COMPONENT, labels::WEB);
    let of = |revision: &str| format!("{web},{}={revision}", labels::REVISION);
    let migration = format!("{}={name}", labels::MIGRATION);
    let follow_up = status.follow_up.as_ref().and_then(|known| {
        let (app, revision) = (name.parse().ok()?, known.revision.parse().ok()?);
        Some(names::stage_job(&app, &revision, known.kind.stage(), known.attempt))
    });
    if logs.migration {
        let other = follow_up.map(|job| format!(",{}!={job}", labels::JOB_NAME)).unwrap_or_default();
        return Ok(migration + &other);
    }
    if logs.follow_up {
        let job =
            follow_up.ok_or("nothing follows the last rollout: no contract, no way back of migrations")?;
        return Ok(format!("{migration},{}={job}", labels::JOB_NAME));
    }
    if logs.candidate {
        let candidate = status.candidate.ok_or("there is no candidate: no rollout is under way")?;
        return Ok(of(&candidate.revision));
    }
    if logs.stable {
        return Ok(of(&status.stable.ok_or("there is no stable revision yet")?));
    }
    Ok(web)
}

impl Logs {
    /// Shows them.
    ///
    /// # Errors
    /// When the app cannot be read, or kubectl cannot be started.
    pub async fn run(self, cluster: &Cluster) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let selector = selector(&app, &self).map_err(|why| anyhow::anyhow!("{why}"))?;
        let mut command = cluster.kubectl();
        command.args([
            "logs",
            "--prefix",
            "--ignore-errors",
            "--max-log-requests=100",
            "--selector",
            &selector,
        ]);
        command.args(["--container", CONTAINER]).arg(format!("--tail={}", self.tail));
        if self.follow {
            command.arg("--follow");
        }
        if self.previous {
            command.arg("--previous");
        }
        if let Some(since) = &self.since {
            command.arg(format!("--since={since}"));
        }
        attached(command).await
    }
}

impl Remote {
    /// Opens it.
    ///
    /// # Errors
    /// When no pod is ready, or kubectl cannot be started.
    pub async fn run(self, cluster: &Cluster) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let program = program(&app);
        let pod = self.which.find(cluster, app).await?;
        eprintln!("{program} remote on pod {pod}; Ctrl-C twice leaves it");
        let mut command = exec(cluster, &pod, true);
        command.args([program.as_str(), "remote"]);
        attached(command).await
    }
}

impl Rpc {
    /// Evaluates.
    ///
    /// # Errors
    /// When no pod is ready, or kubectl cannot be started.
    pub async fn run(self, cluster: &Cluster) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let program = program(&app);
        let pod = self.which.find(cluster, app).await?;
        let mut command = exec(cluster, &pod, false);
        command.args([program.as_str(), "rpc", &self.expression]);
        attached(command).await
    }
}

impl Which {
    /// The pod that is meant; one that is named needs not be looked for.
    async fn find(&self, cluster: &Cluster, app: PhoenixApp) -> Result<String> {
        match &self.pod {
            Some(name) => Ok(name.clone()),
            None => self.pod(&gather(cluster, app).await?.with(&["Pod"])?),
        }
    }

    /// The name of the pod that is meant: a ready one.
    fn pod(&self, snapshot: &Snapshot) -> Result<String> {
        let status = snapshot.app.status.clone().unwrap_or_default();
        let revision = match (&self.pod, self.candidate) {
            (Some(name), _) => return Ok(name.clone()),
            (None, true) => {
                Some(status.candidate.context("there is no candidate: no rollout is under way")?.revision)
            }
            (None, false) => status.stable,
        };
        let pods = ready_pods(snapshot, revision.as_deref());
        let first = pods.first().and_then(|pod| pod.metadata.name.clone());
        match (first, revision) {
            (Some(name), _) => Ok(name),
            (None, Some(revision)) => {
                bail!(
                    "no pod of revision {revision} is ready; see `kubectl phx status`, or name one with --pod"
                )
            }
            (None, None) => bail!("no pod is ready; see `kubectl phx status`, or name one with --pod"),
        }
    }
}

/// `kubectl exec` into a pod; the command follows.
pub fn exec(cluster: &Cluster, pod: &str, terminal: bool) -> Command {
    let mut command = cluster.kubectl();
    command.args(["exec", pod, "--container", CONTAINER]);
    if terminal {
        command.args(["--stdin", "--tty"]);
    }
    command.arg("--");
    command
}

/// Runs kubectl on this very terminal.
pub async fn attached(mut command: Command) -> Result<Exit> {
    // What ends it, Ctrl-C, reaches it and us alike; its word counts.
    let mut child =
        command.kill_on_drop(true).spawn().context("starting kubectl, which has to be in PATH")?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("waiting for kubectl")?,
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    Ok(if status.success() { Exit::Done } else { Exit::Failed })
}

/// Runs kubectl and takes what it prints.
///
/// # Errors
/// With its own words when it fails.
pub async fn captured(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.context("starting kubectl, which has to be in PATH")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A pod's address.
pub fn ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::phx::tests::scene;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        logs: Logs,
    }

    fn logs(words: &[&str]) -> Logs {
        Line::parse_from([&["logs"], words].concat()).logs
    }

    #[test]
    fn logs_are_of_the_pods_that_are_meant() {
        let paused = scene::canary_paused().0.app;
        let web = "phoenix-operator.dev/app=shop,phoenix-operator.dev/component=web";
        for (words, wanted) in [
            (&[][..], web.to_owned()),
            (&["--candidate"], format!("{web},phoenix-operator.dev/revision={}", scene::NEW)),
            (&["--stable"], format!("{web},phoenix-operator.dev/revision={}", scene::OLD)),
            (&["--migration"], "phoenix-operator.dev/migration=shop".to_owned()),
        ] {
            assert_eq!(selector(&paused, &logs(words)), Ok(wanted));
        }
        let contracting = scene::contract_failed().0.app;
        let job = format!("shop-contract-{}-2", scene::NEW);
        for (word, sign) in [("--migration", "!="), ("--follow-up", "=")] {
            let wanted =
                format!("phoenix-operator.dev/migration=shop,batch.kubernetes.io/job-name{sign}{job}");
            assert_eq!(selector(&contracting, &logs(&[word])), Ok(wanted));
        }
        assert!(selector(&paused, &logs(&["--follow-up"])).unwrap_err().contains("nothing follows"));
        assert!(selector(&scene::healthy().0.app, &logs(&["--candidate"])).is_err());
        assert!(selector(&scene::unseen().0.app, &logs(&["--stable"])).is_err());
    }

    #[test]
    fn the_release_is_where_the_spec_says() {
        let program = |spec| program(&scene::app(&spec, &json!({})));
        assert_eq!(program(json!({})), "/app/bin/shop");
        assert_eq!(program(json!({"release": {"name": "store", "root": "/srv/"}})), "/srv/bin/store");
    }

    #[test]
    fn a_ready_pod_of_the_stable_revision_is_picked() {
        let which = |candidate, pod: Option<&str>| Which { candidate, pod: pod.map(str::to_owned) };
        let paused = scene::canary_paused().0;
        assert_eq!(which(false, None).pod(&paused).unwrap(), format!("shop-{}-a", scene::OLD));
        assert_eq!(which(true, None).pod(&paused).unwrap(), format!("shop-{}-a", scene::NEW));
        assert_eq!(which(false, Some("x")).pod(&paused).unwrap(), "x");
        let why = which(true, None).pod(&scene::crashing().0).unwrap_err().to_string();
        assert!(why.contains("is ready"), "{why}");
    }
}
