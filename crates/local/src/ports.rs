//! Ports on the loopback for a session's services.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// A port was asked for and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else has it.
    #[error(
        "port {port} is taken: choose another with `{flag}`, or leave it out to get a free one; `ss -ltnp` shows who has it"
    )]
    Taken {
        /// The port.
        port: u16,
        /// The flag that asked for it.
        flag: &'static str,
    },
    /// The system has none, or does not let us.
    #[error("cannot listen on port {port} of the loopback: {source}")]
    Refused {
        /// The port; 0 stands for any.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// An address on the loopback with the wanted port, or any that is free.
pub(crate) fn loopback(wanted: Option<u16>, flag: &'static str) -> Result<SocketAddrV4, PortError> {
    let port = wanted.unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => PortError::Taken { port, flag },
        _ => PortError::Refused { port, source },
    })?;
    let address = listener.local_addr().map_err(|source| PortError::Refused { port, source })?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_names_the_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = loopback(Some(port), "--terminal-port").unwrap_err().to_string();
        assert!(error.contains("--terminal-port"), "{error}");
        assert_ne!(loopback(None, "").unwrap().port(), port);
    }
}
