//! What the guest may send, and to whom: one policy, judged frame by frame or turned into firewall rules.
//!
//! [`EgressFilter::judge`] takes a raw Ethernet frame as the guest sent it. Everything that is not understood is dropped: a
//! frame passes only if it is ARP, or an IPv4 packet from the guest's own address to a destination that the policy
//! allows. Fragments are judged by their destination like whole packets; to the lab's own subnet, where the transport
//! header decides, fragments do not pass at all.

use std::net::Ipv4Addr;

use dozlab_session::plan::Egress;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: Ipv4Addr,
    /// Length of its prefix, 0 to 32.
    pub prefix: u8,
}

impl Network {
    const fn new(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Self {
        Self { address: Ipv4Addr::new(a, b, c, d), prefix }
    }

    /// Whether an address is in the network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        (u32::from(self.address) ^ u32::from(address)) & mask == 0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        write!(formatter, "{}/{}", Ipv4Addr::from(u32::from(self.address) & mask), self.prefix)
    }
}

/// Never reachable, whatever the policy: "this host", loopback, link-local with the clouds' metadata addresses,
/// multicast, reserved and broadcast (RFC 6890).
pub const NEVER: [Network; 5] = [
    Network::new(0, 0, 0, 0, 8),
    Network::new(127, 0, 0, 0, 8),
    Network::new(169, 254, 0, 0, 16),
    Network::new(224, 0, 0, 0, 4),
    Network::new(240, 0, 0, 0, 4),
];

/// Not part of the public internet (RFC 6890): private use, carrier-grade NAT, protocol assignments, benchmarking.
pub const PRIVATE: [Network; 6] = [
    Network::new(10, 0, 0, 0, 8),
    Network::new(172, 16, 0, 0, 12),
    Network::new(192, 168, 0, 0, 16),
    Network::new(100, 64, 0, 0, 10),
    Network::new(192, 0, 0, 0, 24),
    Network::new(198, 18, 0, 0, 15),
];

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const DNS_PORT: u16 = 53;

/// The policy together with the addresses it is about.
#[derive(Clone, Debug)]
pub struct EgressFilter {
    /// How far the guest may reach.
    pub policy: Egress,
    /// The guest's own address: it may send from no other.
    pub guest: Ipv4Addr,
    /// The gateway's address, at which the lab itself stands.
    pub gateway: Ipv4Addr,
    /// The lab's own subnet. In it the guest may answer the gateway and ask [`Self::resolver`], nothing else.
    pub subnet: Network,
    /// A resolver inside the subnet (the user-mode network stack offers one), which may be asked on port 53.
    pub resolver: Option<Ipv4Addr>,
    /// The host's own interfaces, address and prefix. The addresses are never reachable, their networks only with
    /// [`Egress::Open`].
    pub host: Vec<Network>,
}

impl EgressFilter {
    /// Whether a frame that the guest sent may pass.
    #[must_use]
    pub fn judge(&self, frame: &[u8]) -> bool {
        let Some((header, packet)) = frame.split_at_checked(ETHERNET_HEADER) else { return false };
        match [header[12], header[13]] {
            ETHERTYPE_ARP => true,
            ETHERTYPE_IPV4 => Packet::parse(packet).is_some_and(|packet| self.judge_packet(&packet)),
            _ => false,
        }
    }

    fn judge_packet(&self, packet: &Packet<'_>) -> bool {
        if packet.source != self.guest {
            return false;
        }
        if self.subnet.contains(packet.destination) {
            return self.judge_local(packet);
        }
        self.allows_destination(packet.destination)
    }

    /// Whether the policy lets the guest reach an address outside the lab's own subnet.
    #[must_use]
    pub fn allows_destination(&self, destination: Ipv4Addr) -> bool {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(destination));
        if within(&NEVER) || self.host.iter().any(|interface| interface.address == destination) {
            return false;
        }
        match self.policy {
            Egress::None => false,
            Egress::Internet => !within(&PRIVATE) && !within(&self.host),
            Egress::Open => true,
        }
    }

    /// Inside the lab's subnet the user-mode network stack turns each destination into the host's loopback, so only
    /// answers pass, and questions to the resolver.
    fn judge_local(&self, packet: &Packet<'_>) -> bool {
        if packet.is_fragment {
            return false;
        }
        if packet.destination == self.gateway {
            return match packet.protocol {
                PROTOCOL_ICMP => true,
                // An answer to a connection that the lab opened. The stack opens a connection of its own for a segment
                // that carries SYN without ACK.
                PROTOCOL_TCP => {
                    packet.tcp_flags().is_some_and(|flags| flags & TCP_SYN == 0 || flags & TCP_ACK != 0)
                }
                _ => false,
            };
        }
        let asks_resolver = self.resolver == Some(packet.destination) && self.policy != Egress::None;
        let carries_dns = matches!(packet.protocol, PROTOCOL_UDP | PROTOCOL_TCP);
        asks_resolver && carries_dns && packet.destination_port() == Some(DNS_PORT)
    }
}

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// The parts of an IPv4 packet that the policy looks at (RFC 791).
struct Packet<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    is_fragment: bool,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for what is no well-formed IPv4 packet. Padding after the packet's own length is cut off, so that it
    /// cannot pose as a header.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&first, &protocol) = (bytes.first()?, bytes.get(9)?);
        let header_length = usize::from(first & 0x0f) * 4;
        let total_length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        if first >> 4 != 4 || header_length < 20 || total_length < header_length {
            return None;
        }
        let payload = bytes.get(header_length..total_length)?;
        let fragment = u16::from_be_bytes([bytes[6], bytes[7]]);
        // The lowest 13 bits are the offset, bit 13 says that more fragments follow.
        let is_fragment = fragment & 0x3fff != 0;
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        Some(Self { source: address(12), destination: address(16), protocol, is_fragment, payload })
    }

    fn destination_port(&self) -> Option<u16> {
        Some(u16::from_be_bytes([*self.payload.get(2)?, *self.payload.get(3)?]))
    }

    fn tcp_flags(&self) -> Option<u8> {
        self.payload.get(13).copied()
    }
}

#[cfg(test)]
mod tests;
