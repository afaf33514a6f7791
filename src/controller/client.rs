//! The client of the API server, put together by hand for the sake of numbers that `kube` does not let one choose: what
//! its connections hold.

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
/// let it grow to 408 KiB. A record of TLS has 16 KiB; the head of an answer has to fit as well.
const READ: usize = 32 << 10;
/// How long a connection is used again that nothing is asked over; it is closed in twice that time. A burst of work opens
/// many.
const IDLE: Duration = Duration::from_secs(10);

/// Makes a client. Nothing is tried twice: that goes through the queue.
pub fn connect(config: &Config) -> anyhow::Result<Client> {
    if config.proxy_url.is_some() {
        bail!(
            "the API server is to be reached through a proxy (proxy-url in the kubeconfig, or HTTPS_PROXY, whatever \
             NO_PROXY says), which is not supported: unset it"
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
    use std::io::{Read as _, Write as _};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;

    use super::*;

    fn config(address: &str) -> Config {
        // as `main` does
        drop(rustls::crypto::ring::default_provider().install_default());
        Config::new(address.parse().unwrap())
    }

    #[tokio::test]
    async fn a_proxy_is_refused_and_not_passed_over() {
        let mut config = config("https://127.0.0.1:6443");
        assert!(connect(&config).is_ok());
        config.proxy_url = Some("http://proxy:3128".parse().unwrap());
        let error = connect(&config).err().unwrap().to_string();
        assert!(error.contains("HTTPS_PROXY"), "{error}");
    }

    #[tokio::test]
    async fn a_request_bears_path_and_credentials_and_an_answer_may_be_greater_than_what_is_read_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/clusters/one", listener.local_addr().unwrap());
        let data = "x".repeat(READ * 8);
        let answer = serde_json::json!({"metadata": {"name": "a"}, "data": {"text": data}}).to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let length = answer.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}")
                .unwrap();
            String::from_utf8(request).unwrap().to_lowercase()
        });
        let mut config = config(&address);
        config.auth_info.token = Some("secret".to_owned().into());
        config.auth_info.impersonate = Some("jane".to_owned());
        let maps: Api<ConfigMap> = Api::namespaced(connect(&config).unwrap(), "prod");
        let map = maps.get("a").await.unwrap();
        assert_eq!(map.data.unwrap()["text"].len(), READ * 8);
        let request = server.join().unwrap();
        for part in [
            "get /clusters/one/api/v1/namespaces/prod/configmaps/a http/1.1\r\n",
            "authorization: bearer secret\r\n",
            "impersonate-user: jane\r\n",
        ] {
            assert!(request.contains(part), "{part:?} is not in {request:?}");
        }
    }
}
