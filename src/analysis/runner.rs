//! Measures beside the passes, a few at a time, and keeps each answer until a plan does not ask for it any more.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Semaphore, task::AbortHandle};

use super::{endpoint::Endpoint, http, prometheus};
use crate::plan::analysis::{Answer, MeasureKey, Measured, Measurement, Probe};

/// Longest wait for a Prometheus.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Measurements at the same time, of all apps.
const AT_ONCE: usize = 32;
/// Of one app: none can take the others' place.
const AT_ONCE_PER_APP: usize = 4;

/// Measures. `K` names apps.
pub struct Runner<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    endpoints: BTreeMap<String, Endpoint>,
    /// Asks for a pass over an app.
    tell: Box<dyn Fn(K) + Send + Sync>,
    permits: Arc<Semaphore>,
    apps: Mutex<HashMap<K, App>>,
}

struct App {
    permits: Arc<Semaphore>,
    asked: BTreeMap<MeasureKey, Asked>,
}

enum Asked {
    /// It is being measured.
    Running(AbortHandle),
    /// It has been measured.
    Answered(Measured),
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Self::Running(task) = self {
            task.abort();
        }
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Runner<K> {
    /// A runner that knows these endpoints and calls `tell` for an app when an answer has come.
    pub fn new(endpoints: Vec<Endpoint>, tell: impl Fn(K) + Send + Sync + 'static) -> Self {
        let shared = Shared {
            endpoints: endpoints.into_iter().map(|endpoint| (endpoint.name.clone(), endpoint)).collect(),
            tell: Box::new(tell),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            apps: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What has been measured for an app.
    pub fn answers(&self, app: &K) -> BTreeMap<MeasureKey, Measured> {
        self.shared.with(|apps| {
            let asked = apps.get(app).into_iter().flat_map(|app| &app.asked);
            asked
                .filter_map(|(key, asked)| match asked {
                    Asked::Answered(measured) => Some((key.clone(), measured.clone())),
                    Asked::Running(_) => None,
                })
                .collect()
        })
    }

    /// Measures what a plan asks for, each once, however often it is asked for. What it does not ask for any more is
    /// ended and forgotten: its answer is in the status, or nobody wants it.
    ///
    /// Does not wait. Must be called within a runtime.
    pub fn ask(&self, name: &K, measure: Vec<Measurement>) {
        self.shared.with(|apps| {
            if measure.is_empty() {
                apps.remove(name);
                return;
            }
            let app = apps.entry(name.clone()).or_insert_with(|| App {
                permits: Arc::new(Semaphore::new(AT_ONCE_PER_APP)),
                asked: BTreeMap::new(),
            });
            app.asked.retain(|key, _| measure.iter().any(|one| one.key == *key));
            for one in measure {
                if !app.asked.contains_key(&one.key) {
                    let key = one.key.clone();
                    let task = self.shared.clone().measure(name.clone(), app.permits.clone(), one);
                    app.asked.insert(key, Asked::Running(tokio::spawn(task).abort_handle()));
                }
            }
        });
    }

    /// The app is gone.
    pub fn forget(&self, app: &K) {
        self.ask(app, Vec::new());
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Shared<K> {
    async fn measure(self: Arc<Self>, name: K, permits: Arc<Semaphore>, measurement: Measurement) {
        let answer = {
            // neither is ever closed; its own first, so that a waiting one holds none of the others' places
            let (Ok(_own), Ok(_all)) = (permits.acquire().await, self.permits.acquire().await) else {
                return;
            };
            match &measurement.probe {
                Probe::Query { provider, query } => match self.endpoints.get(provider) {
                    Some(endpoint) => prometheus::query(endpoint, query, QUERY_TIMEOUT).await,
                    None => Answer::Nothing(format!(
                        "the operator's configuration names no Prometheus {provider}; add it there with \
                         --prometheus {provider}=URL (in the chart: prometheus.endpoints), or choose another"
                    )),
                },
                Probe::Peers { addresses, port, path, json_path } => {
                    http::peers(addresses, *port, path, json_path).await
                }
                Probe::Http { addresses, port, test } => http::test(addresses, *port, test).await,
            }
        };
        tracing::debug!(?answer, key = ?measurement.key, "measured");
        let measured = Measured { at: Timestamp::now(), answer };
        let wanted = self.with(|apps| {
            let asked = apps.get_mut(&name).and_then(|app| app.asked.get_mut(&measurement.key));
            // this ends the task, which does not wait for anything any more
            asked.map(|asked| *asked = Asked::Answered(measured)).is_some()
        });
        if wanted {
            (self.tell)(name);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<K, App>) -> T) -> T {
        act(&mut self.apps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
