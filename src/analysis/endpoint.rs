//! A Prometheus that the operator may ask. Apps choose among them by name, and never an address.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use hyper::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

/// A Prometheus, or whatever speaks its query API: Thanos, Mimir, `VictoriaMetrics`.
///
/// Written as `name=url`, and after commas `bearer=FILE` (a token, read anew for each query) and `ca=FILE` (PEM; else
/// the system's certificates).
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What apps call it.
    pub name: String,
    /// Host, as it stands in the URL.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
    /// Path before `/api/v1/query`, without a slash at its end.
    pub(super) base: String,
    /// A file with a bearer token.
    pub(super) bearer: Option<PathBuf>,
    /// Set for https.
    pub(super) tls: Option<Tls>,
}

/// How a connection is secured.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub config: Arc<ClientConfig>,
    pub server: ServerName<'static>,
}

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Prometheus endpoint {text:?} cannot be used: {why}; write it as name=http://host:port/path, and after commas bearer=FILE or ca=FILE"
)]
pub struct EndpointError {
    text: String,
    why: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).map_err(|why| EndpointError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Endpoint, String> {
    let mut parts = text.split(',');
    let (name, url) = parts.next().and_then(|first| first.split_once('=')).ok_or("it has no name")?;
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(fine) {
        return Err("its name must have 1 to 63 lowercase letters, digits and '-'".to_owned());
    }
    let (mut bearer, mut ca) = (None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("bearer", path)) if !path.is_empty() => bearer = Some(PathBuf::from(path)),
            Some(("ca", path)) if !path.is_empty() => ca = Some(PathBuf::from(path)),
            _ => return Err(format!("{part:?} is neither bearer=FILE nor ca=FILE")),
        }
    }
    let uri: Uri = url.parse().map_err(|error| format!("its URL cannot be read ({error})"))?;
    let authority = uri.authority().ok_or("its URL has no host")?;
    if authority.as_str().contains('@') {
        return Err("its URL holds a user; use bearer=FILE".to_owned());
    }
    if uri.query().is_some() {
        return Err("its URL has a query".to_owned());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let (tls, port) = match uri.scheme_str() {
        Some("http") if ca.is_some() => return Err("ca is for https".to_owned()),
        Some("http") => (None, 80),
        Some("https") => (Some(tls(&host, ca)?), 443),
        _ => return Err("its URL is neither http nor https".to_owned()),
    };
    Ok(Endpoint {
        name: name.to_owned(),
        host,
        port: authority.port_u16().unwrap_or(port),
        base: uri.path().trim_end_matches('/').to_owned(),
        bearer,
        tls,
    })
}

fn tls(host: &str, ca: Option<PathBuf>) -> Result<Tls, String> {
    let server = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
            for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| failed(&error))? {
                let certificate = certificate.map_err(|error| failed(&error))?;
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
        }
        None => {
            // some of a system's certificates may be odd; one that is missing says so when it is needed
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate to trust; name a file with ca=FILE".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Tls { config: Arc::new(config), server })
}
