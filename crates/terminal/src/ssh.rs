//! The SSH client: one connection into the VM for each terminal.
//!
//! [`dial`] connects, checks that the server shows the pinned host key, logs in with the session's key and
//! opens a channel; [`Connection::start_shell`] asks for a terminal and a shell on it. What the shell writes
//! lands in a bounded [`ByteQueue`](crate::byte_queue::ByteQueue), filled by the connection's task.
//!
//! Flow control: russh grants the server new window as soon as it has received data, read or not, and its
//! task would stand still, input included, while a channel's own buffer is full. So the connection [stops
//! reading the socket](transport) instead while the queue is full, and announces a window ([`WINDOW`]) that
//! fits the socket's receive buffer: the server runs out of window before the socket runs out of room, and so
//! nobody's writing ever blocks, and what the learner types passes.

mod client;
mod line;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client::{AuthResult, Handle, Msg};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred, Pty};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::ssh::client::Client;
use crate::ssh::line::Line;
use crate::ssh::transport::Transport;

/// How much the server may send before it hears from us again, in bytes.
const WINDOW: u32 = 128 * 1024;

/// What we ask the kernel for as the socket's receive buffer, in bytes; it doubles that for its own
/// bookkeeping (socket(7)), so a whole window fits even in small packets.
const RECEIVE_BUFFER: u32 = 256 * 1024;

/// How much of the shell's output waits for its reader before we stop reading, in bytes.
const OUTPUT_CAPACITY: usize = 64 * 1024;

/// How long a dial may take, from the first packet to the open channel. Emulated guests take up to a second.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// How often the server is asked for a sign of life when it is silent.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// After how long a silence the server is taken for dead: three unanswered questions.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// The terminal type that the page and the old clients emulate.
const TERMINAL_TYPE: &str = "xterm-256color";

/// Whom to log in to, and with what.
#[derive(Clone)]
pub(crate) struct Target {
    /// Address of the VM's SSH server.
    pub(crate) address: SocketAddr,
    /// The user.
    pub(crate) user: String,
    /// The session's private key.
    pub(crate) private_key: Arc<PrivateKey>,
    /// The only host key that is accepted.
    pub(crate) host_key: PublicKey,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// No TCP connection.
    #[error("{address} does not answer: {source}")]
    Unreachable {
        /// The VM's SSH server.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Too slow.
    #[error("the SSH server did not finish its greeting within {} seconds", DIAL_DEADLINE.as_secs())]
    Timeout,
    /// The server is not ours.
    #[error("the SSH server shows the host key {shown}, not this VM's")]
    WrongHostKey {
        /// What it showed.
        shown: String,
    },
    /// The server does not know our key.
    #[error("the SSH server refuses the session's key for the user {user}")]
    LoginRefused {
        /// Whom we wanted to be.
        user: String,
    },
    /// The server gives no terminal or no shell.
    #[error("the SSH server refuses a {what}")]
    ShellRefused {
        /// What it refuses.
        what: &'static str,
    },
    /// Anything else between the two.
    #[error("the SSH connection failed: {0}")]
    Protocol(#[from] russh::Error),
}

impl DialError {
    /// One word for metrics and for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout => "timeout",
            Self::WrongHostKey { .. } => "wrong-host-key",
            Self::LoginRefused { .. } => "login-refused",
            Self::ShellRefused { .. } => "shell-refused",
            Self::Protocol(_) => "protocol",
        }
    }
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    /// Columns.
    pub(crate) cols: u32,
    /// Rows.
    pub(crate) rows: u32,
}

/// How a shell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShellEnd {
    /// It exited with this status.
    Exited(u32),
    /// A signal killed it; the name without `SIG`.
    Killed(String),
    /// The server closed it and did not say how it ended.
    Closed,
    /// The connection broke: the VM went down.
    Lost,
}

/// A connection that is logged in and has an open channel, without a shell yet. Dropping it hangs up.
pub(crate) struct Connection {
    handle: Handle<Client>,
    channel: Channel<Msg>,
    line: HangUp,
}

/// A running shell. Dropping it hangs up, and with that ends the shell.
pub(crate) struct Shell {
    input: ChannelWriteHalf<Msg>,
    line: HangUp,
    // The connection's task ends when the last handle is gone.
    _handle: Handle<Client>,
}

/// Connects, checks the host key, logs in, opens a channel.
pub(crate) async fn dial(target: &Target) -> Result<Connection, DialError> {
    timeout(DIAL_DEADLINE, connect_and_log_in(target)).await.unwrap_or(Err(DialError::Timeout))
}

async fn connect_and_log_in(target: &Target) -> Result<Connection, DialError> {
    let address = target.address;
    let socket = connect(address).await.map_err(|source| DialError::Unreachable { address, source })?;
    let line = HangUp(Arc::new(Line::new(OUTPUT_CAPACITY)));
    let client = Client::new(target.host_key.clone(), Arc::clone(&line.0));
    let transport = Transport::new(socket, Arc::clone(&line.0));
    let config = Arc::new(ssh_config(&target.host_key));
    let mut handle = russh::client::connect_stream(config, transport, client).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::clone(&target.private_key), None);
    match handle.authenticate_publickey(&target.user, key).await? {
        AuthResult::Success => {}
        // This is how russh tells that the connection broke meanwhile.
        AuthResult::Failure { remaining_methods, .. }
            if remaining_methods.is_empty() && handle.is_closed() =>
        {
            return Err(DialError::Protocol(russh::Error::Disconnect));
        }
        AuthResult::Failure { .. } => return Err(DialError::LoginRefused { user: target.user.clone() }),
    }
    let channel = handle.channel_open_session().await?;
    Ok(Connection { handle, channel, line })
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

fn ssh_config(host_key: &PublicKey) -> russh::client::Config {
    // A server with several host keys must show the one that we know.
    let preferred = Preferred { key: vec![host_key.algorithm()].into(), ..Preferred::default() };
    russh::client::Config {
        preferred,
        window_size: WINDOW,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        // We judge ourselves: russh would take a server for dead to which we did not listen for a while.
        keepalive_max: 0,
        ..russh::client::Config::default()
    }
}

impl Connection {
    /// Asks for a terminal of this size with a shell on it.
    pub(crate) async fn start_shell(self, size: TerminalSize) -> Result<Shell, DialError> {
        let (mut replies, input) = self.channel.split();
        let request = async {
            // Both requests travel together; the replies come in the same order.
            let modes = [(Pty::IUTF8, 1)];
            input.request_pty(true, TERMINAL_TYPE, size.cols, size.rows, 0, 0, &modes).await?;
            input.request_shell(true).await?;
            expect_success(&mut replies, "terminal").await?;
            expect_success(&mut replies, "shell").await
        };
        timeout(DIAL_DEADLINE, request).await.unwrap_or(Err(DialError::Timeout))?;
        Ok(Shell { input, line: self.line, _handle: self.handle })
    }

    /// Waits until the connection is no good any more.
    pub(crate) async fn lost(&self) {
        tokio::select! {
            () = self.line.0.ended() => {}
            () = self.line.0.silent(SILENCE_LIMIT) => {}
        }
    }
}

async fn expect_success(replies: &mut ChannelReadHalf, what: &'static str) -> Result<(), DialError> {
    loop {
        match replies.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::Failure) => return Err(DialError::ShellRefused { what }),
            // A shell may write before the reply to its request has been read; `Client` keeps what it writes.
            Some(_) => {}
            None => return Err(DialError::Protocol(russh::Error::Disconnect)),
        }
    }
}

impl Shell {
    /// Waits for output and takes at most `limit` bytes of it; `None` when all was taken and the shell has
    /// ended.
    pub(crate) async fn output(&self, limit: usize) -> Option<Bytes> {
        self.line.0.output.take(limit).await
    }

    /// Sends what the learner typed. Waits while the server does not take it.
    pub(crate) async fn input(&self, bytes: Bytes) -> Result<(), russh::Error> {
        self.input.data_bytes(bytes).await
    }

    /// Tells the server that the terminal has another size.
    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<(), russh::Error> {
        self.input.window_change(size.cols, size.rows, 0, 0).await
    }

    /// How the shell ended, once its output has.
    pub(crate) fn end(&self) -> ShellEnd {
        self.line.0.end().unwrap_or(ShellEnd::Lost)
    }

    /// Waits until the server has been silent for so long that it must be dead.
    pub(crate) async fn silent(&self) {
        self.line.0.silent(SILENCE_LIMIT).await;
    }
}

/// Hangs up when dropped. Without it the connection's task would notice that nobody can give it orders any
/// more, but not while it waits for a server that takes nothing.
struct HangUp(Arc<Line>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}
