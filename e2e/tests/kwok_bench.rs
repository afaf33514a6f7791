//! A clear loss of speed, of memory or of thrift: what fifty apps cost, against a raw client on the same machine.
//!
//! The limits are generous, because the machine may be busy; `make bench` measures.

use anyhow::{Result, ensure};
use e2e::audit::OPERATOR;
use e2e::bench::{Contest, Step, floor_with_status, kib, many, number, phoenix_operator};
use e2e::harness::Lab;
use serde_json::json;

const APPS: usize = 50;
/// How much more CPU an unoptimised program may take.
const SLACK: f64 = if cfg!(debug_assertions) { 3.0 } else { 1.0 };
/// The operator's time from the first app to the last healthy one, against that of a raw client which writes the same.
const TIMES_THE_FLOOR: f64 = 2.5;
/// CPU seconds of the operator for an app's first rollout.
const CPU_FIRST: f64 = 0.05;
/// CPU seconds of the operator for a rolling update of an app.
const CPU_ROLLING: f64 = 0.12;
/// Memory at rest with all of them, in KiB.
const MEMORY: u64 = if cfg!(debug_assertions) { 100 * 1024 } else { 48 * 1024 };
/// Memory with no apps, in KiB; an unoptimised program is itself that large.
const EMPTY: u64 = if cfg!(debug_assertions) { 60 * 1024 } else { 28 * 1024 };
/// Writes on an app and its status in a rolling update.
const WRITES_ON_THE_APP: f64 = 5.0;
/// All writes of a rolling update, events aside.
const WRITES: f64 = 16.0;
/// From an unready pod to the status that says so, in seconds; the median.
const NOTICED: f64 = 1.0;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_apps_cost_no_more_than_they_may() -> Result<()> {
    let lab = Lab::audited(&[OPERATOR], 2 * APPS).await?;
    let before = floor_with_status(lab.client(), "floor-before", APPS).await?.took.as_secs_f64();
    let operator = phoenix_operator(&lab, "few", &["bench"], json!({})).await?;
    let Contest {
        empty_rss,
        first: Some(first),
        rolling: Some(rolling),
        noticed: Some(noticed),
        cold: Some(cold),
        ..
    } = many(&lab, &operator, "bench", APPS, &[Step::Notice(20), Step::Rolling, Step::Cold]).await?
    else {
        anyhow::bail!("not all was measured");
    };
    let after = floor_with_status(lab.client(), "floor-after", APPS).await?.took.as_secs_f64();
    let floor = f64::midpoint(before, after);
    println!("a raw client: {before:.1} s before, {after:.1} s after; the operator: {:.1} s", first.seconds);

    let mut losses = Vec::new();
    let mut hold = |what: &str, measured: f64, limit: f64| {
        println!("{what}: {measured:.3} of {limit}");
        if measured > limit {
            losses.push(format!("{what}: {measured:.3}, may be {limit}"));
        }
    };
    hold("time against a raw client", first.seconds / floor, TIMES_THE_FLOOR);
    hold("CPU seconds of a first rollout", first.cpu / number(APPS), CPU_FIRST * SLACK);
    hold("CPU seconds of a rolling update", rolling.cpu / number(APPS), CPU_ROLLING * SLACK);
    hold("KiB at rest", kib(first.rss), kib(MEMORY));
    hold("KiB with no apps", kib(empty_rss), kib(EMPTY));
    hold(
        "writes on an app in a rolling update",
        number(rolling.written_to("phoenixapps")) / number(APPS),
        WRITES_ON_THE_APP,
    );
    hold("writes of a rolling update", number(rolling.written()) / number(APPS), WRITES);
    hold("seconds until an unready pod is noticed", noticed.p50, NOTICED);
    hold("writes of a start", number(cold.writes.values().sum()), 0.0);
    ensure!(losses.is_empty(), "a clear loss:\n{}", losses.join("\n"));
    Ok(())
}
