//! What the guest is to become, from a file or, as in a lab pod, from the container's variables.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use dozlab_boot::Kernel;
use dozlab_keys::hex;
use dozlab_session::defaults;
use dozlab_session::guest_config::{GuestConfig, GuestNetwork};
use dozlab_session::name::{Hostname, LoginUser};
use dozlab_session::secret::Secret;
use sha2::{Digest, Sha256};

use super::{SettingsError, file, invalid, parsed};

/// The variable with the VM's host key. No hypervisor gets it into its environment.
pub(crate) const HOST_KEY_VARIABLE: &str = "SSH_HOST_PRIVATE_KEY";

/// Where the guest's configuration comes from.
#[derive(Clone, Debug)]
pub enum Guest {
    /// `GUEST_CONFIG`: a JSON file.
    File(PathBuf),
    /// Without it, the variables of the lab pod.
    Variables(Box<GuestVariables>),
}

/// The guest's configuration as the lab pod's variables give it.
#[derive(Clone, Debug)]
pub struct GuestVariables {
    /// `SESSION_ID`: the session's id. Required.
    pub session_id: String,
    /// `VM_HOSTNAME`: the VM's host name; `lab-` and the session's id.
    pub hostname: String,
    /// `SSH_USER`: the user to be in the VM, whom the image must have; `lab-user`.
    pub user: String,
    /// `SSH_AUTHORIZED_KEY`: the learner's public key, one line. Required.
    pub authorized_key: String,
    /// `SSH_HOST_PRIVATE_KEY`: the VM's host key in PEM. Required.
    pub host_key: Secret,
    /// `VM_IP`: the VM's address; `172.16.0.2`.
    pub address: Ipv4Addr,
    /// `GATEWAY_IP`: its gateway; `172.16.0.1`.
    pub gateway: Ipv4Addr,
    /// `DNS`: its resolvers, separated by spaces; `1.1.1.1 8.8.8.8`.
    pub dns: Vec<Ipv4Addr>,
}

impl Guest {
    pub(super) fn from_env(variable: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingsError> {
        if let Some(path) = variable("GUEST_CONFIG") {
            return Ok(Self::File(path.into()));
        }
        let required = |name: &'static str, meaning: &'static str| {
            variable(name).ok_or(SettingsError::Missing { variable: name, meaning })
        };
        let session_id = required("SESSION_ID", "it should be the session's id")?;
        let hostname: Option<Hostname> = parsed("VM_HOSTNAME", variable("VM_HOSTNAME"))?;
        let user: Option<LoginUser> = parsed("SSH_USER", variable("SSH_USER"))?;
        let dns = variable("DNS").map(|list| {
            let addresses = list.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>();
            addresses.map_err(|error| invalid("DNS", &list, &error))
        });
        Ok(Self::Variables(Box::new(GuestVariables {
            hostname: hostname.map_or_else(|| format!("lab-{session_id}"), String::from),
            user: user.map_or_else(|| defaults::SSH_USER.to_owned(), String::from),
            authorized_key: required(
                "SSH_AUTHORIZED_KEY",
                "it should be the session's public key, one line; or set GUEST_CONFIG",
            )?,
            host_key: Secret::new(required(
                HOST_KEY_VARIABLE,
                "it should be the machine's SSH host key, a private key in PEM; or set GUEST_CONFIG",
            )?),
            address: parsed("VM_IP", variable("VM_IP"))?.unwrap_or(defaults::VM_ADDRESS),
            gateway: parsed("GATEWAY_IP", variable("GATEWAY_IP"))?.unwrap_or(defaults::GATEWAY),
            dns: dns.transpose()?.unwrap_or_else(|| defaults::DNS.to_vec()),
            session_id,
        })))
    }

    /// The configuration for a kernel.
    ///
    /// # Errors
    /// [`SettingsError::File`].
    pub(super) fn config(&self, kernel: &Kernel) -> Result<GuestConfig, SettingsError> {
        match self {
            Self::File(path) => {
                let text = std::fs::read(path).map_err(|error| file("GUEST_CONFIG", path, &error))?;
                serde_json::from_slice(&text).map_err(|error| file("GUEST_CONFIG", path, &error))
            }
            Self::Variables(variables) => Ok(variables.config(kernel.modules_disk().is_some())),
        }
    }
}

impl GuestVariables {
    fn config(&self, has_modules_disk: bool) -> GuestConfig {
        GuestConfig {
            session_id: self.session_id.clone(),
            hostname: self.hostname.clone(),
            user: self.user.clone(),
            authorized_key: self.authorized_key.trim_end().to_owned(),
            host_key: self.host_key.reveal().to_owned(),
            machine_id: self.machine_id(),
            entropy: hex(64),
            network: GuestNetwork {
                address: self.address,
                prefix: defaults::NETWORK_PREFIX,
                gateway: self.gateway,
                dns: self.dns.clone(),
            },
            root_device: "/dev/vda".into(),
            overlay_device: None,
            modules_device: has_modules_disk.then(|| "/dev/vdb".into()),
        }
    }

    /// The same for as long as the host key is, and no clue to it.
    fn machine_id(&self) -> String {
        let digest =
            Sha256::new().chain_update("dozlab machine-id\0").chain_update(self.host_key.reveal()).finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 3] =
        [("SESSION_ID", "abc"), ("SSH_AUTHORIZED_KEY", "ssh-ed25519 AAAA a\n"), (HOST_KEY_VARIABLE, "PEM")];

    fn guest(variables: &[(&str, &str)]) -> Result<Guest, SettingsError> {
        Guest::from_env(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn variables(more: &[(&str, &str)]) -> GuestVariables {
        let Guest::Variables(variables) = guest(&[more, &NEEDED].concat()).unwrap() else {
            panic!("no file was named")
        };
        *variables
    }

    #[test]
    fn a_lab_pods_variables_make_a_guest() {
        let config = variables(&[("DNS", "9.9.9.9 1.1.1.1"), ("SSH_USER", "learner")]).config(true);
        assert_eq!((config.hostname.as_str(), config.user.as_str()), ("lab-abc", "learner"));
        assert_eq!(config.authorized_key, "ssh-ed25519 AAAA a");
        assert_eq!(config.network.dns, [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)]);
        assert_eq!(config.modules_device.as_deref(), Some("/dev/vdb"));
        let config = variables(&[]).config(false);
        assert_eq!((config.modules_device, config.user.as_str()), (None, "lab-user"));
    }

    #[test]
    fn a_machine_keeps_its_id_and_gets_new_entropy() {
        let (one, other) = (variables(&[]).config(true), variables(&[]).config(true));
        assert_eq!(one.machine_id, other.machine_id);
        assert_eq!(one.machine_id.len(), 32);
        assert_ne!(one.entropy, other.entropy);
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_secret_is_not_shown() {
        for (index, (name, _)) in NEEDED.into_iter().enumerate() {
            let mut rest = NEEDED.to_vec();
            rest.remove(index);
            let error = guest(&rest).unwrap_err();
            assert!(matches!(error, SettingsError::Missing { variable, .. } if variable == name), "{error}");
        }
        assert!(guest(&[&NEEDED[..], &[("DNS", "dns.example")]].concat()).is_err());
        assert!(!format!("{:?}", variables(&[])).contains("PEM"));
    }
}
