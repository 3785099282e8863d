//! `/shared/network-config`: four `KEY=VALUE` lines, in a fixed order, that the lab pod's containers share.
//!
//! The form is the one that `network-setup` of existing lab pods writes; readers source it as a shell fragment.

use std::fmt;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The network of one lab, as its containers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The VM's default gateway: the tap device's address.
    pub gateway: Ipv4Addr,
    /// The VM's address.
    pub vm: Ipv4Addr,
    /// The pod's own address.
    pub pod: Ipv4Addr,
    /// The tap device's name.
    pub tap: String,
}

/// The file could not be read or written, or says something else.
#[derive(Debug, thiserror::Error)]
pub enum NetworkConfigError {
    /// The file could not be read.
    #[error("cannot read the network configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write the network configuration {path}: {source}; is its folder there and writable?")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is missing or is no address.
    #[error(
        "the network configuration {path} has no usable line `{key}=…`: write it anew with `network-setup`"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key that is missing or whose value does not fit.
        key: &'static str,
    },
}

impl fmt::Display for NetworkConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "GATEWAY_IP={}", self.gateway)?;
        writeln!(formatter, "VM_IP={}", self.vm)?;
        writeln!(formatter, "POD_IP={}", self.pod)?;
        writeln!(formatter, "TAP_DEVICE={}", self.tap)
    }
}

impl NetworkConfig {
    /// Writes the file; it appears whole or not at all.
    ///
    /// # Errors
    /// [`NetworkConfigError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), NetworkConfigError> {
        let failed = |source| NetworkConfigError::Write { path: path.to_owned(), source };
        let partial = path.with_extension("partial");
        fs::write(&partial, self.to_string()).map_err(failed)?;
        fs::rename(&partial, path).map_err(failed)
    }

    /// Reads the file. Lines that it does not know are passed over.
    ///
    /// # Errors
    /// [`NetworkConfigError::Read`], [`NetworkConfigError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, NetworkConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| NetworkConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|key| NetworkConfigError::Malformed { path: path.to_owned(), key })
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let value = |key: &'static str| {
            let found = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            found.map(str::trim).filter(|value| !value.is_empty()).ok_or(key)
        };
        let address = |key| value(key)?.parse::<Ipv4Addr>().map_err(|_| key);
        Ok(Self {
            gateway: address("GATEWAY_IP")?,
            vm: address("VM_IP")?,
            pod: address("POD_IP")?,
            tap: value("TAP_DEVICE")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> NetworkConfig {
        NetworkConfig {
            gateway: Ipv4Addr::new(172, 16, 0, 1),
            vm: Ipv4Addr::new(172, 16, 0, 2),
            pod: Ipv4Addr::new(10, 244, 1, 5),
            tap: "tap0".into(),
        }
    }

    #[test]
    fn the_file_has_the_form_that_existing_readers_source() {
        let expected = "GATEWAY_IP=172.16.0.1\nVM_IP=172.16.0.2\nPOD_IP=10.244.1.5\nTAP_DEVICE=tap0\n";
        assert_eq!(example().to_string(), expected);
    }

    #[test]
    fn a_written_file_reads_back_and_leaves_no_partial() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network-config");
        example().write(&path).unwrap();
        assert_eq!(NetworkConfig::read(&path).unwrap(), example());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_line_is_named() {
        let text = example().to_string().replace("VM_IP=172.16.0.2\n", "");
        assert_eq!(NetworkConfig::parse(&text), Err("VM_IP"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(?s).*") {
            let _ = NetworkConfig::parse(&text);
        }
    }
}
