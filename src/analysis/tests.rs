//! Against servers on loopback that answer well, badly, slowly and not at all.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri, header::LOCATION},
    response::IntoResponse as _,
    routing::{any, get},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{mpsc, watch},
};

use super::{Endpoint, Runner, http, prometheus};
use crate::{
    api::HttpTest,
    plan::analysis::{Answer, MeasureKey, MeasureKind, Measured, Measurement, Probe},
};

const PATIENT: Duration = Duration::from_secs(10);
const HASTY: Duration = Duration::from_millis(100);
const ONE: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.5"]}]}}"#;

async fn listen(host: [u8; 4], port: u16) -> TcpListener {
    TcpListener::bind((IpAddr::from(host), port)).await.unwrap()
}

/// Serves until the test is over.
async fn serve(router: Router) -> SocketAddr {
    let listener = listen([127, 0, 0, 1], 0).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers every connection with these bytes, however wrong, and closes it, or with nothing and keeps it open.
async fn blurt(bytes: Option<&'static [u8]>) -> SocketAddr {
    let listener = listen([127, 0, 0, 1], 0).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match bytes {
                None => kept.push(stream),
                Some(bytes) => {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(bytes).await;
                    let _ = stream.shutdown().await;
                }
            }
        }
    });
    address
}

fn endpoint(address: SocketAddr) -> Endpoint {
    format!("main=http://{address}").parse().unwrap()
}

async fn ask(address: SocketAddr) -> Answer {
    prometheus::query(&endpoint(address), "up", PATIENT).await
}

#[track_caller]
fn nothing(answer: &Answer, because: &str) {
    match answer {
        Answer::Nothing(why) => assert!(why.contains(because) && why.contains("Prometheus main"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_number_is_read_and_the_query_arrives_as_it_is() {
    let (heard, mut hear) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/prefix/api/v1/query",
        any(move |headers: HeaderMap, body: String| async move {
            heard.send((headers, body)).unwrap();
            ONE
        }),
    );
    let address = serve(router).await;
    let endpoint: Endpoint = format!("main=http://{address}/prefix/").parse().unwrap();
    let answer = prometheus::query(&endpoint, r#"sum(a{b="c d"}) + 1"#, PATIENT).await;
    assert_eq!(answer, Answer::Value("0.5".to_owned()));
    let (headers, body) = hear.recv().await.unwrap();
    assert_eq!(body, "query=sum%28a%7Bb%3D%22c%20d%22%7D%29%20%2B%201&timeout=10s");
    assert_eq!(headers["host"], address.to_string().as_str());
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_token_is_sent_and_read_anew_each_time() {
    let router = Router::new().route(
        "/api/v1/query",
        any(|headers: HeaderMap| async move {
            if headers.get("authorization").is_some_and(|value| value == "Bearer second") {
                (StatusCode::OK, ONE)
            } else {
                (StatusCode::UNAUTHORIZED, "")
            }
        }),
    );
    let file = std::env::temp_dir().join(format!("phoenix-operator-token-{}", std::process::id()));
    let address = serve(router).await;
    let endpoint: Endpoint = format!("main=http://{address},bearer={}", file.display()).parse().unwrap();
    nothing(&prometheus::query(&endpoint, "up", PATIENT).await, "cannot read its bearer token");
    std::fs::write(&file, "first\n").unwrap();
    nothing(&prometheus::query(&endpoint, "up", PATIENT).await, "needs another token");
    std::fs::write(&file, "second\n").unwrap();
    assert_eq!(prometheus::query(&endpoint, "up", PATIENT).await, Answer::Value("0.5".to_owned()));
    std::fs::write(&file, "with\nline").unwrap();
    nothing(&prometheus::query(&endpoint, "up", PATIENT).await, "bearer token is none");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let elsewhere = serve(Router::new().fallback(move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        ONE
    }))
    .await;
    let away = move |uri: Uri| async move {
        (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("http://{elsewhere}{uri}"))]).into_response()
    };
    let address = serve(Router::new().fallback(away)).await;
    nothing(&ask(address).await, "no redirect is followed");
    let answer = http::test(&["127.0.0.1".to_owned()], address.port(), &test("{path: /}")).await;
    assert!(matches!(answer, Answer::Failed(why) if why.contains("it answered 307 (a redirect to http://")));
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn errors_of_prometheus_are_passed_on() {
    let refuse = || async { (StatusCode::BAD_REQUEST, r#"{"status":"error","error":"1:3: parse error"}"#) };
    nothing(&ask(serve(Router::new().fallback(refuse)).await).await, "it answered 400: 1:3: parse error");
    nothing(&ask(serve(Router::new()).await).await, "it answered 404 with something that is no answer");
}

#[tokio::test]
async fn what_does_not_answer_is_given_up() {
    let silent = endpoint(blurt(None).await);
    nothing(&prometheus::query(&silent, "up", HASTY).await, "did not answer within");
    // a body that never ends, a byte at a time
    let listener = listen([127, 0, 0, 1], 0).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    nothing(&prometheus::query(&endpoint(address), "up", HASTY).await, "did not answer within");
}

#[tokio::test]
async fn what_is_not_there_or_no_http_is_nothing() {
    let free = listen([127, 0, 0, 1], 0).await.local_addr().unwrap();
    nothing(&ask(free).await, "cannot connect");
    nothing(&ask(blurt(Some(b"SSH-2.0-hello\r\n")).await).await, "no answer");
    nothing(&ask(blurt(Some(b"")).await).await, "no answer");
    nothing(&ask(blurt(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")).await).await, "broke off");
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let router = Router::new().fallback(|| async { "x".repeat(3 << 20) });
    nothing(&ask(serve(router).await).await, "longer than 1048576 bytes");
}

#[tokio::test]
async fn a_plain_server_is_no_tls_server() {
    let address = serve(Router::new().fallback(|| async { ONE })).await;
    let parsed = format!("main=https://127.0.0.1:{}", address.port()).parse::<Endpoint>();
    // a machine without any certificates says so when it starts
    let Ok(endpoint) = parsed else { return };
    nothing(&prometheus::query(&endpoint, "up", PATIENT).await, "no TLS");
}

#[test]
fn endpoints_are_read() {
    let endpoint: Endpoint = "main=http://prometheus.monitoring.svc:9090/base/,bearer=/t".parse().unwrap();
    assert_eq!((endpoint.host.as_str(), endpoint.port), ("prometheus.monitoring.svc", 9090));
    assert_eq!(endpoint.base, "/base");
    assert!(endpoint.bearer.is_some() && endpoint.tls.is_none());
    assert_eq!("a=http://x".parse::<Endpoint>().unwrap().port, 80);
    assert_eq!("a=http://[::1]:90".parse::<Endpoint>().unwrap().host, "::1");
    for (wrong, because) in [
        ("http://x", "it has no name"),
        ("Main=http://x", "its name must have"),
        ("=http://x", "its name must have"),
        ("a=", "cannot be read"),
        ("a=x:9090", "neither http nor https"),
        ("a=/path", "no host"),
        ("a=ftp://x", "neither http nor https"),
        ("a=http://me:pass@x", "holds a user"),
        ("a=http://x?y=z", "has a query"),
        ("a=http://x,token=y", "neither bearer=FILE nor ca=FILE"),
        ("a=http://x,ca=/y", "ca is for https"),
        ("a=https://x,ca=/does/not/exist", "/does/not/exist"),
    ] {
        let error = wrong.parse::<Endpoint>().expect_err(wrong).to_string();
        assert!(error.contains(because) && error.contains("write it as"), "{error}");
    }
}

fn test(text: &str) -> HttpTest {
    serde_saphyr::from_str(text).unwrap()
}

#[tokio::test]
async fn a_pod_is_asked_as_a_proxy_would() {
    let (heard, mut hear) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/health",
        get(move |uri: Uri, headers: HeaderMap| async move {
            heard.send((uri, headers)).unwrap();
            "fine"
        }),
    );
    let address = serve(router).await;
    let pod = ["127.0.0.1".to_owned()];
    let spec = test("{path: '/health?a=b', bodyContains: fine, headers: {X-Smoke: '1'}}");
    assert_eq!(http::test(&pod, address.port(), &spec).await, Answer::Passed);
    let (uri, headers) = hear.recv().await.unwrap();
    assert_eq!(uri.query(), Some("a=b"));
    assert_eq!(
        (&headers["host"], &headers["x-forwarded-proto"]),
        (&"localhost".parse().unwrap(), &"https".parse().unwrap())
    );
    assert_eq!(headers["x-smoke"], "1");
    let own = test("{path: /health, headers: {host: shop.example.com, X-Forwarded-Proto: http}}");
    assert_eq!(http::test(&pod, address.port(), &own).await, Answer::Passed);
    let (_, headers) = hear.recv().await.unwrap();
    assert_eq!(headers["host"], "shop.example.com");
    assert_eq!(headers.get_all("x-forwarded-proto").iter().count(), 1);
}

#[tokio::test]
async fn all_pods_must_pass() {
    let good = serve(Router::new().fallback(|| async { "ok" })).await;
    let bad = listen([127, 0, 0, 2], good.port()).await;
    tokio::spawn(async move {
        axum::serve(bad, Router::new().fallback(|| async { StatusCode::INTERNAL_SERVER_ERROR })).await
    });
    let (one, two) = ("127.0.0.1".to_owned(), "127.0.0.2".to_owned());
    let ask = |pods: Vec<String>| async move { http::test(&pods, good.port(), &test("{path: /}")).await };
    assert_eq!(ask(vec![one.clone()]).await, Answer::Passed);
    let answer = ask(vec![one, two]).await;
    assert_eq!(answer, Answer::Failed("GET / of the pod at 127.0.0.2: it answered 500, not 200".to_owned()));
    assert!(matches!(ask(Vec::new()).await, Answer::Failed(_)));
    assert!(
        matches!(ask(vec!["localhost".to_owned()]).await, Answer::Failed(why) if why.contains("no IP address"))
    );
}

#[tokio::test]
async fn a_pod_that_hangs_or_is_odd_fails() {
    let ask = |address: SocketAddr, spec: &str| {
        let spec = test(spec);
        async move { http::test(&["127.0.0.1".to_owned()], address.port(), &spec).await }
    };
    let silent = blurt(None).await;
    assert!(
        matches!(ask(silent, "{path: /, timeout: 1s}").await, Answer::Failed(why) if why.contains("within 1s"))
    );
    let huge = serve(Router::new().fallback(|| async { "x".repeat(3 << 20) + "end" })).await;
    assert_eq!(ask(huge, "{path: /, bodyContains: xxx}").await, Answer::Passed);
    assert!(matches!(ask(huge, "{path: /, bodyContains: end}").await, Answer::Failed(_)));
    assert!(
        matches!(ask(huge, "{path: /, jsonPath: a, value: b}").await, Answer::Failed(why) if why.contains("too long"))
    );
    let split = "{path: /, headers: {'a b': c}}";
    assert!(matches!(ask(huge, split).await, Answer::Failed(why) if why.contains("cannot be asked")));
}

fn measurement(name: &str, n: i32, provider: &str) -> Measurement {
    let key = MeasureKey {
        attempt: 1,
        span: "rollout".to_owned(),
        kind: MeasureKind::Check,
        name: name.to_owned(),
        n,
    };
    Measurement { key, probe: Probe::Query { provider: provider.to_owned(), query: "up".to_owned() } }
}

/// A runner, and the apps it tells of.
fn runner(address: SocketAddr) -> (Runner<&'static str>, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Runner::new(vec![endpoint(address)], move |app| tell.send(app).unwrap()), told)
}

fn values(answers: BTreeMap<MeasureKey, Measured>) -> Vec<Answer> {
    answers.into_values().map(|measured| measured.answer).collect()
}

#[tokio::test]
async fn what_is_asked_for_is_measured_once_and_told() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let address = serve(Router::new().fallback(move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        ONE
    }))
    .await;
    let (runner, mut told) = runner(address);
    for _ in 0..5 {
        runner.ask(&"shop", vec![measurement("a", 1, "main")]);
    }
    assert_eq!(told.recv().await, Some("shop"));
    runner.ask(&"shop", vec![measurement("a", 1, "main")]);
    assert_eq!(values(runner.answers(&"shop")), [Answer::Value("0.5".to_owned())]);
    assert_eq!(hits.load(Ordering::SeqCst), 1);
    assert!(runner.answers(&"other").is_empty());
    // the next one: the first is in the status by now
    runner.ask(&"shop", vec![measurement("a", 2, "main")]);
    assert!(runner.answers(&"shop").is_empty());
    assert_eq!(told.recv().await, Some("shop"));
    assert_eq!(hits.load(Ordering::SeqCst), 2);
    runner.ask(&"shop", Vec::new());
    assert!(runner.answers(&"shop").is_empty());
}

#[tokio::test]
async fn what_nobody_configured_is_nothing() {
    let (runner, mut told) = runner(listen([127, 0, 0, 1], 0).await.local_addr().unwrap());
    runner.ask(&"shop", vec![measurement("a", 1, "other")]);
    told.recv().await;
    let answers = values(runner.answers(&"shop"));
    assert!(
        matches!(&answers[..], [Answer::Nothing(why)] if why.contains("names no Prometheus other")),
        "{answers:?}"
    );
}

/// A server that holds every request, counts those it holds, and lets them go on a word.
async fn gate() -> (SocketAddr, watch::Receiver<usize>, watch::Sender<bool>) {
    let (count, held) = watch::channel(0);
    let (open, opened) = watch::channel(false);
    let count = Arc::new(count);
    let router = Router::new().fallback(move || {
        let (count, mut opened) = (count.clone(), opened.clone());
        async move {
            count.send_modify(|held| *held += 1);
            let _ = opened.wait_for(|open| *open).await;
            ONE
        }
    });
    (serve(router).await, held, open)
}

#[tokio::test]
async fn one_app_takes_four_places_at_most_and_another_finds_its_own() {
    let (address, mut held, open) = gate().await;
    let (runner, mut told) = runner(address);
    let many = || (0..9).map(|n| measurement(&n.to_string(), 1, "main")).collect::<Vec<_>>();
    runner.ask(&"greedy", many());
    held.wait_for(|held| *held == 4).await.unwrap();
    runner.ask(&"modest", vec![measurement("a", 1, "main")]);
    held.wait_for(|held| *held == 5).await.unwrap();
    assert!(told.try_recv().is_err());
    open.send(true).unwrap();
    for _ in 0..10 {
        told.recv().await.unwrap();
    }
    assert_eq!(runner.answers(&"greedy").len(), 9);
}

#[tokio::test]
async fn what_is_not_asked_for_any_more_is_ended() {
    let (address, mut held, open) = gate().await;
    let (runner, mut told) = runner(address);
    runner.ask(&"shop", vec![measurement("a", 1, "main")]);
    held.wait_for(|held| *held == 1).await.unwrap();
    runner.forget(&"shop");
    open.send(true).unwrap();
    runner.ask(&"shop", vec![measurement("b", 1, "main")]);
    assert_eq!(told.recv().await, Some("shop"));
    let answered: Vec<_> = runner.answers(&"shop").into_keys().map(|key| key.name).collect();
    assert_eq!(answered, ["b"]);
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn pods_are_asked_through_the_runner_too() {
    let address = serve(Router::new().fallback(|| async { "ok" })).await;
    let (runner, mut told) = runner(address);
    let key = MeasureKey { kind: MeasureKind::SmokeTest, ..measurement("home", 1, "").key };
    let probe = Probe::Http {
        addresses: vec![Ipv4Addr::LOCALHOST.to_string()],
        port: address.port(),
        test: test("{path: /, bodyContains: ok}"),
    };
    runner.ask(&"shop", vec![Measurement { key, probe }]);
    told.recv().await;
    assert_eq!(values(runner.answers(&"shop")), [Answer::Passed]);
}
