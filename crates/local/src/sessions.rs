//! All sessions of this user: listed, found, stopped, removed, and cleaned up after a crash.

mod garbage;

use std::fs::{self, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dozlab_network::namespace::NamespaceError;
use dozlab_process::{Identity, Signal};

use crate::component::Component;
use crate::folders::Folders;
use crate::launch::now_ms;
use crate::record::{SessionRecord, SessionState};
use crate::session_folder::{SessionFolder, SessionFolderError, SessionLock, file_error};

pub use garbage::GarbageReport;
use garbage::mark_dead;

/// How long a supervisor may take to end its session in order.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How a session is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// In order; its disk is kept.
    Keep,
    /// At once; everything is removed.
    Remove,
}

/// Something could not be done with a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// There is no such session.
    #[error("there is no session `{name}`{}", known(.names))]
    NotFound {
        /// The name that was given.
        name: String,
        /// The sessions that there are.
        names: Vec<String>,
    },
    /// No name was given, and it is not clear which is meant.
    #[error("say which session: there are {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Its folder could not be used.
    #[error(transparent)]
    Folder(#[from] SessionFolderError),
    /// A process could not be ended.
    #[error("cannot end process {pid} of session `{name}`: {source}")]
    Process {
        /// The session.
        name: String,
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// A supervisor runs, and the record that names it is damaged.
    #[error(
        "the record of `{name}` is damaged while its supervisor runs: end the process that `fuser {lock}` names, then try again"
    )]
    Unknown {
        /// The session.
        name: String,
        /// The file that the supervisor has locked.
        lock: PathBuf,
    },
    /// A supervisor does not end.
    #[error(
        "the supervisor of `{name}` (process {pid}) did not end within {seconds} s: end it with `kill -9 {pid}`, then run `dozlab gc`"
    )]
    Stuck {
        /// The session.
        name: String,
        /// The supervisor.
        pid: u32,
        /// How long was waited.
        seconds: u64,
    },
    /// Its network could not be removed.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "; there are none".into() } else { format!("; there are {}", names.join(", ")) }
}

/// The sessions in a user's data folder.
#[derive(Clone, Debug)]
pub struct Sessions {
    folder: PathBuf,
    kernels: PathBuf,
}

impl Sessions {
    /// The sessions of these folders.
    #[must_use]
    pub fn new(folders: &Folders) -> Self {
        Self { folder: folders.sessions(), kernels: folders.kernels() }
    }

    /// Keeps others from making a session, or from clearing away half-made ones, until it is dropped.
    ///
    /// # Errors
    /// [`SessionFolderError::File`].
    pub(crate) fn lock_creation(&self) -> Result<SessionLock, SessionFolderError> {
        let path = self.folder.with_extension("lock");
        if let Some(data) = path.parent() {
            fs::create_dir_all(data).map_err(file_error("create", data))?;
        }
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(file_error("open", &path))?;
        file.lock().map_err(file_error("lock", &path))?;
        Ok(SessionLock(file))
    }

    fn folders(&self) -> Result<Vec<SessionFolder>, SessionFolderError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(file_error("read", &self.folder))?,
        };
        // Somebody may have put a file of their own there.
        let folders = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
        let mut folders: Vec<_> = folders.map(SessionFolder::new).collect();
        folders.sort_by_key(SessionFolder::name);
        Ok(folders)
    }

    /// The loopback addresses that sessions have.
    pub(crate) fn addresses(&self) -> Result<Vec<Ipv4Addr>, SessionFolderError> {
        let mut addresses = Vec::new();
        for folder in self.folders()? {
            addresses.extend(understood(&folder).map(|record| *record.terminal.ip()));
        }
        Ok(addresses)
    }

    /// All sessions by name, but for the [`Self::damaged`] ones. A session whose supervisor has died is shown as failed.
    ///
    /// # Errors
    /// [`SessionsError::Folder`].
    pub fn list(&self) -> Result<Vec<(SessionFolder, SessionRecord)>, SessionsError> {
        let mut sessions = Vec::new();
        for folder in self.folders()? {
            if let Some(record) = understood(&folder) {
                let record = as_it_is(&folder, record);
                sessions.push((folder, record));
            }
        }
        Ok(sessions)
    }

    /// The sessions whose records cannot be read or understood, and why.
    ///
    /// # Errors
    /// [`SessionsError::Folder`].
    pub fn damaged(&self) -> Result<Vec<(SessionFolder, SessionFolderError)>, SessionsError> {
        let folders = self.folders()?.into_iter();
        Ok(folders.filter_map(|folder| folder.record().err().map(|error| (folder, error))).collect())
    }

    /// The session of this name; without a name the only one there is.
    ///
    /// # Errors
    /// [`SessionsError::NotFound`], [`SessionsError::Ambiguous`], [`SessionsError::Folder`].
    pub fn find(&self, name: Option<&str>) -> Result<(SessionFolder, SessionRecord), SessionsError> {
        let mut sessions = self.list()?;
        if let Some(name) = name
            && let Some((_, error)) = self.damaged()?.into_iter().find(|(folder, _)| folder.name() == name)
        {
            return Err(error.into());
        }
        let names = || sessions.iter().map(|(folder, _)| folder.name()).collect::<Vec<_>>();
        let index = match name {
            Some(name) => sessions.iter().position(|(folder, _)| folder.name() == name),
            None if sessions.len() > 1 => return Err(SessionsError::Ambiguous(names())),
            None => sessions.len().checked_sub(1),
        };
        let not_found =
            || SessionsError::NotFound { name: name.unwrap_or_default().to_owned(), names: names() };
        let index = index.ok_or_else(not_found)?;
        Ok(sessions.swap_remove(index))
    }

    /// The folder of the session of this name, a damaged one's too.
    ///
    /// # Errors
    /// [`SessionsError::NotFound`], [`SessionsError::Folder`].
    pub fn find_folder(&self, name: &str) -> Result<SessionFolder, SessionsError> {
        match self.find(Some(name)) {
            Err(SessionsError::Folder(SessionFolderError::Damaged { .. })) => {
                Ok(SessionFolder::new(self.folder.join(name)))
            }
            found => found.map(|(folder, _)| folder),
        }
    }

    /// Ends a session, whether it has a supervisor or not, and returns when it has ended.
    ///
    /// # Errors
    /// [`SessionsError`].
    pub async fn end(&self, folder: &SessionFolder, kind: StopKind) -> Result<(), SessionsError> {
        if let Some(supervisor) = supervisor_of(folder)? {
            end_supervisor(folder, supervisor, kind).await?;
        }
        let mut report = GarbageReport::default();
        self.clean(folder, &mut report).await?;
        match kind {
            StopKind::Keep => mark_dead(folder, &mut report)?,
            StopKind::Remove => folder.remove()?,
        }
        Ok(())
    }

    /// Removes a session whose start has failed before it ever had a prompt: nobody has worked in it, and what it failed
    /// of has been said. Any other session is left alone. Where the disk is full, the record could not say that it failed.
    ///
    /// # Errors
    /// [`SessionsError`].
    pub async fn remove_failed_start(&self, folder: &SessionFolder) -> Result<bool, SessionsError> {
        let failed = !folder.is_supervised()
            && understood(folder)
                .is_some_and(|record| record.state != SessionState::Stopped && !record.had_prompt);
        if failed {
            self.end(folder, StopKind::Remove).await?;
        }
        Ok(failed)
    }
}

/// The record of a session that has one which is not damaged.
fn understood(folder: &SessionFolder) -> Option<SessionRecord> {
    folder.record().ok().flatten()
}

/// How long a supervisor may take to take charge of a session that was made for it.
const TAKE_CHARGE: Duration = Duration::from_secs(60);

/// Whether the session was made a moment ago, and its supervisor is just being started.
pub(crate) fn is_taken_up(record: &SessionRecord) -> bool {
    let age = now_ms().saturating_sub(record.started_ms);
    record.state == SessionState::Starting
        && !record.processes.contains_key(&Component::Supervisor)
        && u128::from(age) < TAKE_CHARGE.as_millis()
}

const KILLED: &str = "its supervisor was killed; `dozlab up --name NAME` starts it again on its own disk";

/// The record with what it cannot know itself: that its supervisor has died.
fn as_it_is(folder: &SessionFolder, mut record: SessionRecord) -> SessionRecord {
    let claims_to_run = matches!(record.state, SessionState::Starting | SessionState::Running);
    if claims_to_run && !folder.is_supervised() && !is_taken_up(&record) {
        record.state = SessionState::Failed;
        record.reason = Some(KILLED.into());
    }
    record
}

fn supervisor_of(folder: &SessionFolder) -> Result<Option<Identity>, SessionsError> {
    if !folder.is_supervised() {
        return Ok(None);
    }
    let record = folder
        .record()
        .map_err(|_| SessionsError::Unknown { name: folder.name(), lock: folder.lock_file() })?;
    Ok(record.and_then(|record| record.processes.get(&Component::Supervisor).copied()))
}

async fn end_supervisor(
    folder: &SessionFolder,
    supervisor: Identity,
    kind: StopKind,
) -> Result<(), SessionsError> {
    let name = folder.name();
    let signal = match kind {
        StopKind::Keep => Signal::TERM,
        StopKind::Remove => Signal::INT,
    };
    let process = |source| SessionsError::Process { name: name.clone(), pid: supervisor.pid, source };
    match supervisor.signal(signal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(process)?,
    }
    let deadline = Instant::now() + STOP_PATIENCE;
    while supervisor.is_running() {
        if Instant::now() > deadline {
            let seconds = STOP_PATIENCE.as_secs();
            return Err(SessionsError::Stuck { name, pid: supervisor.pid, seconds });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
