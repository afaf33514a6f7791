//! The cluster's own authority: certificates, and kubeconfigs that carry them.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

/// The authority that the API server trusts, and that signs its certificate.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both as PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

fn authority_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("describing the authority")?;
    params.distinguished_name = name("phoenix-e2e", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// Kubernetes reads the user from the common name, the groups from the organizations.
/// The library holds one value per kind of attribute, so the second organization goes
/// in under its number; a third has no place.
fn name(user: &str, groups: &[&str]) -> Result<DistinguishedName> {
    const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    match groups {
        [] => {}
        [one] => name.push(DnType::OrganizationName, *one),
        [one, two] => {
            name.push(DnType::OrganizationName, *one);
            name.push(DnType::CustomDnType(ORGANIZATION.to_vec()), *two);
        }
        _ => bail!("a client certificate for {user} can carry two groups, not {}", groups.len()),
    }
    Ok(name)
}

impl Authority {
    /// Makes a new authority and keeps it in `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let key = KeyPair::generate().context("making the authority's key")?;
        let certificate =
            authority_params()?.self_signed(&key).context("signing the authority's certificate")?.pem();
        write(&dir.join("ca.key"), &key.serialize_pem())?;
        write(&dir.join("ca.crt"), &certificate)?;
        Self::open(dir)
    }

    /// The authority that was made in `dir` before.
    pub fn open(dir: &Path) -> Result<Self> {
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let key = KeyPair::from_pem(&read("ca.key")?).context("reading the authority's key")?;
        Ok(Self {
            dir: dir.to_owned(),
            certificate: read("ca.crt")?,
            // The name and the key are all that signing needs, and the name is constant.
            issuer: Issuer::new(authority_params()?, key),
        })
    }

    /// The path of a file in the authority's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// A client certificate for a user in at most two groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new()).context("describing a client")?;
        params.distinguished_name = name(user, groups)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A server certificate for names and addresses.
    pub fn server(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).context("describing a server")?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = name("server", &[])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Writes an identity as `NAME.crt` and `NAME.key`.
    pub fn keep(&self, file: &str, identity: &Identity) -> Result<()> {
        write(&self.path(&format!("{file}.crt")), &identity.certificate)?;
        write(&self.path(&format!("{file}.key")), &identity.key)
    }

    /// The key pair with which service account tokens are signed (`sa.key`, `sa.pub`).
    pub fn service_accounts(&self) -> Result<()> {
        let key = KeyPair::generate().context("making the service account key")?;
        write(&self.path("sa.key"), &key.serialize_pem())?;
        write(&self.path("sa.pub"), &key.public_key_pem())
    }

    /// Writes a kubeconfig with which a user in groups reaches `server`.
    pub fn kubeconfig(&self, path: &Path, server: &str, user: &str, groups: &[&str]) -> Result<()> {
        let identity = self.client(user, groups)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "e2e",
            "clusters": [{"name": "e2e", "cluster": {
                "server": server,
                "certificate-authority-data": ByteString(self.certificate.clone().into_bytes()),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": ByteString(identity.certificate.into_bytes()),
                "client-key-data": ByteString(identity.key.into_bytes()),
            }}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
        });
        write(path, &format!("{config:#}\n"))
    }
}

/// Writes a file that only its owner may read: most of these hold a key.
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protecting {}", path.display()))
}
