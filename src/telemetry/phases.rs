//! The phase of each app, as a metric of one series for each.
//!
//! A `GaugeVec` takes more than a kilobyte for a series, as each holds the description of all of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{
    core::{Collector, Desc},
    proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::api::Phase;

const NAME: &str = "phoenix_operator_app_phase";
const HELP: &str = "1 for the phase an app is in";
const LABELS: [&str; 3] = ["name", "namespace", "phase"];

/// By namespace and name.
type ByApp = BTreeMap<(Box<str>, Box<str>), Phase>;

/// The phase of each app.
#[derive(Clone, Debug)]
pub struct Phases {
    desc: Arc<Desc>,
    apps: Arc<Mutex<ByApp>>,
}

impl Phases {
    /// Of no app yet.
    ///
    /// # Errors
    /// When the metric has no good name, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let labels = LABELS.map(str::to_owned).to_vec();
        let desc = Desc::new(NAME.to_owned(), HELP.to_owned(), labels, HashMap::new())?;
        Ok(Self { desc: Arc::new(desc), apps: Arc::default() })
    }

    /// An app is in this phase, or is gone.
    pub fn set(&self, namespace: &str, name: &str, phase: Option<Phase>) {
        let app = (namespace.into(), name.into());
        match phase {
            Some(phase) => self.apps().insert(app, phase),
            None => self.apps().remove(&app),
        };
    }

    fn apps(&self) -> MutexGuard<'_, ByApp> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Phases {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = |((namespace, name), phase): (&(Box<str>, Box<str>), &Phase)| {
            let values = [name.to_string(), namespace.to_string(), format!("{phase:?}")];
            let mut gauge = Gauge::default();
            gauge.set_value(1.0);
            let mut metric = Metric::from_gauge(gauge);
            metric.set_label(LABELS.iter().zip(values).map(|(label, value)| pair(label, value)).collect());
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(self.apps().iter().map(series).collect());
        vec![family]
    }
}

fn pair(label: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(value);
    pair
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn an_app_has_one_phase_and_leaves_none() {
        let metrics = Metrics::new().unwrap();
        let series = || {
            let text = metrics.text();
            text.lines().filter(|line| line.starts_with(NAME)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(series().is_empty());
        metrics.phase("prod", "shop", Some(Phase::RollingOut));
        metrics.phase("prod", "shop", Some(Phase::Healthy));
        metrics.phase("prod", "blog", Some(Phase::Failed));
        let shop = r#"phoenix_operator_app_phase{name="shop",namespace="prod",phase="Healthy"} 1"#;
        let blog = r#"phoenix_operator_app_phase{name="blog",namespace="prod",phase="Failed"} 1"#;
        assert_eq!(series(), [blog, shop]);
        metrics.phase("prod", "blog", None);
        assert_eq!(series(), [shop]);
        metrics.phase("prod", "shop", None);
        assert!(series().is_empty());
    }
}
