//! `kubectl phx cluster`: each Erlang node, and whom it sees.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Args;
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::{
    exit::Exit,
    gather::gather,
    inside::{captured, exec, ip, program},
    output::Format,
    place::Cluster,
    tree::table,
    view::{label, ready_nodes},
};
use crate::api::labels;

/// What every node is asked; its own name first.
const QUESTION: &str = r#"IO.puts("phx-nodes " <> Enum.join([Node.self() | Node.list()], " "))"#;
/// Pods that are asked at once; each answer takes one distribution port and a second of a processor there.
const AT_ONCE: usize = 8;

/// Show each Erlang node and whom it sees. Exits with 2 when one does not see its peers.
#[derive(Debug, Args)]
pub struct Mesh {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
}

/// A ready pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub pod: String,
    /// Its revision.
    pub revision: String,
    /// The id of its Erlang cluster.
    pub cluster: String,
    /// Its address, which is in its node's name.
    pub ip: String,
    /// What it answered: its own name and those it sees; or why it did not.
    pub answer: Result<Vec<String>, String>,
}

/// A pod and whom its node sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The pod.
    pub pod: String,
    /// Its revision.
    pub revision: String,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Peers it ought to see.
    pub expected: usize,
    /// Pods whose nodes it sees.
    pub sees: Vec<String>,
    /// Pods of the same cluster whose nodes it does not see.
    pub missing: Vec<String>,
    /// Nodes it sees that are of another cluster, or of no ready pod of the app.
    pub strangers: Vec<String>,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Row {
    const fn whole(&self) -> bool {
        self.missing.is_empty() && self.error.is_none()
    }
}

/// PURE. What a node answered, among whatever else its release prints.
///
/// # Errors
/// When there is no answer in it.
fn answer(output: &str) -> Result<Vec<String>, String> {
    let line = output.lines().find_map(|line| line.trim().strip_prefix("phx-nodes "));
    match line {
        Some(nodes) => Ok(nodes.split_whitespace().map(str::to_owned).collect()),
        None => Err(format!("answered without its nodes: {}", output.trim())),
    }
}

/// PURE. Whom each sees, and whom it ought to.
pub fn rows(members: &[Member]) -> Vec<Row> {
    let by_ip: BTreeMap<&str, &Member> = members.iter().map(|member| (member.ip.as_str(), member)).collect();
    let host = |node: &str| node.split_once('@').map(|(_, host)| host.to_owned()).unwrap_or_default();
    members
        .iter()
        .map(|member| {
            let peers: BTreeSet<&str> = members
                .iter()
                .filter(|other| other.cluster == member.cluster && other.pod != member.pod)
                .map(|other| other.pod.as_str())
                .collect();
            let nodes = member.answer.clone().unwrap_or_default();
            let (mut sees, mut strangers) = (BTreeSet::new(), Vec::new());
            for node in nodes.iter().skip(1) {
                match by_ip.get(host(node).as_str()) {
                    Some(other) if other.cluster == member.cluster => {
                        sees.insert(other.pod.as_str());
                    }
                    _ => strangers.push(node.clone()),
                }
            }
            let answered = member.answer.is_ok();
            let missing = peers.iter().filter(|peer| answered && !sees.contains(*peer));
            Row {
                pod: member.pod.clone(),
                revision: member.revision.clone(),
                node: nodes.first().cloned(),
                expected: peers.len(),
                missing: missing.map(|peer| (*peer).to_owned()).collect(),
                sees: sees.into_iter().map(str::to_owned).collect(),
                strangers,
                error: member.answer.clone().err(),
            }
        })
        .collect()
}

/// PURE. The rows for people.
pub fn text(rows: &[Row]) -> String {
    let mut lines = vec![["POD", "NODE", "SEES", "MISSING", "OTHERS"].map(str::to_owned).to_vec()];
    for row in rows {
        let sees = match &row.error {
            Some(error) => error.lines().next().unwrap_or_default().to_owned(),
            None => format!("{} of {}", row.sees.len(), row.expected),
        };
        lines.push(vec![
            row.pod.clone(),
            row.node.clone().unwrap_or_default(),
            sees,
            row.missing.join(" "),
            row.strangers.join(" "),
        ]);
    }
    let torn = rows.iter().filter(|row| !row.whole()).count();
    let verdict = if rows.is_empty() {
        "no pod is ready".to_owned()
    } else if torn == 0 {
        "every node sees its peers".to_owned()
    } else {
        format!(
            "{torn} of {} nodes do not see their peers: compare the cookie, spec.clustering.distributionPorts with \
             network policies, and the node names above with the pods' addresses",
            rows.len()
        )
    };
    format!("{}\n{verdict}", table(&lines))
}

impl Mesh {
    /// Asks every node.
    ///
    /// # Errors
    /// When the app or its pods cannot be read.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let program = program(&app);
        let snapshot = gather(cluster, app).await?.with(&["Pod"])?;
        let asking = ready_nodes(&snapshot).into_iter().map(|pod| {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let mut command = exec(cluster, &name, false);
            command.args([program.as_str(), "rpc", QUESTION]);
            async move {
                let answer = match captured(command).await {
                    Ok(output) => answer(&output),
                    Err(error) => Err(format!("{error:#}")),
                };
                Member {
                    pod: name,
                    revision: label(pod, labels::REVISION),
                    cluster: label(pod, labels::CLUSTER),
                    ip: ip(pod).unwrap_or_default().to_owned(),
                    answer,
                }
            }
        });
        let mut members: Vec<Member> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
        members.sort_by(|one, other| one.pod.cmp(&other.pod));
        let rows = rows(&members);
        format.print(&rows, || text(&rows))?;
        let whole = !rows.is_empty() && rows.iter().all(Row::whole);
        Ok(if whole { Exit::Done } else { Exit::Failed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u8, cluster: &str, answer: Result<&str, &str>) -> Member {
        Member {
            pod: format!("shop-{number}"),
            revision: "7f3a9c1d2e".to_owned(),
            cluster: cluster.to_owned(),
            ip: format!("10.0.0.{number}"),
            answer: answer
                .map(|nodes| nodes.split(' ').map(|host| format!("shop@10.0.0.{host}")).collect())
                .map_err(str::to_owned),
        }
    }

    #[test]
    fn peers_of_another_cluster_are_strangers_and_silence_is_told() {
        let rows = rows(&[
            member(1, "shop", Ok("1 2 3")),
            member(2, "shop", Ok("2 1")),
            member(3, "shop", Err("command terminated with exit code 1")),
            member(4, "other", Ok("4 1 9")),
        ]);
        insta::assert_snapshot!(text(&rows));
        assert_eq!(rows.iter().map(Row::whole).collect::<Vec<_>>(), [true, false, false, true]);
    }

    #[test]
    fn the_answer_is_found_among_other_lines() {
        assert_eq!(answer("warning: x\nphx-nodes a@1 b@2\n:ok\n").unwrap(), ["a@1", "b@2"]);
        assert!(answer("").is_err());
    }
}
