//! The figures as a page: ratios first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::figures::{Contest, Figures, Floor, Passage, Quantiles, kib, median, number};
use super::work::{IN_FLIGHT, NEIGHBOURS, PAUSE, REPLICAS, WEIGHT};

/// What stands for a figure that was not taken.
const NONE: &str = "-";

/// The page.
pub fn markdown(figures: &Figures) -> String {
    let mut page = String::new();
    // Writing to a text cannot fail.
    let _ = page.write_str(&head(figures));
    let _ = page.write_str(&ratios(figures));
    let _ = page.write_str(&times(figures));
    let _ = page.write_str(&singles(figures));
    let _ = page.write_str(&writes(figures));
    let _ = page.write_str(&rest(figures));
    let _ = page.write_str(&growth(figures));
    let _ = page.write_str(&holders(figures));
    let _ = page.write_str(&method(figures));
    page
}

fn head(figures: &Figures) -> String {
    let machine = &figures.machine;
    format!(
        "# Benchmarks\n\nWritten by `make bench`: {} apps of {REPLICAS} replicas on fake nodes, everything on one\n\
         machine of {machine} (Linux {}), the API server, etcd and the controllers of Kubernetes on it\n\
         too. The raw figures are in benchmarks.json beside this page.\n\n",
        figures.apps, machine.kernel,
    )
}

/// Ratios and targets.
fn ratios(figures: &Figures) -> String {
    let operator = figures.operator.as_ref();
    let first = operator.and_then(|contest| contest.first.as_ref());
    let canary = operator.and_then(|contest| contest.canary.as_ref());
    let floor = with_status(figures);
    let mut rows = vec![row(
        "all created to all healthy, against a raw client that also writes the apps and their statuses",
        over(first.map(|passage| passage.seconds), floor),
        "1.3",
    )];
    rows.push(row(
        "the same against the client without statuses",
        over(first.map(|passage| passage.seconds), objects(figures)),
        NONE,
    ));
    rows.push(row(
        "all updated by Rolling, against a raw client that gives as many Deployments another image",
        over(operator.and_then(|contest| Some(contest.rolling.as_ref()?.seconds)), updated(figures)),
        NONE,
    ));
    let peers = [("Argo Rollouts", &figures.peer), ("Argo Rollouts at 500 QPS", &figures.unthrottled_peer)];
    for (name, peer) in peers.into_iter().filter(|(_, peer)| peer.is_some()) {
        let wanted = |target: &'static str| if name == "Argo Rollouts" { target } else { NONE };
        let of =
            |passage: fn(&Contest) -> &Option<Passage>| peer.as_ref().and_then(|peer| passage(peer).as_ref());
        let (theirs, updated) = (of(|peer| &peer.first), of(|peer| &peer.canary));
        let seconds = |passage: Option<&Passage>| passage.map(|passage| passage.seconds);
        let cpu = |passage: Option<&Passage>| passage.map(|passage| passage.cpu);
        rows.extend([
            row(
                &format!("all created to all healthy, against {name}"),
                over(seconds(first), seconds(theirs)),
                wanted("0.5"),
            ),
            row(&format!("its CPU, against {name}"), over(cpu(first), cpu(theirs)), wanted("0.33")),
            row(
                &format!("all updated by canary, against {name}"),
                over(seconds(canary), seconds(updated)),
                wanted("0.5"),
            ),
            row(&format!("its CPU, against {name}"), over(cpu(canary), cpu(updated)), NONE),
        ]);
    }
    let resting = |contest: &Contest| contest.rest.as_ref().map(|rest| rest.rss);
    let memory = over(operator.and_then(resting).map(kib), figures.peer.as_ref().and_then(resting).map(kib));
    rows.push(row("memory at rest, against Argo Rollouts", memory, NONE));
    rows.push(row(
        "memory at rest, MiB",
        grown(figures, |contest| mib(resting(contest))),
        "25 (500 apps), 100 (10,000)",
    ));
    rows.push(row("memory with no apps, MiB", mib(operator.map(|contest| contest.empty_rss)), "12"));
    let created = operator.and_then(|contest| contest.created.as_ref());
    rows.push(row(
        "one app: applied to children exist, p99, ms",
        created.map(|created| ms(created.p99)),
        "150",
    ));
    if let Some(churn) = operator.and_then(|contest| contest.churn.as_ref()) {
        let what = format!(
            "memory at rest after {} apps came, changed or went in {:.0} min, against before",
            churn.changes,
            churn.seconds / 60.0
        );
        rows.push(row(&what, over(Some(kib(churn.after)), Some(kib(churn.before))), "1.1"));
    }
    let cold = operator.and_then(|contest| contest.cold.as_ref());
    rows.push(row(
        "started over all apps, s",
        grown(figures, |contest| contest.cold.as_ref().map(|cold| seconds(cold.seconds))),
        "10 (10,000 apps)",
    ));
    rows.push(row("writes of that start", cold.map(|cold| total(&cold.writes).to_string()), "0"));
    let asked = operator.and_then(|contest| contest.rest.as_ref()).map(|rest| {
        let asked = rest
            .requests
            .iter()
            .filter(|(what, _)| !what.starts_with("watch ") && !what.ends_with(" leases"));
        asked.map(|(_, count)| count).sum::<usize>().to_string()
    });
    rows.push(row("requests at rest in a minute, watches and the Lease aside", asked, "0"));
    let rolling = operator.and_then(|contest| contest.rolling.as_ref());
    let own = rolling.map(|passage| each(passage.written_to("phoenixapps"), figures.apps));
    rows.push(row("writes on the PhoenixApp in a rolling update", own, "8"));
    format!(
        "## Ratios and targets\n\nLess is better everywhere.\n\n| | measured | wanted |\n|---|---|---|\n{}\n",
        rows.concat()
    )
}

/// A figure of the operator, and with more apps if they were measured.
fn grown(figures: &Figures, figure: impl Fn(&Contest) -> Option<String>) -> Option<String> {
    let few = figure(figures.operator.as_ref()?)?;
    let more = figures.many.as_ref().and_then(|many| {
        let more = figure(many.operator.as_ref()?)?;
        Some(format!("{few} ({} apps), {more} ({})", figures.apps, many.apps))
    });
    Some(more.unwrap_or(few))
}

fn times(figures: &Figures) -> String {
    let columns = columns(figures);
    let mut page = String::from("## Many apps at once\n\nTimes in seconds, memory in MiB.\n\n");
    page += &header(&columns);
    let mut line = |title: &str, floor: Option<String>, figure: &dyn Fn(&Contest) -> Option<String>| {
        let cells = columns.iter().map(|(_, contest)| figure(contest).unwrap_or_else(|| NONE.to_owned()));
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(
            page,
            "| {title} | {} | {} |",
            floor.unwrap_or_else(|| NONE.to_owned()),
            cells.join(" | ")
        );
    };
    let floor = with_status(figures).map(|seconds| {
        format!("{seconds:.1} (without statuses {:.1})", objects(figures).unwrap_or_default())
    });
    let client =
        (!figures.floors.is_empty()).then(|| seconds(median(figures.floors.iter().map(|floor| floor.cpu))));
    line("all created: all healthy", floor, &|c| Some(seconds(c.first.as_ref()?.seconds)));
    line("... CPU", client, &|c| Some(seconds(c.first.as_ref()?.cpu)));
    line("... most memory", None, &|c| mib(c.first.as_ref().map(|p| p.peak_rss)));
    line("... one app of them, p50 / p99", None, &|c| Some(pair(&c.first.as_ref()?.each)));
    line("updated by Rolling: all healthy", updated(figures).map(seconds), &|c| {
        Some(seconds(c.rolling.as_ref()?.seconds))
    });
    line("... CPU", None, &|c| Some(seconds(c.rolling.as_ref()?.cpu)));
    line("updated by Canary: all healthy", None, &|c| Some(seconds(c.canary.as_ref()?.seconds)));
    line("... CPU", None, &|c| Some(seconds(c.canary.as_ref()?.cpu)));
    line("... most memory", None, &|c| mib(c.canary.as_ref().map(|p| p.peak_rss)));
    line("memory with no apps", None, &|c| mib(Some(c.empty_rss)));
    line("memory at rest", None, &|c| mib(c.rest.as_ref().map(|rest| rest.rss)));
    line("CPU of a minute's rest", None, &|c| Some(format!("{:.2}", c.rest.as_ref()?.cpu_a_minute())));
    line("started over all of them: all judged", None, &|c| Some(seconds(c.cold.as_ref()?.seconds)));
    line("... CPU", None, &|c| Some(seconds(c.cold.as_ref()?.cpu)));
    line("... most memory", None, &|c| mib(c.cold.as_ref().map(|cold| cold.peak_rss)));
    line("... writes", None, &|c| Some(total(&c.cold.as_ref()?.writes).to_string()));
    line("... KiB received for each app", None, &|c| Some(kib_each(c.bytes.as_ref()?.cold, figures.apps)));
    line("KiB received for each app that is updated", None, &|c| {
        c.bytes.as_ref().map(|bytes| kib_each(bytes.update, bytes.updated))
    });
    page.push('\n');
    page
}

fn singles(figures: &Figures) -> String {
    let mut page = format!(
        "## One app on a resting cluster\n\np50 / p99 / most of {}, in milliseconds. The controllers of Kubernetes have \
         their part in all but the first.\n\n",
        figures.singles
    );
    let columns = columns(figures);
    page += &header(&columns);
    let mut line = |title: &str, figure: fn(&Contest) -> Option<&Quantiles>| {
        let cells =
            columns.iter().map(|(_, contest)| figure(contest).map_or_else(|| NONE.to_owned(), triple));
        let _ = writeln!(page, "| {title} | {NONE} | {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line("applied: children exist", |c| c.created.as_ref());
    line("applied: healthy", |c| c.healthy.as_ref());
    line("a pod unready: status says so", |c| c.noticed.as_ref());
    page.push('\n');
    page
}

/// Writes per app, by verb and resource.
fn writes(figures: &Figures) -> String {
    let mut page =
        String::from("## Writes\n\nRequests for each app and change, by the API server's audit log.\n\n");
    let mut passages: Vec<(String, &Passage)> = Vec::new();
    for (name, contest) in columns(figures) {
        for (what, passage) in
            [("created", &contest.first), ("Rolling", &contest.rolling), ("Canary", &contest.canary)]
        {
            if let Some(passage) = passage {
                passages.push((format!("{name}: {what}"), passage));
            }
        }
    }
    let mut kinds: Vec<&String> = passages.iter().flat_map(|(_, passage)| passage.writes.keys()).collect();
    kinds.sort();
    kinds.dedup();
    let titles: Vec<&str> = passages.iter().map(|(title, _)| title.as_str()).collect();
    let _ = writeln!(page, "| | {} |\n|---|{}", titles.join(" | "), "---|".repeat(passages.len()));
    let mut line = |title: &str, figure: &dyn Fn(&Passage) -> String| {
        let cells: Vec<String> = passages.iter().map(|(_, passage)| figure(passage)).collect();
        let _ = writeln!(page, "| {title} | {} |", cells.join(" | "));
    };
    line("all, events aside", &|passage| each(passage.written(), figures.apps));
    for kind in kinds {
        line(kind, &|passage| {
            passage.writes.get(kind).map_or_else(|| NONE.to_owned(), |count| each(*count, figures.apps))
        });
    }
    line("of them refused as conflicts", &|passage| each(passage.conflicts, figures.apps));
    line("requests that read", &|passage| each(total(&passage.reads), figures.apps));
    page.push('\n');
    page
}

/// Requests of a minute's rest.
fn rest(figures: &Figures) -> String {
    let mut page = String::from("## At rest\n\nAll requests of a minute in which nothing changes.\n\n");
    for (name, contest) in columns(figures) {
        if let Some(rest) = &contest.rest {
            let kinds: Vec<String> =
                rest.requests.iter().map(|(what, count)| format!("{count} {what}")).collect();
            let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
            let _ = writeln!(page, "- {name}: {kinds}.");
        }
    }
    page.push('\n');
    page
}

/// What an app takes where there are many more, if that was measured.
fn growth(figures: &Figures) -> String {
    let Some(many) = &figures.many else { return String::new() };
    let sides = [figures, &**many];
    let [few, more] = sides.map(|side| side.apps);
    let mut page = format!(
        "## Growth\n\nThe operator with more apps, in a run of its own on a machine of {}.\n\n\
         | | {few} apps | {more} apps |\n|---|---|---|\n",
        many.machine,
    );
    let mut line = |title: &str, figure: &dyn Fn(&Contest, f64) -> Option<String>| {
        let cells = sides.map(|side| {
            let figure = side.operator.as_ref().and_then(|operator| figure(operator, number(side.apps)));
            figure.unwrap_or_else(|| NONE.to_owned())
        });
        let _ = writeln!(page, "| {title} | {} |", cells.join(" | "));
    };
    let milliseconds = |time: f64| format!("{:.1}", time * 1000.0);
    line("all created: CPU for each app, ms", &|c, apps| Some(milliseconds(c.first.as_ref()?.cpu / apps)));
    line("... most memory, MiB", &|c, _| mib(c.first.as_ref().map(|passage| passage.peak_rss)));
    line("memory at rest, MiB", &|c, _| mib(c.rest.as_ref().map(|rest| rest.rss)));
    line("... for each app, KiB beyond what it takes with none", &|c, apps| {
        Some(format!("{:.1}", (kib(c.rest.as_ref()?.rss) - kib(c.empty_rss)) / apps))
    });
    line("CPU of a minute's rest, s", &|c, _| Some(format!("{:.2}", c.rest.as_ref()?.cpu_a_minute())));
    line("started over all of them: all judged, s", &|c, _| Some(seconds(c.cold.as_ref()?.seconds)));
    line("... CPU for each app, ms", &|c, apps| Some(milliseconds(c.cold.as_ref()?.cpu / apps)));
    line("... writes", &|c, _| Some(total(&c.cold.as_ref()?.writes).to_string()));
    line("... memory then, MiB", &|c, _| mib(c.cold.as_ref().map(|cold| cold.rss)));
    page.push('\n');
    page
}

/// Who holds the operator's memory, if that was asked.
fn holders(figures: &Figures) -> String {
    let holders = figures.operator.as_ref().map(|operator| operator.holders.as_slice()).unwrap_or_default();
    if holders.is_empty() {
        return String::new();
    }
    let mut page = String::from(
        "## Who holds the operator's memory\n\nAt rest after a start over all apps, by heaptrack: what was asked for and \
         not given back, by the function that asked, and the operator's own function that led there.\n\n\
         | KiB | asked for by | within |\n|---|---|---|\n",
    );
    for holder in holders {
        let name = |name: &str| if name.is_empty() { "-".to_owned() } else { format!("`{name}`") };
        let (by, within) = (name(&holder.by), name(&holder.within));
        let _ = writeln!(page, "| {:.0} | {by} | {within} |", kib(holder.bytes) / 1024.0);
    }
    page.push('\n');
    page
}

fn method(figures: &Figures) -> String {
    let unthrottled = match figures.unthrottled_peer {
        Some(_) => "; the column of\n  500 QPS shows it with more room",
        None => "",
    };
    format!(
        "## How it is measured\n\n\
         - Everyone begins on a fresh cluster: etcd, API server, controller manager and scheduler of Kubernetes 1.36\n  \
         (the last two at 500 requests a second), and fake nodes, three or more, on which pods are ready at once. A\n  \
         namespace holds {NEIGHBOURS} apps.\n\
         - **The raw client** writes, {IN_FLIGHT} requests at a time, the objects that the operator makes of each app (a\n  \
         Deployment, two Services, a ControllerRevision, a ConfigMap, a Secret, a ServiceAccount, a PodDisruptionBudget),\n  \
         and waits until all Deployments are available. With statuses it also makes the app, writes its status once\n  \
         before its objects and once when it is available. Its update is one patch for each Deployment, which rolls over\n  \
         by itself: nothing is stored, moved or told. It runs several times between the others; the median counts.\n\
         - **The operator** runs as its chart installs it, but for the Lease: all namespaces, the chart's rights, its default\n  \
         log. Like its peer it finds the API server and its token as a pod does. Apps are made, and later patched,\n  \
         {IN_FLIGHT} at a time. *Healthy* is what its status says of the generation that was asked for.\n\
         - **Argo Rollouts** 1.10.1 looks after canary Rollouts of the same pods; the Services and what else the pods need\n  \
         are made before the clock starts. It may ask 40 times a second as its manifests install it{unthrottled}. \
         Both have one step of {WEIGHT} % and a pause of\n  \
         {PAUSE} s, and no leader election. It makes one object an app where the operator makes eight.\n\
         - CPU and memory are the process's own, as /proc has them: CPU until no request is made any more, memory as\n  \
         resident set. Bytes are counted by passing the connection through the benchmark, in a run of its own.\n  \
         A latency begins when the request is sent and ends when a watch shows the result.\n"
    )
}

/// The contenders that were measured, with their names.
fn columns(figures: &Figures) -> Vec<(&'static str, &Contest)> {
    let all = [
        ("operator", &figures.operator),
        ("operator with migration Jobs", &figures.migrating),
        ("Argo Rollouts", &figures.peer),
        ("Argo Rollouts at 500 QPS", &figures.unthrottled_peer),
    ];
    all.into_iter().filter_map(|(name, contest)| Some((name, contest.as_ref()?))).collect()
}

fn header(columns: &[(&str, &Contest)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    format!("| | raw client | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(columns.len()))
}

fn floors(figures: &Figures, figure: fn(&Floor) -> f64) -> Option<f64> {
    (!figures.floors.is_empty()).then(|| median(figures.floors.iter().map(figure)))
}

fn with_status(figures: &Figures) -> Option<f64> {
    floors(figures, |floor| floor.with_status)
}

fn objects(figures: &Figures) -> Option<f64> {
    floors(figures, |floor| floor.objects)
}

fn updated(figures: &Figures) -> Option<f64> {
    floors(figures, |floor| floor.updated)
}

fn row(what: &str, measured: Option<String>, wanted: &str) -> String {
    format!("| {what} | {} | {wanted} |\n", measured.unwrap_or_else(|| NONE.to_owned()))
}

/// A ratio, if both were measured.
fn over(ours: Option<f64>, theirs: Option<f64>) -> Option<String> {
    Some(format!("{:.2}", ours? / theirs.filter(|theirs| *theirs > 0.0)?))
}

fn total(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}

/// How many of them each app has.
fn each(count: usize, apps: usize) -> String {
    format!("{:.1}", number(count) / number(apps.max(1)))
}

/// Bytes as KiB for each app.
fn kib_each(bytes: u64, apps: usize) -> String {
    format!("{:.1}", kib(bytes) / 1024.0 / number(apps.max(1)))
}

fn mib(size: Option<u64>) -> Option<String> {
    size.map(|size| format!("{:.1}", kib(size) / 1024.0))
}

fn seconds(time: f64) -> String {
    format!("{time:.1}")
}

fn ms(time: f64) -> String {
    format!("{:.0}", time * 1000.0)
}

fn pair(quantiles: &Quantiles) -> String {
    format!("{:.1} / {:.1}", quantiles.p50, quantiles.p99)
}

fn triple(quantiles: &Quantiles) -> String {
    format!("{} / {} / {}", ms(quantiles.p50), ms(quantiles.p99), ms(quantiles.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Rest;

    fn passage(seconds: f64, writes: &[(&str, usize)]) -> Passage {
        let writes = writes.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        Passage { seconds, cpu: seconds / 10.0, writes, ..Passage::default() }
    }

    #[test]
    fn ratios_come_first_and_missing_figures_are_dashes() {
        let writes = [("update phoenixapps/status", 70), ("create deployments", 10), ("create events", 30)];
        let operator = Contest {
            empty_rss: 10 * 1024,
            first: Some(passage(30.0, &[])),
            rolling: Some(passage(40.0, &writes)),
            rest: Some(Rest { requests: [("watch pods".to_owned(), 3)].into(), ..Rest::default() }),
            ..Contest::default()
        };
        let first = Some(Passage { cpu: 4.0, ..Passage::default() });
        let rest = Some(Rest { rss: 30 * 1024, ..Rest::default() });
        let most = Contest { empty_rss: 20 * 1024, first, rest, ..Contest::default() };
        let many = Figures { apps: 1000, operator: Some(most), ..Figures::default() };
        let figures = Figures {
            apps: 10,
            floors: vec![Floor { objects: 10.0, with_status: 20.0, ..Floor::default() }],
            operator: Some(operator),
            peer: Some(Contest { first: Some(passage(60.0, &[])), ..Contest::default() }),
            many: Some(Box::new(many)),
            ..Figures::default()
        };
        let page = markdown(&figures);
        assert!(page.find("## Ratios").unwrap() < page.find("## Many").unwrap());
        assert!(page.contains("statuses | 1.50 | 1.3 |"), "{page}");
        assert!(page.contains("healthy, against Argo Rollouts | 0.50 | 0.5 |"), "{page}");
        assert!(page.contains("updated by canary, against Argo Rollouts | - | 0.5 |"), "{page}");
        assert!(page.contains("writes on the PhoenixApp in a rolling update | 7.0 | 8 |"), "{page}");
        assert!(page.contains("| all, events aside | 0.0 | 8.0 |"), "{page}");
        assert!(page.contains("watches and the Lease aside | 0 | 0 |"), "{page}");
        assert!(page.contains("- operator: 3 watch pods."), "{page}");
        assert!(page.contains("CPU for each app, ms | 300.0 | 4.0 |"), "{page}");
        assert!(page.contains("beyond what it takes with none | -1024.0 | 10.2 |"), "{page}");
        // Every row of a table has as many cells as its head.
        let mut cells = None;
        for line in page.lines() {
            let count = line.starts_with('|').then(|| line.matches('|').count());
            assert!(cells.is_none() || count.is_none() || cells == count, "{line}");
            cells = count;
        }
    }
}
