//! `kubectl phx doctor`: what the release makes of its environment.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{
    exit::Exit,
    gather::gather,
    inside::program,
    one_off::{follow, job, revision},
    output::Format,
    place::Cluster,
};
use crate::api::PhoenixApp;

/// Evaluated in the release.
const SCRIPT: &str = include_str!("doctor.exs");

/// Let the release itself tell how it is configured, in a pod of its own, and judge that against the spec.
///
/// Reported are: server, host, `check_origin`, `force_ssl`, the listen address, pools, the drain timers against
/// shutdown.grace, and what rel/env.sh.eex overrides. Nothing is started, and no secret is printed. Exits with 2 when
/// something will not work.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// The candidate's release.
    #[arg(long)]
    candidate: bool,
    /// How long it may take, its start included.
    #[arg(long, default_value = "3m")]
    timeout: crate::api::Duration,
}

/// How grave something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Good,
    /// It may be meant.
    Look,
    /// It will not work.
    Bad,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How grave it is.
    pub level: Level,
    /// What, and what to do.
    pub what: String,
}

/// What the release said: keys and values in its order, a key as often as there is something to say.
pub type Facts = Vec<(String, String)>;

/// PURE. What the release said, among whatever else it prints.
pub fn facts(output: &str) -> Facts {
    let lines = output.lines().filter_map(|line| line.strip_prefix("phx-doctor\t"));
    lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// PURE. What to think of it.
pub fn findings(facts: &Facts, app: &PhoenixApp) -> Vec<Finding> {
    let mut all = Findings(Vec::new());
    let spec = &app.spec;
    let of = |key: &str| facts.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let every = |key: &'static str| {
        facts.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    };
    all.good(format!(
        "Elixir {}, OTP {}, Phoenix {}",
        of("elixir").unwrap_or("?"),
        of("otp").unwrap_or("?"),
        of("phoenix").unwrap_or("?")
    ));
    for trouble in every("trouble") {
        all.look(format!("could not be looked at: {trouble}"));
    }
    if of("endpoint").is_none() {
        all.look("no Phoenix endpoint is configured".to_owned());
        return all.0;
    }
    if every("endpoint").count() > 1 {
        let endpoints: Vec<_> = every("endpoint").collect();
        all.look(format!("several endpoints: {}; this is about the first", endpoints.join(", ")));
    }
    if of("endpoint.server") == Some("true") {
        all.good("server: true".to_owned());
    } else {
        all.bad(
            "the endpoint does not start its server: config/runtime.exs has to set server: true when PHX_SERVER is \
             set, as `mix phx.new` writes it"
                .to_owned(),
        );
    }
    host(&mut all, of("endpoint.host").unwrap_or_default(), spec.hosts.first().map(String::as_str));
    origin(&mut all, of("endpoint.check_origin").unwrap_or_default(), &spec.hosts);
    let force_ssl = of("endpoint.force_ssl").unwrap_or_default();
    if ["false", "nil"].contains(&force_ssl) {
        all.good("force_ssl: off".to_owned());
    } else if force_ssl.contains("x_forwarded_proto") {
        all.good("force_ssl: on, by X-Forwarded-Proto".to_owned());
    } else {
        all.look(format!(
            "force_ssl: {force_ssl}: behind a proxy that ends TLS every request is redirected, for ever; add \
             rewrite_on: [:x_forwarded_proto]"
        ));
    }
    listen(
        &mut all,
        of("endpoint.ip").unwrap_or_default(),
        of("endpoint.port").unwrap_or_default(),
        spec.port,
    );
    pools(&mut all, every("repo"), spec.replicas);
    if every("repo.ipv6").any(|ipv6| ipv6 == "true") {
        all.look("a repo connects by IPv6 only (ECTO_IPV6): the pods need it".to_owned());
    }
    let sockets =
        every("socket.shutdown_ms").filter_map(|socket| socket.rsplit(' ').next()?.parse().ok()).max();
    drain(
        &mut all,
        [
            ("sockets", sockets),
            ("requests", of("endpoint.shutdown_ms").and_then(|text| text.parse().ok())),
            ("jobs", of("oban.shutdown_ms").and_then(|text| text.parse().ok())),
        ],
        Duration::from(spec.shutdown.endpoint_lag),
        Duration::from(spec.shutdown.grace),
    );
    cluster(&mut all, of("dns_cluster"), &every("libcluster").collect::<Vec<_>>(), app);
    overrides(&mut all, every("env.sh").collect());
    all.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: String) {
        self.0.push(Finding { level: Level::Good, what });
    }

    fn look(&mut self, what: String) {
        self.0.push(Finding { level: Level::Look, what });
    }

    fn bad(&mut self, what: String) {
        self.0.push(Finding { level: Level::Bad, what });
    }
}

fn host(all: &mut Findings, host: &str, wanted: Option<&str>) {
    match wanted {
        Some(wanted) if host != wanted => all.bad(format!(
            "url host is {host:?}, but spec.hosts[0] is {wanted:?}: config/runtime.exs has to take it from PHX_HOST"
        )),
        None if host != "localhost" => {
            all.look(format!("url host is {host:?}, set in the release; spec.hosts is empty"));
        }
        _ => all.good(format!("url host: {host}")),
    }
}

/// <https://hexdocs.pm/phoenix/Phoenix.Endpoint.html>: `true` compares with the url's host alone.
fn origin(all: &mut Findings, origin: &str, hosts: &[String]) {
    match origin {
        "false" => all.look("check_origin: false: sockets are open to every site".to_owned()),
        "true" if hosts.len() > 1 => all.bad(format!(
            "check_origin: true allows sockets from {} only; {} are refused: list all in check_origin",
            hosts[0],
            hosts[1..].join(", ")
        )),
        ":conn" | "true" => all.good(format!("check_origin: {origin}")),
        list => {
            let plain = |host: &&String| !list.contains(host.trim_start_matches("*."));
            let missing: Vec<&str> = hosts.iter().filter(plain).map(String::as_str).collect();
            if missing.is_empty() {
                all.good(format!("check_origin: {list}"));
            } else {
                all.look(format!("check_origin: {list}, in which {} is not found", missing.join(", ")));
            }
        }
    }
}

fn listen(all: &mut Findings, ip: &str, port: &str, wanted: i32) {
    match ip {
        "{127, 0, 0, 1}" | "{0, 0, 0, 0, 0, 0, 0, 1}" | ":loopback" => all.bad(format!(
            "it listens on {ip}, where no request of another pod comes in: bind {{0, 0, 0, 0}} in config/runtime.exs"
        )),
        "{0, 0, 0, 0, 0, 0, 0, 0}" => all.good("listens on every address, IPv6 included, which nodes have to have".to_owned()),
        ip => all.good(format!("listens on {ip}")),
    }
    if port == wanted.to_string() {
        all.good(format!("port: {port}"));
    } else {
        all.bad(format!(
            "it listens on port {port}, but spec.port is {wanted}: config/runtime.exs has to take it from PORT"
        ));
    }
}

fn pools<'a>(all: &mut Findings, repos: impl Iterator<Item = &'a str>, replicas: i32) {
    for repo in repos {
        let (name, size) = repo.split_once(' ').unwrap_or((repo, "?"));
        let total = size
            .parse::<i64>()
            .map_or_else(|_| "?".to_owned(), |size| (size * i64::from(replicas)).to_string());
        all.good(format!(
            "{name}: {size} connections in each pod, {total} with all {replicas} pods, more in a rollout"
        ));
    }
}

/// They run one after the other: sockets, then requests, then jobs.
fn drain(all: &mut Findings, timers: [(&str, Option<u64>); 3], lag: Duration, grace: Duration) {
    let parts: Vec<String> = timers
        .iter()
        .filter_map(|(what, ms)| ms.map(|ms| format!("{what} {} s", ms.div_ceil(1000))))
        .collect();
    let sum: u64 = timers.iter().filter_map(|(_, ms)| *ms).map(|ms| ms.div_ceil(1000)).sum();
    let needed = sum + lag.as_secs();
    let text =
        format!("drain takes up to {needed} s (endpointLag {} s, {})", lag.as_secs(), parts.join(", "));
    if needed > grace.as_secs() {
        all.bad(format!(
            "{text}, but shutdown.grace is {} s: pods will be killed; raise it to {} s",
            grace.as_secs(),
            needed + 5
        ));
    } else {
        all.good(format!("{text}, within shutdown.grace of {} s", grace.as_secs()));
    }
}

fn cluster(all: &mut Findings, query: Option<&str>, topologies: &[&str], app: &PhoenixApp) {
    use crate::api::ClusteringMode;
    match (app.spec.clustering.mode, query, topologies) {
        (ClusteringMode::Disabled, ..) => all.good("clustering is off".to_owned()),
        (_, Some(_), _) => all.good("clusters by dns_cluster".to_owned()),
        (_, None, []) => all.look(
            "neither dns_cluster nor libcluster is configured: nodes will not see each other; set \
             clustering.mode to Disabled if that is meant"
                .to_owned(),
        ),
        (_, None, topologies) => all.good(format!("clusters by libcluster: {}", topologies.join(", "))),
    }
}

/// Variables that the operator sets and rel/env.sh.eex must leave alone.
fn overrides(all: &mut Findings, names: Vec<&str>) {
    let harmful =
        ["RELEASE_NODE", "RELEASE_DISTRIBUTION", "RELEASE_COOKIE", "DNS_CLUSTER_QUERY", "PHX_HOST", "PORT"];
    let (bad, rest): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| harmful.contains(name));
    if !bad.is_empty() {
        all.bad(format!(
            "rel/env.sh.eex overrides {}, which the operator sets: remove them there, or write \
             ${{NAME:-...}} so that what is set stays",
            bad.join(", ")
        ));
    }
    if !rest.is_empty() {
        all.look(format!("rel/env.sh.eex sets {}", rest.join(", ")));
    }
}

/// PURE. The findings for people, the worst first.
pub fn text(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let line = |finding: &&Finding| {
        let mark = match finding.level {
            Level::Good => "✓",
            Level::Look => "?",
            Level::Bad => "✗",
        };
        format!("{mark} {}", finding.what)
    };
    sorted.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Doctor {
    /// Examines the release.
    ///
    /// # Errors
    /// When the Job cannot be made, or the release does not answer.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let snapshot = gather(cluster, app).await?.with(&["ControllerRevision"])?;
        let template = revision(&snapshot, self.candidate)?.pod_template;
        let command = vec![program(&snapshot.app), "eval".to_owned(), SCRIPT.to_owned()];
        let job = job(&snapshot.app, template, &command, true, self.timeout.into());
        let (exit, output) = follow(cluster, job, self.timeout.into(), true).await?;
        let facts = facts(&output);
        if facts.is_empty() {
            if exit == Exit::TimedOut {
                return Ok(exit);
            }
            bail!(
                "{} said nothing of the release (if that is not its program, set spec.release); it said:\n{}",
                program(&snapshot.app),
                output.trim()
            );
        }
        let findings = findings(&facts, &snapshot.app);
        format.print(&findings, || text(&findings))?;
        let bad = findings.iter().any(|finding| finding.level == Level::Bad);
        Ok(if bad || exit != Exit::Done { Exit::Failed } else { Exit::Done })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::phx::tests::scene;

    fn judged(said: &[(&str, &str)], spec: &Value) -> String {
        let lines: Vec<String> =
            said.iter().map(|(key, value)| format!("phx-doctor\t{key}\t{value}")).collect();
        let output = format!("12:00 [info] noise\n{}\n", lines.join("\n"));
        text(&findings(&facts(&output), &scene::app(spec, &json!({}))))
    }

    #[test]
    fn a_release_as_phoenix_makes_it_is_sound() {
        let said = [
            ("elixir", "1.18.4"),
            ("otp", "27"),
            ("phoenix", "1.8.1"),
            ("endpoint", "ShopWeb.Endpoint"),
            ("endpoint.server", "true"),
            ("endpoint.host", "shop.example.com"),
            ("endpoint.check_origin", "true"),
            ("endpoint.force_ssl", "[rewrite_on: [:x_forwarded_proto], exclude: [hosts: [\"localhost\"]]]"),
            ("endpoint.ip", "{0, 0, 0, 0, 0, 0, 0, 0}"),
            ("endpoint.port", "4000"),
            ("endpoint.shutdown_ms", "15000"),
            ("socket.shutdown_ms", "/live 30000"),
            ("oban.shutdown_ms", "15000"),
            ("repo", "Shop.Repo 10"),
            ("repo.ipv6", "false"),
            ("dns_cluster", "shop-headless.prod.svc.cluster.local"),
        ];
        let text = judged(&said, &json!({"hosts": ["shop.example.com"]}));
        assert!(!text.contains('✗') && !text.contains('?'), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_will_not_work_is_told_with_its_cure() {
        let said = [
            ("elixir", "1.18.4"),
            ("endpoint", "ShopWeb.Endpoint"),
            ("endpoint.server", "false"),
            ("endpoint.host", "example.com"),
            ("endpoint.check_origin", "true"),
            ("endpoint.force_ssl", "[hsts: true]"),
            ("endpoint.ip", "{127, 0, 0, 1}"),
            ("endpoint.port", "8080"),
            ("endpoint.shutdown_ms", "60000"),
            ("socket.shutdown_ms", "/live 30000"),
            ("socket.shutdown_ms", "/socket 5000"),
            ("env.sh", "RELEASE_NODE"),
            ("env.sh", "ECTO_IPV6"),
            ("trouble", "Oban: nope"),
        ];
        insta::assert_snapshot!(judged(&said, &json!({"hosts": ["shop.example.com", "www.example.com"]})));
    }

    #[test]
    fn without_an_endpoint_there_is_little_to_say() {
        assert!(judged(&[("elixir", "1.18.4")], &json!({})).contains("no Phoenix endpoint"));
    }
}
