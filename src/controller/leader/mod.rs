//! Leader election by a `Lease` of `coordination.k8s.io`: of several operators one writes, the others wait.
//!
//! [`election`] decides; here its steps are carried out. These calls go past the [`Writer`](super::writer::Writer):
//! they are what opens and shuts it.

mod election;
mod lease;
#[cfg(test)]
mod model;
mod tenure;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams, core::Status};

use self::election::{Clock, Election, Loss, Record, Step, TERMS};
use self::lease::Annals;
pub use self::tenure::Tenure;
use super::{backoff::jitter, health::Health, writer::MANAGER};
use crate::telemetry::{Metrics, causes};

/// Longest wait for an answer: two fit into the time in which a leader must renew.
const ANSWER: Duration = Duration::from_secs(4);

/// Which Lease is stood for.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its namespace; none: the operator's own, as the pod's `ServiceAccount` or the kubeconfig has it.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A call that failed.
enum Failed {
    /// The Lease is not as it was seen.
    Refused,
    /// Why there is no answer that helps.
    Unknown(String),
}

/// Stands for election, and leads.
pub struct Candidate {
    api: Api<Lease>,
    /// `namespace/name`.
    place: String,
    name: String,
    election: Election,
    /// Where the election's clock begins.
    origin: Instant,
    tenure: Tenure,
    health: Health,
    metrics: Metrics,
    /// What else its Lease says.
    annals: Annals,
    /// Whom was waited for last.
    told: Option<String>,
}

impl Candidate {
    /// Stands for a Lease; `instance` is part of the name in it.
    ///
    /// # Errors
    /// When there is no random number.
    pub fn new(
        client: &Client,
        seat: &Seat,
        instance: &str,
        health: Health,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let namespace = seat.namespace.as_deref().unwrap_or_else(|| client.default_namespace());
        let place = format!("{namespace}/{}", seat.name);
        let mut identity = format!("{instance}_");
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).context("finding a name for the election")?;
        for byte in random {
            write!(identity, "{byte:02x}")?;
        }
        health.lease(Some(format!("Lease {place}: not asked for yet")));
        tracing::info!(lease = place, identity, "standing for election");
        let origin = Instant::now();
        Ok(Self {
            api: Api::namespaced(client.clone(), namespace),
            place,
            name: seat.name.clone(),
            election: Election::new(identity, TERMS),
            origin,
            tenure: Tenure::over(),
            health,
            metrics,
            annals: Annals { acquired: Timestamp::now(), transitions: 0 },
            told: None,
        })
    }

    /// What opens the writer while this one leads.
    pub fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// Waits until it leads. May be dropped and called again.
    pub async fn win(&mut self) -> anyhow::Result<()> {
        while self.election.until().is_none() {
            self.go_on().await?;
        }
        tracing::info!(lease = self.place, identity = self.election.identity(), "leading");
        self.metrics.leads(true);
        Ok(())
    }

    /// Leads until that is over, and says why. May be dropped and called again.
    pub async fn keep(&mut self) -> anyhow::Error {
        loop {
            if let Err(loss) = self.go_on().await {
                self.tenure.end();
                self.metrics.leads(false);
                tracing::error!("{loss}");
                return loss;
            }
        }
    }

    /// Gives the Lease back, so that the next need not wait for its end. Everything that writes has ended before.
    pub async fn release(mut self) {
        self.tenure.end();
        self.metrics.leads(false);
        let Some(version) = self.election.resign() else { return };
        let mut released = self.put(None, &version).await;
        if matches!(released, Err(Failed::Refused)) {
            // The last renewal was carried out, and its answer not waited for.
            match self.get().await {
                Ok(Some(Record { holder, version, .. }))
                    if holder.as_deref() == Some(self.election.identity()) =>
                {
                    released = self.put(None, &version).await;
                }
                Ok(_) => {}
                Err(failed) => released = Err(failed),
            }
        }
        match released {
            Ok(_) => tracing::info!(lease = self.place, "the Lease is given back"),
            Err(Failed::Refused) => tracing::info!(lease = self.place, "the Lease is another's already"),
            Err(Failed::Unknown(why)) => {
                tracing::warn!(
                    lease = self.place,
                    why,
                    "the Lease was not given back; the next waits for its end"
                );
            }
        }
    }

    /// One step. An error is the end of leading.
    async fn go_on(&mut self) -> anyhow::Result<()> {
        match self.election.step(self.now()) {
            Step::Wait(until) => {
                let leads = self.election.until().is_some();
                // Candidates are not to come all at once.
                let scatter = if leads { Duration::ZERO } else { TERMS.retry.mul_f64(jitter() / 10.0) };
                tokio::time::sleep_until((self.origin + until + scatter).into()).await;
            }
            Step::Look => self.look().await,
            Step::Claim(version) => self.claim(version).await,
            Step::Lost(loss) => return Err(self.lost(&loss)),
        }
        Ok(())
    }

    async fn look(&mut self) {
        match self.get().await {
            Ok(record) => {
                self.election.saw(record, self.now());
                self.well();
                self.tell();
            }
            Err(Failed::Unknown(why)) => self.ill(&why),
            Err(Failed::Refused) => self.election.failed(self.now()),
        }
    }

    async fn claim(&mut self, version: Option<String>) {
        let sent = self.now();
        if self.election.until().is_none() {
            self.annals.acquired = Timestamp::now();
        }
        let identity = Some(self.election.identity().to_owned());
        let answer = match &version {
            Some(version) => self.put(identity, version).await,
            None => self.post(identity).await,
        };
        match answer {
            Ok(record) => {
                self.election.won(record, sent);
                if let Some(until) = self.election.until() {
                    self.tenure.extend(self.origin + until);
                }
                self.well();
            }
            Err(Failed::Refused) => self.election.refused(self.now()),
            Err(Failed::Unknown(why)) => self.ill(&why),
        }
    }

    fn lost(&self, loss: &Loss) -> anyhow::Error {
        let place = &self.place;
        match loss {
            Loss::Overdue => anyhow::anyhow!(
                "not the leader any more: Lease {place} could not be renewed within {} s; ending, so that nothing is \
                 written beside the next leader",
                TERMS.renew.as_secs()
            ),
            Loss::Taken(holder) => anyhow::anyhow!(
                "not the leader any more: Lease {place} is held by {}; ending, so that nothing is written beside it",
                holder.as_deref().unwrap_or("nobody")
            ),
            Loss::Resigned => anyhow::anyhow!("not the leader any more: Lease {place} was given back"),
        }
    }

    /// Says whom is waited for, once for each.
    fn tell(&mut self) {
        let holder = self.election.holder().filter(|holder| *holder != self.election.identity());
        if holder != self.told.as_deref() {
            if let Some(leader) = holder {
                tracing::info!(lease = self.place, leader, "waiting to lead");
            }
            self.told = holder.map(str::to_owned);
        }
    }

    fn well(&self) {
        self.health.lease(None);
    }

    fn ill(&mut self, why: &str) {
        tracing::warn!(lease = self.place, why, "the Lease was not reached; trying again");
        self.metrics.lease_failed();
        self.health.lease(Some(format!("Lease {}: {why}", self.place)));
        self.election.failed(self.now());
    }

    fn now(&self) -> Clock {
        self.origin.elapsed()
    }

    async fn get(&mut self) -> Result<Option<Record>, Failed> {
        let answer = self.timed(self.api.get_opt(&self.name)).await?;
        Ok(answer.map(|lease| {
            let record = lease::read(&lease, TERMS.lease);
            let mine = record.holder.as_deref() == Some(self.election.identity());
            self.annals.transitions = lease::transitions(&lease).saturating_add(i32::from(!mine));
            record
        }))
    }

    async fn post(&self, holder: Option<String>) -> Result<Record, Failed> {
        let made = lease::new(&self.name, holder, TERMS.lease, self.annals);
        let answer = self.timed(self.api.create(&params(), &made)).await?;
        Ok(lease::read(&answer, TERMS.lease))
    }

    async fn put(&self, holder: Option<String>, version: &str) -> Result<Record, Failed> {
        let mut made = lease::new(&self.name, holder, TERMS.lease, self.annals);
        made.metadata.resource_version = Some(version.to_owned());
        let answer = self.timed(self.api.replace(&self.name, &params(), &made)).await?;
        Ok(lease::read(&answer, TERMS.lease))
    }

    async fn timed<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
        // A leader stops at its time, whatever it waits for.
        let left = self.election.until().map_or(ANSWER, |until| until.saturating_sub(self.now()));
        match tokio::time::timeout(ANSWER.min(left), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // A claim of a Lease that is not there any more, or is there already, or is another's by now.
            Ok(Err(kube::Error::Api(status))) if is_outdated(&status) => Err(Failed::Refused),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Err(Failed::Unknown(format!("{}; give the operator that right", status.message)))
            }
            Ok(Err(error)) => Err(Failed::Unknown(causes(&error))),
            Err(_) => Err(Failed::Unknown(format!("no answer within {} s", ANSWER.min(left).as_secs_f32()))),
        }
    }
}

/// The Lease is not as it was seen. A namespace that is not there is no such answer: it would be asked again at once.
fn is_outdated(status: &Status) -> bool {
    let about = status.details.as_ref().map_or("", |details| details.kind.as_str());
    status.code == 409 || (status.code == 404 && about == "leases")
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}
