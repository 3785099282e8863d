//! One session's folder: its record, its secrets, its disk, its volumes, its logs, its sockets.
//!
//! A supervisor holds a lock on the folder for as long as it lives; so whether a session is looked after can be asked
//! without trusting a process id.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dozlab_keys::{KeyPair, token};
use dozlab_session::defaults;
use dozlab_session::vm_status::VmStatus;
use rustix::fs::{FlockOperation, flock};

use crate::component::Component;
use crate::keys::{KeyError, remedy, write_private};
use crate::record::SessionRecord;

/// The folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionFolderError {
    /// A file in it could not be used.
    #[error("cannot {action} {path}: {source}{}", remedy(source))]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its record cannot be read or understood.
    #[error("the record {path} is damaged: {reason}; `dozlab rm {name}` removes the session")]
    Damaged {
        /// The session's name.
        name: String,
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: io::Error,
    },
    /// Another process looks after the session.
    #[error("session `{name}` is running already: `dozlab ls` shows it, `dozlab stop {name}` ends it")]
    Locked {
        /// The session's name.
        name: String,
    },
}

pub(crate) fn file_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> SessionFolderError + 'a {
    move |source| SessionFolderError::File { action, path: path.to_owned(), source }
}

/// Removes a file that need not be there.
fn forget(path: &Path) -> Result<(), SessionFolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// How to log in to a session's VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshAccess {
    /// Where its SSH server is reached.
    pub address: SocketAddrV4,
    /// Whom to log in as.
    pub user: String,
    /// The session's private key.
    pub identity_file: PathBuf,
    /// The VM's host key, in the form of `known_hosts`.
    pub known_hosts: PathBuf,
}

/// A session's folder.
#[derive(Clone, Debug)]
pub struct SessionFolder {
    path: PathBuf,
}

/// A lock on a session's folder, or on all of them, held until it is dropped. It is let go of by name: the open file may
/// be shared for a moment by a program that another thread is just starting.
#[derive(Debug)]
pub(crate) struct SessionLock(pub(crate) File);

impl Drop for SessionLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl SessionFolder {
    /// The folder at this path, which need not be there.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The session's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes the folder with its parts, private to its owner.
    pub(crate) fn create(&self) -> Result<(), SessionFolderError> {
        for part in ["", "ssh", "shared", "vm-data", "vscode-data", "run", "logs"] {
            let path = self.path.join(part);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(file_error("create", &path))?;
        }
        Ok(())
    }

    /// Makes the session's secrets. Those that are there already are kept, so that links and keys outlive a restart.
    pub(crate) fn make_secrets(&self, ssh: SocketAddrV4) -> Result<(), SessionFolderError> {
        let name = self.name();
        for (path, comment) in [(self.identity_file(), "session"), (self.host_key_file(), "vm")] {
            let public = path.with_extension("pub");
            if !(path.exists() && public.exists()) {
                let pair = KeyPair::generate(&format!("dozlab-{comment}-{name}")).map_err(KeyError::from)?;
                write_private(&public, &format!("{}\n", pair.public))?;
                write_private(&path, &pair.private)?;
            }
        }
        for (path, length) in [(self.token_file(), 32), (self.editor_password_file(), 24)] {
            if !path.exists() {
                write_private(&path, &token(length))?;
            }
        }
        let host_key = self.read(&self.host_key_file().with_extension("pub"))?;
        // ssh looks a host up with its port only where that is not the usual one.
        let host = match ssh.port() {
            defaults::SSH_PORT => ssh.ip().to_string(),
            port => format!("[{}]:{port}", ssh.ip()),
        };
        let known = format!("{host} {host_key}");
        Ok(write_private(&self.known_hosts(), &known)?)
    }

    /// The session's private key.
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        self.path.join("ssh/id_ed25519")
    }

    pub(crate) fn host_key_file(&self) -> PathBuf {
        self.path.join("ssh/host_ed25519")
    }

    fn known_hosts(&self) -> PathBuf {
        self.path.join("ssh/known_hosts")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    pub(crate) fn editor_password_file(&self) -> PathBuf {
        self.path.join("editor-password")
    }

    pub(crate) fn guest_config(&self) -> PathBuf {
        self.path.join("guest-config.json")
    }

    /// The session's disk where that is one file.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.path.join("rootfs.ext4")
    }

    /// The session's disk where that lies over the image.
    #[must_use]
    pub fn overlay_disk(&self) -> PathBuf {
        self.path.join("overlay.ext4")
    }

    /// The image that it lies over: a link that keeps the image for as long as the session is there.
    pub(crate) fn base(&self) -> PathBuf {
        self.path.join("base.ext4")
    }

    /// Whether the session has a disk of its own already.
    pub(crate) fn has_disk(&self) -> bool {
        self.disk().exists() || self.overlay_disk().exists()
    }

    pub(crate) fn network_config(&self) -> PathBuf {
        self.path.join("shared/network-config")
    }

    pub(crate) fn vm_status_file(&self) -> PathBuf {
        self.path.join("shared/vm-status.json")
    }

    /// The volume `vm-data`, which the editor opens.
    #[must_use]
    pub fn vm_data(&self) -> PathBuf {
        self.path.join("vm-data")
    }

    pub(crate) fn vscode_data(&self) -> PathBuf {
        self.path.join("vscode-data")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// A file whose modification time is the learner's last activity.
    pub(crate) fn activity(&self) -> PathBuf {
        self.path.join("run/activity")
    }

    /// A file that is there when the editor will not come, and says why.
    pub(crate) fn editor_failure(&self) -> PathBuf {
        self.path.join("run/editor-failure")
    }

    /// A component's log.
    #[must_use]
    pub fn log(&self, component: Component) -> PathBuf {
        self.path.join("logs").join(format!("{component}.log"))
    }

    /// The secret in the session's links.
    ///
    /// # Errors
    /// [`SessionFolderError::File`].
    pub fn token(&self) -> Result<String, SessionFolderError> {
        self.read(&self.token_file())
    }

    /// The editor's password.
    ///
    /// # Errors
    /// [`SessionFolderError::File`].
    pub fn editor_password(&self) -> Result<String, SessionFolderError> {
        self.read(&self.editor_password_file())
    }

    pub(crate) fn read(&self, path: &Path) -> Result<String, SessionFolderError> {
        fs::read_to_string(path).map_err(file_error("read", path))
    }

    /// How to log in to the VM.
    #[must_use]
    pub fn ssh(&self, record: &SessionRecord) -> SshAccess {
        SshAccess {
            address: record.ssh,
            user: record.user.clone(),
            identity_file: self.identity_file(),
            known_hosts: self.known_hosts(),
        }
    }

    /// The session's record; `None` where the folder has none.
    ///
    /// # Errors
    /// [`SessionFolderError::Damaged`] when it is there but cannot be read or understood.
    pub fn record(&self) -> Result<Option<SessionRecord>, SessionFolderError> {
        let path = self.record_file();
        let damaged = |reason| SessionFolderError::Damaged { name: self.name(), path: path.clone(), reason };
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(damaged(error)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| damaged(error.into())),
        }
    }

    fn record_file(&self) -> PathBuf {
        self.path.join("session.json")
    }

    pub(crate) fn write_record(&self, record: &SessionRecord) -> Result<(), SessionFolderError> {
        let text = serde_json::to_string_pretty(record).expect("a record has only strings and numbers");
        Ok(write_private(&self.record_file(), &text)?)
    }

    /// How the VM is, as its supervisor last said; `None` before that.
    #[must_use]
    pub fn vm_status(&self) -> Option<VmStatus> {
        serde_json::from_slice(&fs::read(self.vm_status_file()).ok()?).ok()
    }

    /// Forgets how the VM of an earlier start was.
    pub(crate) fn forget_vm_status(&self) -> Result<(), SessionFolderError> {
        forget(&self.vm_status_file())
    }

    /// Forgets why an earlier start's editor did not come.
    pub(crate) fn forget_editor_failure(&self) -> Result<(), SessionFolderError> {
        forget(&self.editor_failure())
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Takes the lock that a supervisor holds.
    pub(crate) fn lock(&self) -> Result<SessionLock, SessionFolderError> {
        let path = self.lock_file();
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(file_error("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(SessionLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(SessionFolderError::Locked { name: self.name() }),
            Err(error) => Err(file_error("lock", &path)(error.into())),
        }
    }

    /// Takes the lock, waiting a moment for somebody who only asks whether it is taken.
    pub(crate) fn lock_patiently(&self) -> Result<SessionLock, SessionFolderError> {
        for _ in 0..20 {
            match self.lock() {
                Err(SessionFolderError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
                other => return other,
            }
        }
        self.lock()
    }

    /// Whether a supervisor looks after the session.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        matches!(self.lock(), Err(SessionFolderError::Locked { .. }))
    }

    /// Removes the folder with everything in it.
    pub(crate) fn remove(&self) -> Result<(), SessionFolderError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(file_error("remove", &self.path)),
        }
    }
}
