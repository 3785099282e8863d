//! The secrets in a lab's links.

use dozlab_pod::pod::TERMINAL;
use dozlab_session::secret::Secret;
use k8s_openapi::api::core::v1::{Pod, Secret as SecretObject, SecretKeySelector};

use crate::connect::Cluster;
use crate::error::ClusterError;

/// The secrets in a lab's links, which only its owner should see.
#[derive(Clone, Debug, Default)]
pub struct LinkSecrets {
    /// The secret in the links to the terminal.
    pub token: Option<Secret>,
    /// The editor's password.
    pub editor_password: Option<Secret>,
}

impl Cluster {
    /// Reads the secrets of a lab's links, from the Secrets that its pod's terminal has them of. Without a pod there are
    /// none.
    ///
    /// # Errors
    /// [`ClusterError::Forbidden`], where only the controller may have to do with Secrets; and whatever else keeps them
    /// from being read.
    pub async fn link_secrets(&self, pod: &str) -> Result<LinkSecrets, ClusterError> {
        let Some(pod) = self.pod(pod).await? else { return Ok(LinkSecrets::default()) };
        Ok(LinkSecrets {
            token: self.secret(reference(&pod, "SESSION_TOKEN")).await?,
            editor_password: self.secret(reference(&pod, "EDITOR_PASSWORD")).await?,
        })
    }

    async fn secret(&self, reference: Option<&SecretKeySelector>) -> Result<Option<Secret>, ClusterError> {
        let Some(SecretKeySelector { name, key, .. }) = reference else { return Ok(None) };
        let doing = format!("read the Secret {name}");
        let secret: SecretObject = self.secrets().get(name).await.map_err(self.failed(&doing))?;
        let bytes = secret.data.unwrap_or_default().remove(key);
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes.0).ok()).map(Secret::new))
    }
}

/// Where the terminal's container has a variable from.
fn reference<'a>(pod: &'a Pod, variable: &str) -> Option<&'a SecretKeySelector> {
    let containers = &pod.spec.as_ref()?.containers;
    let terminal = containers.iter().find(|container| container.name == TERMINAL)?;
    let variable = terminal.env.as_ref()?.iter().find(|known| known.name == variable)?;
    variable.value_from.as_ref()?.secret_key_ref.as_ref()
}
