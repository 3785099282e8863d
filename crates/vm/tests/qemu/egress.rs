//! A hostile guest, root in its machine, tries to reach the host's loopback through QEMU's user network.
//!
//! QEMU's network turns the gateway's address into the host's loopback, and a packet to 127.0.0.1 as well,
//! once the guest has talked its own kernel into sending one. With a relay that lets everything pass the
//! attacks succeed, so that their failure behind our filter means something.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dozlab_vm::{Accelerator, Hypervisor, Qemu, RunningVm};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::task::JoinHandle;

use crate::lab::{ConsoleLines, Lab};

/// Takes the guest's own loopback apart, so that 127.0.0.1 is routed to the gateway, then attacks in rounds.
const ATTACKS: &str = r#"
ip addr del 127.0.0.1/8 dev lo
ip route flush table local
ip route add local 172.16.0.2 dev eth0 table local
ip route add 127.0.0.1 via 172.16.0.1 dev eth0
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
report() {
    case "$2" in
    *secret*) echo "attack $1: the secret" ;;
    *) echo "attack $1: nothing" ;;
    esac
}
tcp() { report "tcp $1" "$(timeout 4 nc -w 3 $1 PORT </dev/null 2>&1)"; }
udp() { report "udp $1" "$(timeout 4 tftp -g -l /tmp/got -r file $1 PORT 2>&1)"; }
round=1
while :; do
    echo "round $round begins"
    tcp 172.16.0.1
    udp 172.16.0.1
    tcp 127.0.0.1
    tcp 172.16.0.3
    echo "round $round ends"
    round=$((round + 1))
done
"#;

/// Something on the host's loopback that is nobody's business: a port of TCP, and the same of UDP.
struct Secret {
    port: u16,
    reached: Arc<AtomicUsize>,
}

impl Secret {
    async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                // The guest may be gone already.
                let _ = stream.write_all(b"the secret\n").await;
            }
        });
        let count = Arc::clone(&reached);
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((_, guest)) = socket.recv_from(&mut question).await {
                count.fetch_add(1, Ordering::SeqCst);
                // TFTP's error message (RFC 1350), which its client shows.
                let _ = socket.send_to(b"\0\x05\0\0the secret\0", guest).await;
            }
        });
        Self { port, reached }
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    async fn attacker(&self) -> Lab {
        Lab::with_init(&ATTACKS.replace("PORT", &self.port.to_string())).await
    }
}

/// A round's attacks, each with what it got.
fn attacks(round: &[String]) -> Vec<&str> {
    round.iter().filter_map(|line| line.split_once("attack ")).map(|(_, attack)| attack).collect()
}

const ALL_IN_VAIN: [&str; 4] = [
    "tcp 172.16.0.1: nothing",
    "udp 172.16.0.1: nothing",
    "tcp 127.0.0.1: nothing",
    "tcp 172.16.0.3: nothing",
];

const THAT_MUST_SUCCEED: [&str; 3] =
    ["tcp 172.16.0.1: the secret", "udp 172.16.0.1: the secret", "tcp 127.0.0.1: the secret"];

#[tokio::test]
async fn behind_the_filter_nothing_on_the_hosts_loopback_can_be_reached() {
    let secret = Secret::listen().await;
    let lab = secret.attacker().await;
    let mut vm = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap();
    let mut console = ConsoleLines::new(vm.take_console());
    console.until("round 1 begins").await;
    let round = console.until("round 1 ends").await;
    assert_eq!(attacks(&round), ALL_IN_VAIN);
    assert_eq!(secret.reached(), 0);
    vm.kill(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn without_a_filter_the_attacks_succeed_and_with_its_sockets_closed_none_does() {
    let secret = Secret::listen().await;
    let lab = secret.attacker().await;
    let relay = relay_everything(&lab);
    let mut vm = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap();
    let mut console = ConsoleLines::new(vm.take_console());
    console.until("round 1 begins").await;
    let round = console.until("round 1 ends").await;
    // Whether the host's resolver can be reached at that port is the host's affair.
    assert_eq!(attacks(&round)[..3], THAT_MUST_SUCCEED);
    assert!(secret.reached() >= 3);

    relay.abort();
    assert!(relay.await.unwrap_err().is_cancelled());
    // The second round may have begun before.
    console.until("round 3 begins").await;
    let before = secret.reached();
    let round = console.until("round 3 ends").await;
    assert_eq!(attacks(&round), ALL_IN_VAIN);
    assert_eq!(secret.reached(), before);
    vm.kill(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_machine_whose_filter_is_not_there_does_not_start() {
    let lab = Lab::with_init(ATTACKS).await;
    fs::remove_file(lab.machine.run_folder.join("to-network.sock")).unwrap();
    let error = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap_err();
    assert!(error.to_string().contains("to-network.sock"), "{error}");
    assert_eq!(lab.processes(), [0; 0]);
}

/// Takes the filter's place with one that hands every frame back. Ended, it closes its sockets.
fn relay_everything(lab: &Lab) -> JoinHandle<()> {
    let bind = |name: &str| {
        let path = lab.machine.run_folder.join(name);
        fs::remove_file(&path).unwrap();
        UnixListener::bind(path).unwrap()
    };
    let (from_guest, to_network) = (bind("from-guest.sock"), bind("to-network.sock"));
    tokio::spawn(async move {
        let (mut from_guest, _) = from_guest.accept().await.unwrap();
        let (mut to_network, _) = to_network.accept().await.unwrap();
        tokio::io::copy(&mut from_guest, &mut to_network).await.unwrap();
    })
}
