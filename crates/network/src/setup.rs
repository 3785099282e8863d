//! The container `network-setup`, from its environment: writes the network-config file, and in a pod makes the network
//! that it describes.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use dozlab_session::defaults;
use dozlab_session::name::TapName;
use dozlab_session::plan::Egress;

use crate::config::{NetworkConfig, NetworkConfigError};
use crate::namespace::{NamespaceError, PodNetwork, set_up};
use crate::relay::host_networks;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Make the tap device, NAT and the firewall in this network namespace, and write the file.
    #[default]
    Pod,
    /// Write the file only: the hypervisor brings its own network stack.
    User,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        match word {
            "pod" => Ok(Self::Pod),
            "user" => Ok(Self::User),
            other => Err(UnknownMode(other.to_owned())),
        }
    }
}

/// The word names no mode.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no way to make a network: use pod or user")]
pub struct UnknownMode(String);

/// Everything that `dozlab network-setup` is told.
#[derive(Clone, Debug)]
pub struct NetworkSetup {
    /// `NETWORK_MODE`: `pod` or `user`; `pod`.
    pub mode: Mode,
    /// `NETWORK_CONFIG_PATH`: the file to write; `/shared/network-config`.
    pub config: PathBuf,
    /// `GATEWAY_IP`: the tap device's address; `172.16.0.1`.
    pub gateway: Ipv4Addr,
    /// `VM_IP`: the VM's address; `172.16.0.2`.
    pub vm: Ipv4Addr,
    /// `POD_IP`: the pod's own address, where it cannot be read off the uplink.
    pub pod: Option<Ipv4Addr>,
    /// `TAP_DEVICE_NAME`: the tap device; `tap0`.
    pub tap: TapName,
    /// `TAP_OWNER`: the id of the user that the VM runs as, where that is not root.
    pub tap_owner: Option<u32>,
    /// `UPLINK`: the interface towards the world; `eth0`.
    pub uplink: String,
    /// `POD_LOCAL_PORTS`: ports that are the lab's own, separated by spaces; `8080 8081`.
    pub pod_ports: Vec<u16>,
    /// `EGRESS`: how far the guest may reach: `internet`, `open`, `none`; `internet`.
    pub egress: Egress,
}

/// The network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A variable's value does not fit.
    #[error("{variable} is `{value}`: {reason}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The pod's own address is not known.
    #[error("this machine has no IPv4 address but the loopback's: set POD_IP")]
    NoAddress,
    /// The file could not be written.
    #[error(transparent)]
    Config(#[from] NetworkConfigError),
    /// The network could not be made.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl NetworkSetup {
    /// Reads the settings. An empty variable counts as unset.
    ///
    /// # Errors
    /// [`SetupError::Invalid`].
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SetupError> {
        let variable = |name: &'static str| (name, lookup(name).filter(|value| !value.trim().is_empty()));
        let ports = variable("POD_LOCAL_PORTS")
            .1
            .unwrap_or_else(|| format!("{} {}", defaults::EDITOR_PORT, defaults::TERMINAL_PORT));
        let pod_ports = ports.split_ascii_whitespace().map(|port| parse("POD_LOCAL_PORTS", port));
        Ok(Self {
            mode: parsed(variable("NETWORK_MODE"))?.unwrap_or_default(),
            config: variable("NETWORK_CONFIG_PATH")
                .1
                .unwrap_or_else(|| defaults::NETWORK_CONFIG_PATH.into())
                .into(),
            gateway: parsed(variable("GATEWAY_IP"))?.unwrap_or(defaults::GATEWAY),
            vm: parsed(variable("VM_IP"))?.unwrap_or(defaults::VM_ADDRESS),
            pod: parsed(variable("POD_IP"))?,
            tap: parsed(variable("TAP_DEVICE_NAME"))?.unwrap_or_default(),
            tap_owner: parsed(variable("TAP_OWNER"))?,
            uplink: variable("UPLINK").1.unwrap_or_else(|| "eth0".into()),
            pod_ports: pod_ports.collect::<Result<_, _>>()?,
            egress: parsed(variable("EGRESS"))?.unwrap_or_default(),
        })
    }

    /// Makes the network and writes the file.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn run(&self) -> Result<NetworkConfig, SetupError> {
        let config = self.make().await?;
        config.write(&self.config)?;
        tracing::info!(path = %self.config.display(), "the network's configuration is written");
        Ok(config)
    }

    /// Makes the network, and writes no file: what the VM's container does where nobody has made it before.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn make(&self) -> Result<NetworkConfig, SetupError> {
        let config = match self.mode {
            Mode::Pod => set_up(&self.pod_network()).await?,
            Mode::User => NetworkConfig {
                gateway: self.gateway,
                vm: self.vm,
                pod: self.pod.map_or_else(own_address, Ok)?,
                tap: self.tap.to_string(),
            },
        };
        tracing::info!(pod = %config.pod, vm = %config.vm, "the network is ready");
        Ok(config)
    }

    fn pod_network(&self) -> PodNetwork {
        PodNetwork {
            uplink: self.uplink.clone(),
            tap: self.tap.to_string(),
            tap_owner: self.tap_owner,
            gateway: self.gateway,
            vm: self.vm,
            pod_ports: self.pod_ports.clone(),
            policy: self.egress,
        }
    }
}

/// This machine's first address that is not the loopback's, as `hostname -i` says it in a pod.
fn own_address() -> Result<Ipv4Addr, SetupError> {
    let networks = host_networks().map_err(NamespaceError::Interfaces)?;
    let mut addresses = networks.into_iter().map(|network| network.address);
    addresses.find(|address| !address.is_loopback()).ok_or(SetupError::NoAddress)
}

fn parsed<T: FromStr<Err: fmt::Display>>(
    (variable, value): (&'static str, Option<String>),
) -> Result<Option<T>, SetupError> {
    value.map(|value| parse(variable, value.trim())).transpose()
}

fn parse<T: FromStr<Err: fmt::Display>>(variable: &'static str, value: &str) -> Result<T, SetupError> {
    value.parse().map_err(|error: T::Err| SetupError::Invalid {
        variable,
        value: value.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(variables: &[(&str, &str)]) -> Result<NetworkSetup, SetupError> {
        NetworkSetup::from_env(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_lab_pods_network() {
        let setup = setup(&[]).unwrap();
        assert_eq!((setup.mode, setup.tap.to_string().as_str()), (Mode::Pod, "tap0"));
        assert_eq!(setup.pod_ports, [8080, 8081]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named() {
        for (variable, value) in [("POD_LOCAL_PORTS", "8080 http"), ("TAP_DEVICE_NAME", "tap0; reboot")] {
            let error = setup(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
    }

    #[tokio::test]
    async fn user_mode_writes_the_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network-config");
        let variables = [
            ("NETWORK_MODE", "user"),
            ("NETWORK_CONFIG_PATH", path.to_str().unwrap()),
            ("POD_IP", "10.1.2.3"),
        ];
        setup(&variables).unwrap().run().await.unwrap();
        let expected = "GATEWAY_IP=172.16.0.1\nVM_IP=172.16.0.2\nPOD_IP=10.1.2.3\nTAP_DEVICE=tap0\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }
}
