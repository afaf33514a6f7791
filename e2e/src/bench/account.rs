//! The account that a program runs as, given to it as a pod's is: files at a path that the program alone sees them at, and the
//! API server's address in its environment. A kubeconfig would cost the operator the memory of a YAML parser.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::harness::Lab;
use crate::process;

/// Where clients look for an account in a pod.
const MOUNTED: &str = "/run/secrets/kubernetes.io/serviceaccount";
/// How long its token is good for: longer than any run.
const TOKEN: &str = "24h";
/// Copies the files from `$0` into a place of its own, and becomes the program.
const ENTER: &str =
    "mount -t tmpfs tmpfs /run && mkdir -p \"$1\" && cp \"$0\"/* \"$1\" && shift && exec \"$@\"";

/// An account of a cluster.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its token, its namespace and the certificate of the cluster's authority.
    pub files: PathBuf,
    /// The API server.
    pub server: SocketAddr,
}

impl Account {
    /// The one that the API server knows as `system:serviceaccount:<namespace>:<name>`. It is made, its rights are not.
    pub async fn make(lab: &Lab, user: &str) -> Result<Self> {
        let mut words = user.split(':').skip(2);
        let (Some(namespace), Some(name)) = (words.next(), words.next()) else {
            anyhow::bail!("{user} is no service account");
        };
        let manifests = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\napiVersion: v1\n\
             kind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        );
        lab.kubectl(&["apply", "--server-side", "-f", "-"], Some(&manifests)).await?;
        let token = ["create", "token", name, "--namespace", namespace, "--duration", TOKEN];
        let token = lab.kubectl(&token, None).await?;
        let cluster = lab.cluster();
        let authority = std::fs::read_to_string(cluster.certificate()).context("reading a certificate")?;
        let files = cluster.kubeconfig().with_file_name(format!("account-{namespace}-{name}"));
        std::fs::create_dir_all(&files).with_context(|| format!("making {}", files.display()))?;
        for (file, text) in [("token", token.trim()), ("namespace", namespace), ("ca.crt", &authority)] {
            let path = files.join(file);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Self { files, server: cluster.server()? })
    }

    /// What starts a program as this account, under the id of the command itself. It is killed when this process ends.
    pub fn command(&self, program: &Path, arguments: &[OsString]) -> Command {
        // Each of them replaces itself with the next.
        let mut command = process::tied();
        command
            .args(["unshare", "--mount", "--", "sh", "-c", ENTER])
            .args([self.files.as_os_str(), MOUNTED.as_ref(), program.as_os_str()])
            .args(arguments)
            .env_remove("KUBECONFIG")
            // where there is no kubeconfig either
            .env("HOME", MOUNTED)
            .env("KUBERNETES_SERVICE_HOST", self.server.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", self.server.port().to_string());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_sees_its_account_where_a_pod_has_it_and_nobody_else_does() {
        let files = std::env::temp_dir().join(format!("e2e-account-{}", std::process::id()));
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("token"), "secret").unwrap();
        let account = Account { files: files.clone(), server: ([127, 0, 0, 1], 6443).into() };
        let shown = "cat /var/run/secrets/kubernetes.io/serviceaccount/token; \
                     echo \" $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT\"";
        let arguments = ["-c".into(), shown.into()];
        let output = account.command(Path::new("sh"), &arguments).output().await.unwrap();
        std::fs::remove_dir_all(files).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "secret 127.0.0.1:6443\n", "{output:?}");
        let here = std::fs::read_to_string(Path::new(MOUNTED).join("token"));
        assert_ne!(here.ok().as_deref(), Some("secret"));
    }
}
