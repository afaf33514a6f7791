//! `/metrics`, `/healthz` and `/readyz`.

use std::{future::Future, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};

use super::Metrics;

/// Tells whether the operator is ready.
pub trait Readiness: Send + Sync + 'static {
    /// What is not in order, a line each; empty when all is.
    fn faults(&self) -> Vec<String>;
}

/// Serves until `stop` is done.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    listen: SocketAddr,
    metrics: Metrics,
    readiness: Arc<dyn Readiness>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let router = Router::new()
        .route("/metrics", get(move || async move { metrics.text() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready(&*readiness) }));
    axum::serve(listener, router).with_graceful_shutdown(stop).await.context("serving metrics and health")
}

fn ready(readiness: &dyn Readiness) -> (StatusCode, String) {
    let faults = readiness.faults();
    if faults.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n")
    }
}
