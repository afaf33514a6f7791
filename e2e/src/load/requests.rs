//! Requests, on connections that are kept and on connections made for one each.

use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, Fault, Head};
use super::{REQUEST_TIMEOUT, Shared};

/// One connection after the other, each used as long as the server keeps it.
pub(super) async fn kept_alive(shared: &Shared, index: usize) {
    let mut kept: Option<Connection> = None;
    let mut turn = index;
    while shared.goes_on() {
        shared.pace.turn().await;
        let path = path(shared, turn);
        turn += 1;
        kept = request(shared, path, kept.take(), true).await;
        shared.counted.notify_waiters();
    }
}

/// A new connection for each request.
pub(super) async fn one_each(shared: &Shared, index: usize) {
    let mut turn = index;
    while shared.goes_on() {
        shared.pace.turn().await;
        let path = path(shared, turn);
        turn += 1;
        request(shared, path, None, false).await;
        shared.counted.notify_waiters();
    }
}

fn path(shared: &Shared, turn: usize) -> &str {
    let paths = &shared.options.paths;
    paths.get(turn % paths.len().max(1)).map_or("/", String::as_str)
}

/// Makes one request and counts how it ended; gives back the connection if it may be used again.
async fn request(shared: &Shared, path: &str, kept: Option<Connection>, keep: bool) -> Option<Connection> {
    let started = Instant::now();
    let deadline = started + REQUEST_TIMEOUT;
    let what = |on: &str| format!("GET {path} on {on}, after {:?}", started.elapsed());
    let mut on = "a new connection";
    let mut local = None;

    if let Some(mut connection) = kept {
        local = connection.local();
        match timeout_at(deadline, exchange(shared, &mut connection, path, keep)).await {
            Ok(Ok((head, body))) => return answered(shared, path, connection, head, &body, started),
            // The one case in which it is sent once more: nobody can have begun to answer it.
            Ok(Err(Fault::Unanswered(error))) if connection.reused => {
                shared.tally.retried(error.is_some());
                on = "a new connection, after the reused one was closed";
            }
            Ok(Err(fault)) => {
                shared.tally.failed(what("a reused connection"), &fault, local);
                return None;
            }
            Err(_) => {
                shared.tally.timed_out(what("a reused connection"), local);
                return None;
            }
        }
    }
    let fresh = async {
        let mut connection = Connection::open(shared.options.target).await?;
        local = connection.local();
        let (head, body) = exchange(shared, &mut connection, path, keep).await?;
        Ok::<_, Fault>((connection, head, body))
    };
    match timeout_at(deadline, fresh).await {
        Ok(Ok((connection, head, body))) => answered(shared, path, connection, head, &body, started),
        Ok(Err(fault)) => {
            shared.tally.failed(what(on), &fault, local);
            None
        }
        Err(_) => {
            shared.tally.timed_out(what(on), local);
            None
        }
    }
}

async fn exchange(
    shared: &Shared,
    connection: &mut Connection,
    path: &str,
    keep: bool,
) -> Result<(Head, Vec<u8>), Fault> {
    connection.send(path, &shared.options.host, keep).await?;
    let head = connection.head().await?;
    let body = connection.body(head).await?;
    Ok((head, body))
}

fn answered(
    shared: &Shared,
    path: &str,
    mut connection: Connection,
    head: Head,
    body: &[u8],
    started: Instant,
) -> Option<Connection> {
    shared.tally.answered(path, head.status, body, started.elapsed());
    connection.reused = true;
    head.keeps.then_some(connection)
}
