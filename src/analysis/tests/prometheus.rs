//! Prometheus.

use std::{
    net::SocketAddr,
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
    routing::any,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{ONE, blurt, endpoint, listen, serve, test};
use crate::{
    analysis::{Endpoint, http, prometheus},
    plan::analysis::Answer,
};

const PATIENT: Duration = Duration::from_secs(10);
const HASTY: Duration = Duration::from_millis(100);

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
        let _ = stream.read(&mut [0; 4096]).await;
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
