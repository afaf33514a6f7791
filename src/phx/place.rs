//! Which cluster, which namespace, which app.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::process::Command;

use crate::api::PhoenixApp;

/// Where to look, as kubectl's own flags say it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// The namespace; absent: that of the context.
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Cluster")]
    namespace: Option<String>,
    /// The context of the kubeconfig; absent: the current one.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,
    /// The kubeconfig; absent: KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,
}

/// A way to the API server.
#[derive(Clone)]
pub struct Cluster {
    /// Asks it.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    place: Place,
}

impl Place {
    /// The namespace that was named.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Opens the way to the API server.
    ///
    /// # Errors
    /// When there is no kubeconfig, or it names no such context, or its credentials cannot be read.
    pub async fn open(&self) -> Result<Cluster> {
        let config = if self.kubeconfig.is_none() && self.context.is_none() {
            Config::infer()
                .await
                .context("there is no way to a cluster; set KUBECONFIG or give --kubeconfig")?
        } else {
            let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
            let kubeconfig = match &self.kubeconfig {
                Some(path) => {
                    Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?
                }
                None => Kubeconfig::read().context("reading the kubeconfig")?,
            };
            Config::from_custom_kubeconfig(kubeconfig, &options).await.context("reading the kubeconfig")?
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("preparing the connection to the API server")?;
        Ok(Cluster { client, namespace, place: self.clone() })
    }
}

impl Cluster {
    /// The apps of the namespace.
    pub fn apps(&self) -> Api<PhoenixApp> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The app that is meant: the one named, else the only one there is.
    ///
    /// # Errors
    /// When there is none, or more than one to choose from; the error lists them.
    pub async fn app(&self, name: Option<&str>) -> Result<PhoenixApp> {
        let namespace = &self.namespace;
        if let Some(name) = name
            && let Some(app) = self.apps().get_opt(name).await.map_err(|error| self.unreachable(&error))?
        {
            return Ok(app);
        }
        let mut all = match (self.apps().list(&ListParams::default()).await, name) {
            (Err(kube::Error::Api(status)), Some(name)) if status.code == 403 => {
                bail!("there is no PhoenixApp {name} in namespace {namespace}")
            }
            (list, _) => list.map_err(|error| self.unreachable(&error))?.items,
        };
        let names: Vec<_> = all.iter().filter_map(|app| app.metadata.name.clone()).collect();
        match (name, all.len()) {
            (None, 1) => Ok(all.remove(0)),
            (_, 0) => {
                bail!("there is no PhoenixApp in namespace {namespace}; give another with --namespace")
            }
            (Some(name), _) => {
                bail!(
                    "there is no PhoenixApp {name} in namespace {namespace}; there are: {}",
                    names.join(", ")
                )
            }
            (None, _) => {
                bail!("which app? namespace {namespace} has several; name one of: {}", names.join(", "))
            }
        }
    }

    fn unreachable(&self, error: &kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) if status.code == 404 => anyhow!(
                "the API server knows no PhoenixApp: install the operator with its definition, \
                 or choose another cluster with --context"
            ),
            kube::Error::Api(status) if status.code == 403 => anyhow!(
                "reading PhoenixApps in namespace {}: {}; the right to `get` them is needed, and that to `list` them \
                 unless the app is named",
                self.namespace,
                status.message
            ),
            kube::Error::Api(status) => {
                anyhow!("reading PhoenixApps in namespace {}: {}", self.namespace, status.message)
            }
            other => anyhow!("reading PhoenixApps in namespace {}: {other}", self.namespace),
        }
    }

    /// `kubectl`, at the same cluster and namespace. A plugin always has it beside it.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(path) = &self.place.kubeconfig {
            command.arg("--kubeconfig").arg(path);
        }
        if let Some(context) = &self.place.context {
            command.arg("--context").arg(context);
        }
        command.arg("--namespace").arg(&self.namespace);
        command
    }
}
