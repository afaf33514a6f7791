//! The load generator against the real release, without Kubernetes: what it is to find later must be there
//! to be found.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may fail as tests do")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::harness::{Traffic, TrafficOptions};
use e2e::image;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Starts a release without a database: `/version` and `/stream` need none.
async fn serve(target: SocketAddr) -> Child {
    let app = image::unpacked("v1").unwrap();
    let child = Command::new(app.join("bin/server"))
        .env_clear()
        .envs([
            ("SECRET_KEY_BASE", "s".repeat(64).as_str()),
            ("DATABASE_URL", "ecto://nobody:x@127.0.0.1:1/none"),
            ("PORT", &target.port().to_string()),
            ("RELEASE_DISTRIBUTION", "none"),
            ("RELEASE_TMP", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("HOME", "/nonexistent"),
            ("PATH", "/usr/bin:/bin"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while e2e::load::get(target, "localhost", "/health").await.is_err() {
        assert!(Instant::now() < deadline, "the release does not come up");
    }
    child
}

#[tokio::test]
async fn a_release_that_stops_drains_its_streams_and_then_refuses() {
    let obstacle = e2e::harness::obstacle(e2e::cluster::Nodes::Real).unwrap();
    if let Some(obstacle) = obstacle {
        eprintln!("skipped: {obstacle}");
        return;
    }
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut release = serve(target).await;
    let options = TrafficOptions {
        connections: 50,
        streams: 5,
        rate: 1000,
        at_least: 3_000,
        paths: vec!["/version".to_owned(), "/slow?ms=50".to_owned()],
    };
    let mut traffic = Traffic::start(Path::new(env!("CARGO_BIN_EXE_load")), None, target, &options).unwrap();
    let before = traffic.reaches(2_000).await.unwrap();
    println!("before the stop: {before:?}");
    assert_eq!(before.failed(), 0, "{:?}", before.failures);
    assert_eq!(before.statuses[&200], before.requests);
    assert_eq!(before.versions["v1"], before.requests);
    assert_eq!(before.allowed_retries, e2e::load::Retries::default());
    assert_eq!(before.streams.open["v1"], 5);

    let pid = i32::try_from(release.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert!(release.wait().await.unwrap().success());
    let after = traffic.stop().await.unwrap();
    println!("after it: {after:?}");
    assert_eq!(after.streams.drained, 5, "each was told, and then got its last chunk");
    // With nobody to come back to.
    assert!(after.failed["refused"] > 0, "{after:?}");
    assert!(!after.failed.contains_key("cut within the answer"), "{after:?}");
}
