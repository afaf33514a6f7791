//! One HTTP request over one connection: no pool, no proxy, no redirect, and no more of the answer than asked for.

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::LOCATION,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::endpoint::Tls;
use crate::telemetry::causes;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its status.
    pub status: u16,
    /// Where it sends to, of a redirect.
    pub location: Option<String>,
    /// Its body, at most as much as was asked for.
    pub body: Vec<u8>,
    /// There was more.
    pub cut: bool,
}

/// Asks, and reads at most `limit` bytes of the body. Takes as long as it takes: the caller sets the time limit, and
/// dropping this closes the connection.
pub(super) async fn ask(
    host: &str,
    port: u16,
    tls: Option<&Tls>,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Reply, String> {
    let stream =
        TcpStream::connect((host, port)).await.map_err(|error| format!("cannot connect: {error}"))?;
    match tls {
        None => over(stream, request, limit).await,
        Some(Tls { config, server }) => {
            let connector = TlsConnector::from(config.clone());
            let stream = connector.connect(server.clone(), stream).await;
            over(stream.map_err(|error| format!("no TLS: {error}"))?, request, limit).await
        }
    }
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>, limit: usize) -> Result<Reply, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {}", causes(&error)))?;
    let exchange = async {
        let response =
            sender.send_request(request).await.map_err(|error| format!("no answer: {}", causes(&error)))?;
        read(response, limit).await
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        reply = &mut exchange => reply,
        // the connection ends first where the server closes it after its answer
        _ = &mut connection => exchange.await,
    }
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Reply, String> {
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {}", causes(&error)))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = limit - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok(Reply { status, location, body, cut: true });
        }
    }
    Ok(Reply { status, location, body, cut: false })
}
