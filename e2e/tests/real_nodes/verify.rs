//! Pods that are ready and have not found each other: nobody is sent to them.

use std::sync::Arc;

use e2e::fixtures::condition;
use e2e::harness::Space;
use phoenix_operator::api::{Outcome, Phase, PhoenixAppStatus};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, SHOP};

fn spec(image: &str) -> Value {
    let fields = json!({
        "clustering": {"verify": {"http": {"path": "/nodes", "jsonPath": "nodes"}}},
        "shutdown": {"endpointLag": "1s"},
        "strategy": {"type": "BlueGreen", "blueGreen": {"bake": "0s", "keepOld": "0s"}},
    });
    shop::with(shop::spec(image), &fields)
}

pub async fn nodes_that_stand_alone_get_no_requests(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    space.database().await.unwrap();
    let generation = space.apply(SHOP, &spec("v1")).await.unwrap();
    let first = shop::healthy(&space, generation).await;
    let formed = |status: &PhoenixAppStatus| {
        let sees = status.cluster.as_ref().is_some_and(|cluster| (cluster.expected, cluster.seen) == (2, 2));
        sees && condition(status, "ClusterFormed").is_some_and(|(state, _)| state == "True")
    };
    space.wait_for(SHOP, generation, "a formed cluster", PATIENCE, formed).await.unwrap();

    // Ready, each of them, and alone: it asks for names that nobody has.
    let alone = shop::with_env(spec("v2"), "DNS_CLUSTER_QUERY", "nobody.invalid");
    let generation = space.apply(SHOP, &alone).await.unwrap();
    let ended = |status: &PhoenixAppStatus| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        verdict.is_some_and(|verdict| verdict.returned)
    };
    let status = space.wait_for(SHOP, generation, "the end of it", PATIENCE, ended).await.unwrap();
    let candidate = status.candidate.as_ref().unwrap();
    let verdict = candidate.verdict.as_ref().unwrap();
    assert_eq!(verdict.outcome, Outcome::Failed, "{verdict:?}");
    assert_eq!(verdict.reason, "ClusterNotFormed", "{verdict:?}");
    assert_eq!(status.stable.as_ref(), Some(&first));
    println!("not formed: {}", verdict.message);
    let never = space.record().look(|seen| {
        let services = seen.history("Service").filter(|event| event.name == SHOP);
        services.into_iter().all(|event| !event.object.to_string().contains(&candidate.revision))
    });
    assert!(never, "the Service was led to nodes that stand alone");

    // Cured, it goes ahead.
    let generation = space.apply(SHOP, &spec("v2")).await.unwrap();
    let second = shop::healthy(&space, generation).await;
    assert_ne!(second, first);
    let status = space.wait_for(SHOP, generation, "a formed cluster", PATIENCE, formed).await.unwrap();
    assert_eq!(status.phase, Some(Phase::Healthy));
    println!("formed: {:?}", status.cluster);
}
