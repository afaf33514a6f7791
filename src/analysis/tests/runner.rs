//! The runner.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::Router;
use tokio::sync::{mpsc, watch};

use super::{ONE, endpoint, listen, serve, test};
use crate::{
    analysis::Runner,
    plan::analysis::{Answer, MeasureKey, MeasureKind, Measured, Measurement, Probe},
};

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
