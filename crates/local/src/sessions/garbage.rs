//! What supervisors and other programs that were killed have left, and its removal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dozlab_boot::KernelStore;
use dozlab_network::namespace::Namespace;
use dozlab_vm::probe;
use serde::Serialize;

use super::{Sessions, SessionsError, as_it_is, is_taken_up, understood};
use crate::component::Component;
use crate::launch::Network;
use crate::record::SessionRecord;
use crate::session_folder::{SessionFolder, file_error};

/// How long a process without a supervisor may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

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
    /// Folders that were removed: of sessions that were never made, of kernels' imports and hypervisors' probes that were
    /// killed.
    pub folders: Vec<PathBuf>,
    /// What could not be cleaned, and why. It kept nothing else from being cleaned.
    pub failures: Vec<String>,
}

impl GarbageReport {
    /// Whether there was nothing to clean.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add<E: std::fmt::Display>(&mut self, removed: Result<Vec<PathBuf>, E>) {
        match removed {
            Ok(folders) => self.folders.extend(folders),
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}

impl Sessions {
    /// Cleans up what supervisors that were killed have left: processes, namespaces, records that say a session runs,
    /// folders that never became a session; and what is left of kernels' imports and of hypervisors' probes.
    ///
    /// # Errors
    /// [`SessionsError::Folder`] when the sessions cannot be listed.
    pub async fn collect_garbage(&self) -> Result<GarbageReport, SessionsError> {
        let mut report = GarbageReport::default();
        // A session that is just being made has no record yet.
        let _nobody_creates = self.lock_creation()?;
        for folder in self.folders()? {
            if let Err(error) = self.collect_of(&folder, &mut report).await {
                report.failures.push(error.to_string());
            }
        }
        let kernels = KernelStore::new(self.kernels.clone()).sweep();
        report.add(kernels);
        report.add(probe::sweep().map_err(file_error("read", &std::env::temp_dir())));
        Ok(report)
    }

    async fn collect_of(
        &self,
        folder: &SessionFolder,
        report: &mut GarbageReport,
    ) -> Result<(), SessionsError> {
        if matches!(folder.record(), Ok(None)) && !folder.is_supervised() {
            folder.remove()?;
            report.folders.push(folder.path().to_owned());
            return Ok(());
        }
        self.clean(folder, report).await?;
        mark_dead(folder, report)
    }

    /// Ends the processes of a session without a supervisor, and removes its network.
    pub(super) async fn clean(
        &self,
        folder: &SessionFolder,
        report: &mut GarbageReport,
    ) -> Result<(), SessionsError> {
        if !folder.path().exists() || folder.is_supervised() {
            return Ok(());
        }
        let name = folder.name();
        let Some(record) = understood(folder) else {
            // Whether a damaged one had a network is not known any more.
            if rustix::process::geteuid().is_root() {
                report.namespaces.extend(Namespace::remove_left(&name).await?);
            }
            return Ok(());
        };
        if is_taken_up(&record) {
            return Ok(());
        }
        for (component, process) in record.processes {
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
        if record.network == Network::Pod {
            report.namespaces.extend(Namespace::remove_left(&name).await?);
        }
        Ok(())
    }
}

/// Writes into the record of a session without a supervisor that it does not run any more.
pub(super) fn mark_dead(folder: &SessionFolder, report: &mut GarbageReport) -> Result<(), SessionsError> {
    let Some(record) = understood(folder) else { return Ok(()) };
    let seen = as_it_is(folder, record.clone());
    if seen != record {
        folder.write_record(&SessionRecord { processes: BTreeMap::new(), ..seen })?;
        report.sessions.push(folder.name());
    }
    Ok(())
}
