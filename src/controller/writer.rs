//! The one place through which every call that is no watch goes: gated by the Lease, timed out, counted by verb and
//! kind, and remembered so that nothing is planned from caches older than it.

use std::{
    borrow::Cow,
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::header::{ACCEPT, HeaderValue};
use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    core::Request,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    cache::{AppKey, number, version_of},
    errors::{Call, CallError},
    freshness::Freshness,
    kind::Kind,
    leader::Tenure,
};
use crate::{
    api::{PhoenixApp, PhoenixAppSpec, PhoenixAppStatus, labels},
    telemetry::Metrics,
};

/// A request with its body.
type Posted = hyper::Request<Vec<u8>>;

/// Field manager of every write.
pub const MANAGER: &str = "phoenix-operator";

/// All that is read of the answer to most writes.
#[derive(Clone, Debug, Deserialize)]
pub struct Written {
    metadata: WrittenMeta,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    resource_version: String,
}

impl Written {
    /// The version that was written.
    pub fn version(self) -> String {
        self.metadata.resource_version
    }
}

/// An app with a new status. The API server takes nothing else of it, but those whom it asks on the way see all of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reported<'a> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    metadata: ObjectMeta,
    spec: &'a PhoenixAppSpec,
    status: &'a PhoenixAppStatus,
}

/// Asks for no more of the answer than is read of it.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json";

/// The longest time that an answer is taken to have taken.
const LONGEST_TIME: Duration = Duration::from_secs(1);
/// After so long without a write, half of what is known of how long they take is forgotten.
const HALVED_AFTER: Duration = Duration::from_secs(5);

/// A wait that is longer where the API server is slow.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So many times as long as it takes to answer a write.
    pub times: u32,
    /// At least.
    pub least: Duration,
    /// At most.
    pub most: Duration,
}

impl Pace {
    fn at(self, latency: Duration) -> Duration {
        (latency * self.times).clamp(self.least, self.most)
    }
}

/// How long the API server takes to answer a write: the mean of times, the later ones weighing more.
#[derive(Clone, Copy, Debug)]
struct Latency {
    mean: Duration,
    /// When the last of them was taken.
    at: Instant,
}

impl Latency {
    /// One time has an eighth of the weight. What got no answer at all says little about the others.
    fn took(&mut self, time: Duration, now: Instant) {
        *self = Self { mean: (self.now(now) * 7 + time.min(LONGEST_TIME)) / 8, at: now };
    }

    /// What it is taken for: less and less while nothing is written.
    fn now(self, now: Instant) -> Duration {
        let halvings = now.saturating_duration_since(self.at).as_secs() / HALVED_AFTER.as_secs();
        self.mean / 1_u32.checked_shl(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX)
    }
}

/// Writes to the API server.
pub struct Writer {
    client: Client,
    timeout: Duration,
    tenure: Tenure,
    metrics: Metrics,
    freshness: Arc<Mutex<Freshness>>,
    latency: Mutex<Latency>,
}

/// What every child of ours is.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

impl Writer {
    /// A writer, which sends nothing outside of `tenure`.
    pub fn new(
        client: Client,
        timeout: Duration,
        tenure: Tenure,
        metrics: Metrics,
        freshness: Arc<Mutex<Freshness>>,
    ) -> Self {
        let latency = Mutex::new(Latency { mean: Duration::ZERO, at: Instant::now() });
        Self { client, timeout, tenure, metrics, freshness, latency }
    }

    /// Makes an object; it never changes one that is there, however late it arrives.
    pub async fn create<K: Child>(&self, app: &AppKey, object: &K) -> Result<Written, CallError> {
        let made = self.write(call::<K>("create", app, &object.name_any()), self.post(app, object)).await?;
        self.wrote::<K>(app, number(&made.metadata.resource_version));
        Ok(made)
    }

    /// Server-side apply of the object in the version it was planned from. Returns it as it is now.
    pub async fn apply<K: Child>(&self, app: &AppKey, object: &K, version: &str) -> Result<K, CallError> {
        let mut object = object.clone();
        object.meta_mut().resource_version = Some(version.to_owned());
        let name = object.name_any();
        let params = PatchParams::apply(MANAGER).force();
        let answer = async {
            let request = request::<K>(app).patch(&name, &params, &Patch::Apply(&object));
            self.client.request(request.map_err(kube::Error::BuildRequest)?).await
        };
        let made: K = self.write(call::<K>("patch", app, &name), answer).await?;
        self.wrote::<K>(app, version_of(made.meta()));
        Ok(made)
    }

    /// Merges a patch that names the version it was planned from.
    pub async fn merge<K: Child>(
        &self,
        app: &AppKey,
        name: &str,
        patch: &Value,
    ) -> Result<Written, CallError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let answer = self.patch::<K>(app, name, &params, Patch::Merge(patch));
        let made = self.write(call::<K>("patch", app, name), answer).await?;
        self.wrote::<K>(app, number(&made.metadata.resource_version));
        Ok(made)
    }

    /// Replaces the status of an app that is of this version by now.
    pub async fn replace_status(
        &self,
        key: &AppKey,
        app: &PhoenixApp,
        version: &str,
        status: &PhoenixAppStatus,
    ) -> Result<Written, CallError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let app = Reported {
            api_version: PhoenixApp::api_version(&()),
            kind: PhoenixApp::kind(&()),
            metadata: ObjectMeta { resource_version: Some(version.to_owned()), ..app.metadata.clone() },
            spec: &app.spec,
            status,
        };
        let answer = async {
            let body = serde_json::to_vec(&app).map_err(kube::Error::SerdeError)?;
            let request = request::<PhoenixApp>(key);
            self.brief(request.replace_subresource("status", &key.name, &params, body)).await
        };
        let call = Call { verb: "update/status", ..call::<PhoenixApp>("update", key, &key.name) };
        let made: Written = self.write(call, answer).await?;
        self.wrote::<PhoenixApp>(key, number(&made.metadata.resource_version));
        Ok(made)
    }

    /// Deletes an object, if it still is the one that was planned from.
    pub async fn delete<K: Child>(
        &self,
        app: &AppKey,
        name: &str,
        uid: &str,
        version: &str,
    ) -> Result<(), CallError> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: Some(version.to_owned()),
            }),
            ..DeleteParams::default()
        };
        let api = self.api::<K>(app);
        let answer = self.write(call::<K>("delete", app, name), api.delete(name, &params)).await?;
        let mut freshness = self.freshness.lock().unwrap_or_else(PoisonError::into_inner);
        freshness.deleted(app, uid);
        if let Some(object) = answer.left() {
            freshness.wrote(app, Kind::of::<K>(), version_of(object.meta()));
        }
        Ok(())
    }

    /// Makes an object in no cache and of no app, such as an event.
    pub async fn publish<K: Child>(&self, namespace: &str, object: &K) -> Result<(), CallError> {
        let app = AppKey { namespace: namespace.to_owned(), name: String::new() };
        let answer = self.post(&app, object);
        self.write(call::<K>("create", &app, &object.name_any()), answer).await.map(drop)
    }

    /// Patches an object in no cache and of no app, such as an event.
    pub async fn republish<K: Child>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), CallError> {
        let app = AppKey { namespace: namespace.to_owned(), name: String::new() };
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let answer = self.patch::<K>(&app, name, &params, Patch::Merge(patch));
        self.write(call::<K>("patch", &app, name), answer).await.map(drop)
    }

    /// Reads an object as it is now.
    pub async fn get<K: Child>(&self, app: &AppKey, name: &str) -> Result<Option<K>, CallError> {
        let api = self.api::<K>(app);
        within(self.timeout, call::<K>("get", app, name), api.get_opt(name)).await
    }

    /// The pods of the app's migrations as they are now.
    pub async fn migration_pods(&self, app: &AppKey) -> Result<Vec<Pod>, CallError> {
        let params = ListParams::default().labels(&format!("{}={}", labels::MIGRATION, app.name));
        let api = self.api::<Pod>(app);
        let call = call::<Pod>("list", app, &app.name);
        let list = within(self.timeout, call, api.list(&params)).await?;
        Ok(list.items)
    }

    async fn post<K: Child>(&self, app: &AppKey, object: &K) -> kube::Result<Written> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let text = serde_json::to_string(object).map_err(kube::Error::SerdeError)?;
        self.brief(request::<K>(app).create(&params, escaped(&text).into_bytes())).await
    }

    async fn patch<K: Child>(
        &self,
        app: &AppKey,
        name: &str,
        params: &PatchParams,
        patch: Patch<impl Serialize + Debug>,
    ) -> kube::Result<Written> {
        self.brief(request::<K>(app).patch(name, params, &patch)).await
    }

    /// Sends a request whose answer is read for the version only.
    async fn brief(&self, request: Result<Posted, kube::core::request::Error>) -> kube::Result<Written> {
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA));
        self.client.request(request).await
    }

    fn api<K: Child>(&self, app: &AppKey) -> Api<K> {
        Api::namespaced(self.client.clone(), &app.namespace)
    }

    /// An object was read as it is now: nothing is planned before the cache shows it.
    pub fn saw<K: Child>(&self, app: &AppKey, object: &K) {
        self.wrote::<K>(app, version_of(object.meta()));
    }

    fn wrote<K: Child>(&self, app: &AppKey, version: u64) {
        let mut freshness = self.freshness.lock().unwrap_or_else(PoisonError::into_inner);
        freshness.wrote(app, Kind::of::<K>(), version);
    }

    /// How long to wait at this pace, as the API server answers writes at present.
    pub fn wait(&self, pace: Pace) -> Duration {
        pace.at(self.latency())
    }

    /// How long the API server takes at present to answer a write.
    pub fn latency(&self) -> Duration {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).now(Instant::now())
    }

    async fn write<T>(
        &self,
        call: Call,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        let (verb, kind) = (call.verb, call.kind.as_str());
        let left = self.tenure.left();
        let result = if left.is_zero() {
            Err(CallError::Deposed { call })
        } else {
            let began = Instant::now();
            let result = within(self.timeout.min(left), call, answer).await;
            let now = Instant::now();
            self.latency.lock().unwrap_or_else(PoisonError::into_inner).took(now - began, now);
            result
        };
        self.metrics.wrote(verb, kind, result.as_ref().map_or_else(CallError::result, |_| "ok"));
        if result.is_ok() {
            tracing::debug!(verb, kind, "wrote");
        }
        result
    }
}

async fn within<T>(
    time: Duration,
    call: Call,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(time, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(CallError::of(call, error)),
        Err(_) => Err(CallError::Timeout { call, after: time }),
    }
}

/// JSON as the API server writes it (Go's `json.HTMLEscape`). It keeps the data of a `ControllerRevision` byte by byte
/// as it was sent, writes it anew for each patch, and refuses the patch if the bytes differ: `a < b` in an environment
/// would make the revision's annotations unchangeable. In JSON these characters stand in strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            _ => text.push(letter),
        }
    }
    text
}

fn request<K: Child>(app: &AppKey) -> Request {
    Request::new(K::url_path(&(), Some(&app.namespace)))
}

fn call<K: Child>(verb: &'static str, app: &AppKey, name: &str) -> Call {
    Call { verb, kind: Kind::of::<K>(), namespace: app.namespace.clone(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Config;

    use super::*;
    use crate::controller::client;

    /// A writer to an API server that takes connections and answers none.
    fn silent(tenure: Tenure) -> (std::net::TcpListener, Writer) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let client = client::connect(&Config::new(address.parse().unwrap())).unwrap();
        let freshness = Arc::new(Mutex::new(Freshness::default()));
        let metrics = Metrics::new().unwrap();
        (listener, Writer::new(client, Duration::from_mins(1), tenure, metrics, freshness))
    }

    #[tokio::test]
    async fn who_leads_no_more_sends_nothing() {
        let (listener, writer) = silent(Tenure::over());
        let app = AppKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let patch = serde_json::json!({});
        let refused = [
            writer.create(&app, &ConfigMap::default()).await.map(drop),
            writer.merge::<ConfigMap>(&app, "a", &patch).await.map(drop),
            writer.apply(&app, &ConfigMap::default(), "1").await.map(drop),
            writer.delete::<ConfigMap>(&app, "a", "uid", "1").await,
            writer.publish("prod", &ConfigMap::default()).await.map(drop),
            writer.republish::<ConfigMap>("prod", "a", &patch).await.map(drop),
        ];
        for answer in refused {
            assert!(matches!(answer, Err(CallError::Deposed { .. })), "{answer:?}");
        }
        assert!(listener.accept().is_err(), "a connection was opened");
    }

    #[tokio::test]
    async fn no_answer_is_waited_for_longer_than_it_leads() {
        let tenure = Tenure::over();
        let (listener, writer) = silent(tenure.clone());
        tenure.extend(std::time::Instant::now() + Duration::from_millis(500));
        let app = AppKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let answer = writer.create(&app, &ConfigMap::default()).await;
        assert!(matches!(answer, Err(CallError::Timeout { .. })), "{answer:?}");
        assert!(listener.accept().is_ok(), "it was sent while it led");
    }

    #[test]
    fn the_latency_follows_what_writes_take() {
        let slow = Duration::from_millis(80);
        let now = Instant::now();
        let after = |count: usize| {
            let mut latency = Latency { mean: Duration::ZERO, at: now };
            (0..count).for_each(|_| latency.took(slow, now));
            latency
        };
        assert_eq!(after(1).now(now), slow / 8);
        let busy = after(30);
        assert!(busy.now(now) > slow * 9 / 10 && busy.now(now) <= slow);
        // One webhook that never answers does not make all others slow, and nothing is slow for ever.
        let mut stuck = busy;
        stuck.took(Duration::from_secs(10), now);
        assert!(stuck.now(now) < slow + LONGEST_TIME / 8, "{stuck:?}");
        assert_eq!(busy.now(now + HALVED_AFTER * 3), busy.mean / 8);
        assert_eq!(busy.now(now + Duration::from_hours(24)), busy.mean / u32::MAX);
        let pace = Pace { times: 5, least: Duration::from_millis(100), most: Duration::from_secs(1) };
        let waits = [1, 80, 800].map(|latency| pace.at(Duration::from_millis(latency)).as_millis());
        assert_eq!(waits, [100, 400, 1000]);
    }

    #[test]
    fn json_is_written_as_the_api_server_does() {
        let value = serde_json::json!({"a<b>": "x && y \u{2028}\u{2029} é \"<\""});
        let text = escaped(&value.to_string());
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{text}");
        assert!(text.contains("a\\u003cb\\u003e") && text.contains('é'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
