//! All sessions of this user: listed, found, stopped, removed, and cleaned up after a crash.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dozlab_network::namespace::{Namespace, NamespaceError};
use dozlab_process::{Identity, Signal};
use serde::Serialize;

use crate::component::Component;
use crate::folders::Folders;
use crate::launch::Network;
use crate::record::{SessionRecord, SessionState};
use crate::session_folder::{SessionFolder, SessionFolderError, file_error};

/// How long a supervisor may take to end its session in order.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How long a process without a supervisor may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

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

/// What cleaning up found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageReport {
    /// Sessions whose supervisor had died.
    pub sessions: Vec<String>,
    /// Processes that were ended.
    pub processes: Vec<u32>,
    /// Network namespaces that were removed.
    pub namespaces: Vec<String>,
    /// Folders without a session that were removed.
    pub folders: Vec<PathBuf>,
}

impl GarbageReport {
    /// Whether there was nothing to clean.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The sessions in a user's data folder.
#[derive(Clone, Debug)]
pub struct Sessions {
    folder: PathBuf,
}

impl Sessions {
    /// The sessions of these folders.
    #[must_use]
    pub fn new(folders: &Folders) -> Self {
        Self { folder: folders.sessions() }
    }

    fn folders(&self) -> Result<Vec<SessionFolder>, SessionFolderError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(file_error("read", &self.folder))?,
        };
        let mut folders: Vec<_> =
            entries.filter_map(Result::ok).map(|entry| SessionFolder::new(entry.path())).collect();
        folders.sort_by_key(SessionFolder::name);
        Ok(folders)
    }

    /// The loopback addresses that sessions have.
    pub(crate) fn addresses(&self) -> Result<Vec<Ipv4Addr>, SessionFolderError> {
        let mut addresses = Vec::new();
        for folder in self.folders()? {
            addresses.extend(folder.record()?.map(|record| *record.terminal.ip()));
        }
        Ok(addresses)
    }

    /// All sessions by name. A session whose supervisor has died is shown as failed.
    ///
    /// # Errors
    /// [`SessionsError::Folder`].
    pub fn list(&self) -> Result<Vec<(SessionFolder, SessionRecord)>, SessionsError> {
        let mut sessions = Vec::new();
        for folder in self.folders()? {
            if let Some(record) = folder.record()? {
                let record = as_it_is(&folder, record);
                sessions.push((folder, record));
            }
        }
        Ok(sessions)
    }

    /// The session of this name; without a name the only one there is.
    ///
    /// # Errors
    /// [`SessionsError::NotFound`], [`SessionsError::Ambiguous`], [`SessionsError::Folder`].
    pub fn find(&self, name: Option<&str>) -> Result<(SessionFolder, SessionRecord), SessionsError> {
        let mut sessions = self.list()?;
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

    /// Ends a session, whether it has a supervisor or not, and returns when it has ended.
    ///
    /// # Errors
    /// [`SessionsError`].
    pub async fn end(&self, folder: &SessionFolder, kind: StopKind) -> Result<(), SessionsError> {
        if let Some(supervisor) = supervisor_of(folder)? {
            end_supervisor(folder, supervisor, kind).await?;
        }
        self.clean(folder, &mut GarbageReport::default()).await?;
        if kind == StopKind::Remove {
            folder.remove()?;
        }
        Ok(())
    }

    /// Cleans up what supervisors that were killed have left: processes, namespaces, records that say a session runs,
    /// folders that never became a session.
    ///
    /// # Errors
    /// [`SessionsError`] at the first thing that cannot be cleaned.
    pub async fn collect_garbage(&self) -> Result<GarbageReport, SessionsError> {
        let mut report = GarbageReport::default();
        for folder in self.folders()? {
            if folder.record()?.is_none() && !folder.is_supervised() {
                folder.remove()?;
                report.folders.push(folder.path().to_owned());
            } else {
                self.clean(&folder, &mut report).await?;
            }
        }
        Ok(report)
    }

    /// Cleans up after a session without a supervisor.
    async fn clean(&self, folder: &SessionFolder, report: &mut GarbageReport) -> Result<(), SessionsError> {
        if !folder.path().exists() || folder.is_supervised() {
            return Ok(());
        }
        let Some(mut record) = folder.record()? else { return Ok(()) };
        let name = folder.name();
        for (component, process) in std::mem::take(&mut record.processes) {
            if component == Component::Supervisor || !process.is_running() {
                continue;
            }
            process.end(ORPHAN_GRACE).map_err(|source| SessionsError::Process {
                name: name.clone(),
                pid: process.pid,
                source,
            })?;
            report.processes.push(process.pid);
        }
        if record.network == Network::Pod
            && let Some(namespace) = Namespace::find(&name).await?
        {
            namespace.remove().await?;
            report.namespaces.push(namespace.name().to_owned());
        }
        if matches!(record.state, SessionState::Starting | SessionState::Running) {
            record.state = SessionState::Failed;
            record.reason = Some(KILLED.into());
            folder.write_record(&record)?;
            report.sessions.push(name);
        }
        Ok(())
    }
}

const KILLED: &str = "its supervisor was killed; `dozlab up --name NAME` starts it again on its own disk";

/// The record with what it cannot know itself: that its supervisor has died.
fn as_it_is(folder: &SessionFolder, mut record: SessionRecord) -> SessionRecord {
    let claims_to_run = matches!(record.state, SessionState::Starting | SessionState::Running);
    if claims_to_run && !folder.is_supervised() {
        record.state = SessionState::Failed;
        record.reason = Some(KILLED.into());
    }
    record
}

fn supervisor_of(folder: &SessionFolder) -> Result<Option<Identity>, SessionsError> {
    if !folder.is_supervised() {
        return Ok(None);
    }
    let record = folder.record()?;
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
