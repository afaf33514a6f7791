//! The generator against servers that misbehave, one way each: it must tell them apart.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"version\":\"v1\"}";

/// What a server does with the second request of a connection.
#[derive(Clone, Copy)]
enum Second {
    Answer,
    Close,
    Cut,
}

async fn request(stream: &mut TcpStream) -> bool {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut received).await {
            Ok(read) if read > 0 => {}
            _ => return false,
        }
    }
    true
}

async fn connection(mut stream: TcpStream, second: Second) {
    let mut count = 0;
    while request(&mut stream).await {
        count += 1;
        let answer = match second {
            Second::Close if count > 1 => return,
            Second::Cut if count > 1 => &ANSWER[..30],
            _ => ANSWER,
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.len() < ANSWER.len() {
            return;
        }
    }
}

async fn server(second: Second) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, second));
        }
    });
    address
}

fn options(target: SocketAddr) -> Options {
    Options {
        target,
        host: "localhost".to_owned(),
        paths: vec!["/version".to_owned()],
        connections: 4,
        streams: 0,
        stream_path: "/stream".to_owned(),
        rate: 10_000,
        at_least: 100,
        at_most: 1_000,
        no_longer_than: Duration::from_secs(30),
    }
}

#[tokio::test]
async fn half_of_the_connections_are_kept_and_nothing_fails() {
    let load = Load::start(options(server(Second::Answer).await));
    assert!(load.reaches(50).await.requests >= 50);
    let report = load.stop().await;
    assert!((100..200).contains(&report.requests), "{report:?}");
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(report.versions["v1"], report.requests);
    assert_eq!(report.allowed_retries, Retries::default());
    assert!(report.latency.p50 > 0.0 && report.latency.p99 <= report.latency.max);
}

#[tokio::test]
async fn a_reused_connection_closed_before_an_answer_is_the_one_retry() {
    let report = Load::start(options(server(Second::Close).await)).stop().await;
    assert_eq!(report.failed(), 0, "{report:?}");
    // Each retry goes to a new connection, whose second request is closed again: every second request of
    // the kept half is one.
    let retries = report.allowed_retries.closed + report.allowed_retries.reset;
    assert!(retries > 10 && retries < report.requests, "{report:?}");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_a_failure_and_is_not_retried() {
    let report = Load::start(options(server(Second::Cut).await)).stop().await;
    assert_eq!(report.allowed_retries, Retries::default());
    let cut = report.failed["cut within the answer"];
    assert!(cut > 10 && cut < report.requests, "{report:?}");
    assert_eq!(report.failures.len(), 20, "the first are described");
}

#[tokio::test]
async fn nobody_listening_is_a_failure_and_time_ends_it() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut options = options(free);
    (options.rate, options.at_most, options.no_longer_than) = (50, 1_000, Duration::from_millis(300));
    let report = Load::start(options).end().await;
    assert!(report.out_of_time);
    assert_eq!(report.failed["refused"], report.requests);
}

#[tokio::test]
async fn a_stream_is_drained_or_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let mut options = options(target);
    (options.connections, options.streams) = (0, 1);
    let load = Load::start(options);
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let hello = "25\r\nevent: hello\ndata: {\"version\":\"v1\"}\n\n\r\n";
    for rest in ["e\r\nevent: drain\n\n\r\n0\r\n\r\n", "0\r\n\r\n", "e\r\nevent: drain\n\n\r\n"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(request(&mut stream).await);
        stream.write_all([head, hello, rest].concat().as_bytes()).await.unwrap();
    }
    // It comes back after each, so the third has been counted when the fourth is here.
    let _fourth = listener.accept().await.unwrap();
    let streams = load.report().streams;
    assert_eq!((streams.opened, streams.drained, streams.cut), (3, 1, 2));
    assert!(streams.open.is_empty());
}
