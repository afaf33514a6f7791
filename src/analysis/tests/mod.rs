//! Against servers on loopback that answer well, badly, slowly and not at all.

mod pods;
mod prometheus;
mod runner;
mod tls;

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::Endpoint;
use crate::api::HttpTest;

const ONE: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.5"]}]}}"#;

async fn listen(host: [u8; 4], port: u16) -> TcpListener {
    TcpListener::bind((IpAddr::from(host), port)).await.unwrap()
}

/// Serves until the test is over.
async fn serve(router: Router) -> SocketAddr {
    let listener = listen([127, 0, 0, 1], 0).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers every connection with these bytes, however wrong, and closes it, or with nothing and keeps it open.
async fn blurt(bytes: Option<&'static [u8]>) -> SocketAddr {
    let listener = listen([127, 0, 0, 1], 0).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match bytes {
                None => kept.push(stream),
                Some(bytes) => {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(bytes).await;
                    let _ = stream.shutdown().await;
                }
            }
        }
    });
    address
}

fn endpoint(address: SocketAddr) -> Endpoint {
    format!("main=http://{address}").parse().unwrap()
}

fn test(text: &str) -> HttpTest {
    serde_saphyr::from_str(text).unwrap()
}
