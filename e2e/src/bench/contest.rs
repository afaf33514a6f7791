//! One contender's run: the same work and the same measures for each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use super::contender::Contender;
use super::events::{Event, Events};
use super::figures::{Bytes, Cold, Contest, Holder, Passage, Quantiles, Rest};
use super::heap;
use super::program::{Launch, Program};
use super::requests::{Requests, by_kind};
use super::wire::Wire;
use super::work::{self, Change};
use crate::audit::Audit;
use crate::harness::Lab;

/// How long a program is left alone before its memory counts as resting.
const CALM: Duration = Duration::from_secs(5);

/// What is done with apps that have been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so long.
    Rest(Duration),
    /// So many pods become unready, one after the other.
    Notice(usize),
    /// All are updated by Rolling.
    Rolling,
    /// All are updated by Canary.
    Canary,
    /// The contender is started anew over all of them.
    Cold,
    /// The bytes are counted that it receives. No update of all may follow: some apps are a release ahead.
    Bytes,
    /// Apps come, change and go, five a second, for so long.
    Churn(Duration),
    /// It is asked who holds its memory: the same program, with symbols.
    Heap(PathBuf),
}

/// How often a program that has just been started is asked for its metrics.
const ASK: Duration = Duration::from_millis(100);
/// Most apps that are updated while bytes are counted.
const COUNTED: usize = 50;

/// A contender at work in one namespace.
pub struct Run<'a> {
    pub(super) contender: &'a dyn Contender,
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) requests: Requests,
    pub(super) events: Events,
    pub(super) program: Program,
    /// Which generation the apps are at.
    pub(super) generation: i64,
}

impl<'a> Run<'a> {
    /// Makes the namespaces of so many apps, and starts the contender.
    pub async fn start(
        lab: &Lab,
        contender: &'a dyn Contender,
        namespace: &str,
        apps: usize,
    ) -> Result<Self> {
        let client = lab.client().clone();
        let audit = Audit::new(lab.cluster().audit_log());
        make_homes(&client, namespace, apps).await?;
        let requests = Requests::of(contender.user(), &audit)?;
        let events = Events::follow(&client, namespace, &[contender.resource()]).await?;
        let mut program = Program::start(contender.launch())?;
        program.serves().await?;
        tokio::time::sleep(CALM).await;
        let namespace = namespace.to_owned();
        Ok(Self { contender, client, namespace, requests, events, program, generation: 0 })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn say(&self, what: &str, figures: impl std::fmt::Debug) {
        println!("{}: {what}: {figures:?}", self.contender.name());
    }

    /// All apps are made.
    pub async fn create(&mut self, apps: usize) -> Result<Passage> {
        let mut beside = Vec::new();
        let mut changes = Vec::new();
        for name in (0..apps).map(work::name) {
            beside.extend(self.contender.beside(&name)?);
            changes.push((name.clone(), Change::Create(self.contender.manifest(&name, "v1")?)));
        }
        work::create(&self.client, &self.namespace, beside).await?;
        self.passage("all created", changes).await
    }

    /// All apps get another release.
    pub async fn update(&mut self, apps: usize, tag: &str) -> Result<Passage> {
        let changes = (0..apps).map(work::name).map(|name| {
            let patch = self.contender.release(&name, tag)?;
            Ok((name, Change::Patch(patch)))
        });
        let changes = changes.collect::<Result<_>>()?;
        self.passage(&format!("all updated to {tag}"), changes).await
    }

    /// The next update of all is a canary.
    pub async fn be_canary(&mut self, apps: usize) -> Result<()> {
        if let Some(patch) = self.contender.canary() {
            let changes = (0..apps).map(|number| (work::name(number), Change::Patch(patch.clone())));
            self.passage("all told to be canaries", changes.collect()).await?;
        }
        Ok(())
    }

    /// From a change of all until all are healthy, and until nothing is asked for any more.
    async fn passage(&mut self, what: &str, changes: Vec<(String, Change)>) -> Result<Passage> {
        self.generation += 1;
        let count = changes.len();
        self.events.clear();
        self.program.forget_peak()?;
        self.requests.take()?;
        let cpu = self.program.cpu()?;
        let began = Instant::now();
        let resource = self.contender.resource();
        let asking = work::ask(self.client.clone(), self.namespace.clone(), resource, changes);
        let asking = tokio::spawn(async move { Ok((asking.await?, Instant::now())) });
        let asking = async { asking.await.context("the user's task ended in disorder")? };
        // What the user is refused ends it at once.
        let (healthy, (asked, answered)) = tokio::try_join!(self.all_healthy(what, count), asking)?;
        let last = healthy.values().max().copied().unwrap_or(began);
        self.requests.rest().await?;
        let cpu = self.program.cpu()? - cpu;
        let requests = self.requests.take()?;
        let each =
            asked.iter().filter_map(|(name, at)| Some(healthy.get(name)?.saturating_duration_since(*at)));
        let passage = Passage {
            seconds: (last - began).as_secs_f64(),
            asked: (answered - began).as_secs_f64(),
            each: Quantiles::of(each.collect()),
            cpu,
            peak_rss: self.program.memory("VmHWM")?,
            rss: self.program.memory("VmRSS")?,
            conflicts: requests.iter().filter(|request| request.mutates() && request.code == 409).count(),
            writes: by_kind(&requests, crate::audit::Request::mutates),
            reads: by_kind(&requests, |request| !request.mutates()),
        };
        self.say(what, &passage);
        Ok(passage)
    }

    /// When each of so many apps was first seen to be healthy.
    async fn all_healthy(&mut self, what: &str, count: usize) -> Result<HashMap<String, Instant>> {
        let deadline = Instant::now() + work::patience(count);
        let mut healthy: HashMap<String, Instant> = HashMap::new();
        while healthy.len() < count {
            let waited = format!("{what}: {} of {count} are healthy", healthy.len());
            let event = self.events.next(deadline, &waited).await?;
            if self.is_healthy(&event) {
                healthy.entry(event.name).or_insert(event.at);
            }
        }
        Ok(healthy)
    }

    pub(super) fn is_healthy(&self, event: &Event) -> bool {
        let generation = event.object["metadata"]["generation"].as_i64().unwrap_or_default();
        !event.gone && generation >= self.generation && self.contender.healthy(&event.object)
    }

    /// Nothing is done for a while.
    pub async fn rest(&mut self, time: Duration) -> Result<Rest> {
        self.requests.take()?;
        let (cpu, began) = (self.program.cpu()?, Instant::now());
        // The measurement itself.
        tokio::time::sleep(time).await;
        let rest = Rest {
            seconds: began.elapsed().as_secs_f64(),
            cpu: self.program.cpu()? - cpu,
            rss: self.program.memory("VmRSS")?,
            requests: by_kind(&self.requests.take()?, |_| true),
        };
        self.say("at rest", &rest);
        Ok(rest)
    }

    /// It is killed and started again, until it has judged all apps.
    pub async fn cold(&mut self, apps: usize) -> Result<Cold> {
        let seconds = self.restart(self.contender.launch(), apps).await?;
        let requests = self.requests.take()?;
        let cold = Cold {
            seconds,
            cpu: self.program.cpu()?,
            peak_rss: self.program.memory("VmHWM")?,
            rss: self.program.memory("VmRSS")?,
            writes: by_kind(&requests, crate::audit::Request::mutates),
            reads: by_kind(&requests, |request| !request.mutates()),
        };
        self.say("started again", &cold);
        Ok(cold)
    }

    /// Kills it, starts it as told, and waits until it has judged all apps and rests; gives back the seconds until all
    /// were judged.
    async fn restart(&mut self, launch: &Launch, apps: usize) -> Result<f64> {
        self.program.kill().await?;
        self.requests.rest().await?;
        self.requests.take()?;
        let began = Instant::now();
        self.program = Program::start(launch)?;
        let deadline = began + work::patience(apps);
        let mut judged = 0;
        while judged < apps {
            ensure!(Instant::now() < deadline, "{judged} of {apps} apps were judged after a start");
            // What a process knows can only be asked for.
            tokio::time::sleep(ASK).await;
            judged = self.program.metrics().await.map_or(0, |metrics| self.contender.judged(&metrics));
        }
        let seconds = began.elapsed().as_secs_f64();
        self.requests.rest().await?;
        Ok(seconds)
    }

    /// The bytes that it receives when it starts over all apps, and when some get another release.
    pub async fn bytes(&mut self, apps: usize) -> Result<Bytes> {
        let mut launch = self.contender.launch().clone();
        let wire = Wire::lay(&mut launch.account.server).await?;
        self.restart(&launch, apps).await?;
        let cold = wire.received();
        let updated = apps.min(COUNTED);
        self.update(updated, "v9").await?;
        let bytes = Bytes { cold, update: wire.received() - cold, updated };
        self.say("bytes received", &bytes);
        // Without the wire, which ends here.
        self.restart(self.contender.launch(), apps).await?;
        Ok(bytes)
    }

    /// Who holds its memory when it rests after a start over all apps.
    pub async fn heap(&mut self, apps: usize, program: &Path) -> Result<Vec<Holder>> {
        let raw = super::program::log("heap")?;
        let launch = heap::traced(self.contender.launch(), program, &raw)?;
        self.restart(&launch, apps).await?;
        // What it frees at its end must not count.
        self.program.kill().await?;
        let holders = tokio::task::spawn_blocking(move || heap::holders(&raw)).await;
        let holders = holders.context("a task ended in disorder")??;
        self.say("memory held", &holders);
        Ok(holders)
    }
}

/// What is measured of a contender when it is given so many apps at once, and then does these steps.
pub async fn many(
    lab: &Lab,
    contender: &dyn Contender,
    namespace: &str,
    apps: usize,
    steps: &[Step],
) -> Result<Contest> {
    let mut contest = Contest { load: super::load(), ..Contest::default() };
    let mut run = Run::start(lab, contender, namespace, apps).await?;
    contest.empty_rss = run.program().memory("VmRSS")?;
    run.say("resting with no apps, in KiB", contest.empty_rss);
    contest.first = Some(run.create(apps).await?);
    for step in steps {
        match step {
            Step::Rest(time) => contest.rest = Some(run.rest(*time).await?),
            Step::Notice(count) => contest.noticed = Some(run.notice(apps, *count).await?),
            Step::Rolling => contest.rolling = Some(run.update(apps, "v2").await?),
            Step::Canary => {
                run.be_canary(apps).await?;
                contest.canary = Some(run.update(apps, "v3").await?);
            }
            Step::Cold => contest.cold = Some(run.cold(apps).await?),
            Step::Bytes => contest.bytes = Some(run.bytes(apps).await?),
            Step::Churn(time) => contest.churn = Some(run.churn(*time).await?),
            Step::Heap(program) => contest.holders = run.heap(apps, program).await?,
        }
    }
    Ok(contest)
}

/// Makes the namespaces of so many apps.
pub async fn make_homes(client: &Client, first: &str, apps: usize) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    for home in work::homes(first, apps) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": home}}))?;
        let made = api.create(&PostParams::default(), &namespace).await;
        made.with_context(|| format!("making namespace {home}"))?;
    }
    Ok(())
}
