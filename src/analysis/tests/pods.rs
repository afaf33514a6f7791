//! HTTP smoke tests.

use std::net::SocketAddr;

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri},
    routing::get,
};
use tokio::sync::mpsc;

use super::{blurt, listen, serve, test};
use crate::{analysis::http, plan::analysis::Answer};

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

#[tokio::test]
async fn the_pod_that_sees_the_fewest_peers_has_the_word() {
    let seen = |peers: &'static str| {
        Router::new().route("/peers", get(move || async move { format!("{{\"nodes\": {peers}}}") }))
    };
    let first = serve(seen(r#"["a@10.0.0.2", "b@10.0.0.3"]"#)).await;
    for (host, router) in [([127, 0, 0, 2], seen("1")), ([127, 0, 0, 3], seen("\"many\""))] {
        let listener = listen(host, first.port()).await;
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    let pods = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(str::to_owned);
    let ask = |count: usize| http::peers(&pods[..count], first.port(), "/peers", "nodes");
    assert_eq!(ask(1).await, Answer::Peers { least: 2, pod: pods[0].clone() });
    assert_eq!(ask(2).await, Answer::Peers { least: 1, pod: pods[1].clone() });
    assert!(
        matches!(ask(3).await, Answer::Failed(why) if why.contains("127.0.0.3") && why.contains("neither"))
    );
    assert!(matches!(ask(0).await, Answer::Failed(_)));
}
