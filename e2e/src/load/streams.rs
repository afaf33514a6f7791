//! Streams of server-sent events, as a live view's socket is one: open for long, and back when drained.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::Connection;
use super::report::{Server, StreamEnd};
use super::{REQUEST_TIMEOUT, Shared};

/// Longest silence of a stream that ticks each second.
const SILENCE: Duration = Duration::from_secs(10);
/// Before a stream that failed is tried again, so that a dead server is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps one stream open until the load is over.
pub(super) async fn keep_open(shared: &Shared) {
    let mut over = shared.over.subscribe();
    tokio::select! {
        _ = over.wait_for(|over| *over) => {}
        () = one_after_the_other(shared) => {}
    }
}

async fn one_after_the_other(shared: &Shared) {
    loop {
        let mut stream = Stream { local: None, server: None };
        let end = stream.follow(shared).await;
        let cut = matches!(end, StreamEnd::Cut(_));
        shared.tally.stream_ended(stream.server.as_ref(), end, stream.local);
        if cut {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What is known of a stream.
struct Stream {
    local: Option<SocketAddr>,
    /// Of the server, once it said hello.
    server: Option<Server>,
}

impl Stream {
    async fn follow(&mut self, shared: &Shared) -> StreamEnd {
        match self.read(shared).await {
            Ok(()) => StreamEnd::Drained,
            Err(why) => StreamEnd::Cut(why),
        }
    }

    /// Ends well only with a drain and the last chunk.
    async fn read(&mut self, shared: &Shared) -> Result<(), String> {
        let options = &shared.options;
        let open = async {
            let mut connection = Connection::open(options.target).await?;
            self.local = connection.local();
            connection.send(&options.stream_path, &options.host, true).await?;
            let head = connection.head().await?;
            Ok::<_, super::connection::Fault>((connection, head))
        };
        let opened = timeout(REQUEST_TIMEOUT, open).await.map_err(|_| "no head in time".to_owned())?;
        let (mut connection, head) = opened.map_err(|fault| fault.to_string())?;
        if head.status != 200 {
            return Err(format!("status {}", head.status));
        }
        let mut drained = false;
        loop {
            let chunk = timeout(SILENCE, connection.chunk()).await.map_err(|_| "silent".to_owned())?;
            let Some(chunk) = chunk.map_err(|fault| fault.to_string())? else {
                return if drained { Ok(()) } else { Err("closed without a drain".to_owned()) };
            };
            let (event, data) = event(&chunk);
            match event {
                "hello" => {
                    let server = serde_json::from_str(data).unwrap_or_default();
                    shared.tally.stream_opened(&server);
                    self.server = Some(server);
                }
                "drain" => drained = true,
                _ => {}
            }
        }
    }
}

/// Name and data of an event; the server sends each as a chunk of its own.
fn event(chunk: &[u8]) -> (&str, &str) {
    let text = std::str::from_utf8(chunk).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    (field("event:"), field("data:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_and_data() {
        let chunk = b"event: hello\ndata: {\"version\":\"v1\"}\n\n";
        assert_eq!(event(chunk), ("hello", r#"{"version":"v1"}"#));
        assert_eq!(event(b": comment\n\n"), ("", ""));
    }
}
