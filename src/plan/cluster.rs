//! Whether the nodes have found each other. Every ready pod of the revision in question is asked over HTTP whom it sees;
//! what is expected are all others of its Erlang cluster. Asked when the set of nodes has changed, and until they have
//! found each other; then nothing is asked.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::analysis::{Answer, MeasureKey, MeasureKind, Measurement, Probe, due};
use super::report::Gate;
use super::world::Rev;
use super::{Draft, clock};
use crate::api::ClusterStatus;

/// The reason of a verdict when nodes did not find each other in time.
pub(super) const NOT_FORMED: &str = "ClusterNotFormed";

/// Pause before the first repetition; doubled with each, since nodes look for each other every few seconds.
const FIRST_PAUSE: u64 = 2;
/// How often it is doubled: up to 64 s while a rollout waits, and 512 s at rest, where only a condition tells of it.
const DOUBLED: i32 = 5;
const DOUBLED_AT_REST: i32 = 8;

/// How the cluster of a revision's nodes stands; asks for what is due.
///
/// A candidate is not to be blamed for nodes of others: those of workers, and, where the stable revision's nodes have not
/// found each other, which it may be there to mend, those.
pub(super) fn look(d: &mut Draft, revision: &Rev) -> Gate {
    let candidate = d.status.under_way().is_some();
    let Some(verify) = d.goal.verify.clone() else {
        d.status.cluster = None;
        return Gate::Unjudged;
    };
    let world = d.world;
    let Some(stored) = world.revisions.get(revision) else { return Gate::Unjudged };
    let Some(id) = &stored.cluster else {
        d.status.cluster = None;
        return Gate::NotRequired;
    };
    let asked = world.addresses.get(revision).cloned().unwrap_or_default();
    if asked.is_empty() {
        // What is known of the stable revision's nodes tells what to expect of the candidate's.
        d.status.cluster = d.status.cluster.take().filter(|_| candidate);
        return Gate::Waiting(format!("no pod of revision {revision} is ready"));
    }
    let before = d.status.cluster.as_ref();
    let lonely = |known: &ClusterStatus| known.asked > 0 && !known.formed;
    let apart = candidate
        && before.is_some_and(|known| if known.revision == *revision { known.apart } else { lonely(known) });
    let nodes = match (candidate, apart) {
        (true, true) => BTreeSet::new(),
        (true, false) => world.web_nodes(id),
        (false, _) => world.nodes(id),
    };
    let nodes: BTreeSet<&String> = nodes.union(&asked).collect();
    let expected = i32::try_from(nodes.len().saturating_sub(1)).unwrap_or(i32::MAX);
    let set = fingerprint(&(&nodes, &asked, &verify, stored.port));
    let known = d.status.cluster.take().filter(|known| known.revision == *revision && known.set == set);
    let known = known.filter(|known| known.apart == apart);
    let mut cluster = known.unwrap_or_else(|| ClusterStatus {
        revision: revision.clone(),
        expected,
        seen: 0,
        formed: expected == 0,
        apart,
        set: set.clone(),
        asked: 0,
        at: None,
        message: String::new(),
    });
    let key = |cluster: &ClusterStatus| MeasureKey {
        attempt: 0,
        span: format!("cluster-{revision}"),
        kind: MeasureKind::Cluster,
        name: set.clone(),
        n: cluster.asked.saturating_add(1),
    };
    if let Some(measured) = world.measured.get(&key(&cluster)).filter(|_| !cluster.formed) {
        cluster.asked = cluster.asked.saturating_add(1);
        cluster.at = Some(Time(measured.at.min(d.now)));
        match &measured.answer {
            Answer::Peers { least, pod } => {
                cluster.seen = i32::try_from(*least).unwrap_or(i32::MAX);
                cluster.formed = cluster.seen >= expected;
                cluster.message = format!("the pod at {pod} sees {least} of {expected} peers");
            }
            Answer::Failed(why) | Answer::Nothing(why) | Answer::Value(why) => {
                cluster.seen = 0;
                super::analysis::cut(why).clone_into(&mut cluster.message);
            }
            Answer::Passed => "it was not said how many peers are seen".clone_into(&mut cluster.message),
        }
        if cluster.formed {
            cluster.message.clear();
        }
    }
    let gate = if cluster.formed {
        Gate::Passed
    } else {
        let again = cluster.at.as_ref().map_or(d.now, |at| due(at.0, pause(cluster.asked, candidate), d.now));
        if again > d.now {
            d.wake_at(again);
        } else {
            let probe = Probe::Peers {
                addresses: asked.iter().cloned().collect(),
                port: stored.port,
                path: verify.path.clone(),
                json_path: verify.json_path.clone(),
            };
            d.measure.push(Measurement { key: key(&cluster), probe });
        }
        Gate::Waiting(if cluster.message.is_empty() {
            format!("the pods of revision {revision} are asked whom they see")
        } else {
            cluster.message.clone()
        })
    };
    d.status.cluster = Some(cluster);
    gate
}

fn pause(asked: i32, waited_for: bool) -> Duration {
    let most = if waited_for { DOUBLED } else { DOUBLED_AT_REST };
    Duration::from_secs(FIRST_PAUSE << asked.saturating_sub(1).clamp(0, most))
}

/// Another set of nodes is another question. Forgotten with the next version of the operator at the latest, which then
/// asks once more.
fn fingerprint(set: &impl std::hash::Hash) -> String {
    let mut hasher = DefaultHasher::new();
    set.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Nodes of the candidate are there and have not found each other: nothing goes on, and the deadline runs.
pub(super) fn hold_back(d: &mut Draft, why: &str) -> bool {
    let Some(candidate) = d.status.candidate.clone() else { return false };
    let available = d.world.deployments.get(&candidate.revision).map_or(0, |deployment| deployment.available);
    if d.goal.replicas == 0 {
        clock::stop(d);
        return false;
    }
    if !clock::run(d, available) {
        return false;
    }
    if d.status.stable.is_some() {
        let seconds = d.goal.progress_deadline.as_secs();
        let message = format!("the nodes did not find each other within {seconds} s: {why}");
        super::decide::end(d, crate::api::Outcome::Failed, NOT_FORMED, &message);
        d.writes.clear();
    }
    true
}
