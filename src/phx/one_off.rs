//! A Job that runs one command with an app's image and environment, and is gone afterwards; `kubectl phx run`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{EnvVar, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Resource as _,
    api::{DeleteParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};

use super::{
    exit::Exit,
    gather::gather,
    inside::{attached, captured, program},
    place::Cluster,
};
use crate::{
    api::{PhoenixApp, labels},
    build::Revision,
    controller::{
        pods::{has_run, is_terminal, trouble},
        snapshot::Snapshot,
    },
};

/// Label of a one-off Job and its pod: the app. No Service, no libcluster selector and no operator looks for it.
const RUN: &str = "phoenix-operator.dev/run";
/// After this many seconds Kubernetes takes away a finished Job that was left behind.
const LEFT_BEHIND: i32 = 600;
/// What a one-off must not take over from a pod that serves: it is no node of its cluster.
const NO_NODE: [&str; 2] = ["RELEASE_DISTRIBUTION", "RELEASE_NODE"];
/// Nor does it serve, or look for its peers.
const NO_SERVER: [&str; 2] = ["PHX_SERVER", "DNS_CLUSTER_QUERY"];
/// Keep sidecars out, which would never end: labels for new meshes, annotations for old.
const NO_MESH: [(&str, &str); 2] = [("sidecar.istio.io/inject", "false"), ("linkerd.io/inject", "disabled")];

/// Run one command with the release's environment, in a pod of its own; print its log, then take it away.
///
/// The pod has the image, environment and volumes of the stable revision (`PersistentVolumeClaim`s aside), is no Erlang
/// node of its cluster, and gets no requests. A command that begins with `/` is run as it is; any other is one of the
/// release's own program, as `eval "Shop.Release.seed()"`. Exits with 2 when the command fails.
#[derive(Debug, Args)]
pub struct Run {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// With the candidate's image and environment.
    #[arg(long)]
    candidate: bool,
    /// How long it may take, its start included.
    #[arg(long, default_value = "1h")]
    timeout: crate::api::Duration,
    /// The command, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    /// Runs it.
    ///
    /// # Errors
    /// When there is no such revision, or the Job cannot be made or followed.
    pub async fn run(self, cluster: &Cluster) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let snapshot = gather(cluster, app).await?.with(&["ControllerRevision"])?;
        let revision = revision(&snapshot, self.candidate)?;
        let command = command(&snapshot.app, &self.command);
        let template = revision.job_template.clone().unwrap_or_else(|| revision.pod_template.clone());
        let job = job(&snapshot.app, template, &command, false, self.timeout.into());
        let (exit, _) = follow(cluster, job, self.timeout.into(), false).await?;
        Ok(exit)
    }
}

/// PURE. The command of the container.
fn command(app: &PhoenixApp, words: &[String]) -> Vec<String> {
    let own = words.first().is_some_and(|first| !first.starts_with('/'));
    own.then(|| program(app)).into_iter().chain(words.iter().cloned()).collect()
}

/// The stored revision that is meant.
///
/// # Errors
/// When there is none, or it is not stored.
pub fn revision(snapshot: &Snapshot, candidate: bool) -> Result<Revision> {
    let status = snapshot.app.status.clone().unwrap_or_default();
    let tried = status.candidate.map(|candidate| candidate.revision);
    let name = if candidate {
        tried.context("there is no candidate: no rollout is under way")?
    } else {
        status.stable.or(tried).context("no revision is known yet; see `kubectl phx explain`")?
    };
    let (mut stored, _) = snapshot.stored();
    let key = name.parse().ok();
    key.and_then(|key| stored.remove(&key)).with_context(|| {
        format!("revision {name} is not stored (ControllerRevision); see `kubectl phx explain`")
    })
}

/// PURE. The Job. With `serving` it sees the environment as a pod that serves does, to tell of it.
pub fn job(
    app: &PhoenixApp,
    mut template: PodTemplateSpec,
    command: &[String],
    serving: bool,
    timeout: Duration,
) -> Job {
    let name = app.metadata.name.clone().unwrap_or_default();
    let mut own: BTreeMap<String, String> = [(RUN.to_owned(), name.clone())].into();
    own.extend(NO_MESH.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let metadata = template.metadata.get_or_insert_default();
    // Its own labels only: any other may be what a Service selects.
    metadata.labels = Some(own.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| !key.starts_with(labels::PREFIX));
    annotations.extend(NO_MESH.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if let Some(spec) = template.spec.as_mut() {
        spec.restart_policy = Some("Never".to_owned());
        spec.termination_grace_period_seconds = None;
        spec.topology_spread_constraints = None;
        let mut claims = Vec::new();
        for volume in spec.volumes.iter().flatten().filter(|one| one.persistent_volume_claim.is_some()) {
            claims.push(volume.name.clone());
        }
        spec.volumes.get_or_insert_default().retain(|volume| !claims.contains(&volume.name));
        for container in &mut spec.containers {
            container.command = Some(command.to_vec());
            container.args = None;
            container.ports = None;
            container.lifecycle = None;
            (container.readiness_probe, container.liveness_probe, container.startup_probe) =
                (None, None, None);
            container.volume_mounts.get_or_insert_default().retain(|mount| !claims.contains(&mount.name));
            let env = container.env.get_or_insert_default();
            env.retain(|entry| {
                let name = entry.name.as_str();
                !NO_NODE.contains(&name) && (serving || !NO_SERVER.contains(&name))
            });
            let none = EnvVar {
                name: "RELEASE_DISTRIBUTION".to_owned(),
                value: Some("none".to_owned()),
                value_from: None,
            };
            env.push(none);
        }
    }
    Job {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-run-")),
            labels: Some(own),
            owner_references: Some(vec![OwnerReference {
                api_version: PhoenixApp::api_version(&()).into_owned(),
                kind: PhoenixApp::kind(&()).into_owned(),
                name,
                uid: app.metadata.uid.clone().unwrap_or_default(),
                // It goes with the app, but is no child that the operator looks after.
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)),
            ttl_seconds_after_finished: Some(LEFT_BEHIND),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Makes the Job, follows its log to its end, and takes it away, also after Ctrl-C. With `capture` the log is given
/// back instead of printed.
///
/// # Errors
/// When it cannot be made, followed or deleted.
pub async fn follow(cluster: &Cluster, job: Job, timeout: Duration, capture: bool) -> Result<(Exit, String)> {
    let api: Api<Job> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let made = api.create(&PostParams::default(), &job).await.with_context(|| {
        format!(
            "making a Job in namespace {}; the right to create and delete jobs is needed",
            cluster.namespace
        )
    })?;
    let name = made.metadata.name.clone().unwrap_or_default();
    eprintln!("Job {name} made");
    let ended = tokio::select! {
        ended = tokio::time::timeout(timeout, to_its_end(cluster, &name, capture)) => ended.unwrap_or_else(|_| {
            eprintln!("error: it did not end within {} s", timeout.as_secs());
            Ok((Exit::TimedOut, String::new()))
        }),
        _ = tokio::signal::ctrl_c() => Ok((Exit::Failed, String::new())),
    };
    let deleted = api.delete(&name, &DeleteParams::background()).await;
    match deleted {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            eprintln!(
                "warning: Job {name} could not be deleted ({error}); Kubernetes does it in {LEFT_BEHIND} s"
            );
        }
    }
    ended
}

async fn to_its_end(cluster: &Cluster, job: &str, capture: bool) -> Result<(Exit, String)> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let of_job = watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut changes = watcher::watcher(pods, of_job).default_backoff().applied_objects().boxed();
    let mut told = None;
    let mut following = false;
    let mut said = String::new();
    loop {
        let pod = match changes.try_next().await {
            Ok(Some(pod)) => pod,
            Ok(None) => bail!("the watch of the Job's pod ended"),
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 403 => {
                bail!("{}; the rights to list and to watch pods are needed", status.message)
            }
            Err(_) => continue,
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let why = trouble(&pod, true).map(|trouble| trouble.to_string());
        if !is_terminal(&pod) && why.is_some() && why != told {
            eprintln!("{}", why.as_deref().unwrap_or_default());
            told = why;
        }
        if !following && !capture && has_run(&pod) {
            following = true;
            let mut command = cluster.kubectl();
            command.args(["logs", "--follow", &name]);
            // Its own failure is the pod's, which is judged below.
            let _ = attached(command).await?;
        }
        if is_terminal(&pod) {
            if capture {
                let mut command = cluster.kubectl();
                command.args(["logs", &name]);
                said = captured(command).await?;
            }
            let succeeded =
                pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
            if !succeeded {
                let why = trouble(&pod, false).map(|trouble| trouble.to_string());
                eprintln!("error: {}", why.unwrap_or_else(|| format!("pod {name} failed")));
            }
            return Ok((if succeeded { Exit::Done } else { Exit::Failed }, said));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::ValidatedApp,
        build::{Settings, render},
        cli::admission,
    };

    fn shop() -> (PhoenixApp, ValidatedApp) {
        let object = json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
            "metadata": {"name": "shop", "namespace": "prod", "uid": "app"},
            "spec": {
                "image": "registry.example.com/shop:2", "podMetadata": {"labels": {"team": "shop"}},
                "env": [{"name": "LOG_LEVEL", "value": "info"}], "strategy": {"type": "Recreate"},
                "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}},
                "volumes": [{"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "extra", "mountPath": "/extra", "emptyDir": {}}],
            },
        });
        (serde_json::from_value(object.clone()).unwrap(), admission::admit(object).unwrap())
    }

    #[test]
    fn nothing_that_selects_pods_finds_a_one_off() {
        let (app, valid) = shop();
        let revision = render(&valid, &"7f3a9c1d2e".parse().unwrap(), &Settings::default());
        let command = command(&app, &["eval".to_owned(), "IO.puts(1)".to_owned()]);
        assert_eq!(command, ["/app/bin/shop", "eval", "IO.puts(1)"]);
        for (template, serving) in
            [(revision.job_template.clone().unwrap(), false), (revision.pod_template.clone(), true)]
        {
            let job = job(&app, template, &command, serving, Duration::from_mins(1));
            let spec = job.spec.unwrap();
            let pod = spec.template.spec.unwrap();
            let labels = spec.template.metadata.unwrap().labels.unwrap();
            assert_eq!(
                labels.keys().filter(|key| key.starts_with(labels::PREFIX)).collect::<Vec<_>>(),
                [RUN]
            );
            assert!(!labels.contains_key("team"));
            let container = &pod.containers[0];
            let env = container.env.clone().unwrap();
            let value = |name: &str| {
                env.iter()
                    .find(|entry| entry.name == name)
                    .map(|entry| entry.value.clone().unwrap_or_default())
            };
            assert_eq!(value("RELEASE_DISTRIBUTION").as_deref(), Some("none"));
            assert_eq!(value("LOG_LEVEL").as_deref(), Some("info"));
            for name in NO_SERVER {
                assert_eq!(value(name).is_some(), serving, "{name}");
            }
            assert!(value("RELEASE_NODE").is_none());
            assert!(value("DATABASE_URL").is_some());
            assert!(container.readiness_probe.is_none() && container.lifecycle.is_none());
            let claims =
                pod.volumes.unwrap().into_iter().filter(|volume| volume.persistent_volume_claim.is_some());
            assert_eq!(claims.count(), 0);
            assert!(container.volume_mounts.as_ref().unwrap().iter().all(|mount| mount.name != "data"));
            assert_eq!((spec.backoff_limit, pod.restart_policy.as_deref()), (Some(0), Some("Never")));
        }
    }

    #[test]
    fn a_path_is_run_as_it_is() {
        let (app, _) = shop();
        assert_eq!(command(&app, &["/bin/ls".to_owned()]), ["/bin/ls"]);
    }
}
