use super::*;
use proptest::prelude::*;

const GUEST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 3);
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);

fn egress(policy: Egress) -> EgressFilter {
    EgressFilter {
        policy,
        guest: GUEST,
        gateway: GATEWAY,
        subnet: Network::new(172, 16, 0, 0, 24),
        resolver: Some(RESOLVER),
        host: vec![Network { address: HOST, prefix: 24 }],
    }
}

fn frame(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ETHERTYPE_IPV4);
    let total = u16::try_from(20 + transport.len()).unwrap().to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(transport);
    frame
}

fn tcp(destination: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let mut segment = [0; 20];
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[13] = flags;
    frame(GUEST, destination, PROTOCOL_TCP, &segment)
}

fn udp(destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut datagram = [0; 8];
    datagram[2..4].copy_from_slice(&port.to_be_bytes());
    frame(GUEST, destination, PROTOCOL_UDP, &datagram)
}

#[test]
fn the_public_internet_is_reachable_as_the_policy_says() {
    assert!(egress(Egress::Internet).judge(&tcp(PUBLIC, 443, TCP_SYN)));
    assert!(egress(Egress::Open).judge(&tcp(PUBLIC, 443, TCP_SYN)));
    assert!(!egress(Egress::None).judge(&tcp(PUBLIC, 443, TCP_SYN)));
}

#[test]
fn the_hosts_loopback_is_reachable_under_no_address() {
    for policy in [Egress::None, Egress::Internet, Egress::Open] {
        for destination in [
            GATEWAY,
            RESOLVER,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::new(127, 255, 0, 1),
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::new(172, 16, 0, 77),
            Ipv4Addr::new(172, 16, 0, 255),
            Ipv4Addr::BROADCAST,
            HOST,
        ] {
            assert!(!egress(policy).judge(&tcp(destination, 8081, TCP_SYN)), "{destination} {policy:?}");
            assert!(!egress(policy).judge(&udp(destination, 8081)), "{destination} {policy:?}");
        }
    }
}

#[test]
fn metadata_services_and_multicast_are_never_reachable() {
    for destination in [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(224, 0, 0, 251)] {
        assert!(!egress(Egress::Open).judge(&tcp(destination, 80, TCP_SYN)), "{destination}");
    }
}

#[test]
fn private_networks_and_the_hosts_own_need_the_open_policy() {
    for destination in [
        Ipv4Addr::new(10, 1, 2, 3),
        Ipv4Addr::new(172, 17, 0, 1),
        Ipv4Addr::new(192, 168, 1, 1),
        Ipv4Addr::new(100, 64, 0, 1),
        Ipv4Addr::new(203, 0, 113, 8),
    ] {
        assert!(!egress(Egress::Internet).judge(&tcp(destination, 80, TCP_SYN)), "{destination}");
        assert!(egress(Egress::Open).judge(&tcp(destination, 80, TCP_SYN)), "{destination}");
    }
}

#[test]
fn the_gateway_gets_answers_but_no_connection() {
    let egress = egress(Egress::Internet);
    assert!(egress.judge(&tcp(GATEWAY, 40000, TCP_SYN | TCP_ACK)));
    assert!(egress.judge(&tcp(GATEWAY, 40000, TCP_ACK)));
    assert!(!egress.judge(&tcp(GATEWAY, 40000, TCP_SYN)));
    // ECN bits beside SYN do not make an answer of it.
    assert!(!egress.judge(&tcp(GATEWAY, 40000, TCP_SYN | 0xc0)));
    assert!(egress.judge(&frame(GUEST, GATEWAY, PROTOCOL_ICMP, &[8, 0, 0, 0, 0, 0, 0, 0])));
}

#[test]
fn fragments_do_not_smuggle_a_connection_to_the_gateway() {
    let mut first = tcp(GATEWAY, 8081, TCP_ACK);
    first[ETHERNET_HEADER + 6] = 0x20;
    let mut later = tcp(GATEWAY, 8081, TCP_ACK);
    later[ETHERNET_HEADER + 7] = 1;
    for fragment in [first, later] {
        assert!(!egress(Egress::Open).judge(&fragment));
    }
}

#[test]
fn the_resolver_answers_on_its_port_only() {
    assert!(egress(Egress::Internet).judge(&udp(RESOLVER, 53)));
    assert!(egress(Egress::Internet).judge(&tcp(RESOLVER, 53, TCP_SYN)));
    assert!(!egress(Egress::Internet).judge(&udp(RESOLVER, 5353)));
    assert!(!egress(Egress::None).judge(&udp(RESOLVER, 53)));
}

#[test]
fn other_protocols_and_borrowed_addresses_do_not_pass() {
    let egress = egress(Egress::Open);
    let mut ipv6 = vec![0; 60];
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    let mut tagged = tcp(PUBLIC, 80, TCP_SYN);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x01]);
    assert!(!egress.judge(&ipv6));
    assert!(!egress.judge(&tagged));
    assert!(!egress.judge(&frame(Ipv4Addr::new(172, 16, 0, 9), PUBLIC, PROTOCOL_UDP, &[0; 8])));
}

#[test]
fn padding_does_not_pose_as_a_transport_header() {
    let mut padded = frame(GUEST, GATEWAY, PROTOCOL_TCP, &[]);
    padded.extend([0; 13]);
    padded.push(TCP_ACK);
    assert!(!egress(Egress::Open).judge(&padded));
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..128)) {
        let _ = egress(Egress::Internet).judge(&frame);
    }

    /// Whatever the bytes, a frame that passes is ARP or has an allowed destination.
    #[test]
    fn nothing_passes_to_a_forbidden_address(
        mut bytes in proptest::collection::vec(any::<u8>(), 34..96),
        last in any::<[u8; 3]>(),
        first in prop_oneof![Just(0u8), Just(127), Just(224), Just(255)],
    ) {
        bytes[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        bytes[26..30].copy_from_slice(&GUEST.octets());
        bytes[30..34].copy_from_slice(&[first, last[0], last[1], last[2]]);
        prop_assert!(!egress(Egress::Open).judge(&bytes));
    }
}
