//! Addresses and ports on the loopback for a session's services.
//!
//! Browsers keep cookies apart by host and not by port, so two sessions at one address would log each other's editor
//! out. All of 127.0.0.0/8 is the loopback: each session on this machine gets an address of its own, the first one
//! 127.0.0.2, since 127.0.0.1 is everything else's on this machine.

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

/// The first session's address.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The lowest loopback address for sessions that is not among those taken.
pub(crate) fn free_address(taken: &[Ipv4Addr]) -> Ipv4Addr {
    let first = u32::from(FIRST);
    let mut addresses = (first..first + (1 << 16)).map(Ipv4Addr::from);
    addresses.find(|address| !taken.contains(address)).unwrap_or(FIRST)
}

/// The address with the wanted port, or any that is free there.
pub(crate) fn bindable(
    address: Ipv4Addr,
    wanted: Option<u16>,
    flag: &'static str,
) -> Result<SocketAddrV4, PortError> {
    let port = wanted.unwrap_or(0);
    let listener = TcpListener::bind((address, port)).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => PortError::Taken { port, flag },
        _ => PortError::Refused { port, source },
    })?;
    let bound = listener.local_addr().map_err(|source| PortError::Refused { port, source })?;
    Ok(SocketAddrV4::new(address, bound.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_names_the_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bindable(Ipv4Addr::LOCALHOST, Some(port), "--terminal-port").unwrap_err().to_string();
        assert!(error.contains("--terminal-port"), "{error}");
        assert_ne!(bindable(Ipv4Addr::LOCALHOST, None, "").unwrap().port(), port);
    }

    #[test]
    fn each_session_gets_the_lowest_address_that_is_free() {
        let [two, three, four] = [2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 0, last));
        assert_eq!(free_address(&[]), two);
        assert_eq!(free_address(&[Ipv4Addr::LOCALHOST, two, four]), three);
        assert!(bindable(three, None, "").unwrap().ip().is_loopback());
    }
}
