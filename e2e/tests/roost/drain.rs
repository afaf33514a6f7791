//! SIGTERM in Phoenix's order: streams, listener, requests in work, end.

use std::io;

use crate::http::{Client, get};
use crate::node::{LOCALHOST, Pod, Scratch, wait_for};

#[test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
fn drains_streams_before_the_listener_closes_and_finishes_requests() {
    let scratch = Scratch::new("drain");
    let pod = Pod::new("v1", LOCALHOST, "ecto://nobody:x@127.0.0.1:1/none")
        .with("ROOST_DRAIN_BATCH", "1")
        .with("ROOST_DRAIN_INTERVAL_MS", "1000");
    let mut node = pod.serve(&scratch.0.join("log"));

    let mut streams = [0, 1].map(|_| {
        let mut stream = Client::connect(pod.address).unwrap();
        stream.send("/stream", "").unwrap();
        stream.head().unwrap();
        assert!(stream.read_until("data:").unwrap().contains("roost@127.0.0.1"));
        stream
    });
    let mut slow = Client::connect(pod.address).unwrap();
    slow.send("/slow?ms=3000", "").unwrap();
    let mut idle = Client::connect(pod.address).unwrap();
    idle.send("/health", "").unwrap();
    // Answered after the slow one was accepted: the queue of a listener is first in, first out.
    assert!(!idle.answer().unwrap().head.contains("connection: close"));

    node.terminate();
    // The batches are of one: whichever stream is told first, the other is told a second later.
    let ends = streams.each_mut().map(|stream| stream.read_until("event: drain"));
    // By now both were told; the listener closes after the last batch, without waiting.
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    for stream in &mut streams {
        let rest = stream.rest().unwrap();
        assert!(rest.ends_with("0\r\n\r\n"), "cut, not closed: {rest:?}");
    }

    wait_for("the listener to close", || {
        get(pod.address, "/health").is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused).then_some(())
    });
    assert_eq!(idle.rest().unwrap(), "", "an idle connection is closed");
    let answer = slow.answer().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(node.wait().code(), Some(0), "it stopped by itself");
}

#[test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
fn accepts_connections_while_streams_are_drained() {
    let scratch = Scratch::new("open");
    let pod = Pod::new("v1", LOCALHOST, "ecto://nobody:x@127.0.0.1:1/none")
        .with("ROOST_DRAIN_BATCH", "1")
        .with("ROOST_DRAIN_INTERVAL_MS", "2000");
    let mut node = pod.serve(&scratch.0.join("log"));
    let (told, first) = std::sync::mpsc::channel();
    let streams: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = Client::connect(pod.address).unwrap();
            stream.send("/stream", "").unwrap();
            stream.read_until("event: hello").unwrap();
            let told = told.clone();
            std::thread::spawn(move || {
                let drained = stream.read_until("event: drain").is_ok();
                told.send(drained).unwrap();
            })
        })
        .collect();

    node.terminate();
    assert!(first.recv_timeout(crate::node::DEADLINE).unwrap());
    let late = get(pod.address, "/health").unwrap();
    assert_eq!(late.status, 200, "the listener is open between the batches");
    assert!(first.try_recv().is_err(), "the second batch has not been told yet");
    for stream in streams {
        stream.join().unwrap();
    }
    assert_eq!(node.wait().code(), Some(0));
}
