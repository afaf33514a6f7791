//! Bytes between a program and the API server, counted on the way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes connections on as they are, encrypted, and counts what comes back. Dropped, it takes no new ones.
#[derive(Debug)]
pub struct Wire {
    received: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl Wire {
    /// Puts an address of loopback that leads to the same server in its place.
    pub async fn lay(address: &mut SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening on loopback")?;
        let here = listener.local_addr().context("listening on loopback")?;
        let server = std::mem::replace(address, here);
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, server, Arc::clone(&counter)));
            }
        });
        Ok(Self { received, listening })
    }

    /// Bytes that the API server has sent so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Until either side ends it.
async fn pass(near: TcpStream, server: SocketAddr, counter: Arc<AtomicU64>) {
    let Ok(far) = TcpStream::connect(server).await else { return };
    // What is small must not wait for more.
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let ((mut asks, answered), (answers, mut asked)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = tokio::io::copy(&mut asks, &mut asked) => {}
        () = counted(answers, answered, &counter) => {}
    }
}

async fn counted(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, counter: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        counter.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_back_is_counted() {
        let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = far.local_addr().unwrap();
        let mut near = address;
        let wire = Wire::lay(&mut near).await.unwrap();
        assert_ne!(near, address);
        let (mut client, served) = tokio::join!(async { TcpStream::connect(near).await.unwrap() }, async {
            far.accept().await.unwrap().0
        });
        let mut served = served;
        client.write_all(b"four").await.unwrap();
        let mut asked = [0; 4];
        served.read_exact(&mut asked).await.unwrap();
        served.write_all(b"and seven").await.unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!((&asked, &answer), (b"four", b"and seven"));
        assert_eq!(wire.received(), 9);
    }
}
