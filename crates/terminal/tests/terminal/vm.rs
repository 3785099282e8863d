//! Stands in for the VM: a real SSH server whose shell, without a terminal of its own, obeys a few words.
//!
//! Each boot runs on a runtime and a thread of its own. Killing the VM drops that runtime, so that all its
//! connections break as those of a VM whose hypervisor was killed do.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, Sig};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// A line of 64 bytes, of which a flood consists.
pub(crate) const FLOOD_LINE: &[u8; 64] =
    b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n";

/// A text whose characters take one to four bytes.
pub(crate) const TEXT: &str = "日本語 🚀 é ok";

/// The machine: its keys, its address, and what it counts, which outlive its boots.
pub(crate) struct Vm {
    pub(crate) address: SocketAddr,
    pub(crate) host_key: PrivateKey,
    pub(crate) client_key: PrivateKey,
    counts: Arc<Counts>,
    running: Option<Boot>,
}

#[derive(Default)]
struct Counts {
    boots: AtomicU32,
    connections: AtomicU32,
    shells: AtomicU32,
    flooded: AtomicU64,
    interrupts: AtomicU32,
}

struct Boot {
    power: CancellationToken,
    thread: JoinHandle<()>,
}

pub(crate) fn random_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

/// An address that no other machine has, of this test or another: so its port cannot be taken while it is
/// off.
fn unused_loopback_address() -> [u8; 4] {
    static MACHINES: AtomicU32 = AtomicU32::new(1);
    let [process_high, process_low] = (std::process::id() as u16).to_be_bytes();
    let machine = u8::try_from(MACHINES.fetch_add(1, Ordering::SeqCst)).unwrap();
    [127, process_high | 0x80, process_low, machine]
}

impl Vm {
    /// A machine that has an address, and is off.
    pub(crate) fn off() -> Self {
        Self {
            address: SocketAddr::from((unused_loopback_address(), 22022)),
            host_key: random_key(),
            client_key: random_key(),
            counts: Arc::default(),
            running: None,
        }
    }

    /// A machine that runs.
    pub(crate) fn on() -> Self {
        let mut vm = Self::off();
        vm.boot();
        vm
    }

    pub(crate) fn boot(&mut self) {
        let boot = self.counts.boots.fetch_add(1, Ordering::SeqCst) + 1;
        let config = Config {
            keys: vec![self.host_key.clone()],
            auth_rejection_time: std::time::Duration::ZERO,
            nodelay: true,
            ..Config::default()
        };
        let server = Server {
            boot,
            config: Arc::new(config),
            client_key: self.client_key.public_key().clone(),
            counts: Arc::clone(&self.counts),
        };
        let power = CancellationToken::new();
        let listener = StdListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn({
            let power = power.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(power.run_until_cancelled(server.serve(listener)));
            }
        });
        self.running = Some(Boot { power, thread });
    }

    pub(crate) fn kill(&mut self) {
        if let Some(boot) = self.running.take() {
            boot.power.cancel();
            boot.thread.join().unwrap();
        }
    }

    /// How many connections were accepted, over all boots.
    pub(crate) fn connections(&self) -> u32 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many shells were started, over all boots.
    pub(crate) fn shells(&self) -> u32 {
        self.counts.shells.load(Ordering::SeqCst)
    }

    /// How many floods were interrupted.
    pub(crate) fn interrupts(&self) -> u32 {
        self.counts.interrupts.load(Ordering::SeqCst)
    }

    /// How many bytes of floods were taken from the shells that wrote them.
    pub(crate) fn flooded(&self) -> u64 {
        self.counts.flooded.load(Ordering::SeqCst)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Server {
    boot: u32,
    config: Arc<Config>,
    client_key: PublicKey,
    counts: Arc<Counts>,
}

impl Server {
    async fn serve(self, listener: StdListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            self.counts.connections.fetch_add(1, Ordering::SeqCst);
            let client = Client {
                boot: self.boot,
                client_key: self.client_key.clone(),
                counts: Arc::clone(&self.counts),
                channel: None,
                size: (0, 0),
            };
            let config = Arc::clone(&self.config);
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, socket, client).await {
                    let _ = session.await;
                }
            });
        }
    }
}

struct Client {
    boot: u32,
    client_key: PublicKey,
    counts: Arc<Counts>,
    channel: Option<Channel<Msg>>,
    size: (u32, u32),
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let known = user == "root" && key.public_key.key_data() == self.client_key.key_data();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the trait's")]
    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.size = (cols, rows);
        if term == "xterm-256color" {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        let (read, write) = self.channel.take().unwrap().split();
        let read = read_ahead(read);
        self.counts.shells.fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(&self.counts);
        let shell = Shell { read, write, handle: session.handle(), id, counts, size: self.size };
        session.channel_success(id)?;
        tokio::spawn(shell.run(self.boot));
        Ok(())
    }
}

/// Reads all that comes, whether the shell wants it or not: a server whose shell does not read while it
/// writes hears no word of new window for what it writes.
fn read_ahead(mut read: ChannelReadHalf) -> UnboundedReceiver<ChannelMsg> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = read.wait().await {
            let _ = sender.send(message);
        }
    });
    receiver
}

struct Shell {
    read: UnboundedReceiver<ChannelMsg>,
    write: ChannelWriteHalf<Msg>,
    handle: russh::server::Handle,
    id: ChannelId,
    counts: Arc<Counts>,
    size: (u32, u32),
}

impl Shell {
    async fn run(mut self, boot: u32) {
        self.say(&format!("boot {boot}\r\n$ ")).await;
        let mut line = Vec::new();
        while let Some(message) = self.read.recv().await {
            match message {
                ChannelMsg::Data { data } => {
                    for byte in data {
                        if byte != b'\r' {
                            line.push(byte);
                            continue;
                        }
                        let command = String::from_utf8(std::mem::take(&mut line)).unwrap();
                        if self.obey(&command).await.is_break() {
                            return;
                        }
                    }
                }
                ChannelMsg::WindowChange { col_width, row_height, .. } => {
                    self.size = (col_width, row_height);
                    self.say(&format!("resized {col_width}x{row_height}\r\n")).await;
                }
                _ => {}
            }
        }
    }

    async fn obey(&mut self, command: &str) -> std::ops::ControlFlow<()> {
        match command.split_once(' ').unwrap_or((command, "")) {
            ("size", _) => self.say(&format!("size {}x{}\r\n$ ", self.size.0, self.size.1)).await,
            ("echo", text) => self.say(&format!("{text}\r\n$ ")).await,
            ("flood", _) => self.flood().await,
            ("intrude", _) => self.intrude().await,
            ("text", _) => {
                for byte in TEXT.bytes() {
                    self.write.data_bytes(vec![byte]).await.unwrap();
                }
                self.say("\r\n$ ").await;
            }
            ("count", bytes) => {
                self.say(&"0123456789abcdef".repeat(bytes.parse::<usize>().unwrap() / 16)).await
            }
            ("exit", status) => {
                self.say("logout\r\n").await;
                self.write.exit_status(status.parse().unwrap()).await.unwrap();
                self.write.close().await.unwrap();
                return std::ops::ControlFlow::Break(());
            }
            ("die", _) => {
                let signal =
                    self.handle.exit_signal_request(self.id, Sig::KILL, false, String::new(), String::new());
                signal.await.unwrap();
                self.write.close().await.unwrap();
                return std::ops::ControlFlow::Break(());
            }
            _ => self.say("what?\r\n$ ").await,
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Writes until Ctrl-C. A write that was begun is finished: russh counts its bytes as sent from its
    /// beginning.
    async fn flood(&mut self) {
        let chunk = FLOOD_LINE.repeat(64);
        let interrupted = CancellationToken::new();
        let writing = async {
            while !interrupted.is_cancelled() && self.write.data_bytes(chunk.clone()).await.is_ok() {
                self.counts.flooded.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            }
        };
        let listening = async {
            while let Some(message) = self.read.recv().await {
                if matches!(message, ChannelMsg::Data { data } if data.contains(&3)) {
                    break;
                }
            }
            self.counts.interrupts.fetch_add(1, Ordering::SeqCst);
            interrupted.cancel();
        };
        tokio::join!(writing, listening);
        self.say("^C\r\n$ ").await;
    }

    /// Opens channels of all kinds to the client, and writes on those that it gets.
    async fn intrude(&self) {
        let handle = &self.handle;
        let opened = [
            handle.channel_open_session().await,
            handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 22).await,
            handle.channel_open_direct_streamlocal("/run/socket").await,
            handle.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 22).await,
            handle.channel_open_forwarded_streamlocal("/run/socket").await,
            handle.channel_open_agent().await,
            handle.channel_open_x11("127.0.0.1", 22).await,
        ];
        let kinds = opened.len();
        let mut accepted = 0;
        for channel in opened.into_iter().flatten() {
            accepted += 1;
            let _ = channel.data_bytes(b"smuggled".to_vec()).await;
            let _ = channel.exit_status(99).await;
        }
        self.say(&format!("{accepted} of {kinds} accepted\r\n$ ")).await;
    }

    async fn say(&self, text: &str) {
        let _ = self.write.data_bytes(text.as_bytes().to_vec()).await;
    }
}
