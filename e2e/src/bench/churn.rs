//! Apps that come, change and go: what a long time of that leaves behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};

use super::contest::Run;
use super::figures::Churn;
use super::work;

/// Changes in a second of churn.
const CHURN: u32 = 5;
/// How many turns an app that came waits until it changes, and again until it goes.
const TURNS: usize = 25;
/// How long nothing happens before its memory is taken: what it knows of an app is made small after half a minute.
const SETTLED: Duration = Duration::from_mins(1);
/// The controllers of Kubernetes are waited for no longer than this after the last app went.
const PATIENCE: Duration = Duration::from_mins(10);
/// How often it is looked whether they are done.
const SWEEP: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Apps come, change and go beside those that stay: what that leaves behind in its memory.
    pub async fn churn(&mut self, time: Duration) -> Result<Churn> {
        let (before, cpu) = (self.settled().await?, self.program.cpu()?);
        let pods = self.pods().await?;
        self.program.forget_peak()?;
        let resource = self.contender.resource();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let mut pace = tokio::time::interval(Duration::from_secs(1) / CHURN);
        let (began, mut count, mut turn) = (Instant::now(), 0, 0);
        // After the time is up, those that came still go.
        let mut last = usize::MAX;
        while turn < last.saturating_add(2 * TURNS) {
            if last == usize::MAX && began.elapsed() >= time {
                last = turn;
            }
            let came = (turn < last).then_some(turn);
            let changed = turn.checked_sub(TURNS).filter(|turn| *turn < last);
            let gone = turn.checked_sub(2 * TURNS);
            if let Some(name) = came.map(work::passing) {
                pace.tick().await;
                let app: DynamicObject = serde_json::from_value(self.contender.manifest(&name, "v1")?)?;
                work::create(&self.client, &self.namespace, self.contender.beside(&name)?).await?;
                api.create(&PostParams::default(), &app).await.with_context(|| format!("creating {name}"))?;
            }
            if let Some(name) = changed.map(work::passing) {
                pace.tick().await;
                let patch = self.contender.release(&name, "v2")?;
                let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                patched.with_context(|| format!("changing {name}"))?;
            }
            if let Some(name) = gone.map(work::passing) {
                pace.tick().await;
                let deleted = api.delete(&name, &DeleteParams::background()).await;
                deleted.with_context(|| format!("deleting {name}"))?;
            }
            count += [came, changed, gone].iter().flatten().count();
            // An hour of them would fill the memory of this process.
            self.events.clear();
            turn += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        self.swept(pods).await?;
        let after = self.settled().await?;
        let churn = Churn {
            seconds,
            changes: count,
            before,
            peak: self.program.memory("VmHWM")?,
            after,
            cpu: self.program.cpu()? - cpu,
        };
        self.events.clear();
        self.say("after churn", &churn);
        Ok(churn)
    }

    /// Waits until no more pods are left than there were, which are the last that goes of an app: until then it hears of
    /// what Kubernetes still removes, as for minutes on a machine that could not keep up. If that takes too long it is
    /// said.
    async fn swept(&self, before: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.pods().await? > before {
            if Instant::now() > deadline {
                eprintln!("bench: {PATIENCE:?} after the last app went there are pods of such apps");
                return Ok(());
            }
            tokio::time::sleep(SWEEP).await;
        }
        Ok(())
    }

    /// How many pods there are where apps come and go.
    async fn pods(&self) -> Result<usize> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pods = api.list_metadata(&ListParams::default()).await.context("counting pods")?;
        Ok(pods.items.len())
    }

    /// Its memory when nothing is asked for any more, and it has had time to make small what it knows.
    async fn settled(&mut self) -> Result<u64> {
        self.requests.rest().await?;
        Ok(self.rest(SETTLED).await?.rss)
    }
}
