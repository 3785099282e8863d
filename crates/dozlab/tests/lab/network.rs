//! What the guest reaches, and what it does not.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::{Place, said};

/// Listens on all of the host's addresses, and says `secret` to whoever connects.
fn host_service() -> u16 {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.and_then(|mut connection| connection.write_all(b"secret\n"));
        }
    });
    // The service is there for whoever may reach it.
    assert_eq!(read_from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)), "secret\n");
    port
}

fn read_from(address: SocketAddrV4) -> String {
    let stream = std::net::TcpStream::connect(address).unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// Addresses under which a guest might find the host: its own gateway, the loopback, the host's interfaces.
fn disguises(more: &[String]) -> Vec<String> {
    let listed = Command::new("ip").args(["-4", "-o", "address"]).output().unwrap();
    let listed = said(&listed);
    let interfaces =
        listed.split_ascii_whitespace().filter_map(|word| word.split_once('/')).map(|(address, _)| address);
    let interfaces = interfaces.filter(|address| address.parse::<Ipv4Addr>().is_ok()).map(str::to_owned);
    let known = ["172.16.0.1", "172.16.0.3", "127.0.0.1", "127.0.0.2", "127.0.0.3"].map(str::to_owned);
    known.into_iter().chain(interfaces).chain(more.iter().cloned()).collect()
}

/// Makes the guest's own kernel send what is meant for the loopback out of its interface.
const ROUTE_LOOPBACK_OUT: &str = "ip addr del 127.0.0.1/8 dev lo; ip route flush table local; \
    ip route add local 172.16.0.2 dev eth0 table local; ip route add 127.0.0.0/8 via 172.16.0.1 dev eth0; \
    echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; true";

fn assert_host_is_out_of_reach(place: &Place, more: &[String]) {
    let mut ports = vec![host_service()];
    let record = place.record("one");
    let terminal = record["terminal"].as_str().unwrap();
    ports.push(terminal.rsplit(':').next().unwrap().parse().unwrap());
    place.exec("one", ROUTE_LOOPBACK_OUT);
    for address in disguises(more) {
        for port in &ports {
            let got = place.exec("one", &format!("nc -w 2 {address} {port} </dev/null 2>/dev/null || true"));
            assert_eq!(got, "", "the guest reached {address} port {port}");
        }
    }
    // The machine is still there, so it was not for want of a network.
    assert_eq!(place.exec("one", "ping -c 1 -W 5 172.16.0.1 >/dev/null && echo gateway"), "gateway");
}

#[test]
fn without_privileges_the_guest_reaches_nothing_of_the_host() {
    let place = Place::new();
    place.up("one", &[]);
    assert_host_is_out_of_reach(&place, &[]);
}

#[test]
fn in_a_namespace_the_guest_reaches_nothing_of_the_host_and_nothing_is_left() {
    let place = Place::new();
    let Some(_alone) = pod_network(&place) else { return };
    let before = host_network();
    place.up("one", &["--network", "pod"]);
    let config = std::fs::read_to_string(place.path().join("sessions/one/shared/network-config")).unwrap();
    let lines: Vec<&str> = config.lines().collect();
    assert_eq!(
        (lines[0], lines[1], lines[3]),
        ("GATEWAY_IP=172.16.0.1", "VM_IP=172.16.0.2", "TAP_DEVICE=tap0")
    );
    let pod: Ipv4Addr = lines[2].strip_prefix("POD_IP=").unwrap().parse().unwrap();
    let host_end = Ipv4Addr::from(u32::from(pod) - 1);
    let rules =
        Command::new("ip").args(["netns", "exec", "dozlab-one", "nft", "list", "ruleset"]).output().unwrap();
    let rules = said(&rules);
    assert!(rules.contains("masquerade") && rules.contains("maxseg size set rt mtu"), "{rules}");
    assert_host_is_out_of_reach(&place, &[pod.to_string(), host_end.to_string()]);
    place.ok(&["rm", "one"]);
    place.assert_nothing_left();
    assert_eq!(host_network(), before);

    // What a killed supervisor leaves is found.
    place.up("two", &["--network", "pod"]);
    let supervisor = place.record("two")["processes"]["supervisor"]["pid"].as_u64().unwrap();
    crate::support::kill(supervisor, "KILL");
    let report = place.ok(&["gc", "--output", "json"]);
    assert!(report.contains("dozlab-two"), "{report}");
    assert_eq!(host_network(), before);
}

/// Held by a test that makes networks on the host, so that it sees its own alone.
static HOST_NETWORK: Mutex<()> = Mutex::new(());

/// Lets a test make networks on the host, alone. Without root there is none to make, and `--network pod` must say so.
pub(crate) fn pod_network(place: &Place) -> Option<MutexGuard<'static, ()>> {
    if !rustix::process::geteuid().is_root() {
        let error = place.fails(&["up", "tiny", "--network", "pod", "--disk", "192M", "--no-editor"]);
        assert!(error.contains("needs root"), "{error}");
        return None;
    }
    Some(HOST_NETWORK.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The host's links, namespaces and firewall tables.
pub(crate) fn host_network() -> String {
    let run =
        |program: &str, arguments: &[&str]| said(&Command::new(program).args(arguments).output().unwrap());
    let links = run("ip", &["-brief", "link"]);
    let names: Vec<_> = links.lines().filter_map(|line| line.split_ascii_whitespace().next()).collect();
    format!("{names:?}\n{}\n{}", run("ip", &["netns"]), run("nft", &["list", "tables"]))
}
