//! IP forwarding, switched on for single interfaces over netlink.
//!
//! The usual switch is the file `/proc/sys/net/ipv4/ip_forward`, and no container may write there: its `/proc/sys` is
//! read-only, and the sysctl in a pod's manifest is one that a kubelet must be told to allow. The same setting of one
//! interface can be changed by a request about that interface, which needs `NET_ADMIN` and nothing else
//! (`IFLA_INET_CONF`, `inet_set_link_af` in Linux' net/ipv4/devinet.c). Linux looks at the interface that a packet
//! came in by, so the uplink and the tap device are all that it takes.

use std::io;

use rtnetlink::packet_route::link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute};
use rtnetlink::{LinkUnspec, new_connection};

/// Forwarding could not be switched on.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// There is no way to talk to the kernel.
    #[error("cannot talk to the kernel about its network: {0}")]
    Netlink(#[source] io::Error),
    /// The kernel did not do it.
    #[error(
        "cannot switch on IP forwarding for {interface}: {source}; it needs root or the capability NET_ADMIN"
    )]
    Refused {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: Box<rtnetlink::Error>,
    },
}

/// Lets the kernel forward packets that come in by some interfaces of this network namespace.
///
/// # Errors
/// [`ForwardingError`].
pub(crate) async fn switch_on(interfaces: &[&str]) -> Result<(), ForwardingError> {
    let (connection, handle, _) = new_connection().map_err(ForwardingError::Netlink)?;
    // Ends with the last handle.
    tokio::spawn(connection);
    for interface in interfaces {
        let mut forwarding = InetDevConf::default();
        forwarding.forwarding = 1;
        let settings = vec![AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(forwarding)])];
        let request = LinkUnspec::new_with_name(interface)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(settings))
            .build();
        handle.link().set(request).execute().await.map_err(|source| ForwardingError::Refused {
            interface: (*interface).to_owned(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}
