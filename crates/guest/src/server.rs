//! The SSH server: accepts connections and serves each with shells, commands, SFTP and forwards to the
//! loopback.
//!
//! One thread does everything. A connection (`connection`) answers the protocol's requests; each session
//! channel runs one process (`process`) whose output and input a task (`channel`) carries. Every queue on the
//! way has a bound: a client that does not read stops the process that writes, as a pipe does, and a process
//! that does not read stops its client (`throttle`).
//!
//! The server runs as whoever starts it. As root it becomes the [`Login`]'s user in each process it starts;
//! as anybody else it runs them as itself, which is how the tests use it.

use std::borrow::Cow;
use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::{PrivateKey, PublicKey};
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::login::Login;
use connection::Connection;
use throttle::WINDOW;

mod channel;
mod connection;
mod environment;
mod forward;
mod input;
mod process;
mod signals;
mod terminal_modes;
mod throttle;

/// The name by which the host tells this server from an `sshd` of the image; RFC 4253, section 4.2.
pub const IDENTIFICATION: &str = concat!("SSH-2.0-dozlab_", env!("CARGO_PKG_VERSION"));

/// How long a client may take to log in; the same two minutes as OpenSSH's `LoginGraceTime`.
const LOGIN_GRACE: Duration = Duration::from_secs(120);
/// A silent client is asked for a sign of life this often, and dropped after [`KEEPALIVE_TRIES`] without an
/// answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_TRIES: usize = 4;
/// Output is read and sent in pieces of this size, in bytes; the usual size of an SSH packet.
const PIECE: usize = 32 * 1024;
/// What the kernel buffers of a client's data, in bytes. A window fits into it even in small packets, which
/// the kernel counts larger than they are.
const RECEIVE_BUFFER: usize = 2 * WINDOW as usize;

/// What a server needs to know.
#[derive(Clone)]
pub struct ServerConfig {
    /// The only user that can log in.
    pub login: Login,
    /// The only key that is accepted.
    pub authorized_key: PublicKey,
    /// The server's own key.
    pub host_key: PrivateKey,
    /// This program, which serves SFTP when it is called `dozlab-sftp`.
    pub sftp_program: PathBuf,
    /// A folder to append to every `PATH`.
    pub extra_path: Option<PathBuf>,
    /// The out-of-memory killer spares the server; what it starts is to be treated like any other program.
    pub spared: bool,
    /// Told when somebody has a prompt.
    pub first_prompt: FirstPrompt,
}

/// Closes a pipe when a program on a terminal has shown something for the first time.
#[derive(Clone, Default)]
pub struct FirstPrompt(Arc<Mutex<Option<PipeWriter>>>);

impl FirstPrompt {
    /// Closes this pipe. The default closes none.
    #[must_use]
    pub fn closing(pipe: PipeWriter) -> Self {
        Self(Arc::new(Mutex::new(Some(pipe))))
    }

    /// A program on a terminal has shown something.
    fn shown(&self) {
        // A lock that a panic has poisoned guards a pipe that can be closed all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The server cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the SSH server cannot use its socket: {0}")]
pub struct ServeError(#[from] io::Error);

/// Accepts and serves connections until the socket fails.
///
/// # Errors
///
/// The listening socket cannot be used. What goes wrong in one connection ends that connection only.
pub async fn serve(listener: std::net::TcpListener, config: ServerConfig) -> Result<(), ServeError> {
    listener.set_nonblocking(true)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, RECEIVE_BUFFER).map_err(io::Error::from)?;
    let listener = TcpListener::from_std(listener)?;
    let protocol = Arc::new(protocol_config(&config));
    let config = Arc::new(config);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, Arc::clone(&protocol), Arc::clone(&config)));
            }
            Err(error) if is_passing(&error) => sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A failed `accept` that says nothing about the listening socket: a client that left, or a shortage that
/// passes.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ECONNABORTED, libc::EINTR];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}

fn protocol_config(config: &ServerConfig) -> russh::server::Config {
    russh::server::Config {
        server_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: vec![config.host_key.clone()],
        // Keys cannot be guessed: a wrong one is refused without much delay, because agents offer several.
        auth_rejection_time: Duration::from_millis(100),
        auth_rejection_time_initial: Some(Duration::ZERO),
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVE_TRIES,
        window_size: WINDOW,
        channel_buffer_size: 16,
        nodelay: true,
        ..russh::server::Config::default()
    }
}

/// Serves one connection to its end.
async fn serve_connection(
    stream: TcpStream,
    protocol: Arc<russh::server::Config>,
    config: Arc<ServerConfig>,
) {
    // Each keystroke's echo is a small packet. A socket that refuses the option works, only slower.
    let _ = stream.set_nodelay(true);
    let (alive, lifetime) = watch::channel(false);
    let connection = Connection::new(config, alive);
    // An error here is the client's: it left, or does not speak the protocol.
    let Ok(Ok(running)) = timeout(LOGIN_GRACE, russh::server::run_stream(protocol, stream, connection)).await
    else {
        return;
    };
    let handle = running.handle();
    tokio::select! {
        _ = running => {}
        () = login_grace(lifetime) => {
            let _ = handle.disconnect(Disconnect::ByApplication, "no login in time".into(), String::new()).await;
        }
    }
}

/// Ends when the client has had its time to log in and has not. `logged_in` turns true with the login.
async fn login_grace(mut logged_in: watch::Receiver<bool>) {
    if timeout(LOGIN_GRACE, logged_in.wait_for(|done| *done)).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
