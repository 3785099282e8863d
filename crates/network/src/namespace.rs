//! A network namespace with a tap device, NAT and the guest's firewall, made with `ip` and `nft`.
//!
//! [`set_up`] works inside the namespace it is called in: in a pod that is the pod's. On one machine [`Namespace`] makes
//! such a namespace first, with a veth pair as its uplink, and NAT on the host's side; the same [`set_up`] then runs
//! inside it. `ip -batch` and `nft -f` are used instead of netlink of our own: a script of either can be read in a log,
//! `nft -f` applies whole or not at all, and both say what they did not like.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use dozlab_process::{Tool, ToolError};
use dozlab_session::plan::Egress;

use crate::NetworkConfig;
use crate::egress::Network;
use crate::forwarding::{self, ForwardingError};
use crate::relay::host_networks;
use crate::ruleset::Ruleset;

const IP: Tool = Tool { program: "ip", package: "iproute2" };
const NFT: Tool = Tool { program: "nft", package: "nftables" };

/// The tools that this module calls, for `dozlab doctor`.
pub const TOOLS: [Tool; 2] = [IP, NFT];

/// The network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// `ip` or `nft` is missing or failed.
    #[error("cannot {action}: {source}")]
    Tool {
        /// What was being done.
        action: &'static str,
        /// What the tool said.
        source: ToolError,
    },
    /// Forwarding could not be switched on outside the namespace.
    #[error("cannot switch on this machine's IP forwarding by writing {path}: {source}; it needs root")]
    Forwarding {
        /// The file under `/proc/sys`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Forwarding could not be switched on inside the namespace.
    #[error(transparent)]
    ForwardingInside(#[from] ForwardingError),
    /// There is no interface to reach the world through.
    #[error(
        "the interface {uplink} has no IPv4 address: the namespace needs one before the VM's network can be made"
    )]
    NoUplink {
        /// The interface that was looked at.
        uplink: String,
    },
    /// The interfaces could not be listed.
    #[error("cannot list this machine's network interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// All link networks are taken.
    #[error(
        "no free link network for another lab on this machine: end one with `dozlab rm`, or clean up with `dozlab gc`"
    )]
    Full,
}

fn tool(action: &'static str) -> impl FnOnce(ToolError) -> NamespaceError {
    move |source| NamespaceError::Tool { action, source }
}

/// What [`set_up`] makes.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    /// The interface towards the world, `eth0` in a pod.
    pub uplink: String,
    /// The tap device to make.
    pub tap: String,
    /// The user that may open the tap device besides root, where the VM runs as one.
    pub tap_owner: Option<u32>,
    /// The VM's gateway: the tap device's address, with a /24 network.
    pub gateway: Ipv4Addr,
    /// The VM's address.
    pub vm: Ipv4Addr,
    /// Ports at the pod's address that are the lab's own.
    pub pod_ports: Vec<u16>,
    /// How far the guest may reach.
    pub policy: Egress,
}

/// Makes the tap device, NAT and the guest's firewall in the current network namespace. May be run again: an
/// existing tap device is kept, the rules are replaced.
///
/// # Errors
/// [`NamespaceError`].
pub async fn set_up(network: &PodNetwork) -> Result<NetworkConfig, NamespaceError> {
    let pod = address_of(&network.uplink).await?;
    let attached: Vec<Network> = host_networks().map_err(NamespaceError::Interfaces)?;
    if !std::path::Path::new("/sys/class/net").join(&network.tap).exists() {
        let owner = network.tap_owner.map(|user| format!(" user {user}")).unwrap_or_default();
        let batch = format!("tuntap add dev {tap} mode tap{owner}\n", tap = network.tap);
        IP.run_with_input(["-batch", "-"], batch.as_bytes()).await.map_err(tool("make the tap device"))?;
    }
    let batch = format!(
        "address replace {gateway}/24 dev {tap}\nlink set dev {tap} up\n",
        gateway = network.gateway,
        tap = network.tap
    );
    IP.run_with_input(["-batch", "-"], batch.as_bytes())
        .await
        .map_err(tool("give the tap device its address"))?;
    forwarding::switch_on(&[&network.uplink, &network.tap]).await?;
    let ruleset = Ruleset {
        uplink: &network.uplink,
        tap: &network.tap,
        pod,
        vm: network.vm,
        pod_ports: &network.pod_ports,
        policy: network.policy,
        attached: &attached,
    };
    NFT.run_with_input(["-f", "-"], ruleset.script().as_bytes())
        .await
        .map_err(tool("load the firewall's rules"))?;
    Ok(NetworkConfig { gateway: network.gateway, vm: network.vm, pod, tap: network.tap.clone() })
}

/// The IPv4 address of an interface.
async fn address_of(interface: &str) -> Result<Ipv4Addr, NamespaceError> {
    let no_uplink = || NamespaceError::NoUplink { uplink: interface.to_owned() };
    let listed =
        IP.run(["-4", "-o", "address", "show", "dev", interface]).await.map_err(|error| match error {
            ToolError::Failed { .. } => no_uplink(),
            other => tool("read the pod's address")(other),
        })?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut words = listed.split_ascii_whitespace().skip_while(|word| *word != "inet").skip(1);
    words.next().and_then(|word| word.split('/').next()?.parse().ok()).ok_or_else(no_uplink)
}

fn switch_on_forwarding() -> Result<(), NamespaceError> {
    let path = PathBuf::from("/proc/sys/net/ipv4/ip_forward");
    if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    std::fs::write(&path, "1\n").map_err(|source| NamespaceError::Forwarding { path, source })
}

/// A network namespace on this machine, with a veth pair as its uplink, for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    index: u16,
}

/// The pool of link networks between host and namespaces: 16,384 networks of four addresses, 10.213.0.0/16.
const LINKS: u32 = u32::from_be_bytes([10, 213, 0, 0]);

impl Namespace {
    /// The namespace that a session of this name has, or would have.
    #[must_use]
    pub fn name_for(session: &str) -> String {
        format!("dozlab-{session}")
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace's address on its uplink: where the host reaches the VM's forwarded ports.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(LINKS + u32::from(self.index) * 4 + 2)
    }

    fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(LINKS + u32::from(self.index) * 4 + 1)
    }

    /// The host's end of the veth pair. Interface names have at most 15 bytes, so it carries the number.
    fn host_link(&self) -> String {
        format!("dozlab{}", self.index)
    }

    /// Chooses a namespace for a session; [`Self::create`] makes it. Whoever holds the value can remove what was made,
    /// however far that got.
    ///
    /// # Errors
    /// [`NamespaceError::Full`].
    pub fn choose(session: &str) -> Result<Self, NamespaceError> {
        Ok(Self { name: Self::name_for(session), index: free_index(session)? })
    }

    /// Makes the namespace with its uplink, and the host's side of it. After a failure, or when the future is dropped,
    /// [`Self::remove`] removes what was made.
    ///
    /// # Errors
    /// [`NamespaceError`]; needs root.
    pub async fn create(&self) -> Result<(), NamespaceError> {
        let Self { name, .. } = self;
        let (link, host, inside) = (self.host_link(), self.host_address(), self.address());
        let make = format!(
            "netns add {name}
link add {link} type veth peer name eth0 netns {name}
address add {host}/30 dev {link}
link set dev {link} up
"
        );
        let action = "make the network namespace";
        IP.run_with_input(["-batch", "-"], make.as_bytes()).await.map_err(tool(action))?;
        let inner = format!(
            "address add {inside}/30 dev eth0
link set dev lo up
link set dev eth0 up
route add default via {host}
"
        );
        IP.run_with_input(["-n", name, "-batch", "-"], inner.as_bytes()).await.map_err(tool(action))?;
        switch_on_forwarding()?;
        // The namespace's packets leave behind the host's address; to the host itself it may only send answers.
        let rules = format!(
            "table ip dozlab_{index} {{}}
delete table ip dozlab_{index}
table ip dozlab_{index} {{
  chain to_world {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {inside} oifname != \"{link}\" masquerade
  }}
  chain to_host {{
    type filter hook input priority filter; policy accept;
    iifname \"{link}\" ct state established,related accept
    iifname \"{link}\" drop
  }}
}}
",
            index = self.index
        );
        NFT.run_with_input(["-f", "-"], rules.as_bytes()).await.map_err(tool("load the host's rules"))?;
        Ok(())
    }

    /// Removes the namespace, its veth pair (which goes with it) and the host's rules. What is not there is no error.
    ///
    /// # Errors
    /// [`NamespaceError::Tool`] when something that is there cannot be removed.
    pub async fn remove(&self) -> Result<(), NamespaceError> {
        let table =
            format!("table ip dozlab_{index} {{}}\ndelete table ip dozlab_{index}\n", index = self.index);
        NFT.run_with_input(["-f", "-"], table.as_bytes()).await.map_err(tool("remove the host's rules"))?;
        let link = self.host_link();
        if std::path::Path::new("/sys/class/net").join(&link).exists() {
            IP.run(["link", "delete", &link]).await.map_err(tool("remove the uplink"))?;
        }
        if netns_path(&self.name).exists() {
            IP.run(["netns", "delete", &self.name]).await.map_err(tool("remove the network namespace"))?;
        }
        Ok(())
    }

    /// Removes the namespace that a session left behind, however much of it was made; returns its name.
    ///
    /// # Errors
    /// [`NamespaceError::Tool`] when something that is there cannot be removed.
    pub async fn remove_left(session: &str) -> Result<Option<String>, NamespaceError> {
        let name = Self::name_for(session);
        if !netns_path(&name).exists() {
            return Ok(None);
        }
        match index_of(&name).await {
            Some(index) => Self { name: name.clone(), index }.remove().await?,
            // It never had an uplink's address, so there are no rules either; a link goes with its namespace.
            None => {
                let deleted = IP.run(["netns", "delete", &name]).await;
                deleted.map_err(tool("remove the half-made network namespace"))?;
            }
        }
        Ok(Some(name))
    }

    /// The words to put before a command so that it runs inside the namespace. The program replaces `ip`, so the
    /// process id stays the same.
    #[must_use]
    pub fn enter(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }
}

/// The number of a namespace's link network, from the address of its uplink.
async fn index_of(name: &str) -> Option<u16> {
    let listed = IP.run(["-n", name, "-4", "-o", "address", "show", "dev", "eth0"]).await.ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut words = listed.split_ascii_whitespace();
    let address = words.find_map(|word| word.strip_suffix("/30")?.parse::<Ipv4Addr>().ok())?;
    u16::try_from(u32::from(address).wrapping_sub(LINKS) / 4).ok()
}

/// Where iproute2 keeps its named namespaces.
fn netns_path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// A number whose link is not taken. Starts from the session's name so that two sessions that start at the same time
/// seldom try the same one; the loser of such a race fails at `link add` and leaves nothing behind.
fn free_index(session: &str) -> Result<u16, NamespaceError> {
    const COUNT: u16 = 16_384;
    let start = session.bytes().fold(0u16, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let taken = |index: &u16| std::path::Path::new("/sys/class/net").join(format!("dozlab{index}")).exists();
    let candidates = (0..COUNT).map(|step| start.wrapping_add(step) % COUNT);
    candidates.into_iter().find(|index| !taken(index)).ok_or(NamespaceError::Full)
}
