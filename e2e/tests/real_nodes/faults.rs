//! What is missing is named, and heals when it is cured; and people can hold or end a rollout.

use std::sync::Arc;
use std::time::Instant;

use e2e::harness::Space;
use phoenix_operator::api::{Phase, PhoenixAppStatus};
use serde_json::json;

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

pub async fn are_named_and_heal(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let mut spec = shop::spec("v1");
    spec["strategy"]["progressDeadline"] = json!("2m");
    let generation = space.apply(SHOP, &spec).await.unwrap();
    let named =
        |status: &PhoenixAppStatus| status.message.contains("\"db\"") && status.message.contains("not found");
    let status =
        space.wait_for(SHOP, generation, "the missing Secret's name", PATIENCE, named).await.unwrap();
    println!("a missing Secret: {:?}: {}", status.phase, status.message);
    let start = Instant::now();
    space.database().await.unwrap();
    let v1 = shop::healthy(&space, generation).await;
    println!("healed {:?} after the Secret appeared", start.elapsed());

    // An image that no node has and no registry gives.
    let mut spec = shop::spec("v3");
    spec["strategy"]["progressDeadline"] = json!("3m");
    let generation = space.apply(SHOP, &spec).await.unwrap();
    let image = "registry.local/roost:v3";
    let named = |status: &PhoenixAppStatus| status.message.contains(&format!("cannot pull image {image}"));
    let status = space.wait_for(SHOP, generation, "the bad image's name", PATIENCE, named).await.unwrap();
    println!("a bad image: {:?}: {}", status.phase, status.message);
    assert!(matches!(status.phase, Some(Phase::Migrating | Phase::RollingOut)));
    assert_eq!(space.record().look(|seen| seen.ready_pods(SHOP, &v1).len()), REPLICAS, "v1 serves");
    let start = Instant::now();
    space.lab().load(&["v3"]).await.unwrap();
    let v3 = shop::healthy(&space, generation).await;
    println!("healed {:?} after the image was there", start.elapsed());
    assert_ne!(v1, v3);
}

pub async fn and_people_can_stop_it(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let v1 = shop::first(&space).await;

    let generation = space.apply(SHOP, &shop::spec("neverready")).await.unwrap();
    let pods = |status: &PhoenixAppStatus| status.phase == Some(Phase::RollingOut) && status.replicas > 3;
    let status = space.wait_for(SHOP, generation, "a pod of the candidate", PATIENCE, pods).await.unwrap();
    let candidate = status.candidate.unwrap();

    let mut spec = shop::spec("neverready");
    spec["suspend"] = json!(true);
    let suspended = space.apply(SHOP, &spec).await.unwrap();
    space.wait_phase(SHOP, suspended, Phase::Suspended, PATIENCE).await.unwrap();
    spec["suspend"] = json!(false);
    let resumed = space.apply(SHOP, &spec).await.unwrap();
    space.wait_phase(SHOP, resumed, Phase::RollingOut, PATIENCE).await.unwrap();

    let start = Instant::now();
    let command = format!("abort {}/{}", candidate.revision, candidate.attempt);
    space.command(SHOP, &command).await.unwrap();
    let status = space.wait_phase(SHOP, resumed, Phase::Aborted, PATIENCE).await.unwrap();
    println!("aborted {:?} after the command: {}", start.elapsed(), status.message);
    assert_eq!(status.stable.as_deref(), Some(v1.as_str()));
    assert_eq!(space.record().look(|seen| seen.ready_pods(SHOP, &v1).len()), REPLICAS);

    let generation = space.apply(SHOP, &shop::spec("v1")).await.unwrap();
    assert_eq!(shop::healthy(&space, generation).await, v1, "back to what never left");
}
