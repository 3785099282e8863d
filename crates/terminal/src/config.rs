//! The terminal's settings, and how they are read from the environment variables that the lab pod's manifest
//! sets.
//!
//! A secret or a key comes either in a variable or, better, in a file that another variable names (`…_FILE`),
//! so that it need not appear in the process's environment. Everything is checked here, before anything
//! listens: a terminal without a pinned host key or without a session secret does not start.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use axum::http::Uri;
use chrono::DateTime;
use dozlab_session::defaults;
use russh::keys::{PrivateKey, PublicKey, decode_secret_key};

use crate::access::{Origin, Secret};

/// Shortest session secret that is accepted, in characters: 16 random ones of base64 are 96 bits.
pub const MIN_TOKEN_LENGTH: usize = 16;

/// Longest session id: it is the label of a host name in the VM and in the cluster (RFC 1123).
const MAX_SESSION_ID_LENGTH: usize = 63;

/// Everything the terminal needs to know.
#[derive(Clone)]
pub struct Config {
    /// The session's id, shown to the learner.
    pub session_id: String,
    /// Where to listen, for whoever makes the listener; `0.0.0.0:8081` by default.
    pub listen: SocketAddr,
    /// Address and port of the VM's SSH server.
    pub vm_address: SocketAddr,
    /// Whom to log in as, `lab-user` by default.
    pub ssh_user: String,
    /// The session's private key.
    pub ssh_private_key: PrivateKey,
    /// The VM's host key. A server that shows another one is not talked to.
    pub ssh_host_key: PublicKey,
    /// The session's secret, which the learner's link carries.
    pub session_token: Secret,
    /// Origins other than our own that may open terminals.
    pub allowed_origins: Vec<Origin>,
    /// The editor beside the terminal, if the session has one.
    pub editor: Option<EditorConfig>,
    /// The file in which the VM's supervisor says how the VM is, if there is one.
    pub vm_status_path: Option<PathBuf>,
    /// When the session ends, if it does.
    pub expires_at: Option<SystemTime>,
    /// A file whose modification time is set when the learner does something, if anybody wants to know.
    pub idle_file: Option<PathBuf>,
    /// How many terminals may be open at once, 32 by default.
    pub max_terminals: u16,
}

/// How to reach and log in to the editor (code-server).
#[derive(Clone)]
pub struct EditorConfig {
    /// Where this process reaches the editor, for example `http://127.0.0.1:8080`. Plain HTTP.
    pub url: Uri,
    /// Where the browser reaches it; `None` is the host name of the terminal with the port of `url`.
    pub public_url: Option<Uri>,
    /// The editor's password.
    pub password: Secret,
    /// A file that is there when the editor will not come, and says why, if anybody writes one.
    pub failure_file: Option<PathBuf>,
}

/// Shows neither secret nor private key.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("session_id", &self.session_id)
            .field("listen", &self.listen)
            .field("vm_address", &self.vm_address)
            .field("ssh_user", &self.ssh_user)
            .field("editor", &self.editor.as_ref().map(|editor| &editor.url))
            .field("vm_status_path", &self.vm_status_path)
            .finish_non_exhaustive()
    }
}

/// A setting is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A required variable is not set.
    #[error("{variable} is not set: {remedy}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What to set it to.
        remedy: &'static str,
    },
    /// A variable has a value that makes no sense. The value is in the reason where it is no secret.
    #[error("{variable} is wrong: {reason}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A file that a variable names cannot be read.
    #[error("cannot read {path}, which {variable} names: {source}")]
    File {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
}

impl Config {
    /// Reads the settings through `lookup`, which is `std::env::var(name).ok()` but for tests. An empty
    /// variable counts as one that is not set, because a manifest's template leaves it so.
    ///
    /// Variables (default): `SESSION_ID`, `SESSION_TOKEN` or `SESSION_TOKEN_FILE`; the line `VM_IP=` of
    /// the file `NETWORK_CONFIG_PATH` (`/shared/network-config`), else `VM_IP`; `VM_SSH_PORT` (22), `SSH_USER`
    /// (`lab-user`), `SSH_PRIVATE_KEY` or `SSH_PRIVATE_KEY_FILE`, `SSH_HOST_KEY` or `SSH_HOST_KEY_FILE`; `HOST`
    /// (`0.0.0.0`), `PORT` (8081), `ALLOWED_ORIGINS`, `MAX_CONCURRENT_SESSIONS` (32), `EDITOR_URL`,
    /// `EDITOR_PUBLIC_URL`, `EDITOR_PASSWORD` or `EDITOR_PASSWORD_FILE`, `VM_STATUS_PATH`,
    /// `SESSION_EXPIRES_AT` (RFC 3339, or seconds since the epoch), `IDLE_FILE`.
    ///
    /// # Errors
    /// The first variable that is missing or wrong, with what is expected of it.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let environment =
            Environment { lookup: &|name| lookup(name).filter(|value| !value.trim().is_empty()) };
        let vm_ip = environment.vm_ip()?;
        let vm_port = environment.parse_or("VM_SSH_PORT", 22, "a TCP port")?;
        let host =
            environment.parse_or("HOST", IpAddr::V4(Ipv4Addr::UNSPECIFIED), "an IP address to listen on")?;
        let port = environment.parse_or("PORT", 8081, "a TCP port")?;
        Ok(Self {
            session_id: environment.session_id()?,
            listen: SocketAddr::new(host, port),
            vm_address: SocketAddr::new(vm_ip, vm_port),
            ssh_user: environment.value("SSH_USER").unwrap_or_else(|| defaults::SSH_USER.to_owned()),
            ssh_private_key: environment.private_key()?,
            ssh_host_key: environment.host_key()?,
            session_token: environment.session_token()?,
            allowed_origins: environment.allowed_origins()?,
            editor: environment.editor()?,
            vm_status_path: environment.value("VM_STATUS_PATH").map(PathBuf::from),
            expires_at: environment.expires_at()?,
            idle_file: environment.value("IDLE_FILE").map(PathBuf::from),
            max_terminals: environment.parse_or(
                "MAX_CONCURRENT_SESSIONS",
                32,
                "a number of terminals below 65536",
            )?,
        })
    }
}

/// The variables, with the ways of reading them that several settings share.
struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Environment<'_> {
    fn value(&self, variable: &str) -> Option<String> {
        (self.lookup)(variable)
    }

    fn parse_or<T: FromStr>(
        &self,
        variable: &'static str,
        default: T,
        expected: &str,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.value(variable) else { return Ok(default) };
        value
            .trim()
            .parse()
            .map_err(|_| ConfigError::Invalid { variable, reason: format!("`{value}` is not {expected}") })
    }

    /// The text of a variable, or of the file that `file_variable` names.
    fn text_or_file(
        &self,
        variable: &'static str,
        file_variable: &'static str,
    ) -> Result<Option<String>, ConfigError> {
        if let Some(text) = self.value(variable) {
            return Ok(Some(text));
        }
        self.value(file_variable).map(|path| read(file_variable, Path::new(&path))).transpose()
    }

    fn session_id(&self) -> Result<String, ConfigError> {
        let variable = "SESSION_ID";
        let id = self
            .value(variable)
            .ok_or(ConfigError::Missing { variable, remedy: "set it to the id of the session" })?;
        let acceptable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.len() > MAX_SESSION_ID_LENGTH || !id.chars().all(acceptable) {
            return Err(ConfigError::Invalid {
                variable,
                reason: format!(
                    "`{id}` is not 1 to {MAX_SESSION_ID_LENGTH} letters, digits, `-`, `_` or `.`"
                ),
            });
        }
        Ok(id)
    }

    /// The network-config file comes first, as in existing lab pods: who made the network wrote it.
    fn vm_ip(&self) -> Result<IpAddr, ConfigError> {
        let written = self.network_config_vm_ip()?.map(|text| ("NETWORK_CONFIG_PATH", text));
        let given = || self.value("VM_IP").map(|text| ("VM_IP", text));
        let (variable, text) = written.or_else(given).ok_or(ConfigError::Missing {
            variable: "VM_IP",
            remedy: "set it to the VM's address, or NETWORK_CONFIG_PATH to a file with a line VM_IP=",
        })?;
        text.trim().parse().map_err(|_| ConfigError::Invalid {
            variable,
            reason: format!("the VM's address `{text}` is not an IP address"),
        })
    }

    /// The network-config file holds `KEY=VALUE` lines. One that nobody named need not be there.
    fn network_config_vm_ip(&self) -> Result<Option<String>, ConfigError> {
        let variable = "NETWORK_CONFIG_PATH";
        let named = self.value(variable).map(PathBuf::from);
        let path = named.as_deref().unwrap_or(Path::new(defaults::NETWORK_CONFIG_PATH));
        match fs::read_to_string(path) {
            Ok(text) => {
                let vm_ip = text.lines().find_map(|line| line.trim().strip_prefix("VM_IP="));
                Ok(vm_ip.map(str::to_owned))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
            Err(source) => Err(ConfigError::File { variable, path: path.to_owned(), source }),
        }
    }

    fn private_key(&self) -> Result<PrivateKey, ConfigError> {
        let variable = "SSH_PRIVATE_KEY";
        let text = self.text_or_file(variable, "SSH_PRIVATE_KEY_FILE")?.ok_or(ConfigError::Missing {
            variable,
            remedy: "set it, or SSH_PRIVATE_KEY_FILE, to the session's private key in PEM",
        })?;
        decode_secret_key(&text, None).map_err(|error| ConfigError::Invalid {
            variable,
            reason: format!("not an unencrypted Ed25519 or ECDSA private key in PEM ({error})"),
        })
    }

    fn host_key(&self) -> Result<PublicKey, ConfigError> {
        let variable = "SSH_HOST_KEY";
        let text = self.text_or_file(variable, "SSH_HOST_KEY_FILE")?.ok_or(ConfigError::Missing {
            variable,
            remedy: "set it, or SSH_HOST_KEY_FILE, to the VM's public host key; no other key is ever trusted",
        })?;
        PublicKey::from_openssh(text.trim()).map_err(|error| ConfigError::Invalid {
            variable,
            reason: format!("not one OpenSSH public key line such as `ssh-ed25519 AAAA…` ({error})"),
        })
    }

    fn session_token(&self) -> Result<Secret, ConfigError> {
        let variable = "SESSION_TOKEN";
        let text = self.text_or_file(variable, "SESSION_TOKEN_FILE")?.ok_or(ConfigError::Missing {
            variable,
            remedy: "set it, or SESSION_TOKEN_FILE, to a secret made for this session",
        })?;
        let token = text.trim();
        if token.chars().count() < MIN_TOKEN_LENGTH {
            let reason = format!("a session's secret has at least {MIN_TOKEN_LENGTH} characters");
            return Err(ConfigError::Invalid { variable, reason });
        }
        Ok(Secret::new(token))
    }

    fn allowed_origins(&self) -> Result<Vec<Origin>, ConfigError> {
        let list = self.value("ALLOWED_ORIGINS").unwrap_or_default();
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins
            .map(|origin| {
                Origin::parse(origin).ok_or_else(|| ConfigError::Invalid {
                    variable: "ALLOWED_ORIGINS",
                    reason: format!("`{origin}` is not an origin such as `https://labs.example.org`"),
                })
            })
            .collect()
    }

    fn editor(&self) -> Result<Option<EditorConfig>, ConfigError> {
        let Some(url) = self.http_url("EDITOR_URL")? else { return Ok(None) };
        if url.scheme_str() != Some("http") {
            let reason = format!("`{url}` is not plain http; the editor runs beside the terminal");
            return Err(ConfigError::Invalid { variable: "EDITOR_URL", reason });
        }
        let variable = "EDITOR_PASSWORD";
        let password = self.text_or_file(variable, "EDITOR_PASSWORD_FILE")?.ok_or(ConfigError::Missing {
            variable,
            remedy: "set it, or EDITOR_PASSWORD_FILE, to the editor's password, or leave EDITOR_URL out",
        })?;
        let public_url = self.http_url("EDITOR_PUBLIC_URL")?;
        let failure_file = self.value("EDITOR_FAILURE_FILE").map(PathBuf::from);
        Ok(Some(EditorConfig { url, public_url, password: Secret::new(password.trim()), failure_file }))
    }

    fn http_url(&self, variable: &'static str) -> Result<Option<Uri>, ConfigError> {
        let Some(value) = self.value(variable) else { return Ok(None) };
        let url = value.trim().parse::<Uri>().ok().filter(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|host| !host.is_empty())
        });
        let reason = || format!("`{value}` is not an address such as `http://127.0.0.1:8080`");
        url.map(Some).ok_or_else(|| ConfigError::Invalid { variable, reason: reason() })
    }

    fn expires_at(&self) -> Result<Option<SystemTime>, ConfigError> {
        let variable = "SESSION_EXPIRES_AT";
        let Some(value) = self.value(variable) else { return Ok(None) };
        let time = match value.trim().parse::<u64>() {
            Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
            Err(_) => DateTime::parse_from_rfc3339(value.trim()).ok().map(SystemTime::from),
        };
        let reason =
            || format!("`{value}` is neither like `2026-01-31T18:00:00Z` nor seconds since the epoch");
        time.map(Some).ok_or_else(|| ConfigError::Invalid { variable, reason: reason() })
    }
}

fn read(variable: &'static str, path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::File { variable, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
