//! Which cluster, which namespace, and as whom: what a kubeconfig says, read as kubectl reads it.

use std::time::Duration;

use dozlab_pod::LabSession;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::error::{ClusterError, explain};

/// How long a connection to the API server may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    url: String,
}

impl Cluster {
    /// The cluster of a context of the kubeconfig, the current one where none is given, and a namespace of it, the
    /// context's where none is given. In a pod without a kubeconfig: its own cluster.
    ///
    /// Nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// [`ClusterError::NoKubeconfig`], [`ClusterError::NoContext`], [`ClusterError::NoCurrentContext`],
    /// [`ClusterError::Kubeconfig`].
    pub async fn connect(context: Option<&str>, namespace: Option<&str>) -> Result<Self, ClusterError> {
        let mut config = configuration(context).await?;
        config.connect_timeout = Some(CONNECT_DEADLINE);
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| ClusterError::Kubeconfig(error.into()))?;
        Ok(Self { client, namespace, url })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn sessions(&self) -> Api<LabSession> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn events(&self) -> Api<k8s_openapi::api::core::v1::Event> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Explains an error. `doing` completes "cannot …".
    pub(crate) fn failed(&self, doing: &str) -> impl FnOnce(kube::Error) -> ClusterError {
        move |error| explain(error, doing, &self.url)
    }
}

async fn configuration(context: Option<&str>) -> Result<Config, ClusterError> {
    let kubeconfig = match Kubeconfig::read() {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => match Config::incluster() {
            Ok(own_cluster) if context.is_none() => return Ok(own_cluster),
            _ => return Err(ClusterError::NoKubeconfig(error.into())),
        },
    };
    let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    if let Some(context) = context.filter(|context| !contexts.iter().any(|known| known == context)) {
        return Err(ClusterError::NoContext { context: context.to_owned(), contexts });
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| match error {
        KubeconfigError::CurrentContextNotSet => ClusterError::NoCurrentContext(contexts),
        other => ClusterError::Kubeconfig(other.into()),
    })
}
