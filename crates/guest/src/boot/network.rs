//! Address, route and link of the VM's one interface, set over rtnetlink.

use std::net::Ipv4Addr;

use dozlab_session::guest_config::GuestNetwork;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// The network cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("cannot talk to the kernel about its network: {0}")]
    Netlink(#[source] std::io::Error),
    #[error("the VM has no network interface: is one attached, and is its driver in the initramfs?")]
    NoInterface,
    #[error("cannot {step} on {interface}: {source}")]
    Refused { step: String, interface: String, source: rtnetlink::Error },
}

/// Brings the loopback up, then the first other interface with the address and the default route. Returns
/// that interface's name. All of it may have been done before.
pub(crate) fn configure(network: &GuestNetwork) -> Result<String, NetworkError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(NetworkError::Netlink)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Netlink)?;
        tokio::spawn(connection);
        configure_over(&handle, network).await
    })
}

async fn configure_over(handle: &Handle, network: &GuestNetwork) -> Result<String, NetworkError> {
    let refused = |step: String, interface: &str| {
        let interface = interface.to_owned();
        move |source| NetworkError::Refused { step, interface, source }
    };
    let links: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(refused("list interfaces".into(), "the VM"))?;
    let is_loopback = |link: &&LinkMessage| link.header.flags.contains(LinkFlags::Loopback);
    if let Some(loopback) = links.iter().find(is_loopback) {
        bring_up(handle, loopback.header.index)
            .await
            .map_err(refused("bring up the loopback".into(), "lo"))?;
    }
    let Some(link) = links.iter().find(|link| !is_loopback(link)) else {
        return Err(NetworkError::NoInterface);
    };
    let (index, name) = (link.header.index, name_of(link));
    let GuestNetwork { address, prefix, gateway, .. } = network;
    let add = handle.address().add(index, (*address).into(), *prefix).replace();
    add.execute().await.map_err(refused(format!("set the address {address}/{prefix}"), &name))?;
    bring_up(handle, index).await.map_err(refused("bring up the link".into(), &name))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway).output_interface(index).build();
    let add = handle.route().add(route).replace();
    add.execute().await.map_err(refused(format!("set the default route by {gateway}"), &name))?;
    Ok(name)
}

async fn bring_up(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

fn name_of(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_else(|| format!("interface {}", link.header.index))
}
