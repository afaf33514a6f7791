//! A Prometheus behind TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::{ONE, listen};
use crate::{
    analysis::{Endpoint, prometheus},
    plan::analysis::Answer,
};

/// A server, and the certificate it has made for itself, as PEM.
async fn serve(name: &str) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = listen([127, 0, 0, 1], 0).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ONE}", ONE.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, made.cert.pem())
}

#[tokio::test]
async fn only_a_certificate_that_is_trusted_and_names_the_host_is_good() {
    let dir = std::env::temp_dir();
    let mut answers = Vec::new();
    for name in ["127.0.0.1", "elsewhere.example"] {
        let (address, pem) = serve(name).await;
        let file = dir.join(format!("phoenix-operator-ca-{}-{name}", std::process::id()));
        std::fs::write(&file, pem).unwrap();
        let own: Endpoint = format!("main=https://{address},ca={}", file.display()).parse().unwrap();
        answers.push(prometheus::query(&own, "up", Duration::from_secs(10)).await);
        std::fs::remove_file(file).unwrap();
        if let Ok(system) = format!("main=https://{address}").parse::<Endpoint>() {
            answers.push(prometheus::query(&system, "up", Duration::from_secs(10)).await);
        }
    }
    assert_eq!(answers[0], Answer::Value("0.5".to_owned()));
    for other in &answers[1..] {
        assert!(matches!(other, Answer::Nothing(why) if why.contains("no TLS")), "{other:?}");
    }
}
