//! Follows the editor on its way: installed where it must be, started, answering. The session does not wait for it.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::{SuperviseError, Supervisor};
use crate::component::Component;
use crate::editor::find_editor;
use crate::record::Stage;
use crate::session_folder::file_error;

/// How long a connection to the editor may take; it is on this machine.
const CONNECT: Duration = Duration::from_secs(1);

impl Supervisor<'_> {
    /// Starts the editor, or its installation.
    pub(super) fn start_editor(&mut self) -> Result<(), SuperviseError> {
        self.folder.forget_editor_failure()?;
        if self.record.means.editor.is_none() {
            let name = self.record.name();
            self.watcher.notice(&format!(
                "the editor is installed meanwhile, once, which takes some minutes: `dozlab logs {name} -c editor` \
                 follows it"
            ));
        }
        self.editor_awaited = Some(Instant::now());
        self.start(Component::CodeServer)
    }

    /// Tells of the editor when it answers for the first time.
    pub(super) async fn look_for_editor(&mut self) -> Result<(), SuperviseError> {
        let (Some(since), Some(address), Some(_)) =
            (self.editor_awaited, self.record.editor, &self.record.means.editor)
        else {
            return Ok(());
        };
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        if !matches!(connected, Ok(Ok(_))) {
            return Ok(());
        }
        self.editor_awaited = None;
        let took = since.elapsed();
        self.record.stages.insert(Stage::Editor, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.watcher.done(Stage::Editor, took, "");
        self.write_record()
    }

    /// Starts the editor that was installed meanwhile. A session goes on without one that could not be, and the page
    /// of the editor says why.
    pub(super) fn editor_was_installed(&mut self, status: ExitStatus) -> Result<(), SuperviseError> {
        self.record.means.editor = find_editor(&self.folders).filter(|_| status.success());
        if self.record.means.editor.is_some() {
            self.start(Component::CodeServer)?;
            return self.write_record();
        }
        self.editor_awaited = None;
        let reason = format!("the session has no editor: {}", self.last_words(Component::CodeServer));
        self.watcher.notice(&reason);
        let failure = self.folder.editor_failure();
        Ok(std::fs::write(&failure, reason).map_err(file_error("write", &failure))?)
    }
}
