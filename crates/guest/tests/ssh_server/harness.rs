//! A server on a free port with keys of its own, and a client that is logged in to it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dozlab_guest::login::Login;
use dozlab_guest::server::{self, FirstPrompt, ServerConfig};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, client};
use tempfile::TempDir;

/// Nothing here takes longer, even on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A running server. It ends with the test's process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) user_key: PrivateKey,
    host_key: PrivateKey,
    home: TempDir,
}

impl Server {
    /// Starts a server for the user who runs the test, with an empty home folder and `/bin/sh`.
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (host_key, user_key) = (new_key(), new_key());
        let login = own_login(home.path());
        let user = login.name.clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = ServerConfig {
            login,
            authorized_key: user_key.public_key().clone(),
            host_key: host_key.clone(),
            sftp_program: PathBuf::from(env!("CARGO_BIN_EXE_dozlab-guest")),
            extra_path: None,
            spared: false,
            first_prompt: FirstPrompt::default(),
        };
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(server::serve(listener, config)).expect("the server serves");
        });
        Self { address, user, user_key, host_key, home }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes the keys for OpenSSH's programs and returns the options that make them use nothing else.
    pub(crate) fn openssh_options(&self) -> Vec<String> {
        let folder = self.home.path();
        let identity = folder.join("identity");
        let key = self.user_key.to_openssh(LineEnding::LF).expect("a key can be written");
        fs::write(&identity, key.as_bytes()).expect("a file");
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).expect("a mode");
        let host = self.host_key.public_key().to_openssh().expect("a key can be written");
        let known_hosts = folder.join("known_hosts");
        let line = format!("[{}]:{} {host}\n", self.address.ip(), self.address.port());
        fs::write(&known_hosts, line).expect("a file");
        let options = [
            format!("Port={}", self.address.port()),
            format!("User={}", self.user),
            format!("IdentityFile={}", identity.display()),
            format!("UserKnownHostsFile={}", known_hosts.display()),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "BatchMode=yes".to_owned(),
        ];
        let file = ["-F".to_owned(), "none".to_owned()];
        file.into_iter().chain(options.into_iter().flat_map(|option| ["-o".to_owned(), option])).collect()
    }

    /// A client that is connected and not logged in.
    pub(crate) async fn connect(&self) -> client::Handle<Client> {
        self.connect_with(client::Config::default()).await
    }

    pub(crate) async fn connect_with(&self, config: client::Config) -> client::Handle<Client> {
        let client = Client { host_key: self.host_key.clone() };
        client::connect(Arc::new(config), self.address, client).await.expect("the server answers")
    }

    /// A client that is logged in.
    pub(crate) async fn login(&self) -> client::Handle<Client> {
        self.login_with(client::Config::default()).await
    }

    pub(crate) async fn login_with(&self, config: client::Config) -> client::Handle<Client> {
        let mut session = self.connect_with(config).await;
        assert!(log_in(&mut session, &self.user, &self.user_key).await, "the session's key is accepted");
        session
    }
}

/// Logs in; false where the server refuses.
pub(crate) async fn log_in(session: &mut client::Handle<Client>, user: &str, key: &PrivateKey) -> bool {
    let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
    session.authenticate_publickey(user, key).await.expect("the server answers").success()
}

pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("a key")
}

/// The user who runs the test.
fn own_login(home: &Path) -> Login {
    let passwd = fs::read_to_string("/etc/passwd").expect("every Linux has /etc/passwd");
    let uid = rustix::process::getuid().as_raw().to_string();
    let name = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid))
        .and_then(|line| line.split(':').next());
    let mut login =
        Login::of_image(Path::new("/"), name.expect("the user has a name")).expect("the user exists");
    login.home = home.to_owned();
    login.shell = PathBuf::from("/bin/sh");
    login
}

/// A client that accepts one host key only.
pub(crate) struct Client {
    host_key: PrivateKey,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(matches!(key, PublicKeyOrCertificate::PublicKey { key, .. }
            if key.key_data() == self.host_key.public_key().key_data()))
    }
}

/// All that a program said, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Option<u32>,
    pub(crate) signal: Option<String>,
    /// The program's end was told after its output, and before the channel's.
    pub(crate) in_order: bool,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command and returns its outcome.
pub(crate) async fn exec(session: &client::Handle<Client>, command: &str) -> Outcome {
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, command).await.expect("the request is sent");
    outcome(&mut channel).await
}

/// Reads a channel to its end.
pub(crate) async fn outcome(channel: &mut Channel<client::Msg>) -> Outcome {
    let mut outcome = Outcome { in_order: true, ..Outcome::default() };
    let read = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    outcome.in_order &= outcome.status.is_none() && outcome.signal.is_none();
                    outcome.stdout.extend_from_slice(&data);
                }
                ChannelMsg::ExtendedData { data, ext: 1 } => {
                    outcome.in_order &= outcome.status.is_none() && outcome.signal.is_none();
                    outcome.stderr.extend_from_slice(&data);
                }
                ChannelMsg::ExitStatus { exit_status } => outcome.status = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    outcome.signal = Some(format!("{signal_name:?}"))
                }
                ChannelMsg::Close => {
                    outcome.in_order &= outcome.status.is_some() || outcome.signal.is_some();
                    break;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the program ends in time");
    outcome
}

/// Reads a channel until its output holds `wanted`; returns all that was read.
pub(crate) async fn read_until(channel: &mut Channel<client::Msg>, wanted: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(wanted) {
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => seen.push_str(&String::from_utf8_lossy(&data)),
                Some(_) => {}
                None => break,
            }
        }
    };
    let read = tokio::time::timeout(DEADLINE, read).await;
    assert!(read.is_ok() && seen.contains(wanted), "`{wanted}` is not in: {seen}");
    seen
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
