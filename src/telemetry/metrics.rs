//! What is counted. Every label has a bounded set of values, but for `phase`, whose series leave with their app.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::phases::Phases;
use crate::api::Phase;

/// Seconds a reconcile takes.
const RECONCILE_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Seconds a rollout takes.
const ROLLOUT_SECONDS: &[f64] =
    &[5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0];

/// Everything that is measured.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    queue_depth: IntGauge,
    in_backoff: IntGauge,
    writes: IntCounterVec,
    rollouts: IntCounterVec,
    rollout_seconds: HistogramVec,
    phases: Phases,
    watch_failures: IntCounterVec,
    stale_skips: IntCounterVec,
    leader: IntGauge,
    lease_failures: IntCounter,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When two metrics have the same name, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            reconciles: IntCounterVec::new(
                Opts::new("phoenix_operator_reconciles_total", "Reconciles by outcome"),
                &["outcome"],
            )?,
            reconcile_seconds: HistogramVec::new(
                HistogramOpts::new("phoenix_operator_reconcile_duration_seconds", "Duration of a reconcile")
                    .buckets(RECONCILE_SECONDS.to_vec()),
                &["outcome"],
            )?,
            queue_depth: IntGauge::new("phoenix_operator_queue_depth", "Apps that wait to be reconciled")?,
            in_backoff: IntGauge::new(
                "phoenix_operator_objects_in_backoff",
                "Apps whose last reconcile failed",
            )?,
            writes: IntCounterVec::new(
                Opts::new("phoenix_operator_api_writes_total", "Writes to the API server by result"),
                &["verb", "kind", "result"],
            )?,
            rollouts: IntCounterVec::new(
                Opts::new("phoenix_operator_rollouts_total", "Finished rollouts by outcome"),
                &["outcome"],
            )?,
            rollout_seconds: HistogramVec::new(
                HistogramOpts::new("phoenix_operator_rollout_duration_seconds", "Duration of a rollout")
                    .buckets(ROLLOUT_SECONDS.to_vec()),
                &["outcome"],
            )?,
            phases: Phases::new()?,
            watch_failures: IntCounterVec::new(
                Opts::new("phoenix_operator_watch_failures_total", "Failures of a watch by kind"),
                &["kind"],
            )?,
            stale_skips: IntCounterVec::new(
                Opts::new(
                    "phoenix_operator_stale_skips_total",
                    "Reconciles put off because a cache had yet to catch up with a write",
                ),
                &["kind"],
            )?,
            leader: IntGauge::new("phoenix_operator_leader", "1 while this one leads: only then it writes")?,
            lease_failures: IntCounter::new(
                "phoenix_operator_lease_failures_total",
                "Times that the Lease of the leader was not reached",
            )?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.reconciles.clone()))?;
        registry.register(Box::new(metrics.reconcile_seconds.clone()))?;
        registry.register(Box::new(metrics.queue_depth.clone()))?;
        registry.register(Box::new(metrics.in_backoff.clone()))?;
        registry.register(Box::new(metrics.writes.clone()))?;
        registry.register(Box::new(metrics.rollouts.clone()))?;
        registry.register(Box::new(metrics.rollout_seconds.clone()))?;
        registry.register(Box::new(metrics.phases.clone()))?;
        registry.register(Box::new(metrics.watch_failures.clone()))?;
        registry.register(Box::new(metrics.stale_skips.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.lease_failures.clone()))?;
        Ok(metrics)
    }

    /// A reconcile ended.
    pub fn reconciled(&self, outcome: &str, took: Duration) {
        self.reconciles.with_label_values(&[outcome]).inc();
        self.reconcile_seconds.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    /// So many apps wait.
    pub fn queued(&self, depth: usize) {
        self.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// So many apps are in backoff.
    pub fn backed_off(&self, apps: usize) {
        self.in_backoff.set(i64::try_from(apps).unwrap_or(i64::MAX));
    }

    /// A write was answered.
    pub fn wrote(&self, verb: &str, kind: &str, result: &str) {
        self.writes.with_label_values(&[verb, kind, result]).inc();
    }

    /// A rollout ended.
    pub fn rolled_out(&self, outcome: &str, seconds: f64) {
        self.rollouts.with_label_values(&[outcome]).inc();
        self.rollout_seconds.with_label_values(&[outcome]).observe(seconds);
    }

    /// An app is in this phase, or is gone.
    pub fn phase(&self, namespace: &str, name: &str, phase: Option<Phase>) {
        self.phases.set(namespace, name, phase);
    }

    /// A watch failed and is being opened again.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_failures.with_label_values(&[kind]).inc();
    }

    /// A reconcile was put off until the cache of this kind has caught up.
    pub fn stale(&self, kind: &str) {
        self.stale_skips.with_label_values(&[kind]).inc();
    }

    /// It leads from now on, or no more.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The Lease was not reached.
    pub fn lease_failed(&self) {
        self.lease_failures.inc();
    }

    /// In the Prometheus text format.
    pub fn text(&self) -> String {
        let mut buffer = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            Ok(()) => String::from_utf8(buffer).unwrap_or_default(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown() {
        let metrics = Metrics::new().unwrap();
        metrics.wrote("create", "Deployment", "ok");
        metrics.reconciled("settled", Duration::from_millis(3));
        let text = metrics.text();
        assert!(
            text.contains(
                r#"phoenix_operator_api_writes_total{kind="Deployment",result="ok",verb="create"} 1"#
            )
        );
        assert!(text.contains(r#"phoenix_operator_reconciles_total{outcome="settled"} 1"#));
    }
}
