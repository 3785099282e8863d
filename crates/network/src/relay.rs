//! The guest's firewall without privileges: every frame that the guest sends comes here and goes back if it may.
//!
//! QEMU's `filter-redirector` writes each frame of the guest to one Unix socket and takes what it reads from a second
//! one as the frames to go on with; both carry a frame as its length (four bytes, big-endian) and its bytes
//! (`net/net.c` of QEMU, `net_fill_rstate`). While the relay is gone the guest's frames go nowhere, which is the safe
//! side to fail to.
//!
//! Two threads share a bounded queue. The reader never waits for the writer: QEMU writes to us from its main loop, and
//! a full socket would stop the whole VM. When the queue is full, frames are dropped, as networks do.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::EgressFilter;
use crate::egress::Network;

/// The longest frame that QEMU passes on: `NET_BUFSIZE`, 4096 + 65536 bytes.
const LONGEST_FRAME: usize = 4096 + 65536;

/// How many frames may wait for the writer. 1,024 full frames are 1.5 MB.
const QUEUE: usize = 1024;

/// How often the host's own addresses are read anew: a laptop changes its network while a lab runs.
const ADDRESSES_EVERY: Duration = Duration::from_secs(5);

/// The two sockets that a hypervisor connects to.
#[derive(Debug)]
pub struct Relay {
    from_guest: UnixListener,
    to_network: UnixListener,
}

impl Relay {
    /// Makes the two sockets at these paths. Left-over sockets of an earlier run are replaced.
    ///
    /// # Errors
    /// The system's refusal to make a socket: the folder is missing, or the path is longer than 107 bytes.
    pub fn bind(from_guest: &Path, to_network: &Path) -> io::Result<Self> {
        let bind = |path: &Path| {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            UnixListener::bind(path)
        };
        Ok(Self { from_guest: bind(from_guest)?, to_network: bind(to_network)? })
    }

    /// Serves one hypervisor after the other, for as long as this process lives, on threads of its own.
    ///
    /// # Errors
    /// The system's refusal to start a thread.
    pub fn serve(self, egress: EgressFilter) -> io::Result<()> {
        thread::Builder::new().name("egress".into()).stack_size(256 * 1024).spawn(move || {
            loop {
                if let Err(error) = self.serve_one(&egress) {
                    tracing::debug!(%error, "the hypervisor closed its network");
                }
            }
        })?;
        Ok(())
    }

    fn serve_one(&self, egress: &EgressFilter) -> io::Result<()> {
        let (from_guest, _) = self.from_guest.accept()?;
        let (to_network, _) = self.to_network.accept()?;
        let (sender, receiver) = sync_channel(QUEUE);
        thread::scope(|scope| {
            let writer = thread::Builder::new().name("egress-out".into()).stack_size(128 * 1024);
            writer.spawn_scoped(scope, move || write_frames(&receiver, to_network))?;
            read_frames(from_guest, sender, egress.clone())
        })
    }
}

/// Takes the sender, so that the writer ends when the reader does.
fn read_frames(socket: UnixStream, sender: SyncSender<Vec<u8>>, mut egress: EgressFilter) -> io::Result<()> {
    let mut socket = BufReader::with_capacity(LONGEST_FRAME, socket);
    let mut frame = vec![0; LONGEST_FRAME];
    let mut read_addresses_at = Instant::now();
    loop {
        let length = read_length(&mut socket)?;
        let frame = frame.get_mut(..length).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long"))
        })?;
        socket.read_exact(frame)?;
        if Instant::now() >= read_addresses_at {
            egress.host = host_networks()?;
            read_addresses_at = Instant::now() + ADDRESSES_EVERY;
        }
        if !egress.judge(frame) {
            tracing::trace!(length, "dropped a frame of the guest");
            continue;
        }
        match sender.try_send(frame.to_vec()) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn read_length(socket: &mut impl Read) -> io::Result<usize> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    Ok(usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
}

fn write_frames(receiver: &Receiver<Vec<u8>>, socket: UnixStream) -> io::Result<()> {
    let mut socket = BufWriter::new(socket);
    while let Ok(frame) = receiver.recv() {
        let mut next = Some(frame);
        while let Some(frame) = next {
            let length = u32::try_from(frame.len()).expect("a frame is shorter than 70,000 bytes");
            socket.write_all(&length.to_be_bytes())?;
            socket.write_all(&frame)?;
            next = receiver.try_recv().ok();
        }
        socket.flush()?;
    }
    Ok(())
}

/// The IPv4 addresses of this machine's interfaces with their networks, as [`EgressFilter::host`] wants them.
///
/// # Errors
/// The system's refusal to list the interfaces.
pub fn host_networks() -> io::Result<Vec<Network>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let networks = interfaces.filter_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        let mask = interface.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in().map(|mask| mask.ip()));
        let prefix = mask.map_or(32, |mask| u32::from(mask).leading_ones());
        Some(Network { address, prefix: u8::try_from(prefix).expect("a u32 has at most 32 ones") })
    });
    Ok(networks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dozlab_session::plan::Egress;
    use std::net::Ipv4Addr;

    fn arp(marker: u8) -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        frame[41] = marker;
        frame
    }

    fn send(socket: &mut UnixStream, frame: &[u8]) {
        socket.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
        socket.write_all(frame).unwrap();
    }

    #[test]
    fn allowed_frames_come_back_in_order_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let (from_guest, to_network) = (folder.path().join("out"), folder.path().join("in"));
        let egress = EgressFilter {
            policy: Egress::Internet,
            guest: Ipv4Addr::new(172, 16, 0, 2),
            gateway: Ipv4Addr::new(172, 16, 0, 1),
            subnet: Network { address: Ipv4Addr::new(172, 16, 0, 0), prefix: 24 },
            resolver: None,
            host: Vec::new(),
        };
        Relay::bind(&from_guest, &to_network).unwrap().serve(egress).unwrap();
        // A second hypervisor is served after the first has gone, as after a reboot.
        for _ in 0..2 {
            let mut guest = UnixStream::connect(&from_guest).unwrap();
            let mut network = UnixStream::connect(&to_network).unwrap();
            send(&mut guest, &arp(1));
            send(&mut guest, b"neither ARP nor IPv4");
            send(&mut guest, &arp(2));
            for marker in [1, 2] {
                let mut frame = vec![0; read_length(&mut network).unwrap()];
                network.read_exact(&mut frame).unwrap();
                assert_eq!(frame, arp(marker));
            }
        }
    }

    #[test]
    fn the_loopback_is_among_the_hosts_networks() {
        assert!(host_networks().unwrap().iter().any(|network| network.address == Ipv4Addr::LOCALHOST));
    }
}
