//! The client of the API server, put together by hand for the sake of numbers that `kube` does not let one choose: what its connections hold.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as Connections, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt as _},
};
use tower::{BoxError, util::MapErrLayer};

/// Bytes that are read of a connection at once. Each watch keeps such a buffer for as long as it is open, and hyper would
/// let it grow to 408 KiB. What TLS gives out at once is 16 KiB; the head of an answer has to fit as well.
const READ: usize = 32 << 10;

/// How long a connection is kept that nothing is asked over. A burst of work opens many.
const IDLE: Duration = Duration::from_secs(10);

/// Makes a client. Nothing is tried twice: that goes through the queue.
pub fn connect(config: &Config) -> anyhow::Result<Client> {
    if config.proxy_url.is_some() {
        bail!(
            "the API server is to be reached through a proxy (HTTPS_PROXY, or proxy-url in the kubeconfig), which is not supported"
        );
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let connector = config.rustls_https_connector_with_connector(connector).context("preparing TLS")?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let connections = Connections::builder(TokioExecutor::new())
        .http1_max_buf_size(READ)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    let client = ClientBuilder::new(connections, config.default_namespace.as_str())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer().context("reading who is impersonated")?);
    let at = config.base_uri_layer();
    Ok(match config.auth_layer().context("reading the credentials")? {
        Some(credentials) => client.with_layer(&credentials).with_layer(&at).build(),
        None => client.with_layer(&at).build(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        // as `main` does
        drop(rustls::crypto::ring::default_provider().install_default());
        Config::new("https://127.0.0.1:6443".parse().unwrap())
    }

    #[tokio::test]
    async fn a_proxy_is_refused_and_not_passed_over() {
        assert!(connect(&config()).is_ok());
        let mut proxied = config();
        proxied.proxy_url = Some("http://proxy:3128".parse().unwrap());
        let error = connect(&proxied).err().unwrap().to_string();
        assert!(error.contains("HTTPS_PROXY"), "{error}");
    }
}
