//! `dozlab supervise`: what `up --detach` leaves running.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dozlab_local::{SessionEnd, SessionFolder, Stage, Supervisor, Watcher};
use dozlab_rootfs::{NoProgress, Progress};
use dozlab_session::id::SessionId;

use super::{Outcome, folders, signals};

/// Writes to the supervisor's log.
struct Log;

impl Watcher for Log {
    fn begin(&self, _: Stage) {}

    fn step(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn done(&self, stage: Stage, took: Duration, detail: &str) {
        tracing::info!(took_ms = took.as_millis(), detail, "{}", stage.description());
    }

    fn notice(&self, text: &str) {
        tracing::warn!("{text}");
    }

    fn image_progress(&self) -> Arc<dyn Progress> {
        Arc::new(NoProgress)
    }
}

pub(super) async fn run(name: &str) -> Outcome {
    let folders = folders()?;
    let requests = signals::end_requests(false)?;
    let id: SessionId = name.parse()?;
    let folder = SessionFolder::new(folders.sessions().join(id.as_str()));
    let record = folder.record()?.ok_or_else(|| format!("there is no session `{name}`"))?;
    let supervisor = Supervisor::new(folder, record, folders, &Log)?;
    match supervisor.run(requests, |_, _| tracing::info!("a prompt can be had")).await? {
        SessionEnd::Failed(reason) => Err(reason.into()),
        SessionEnd::Stopped(_) | SessionEnd::Discarded => Ok(ExitCode::SUCCESS),
    }
}
