//! Keeps a session's processes running once there is a prompt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dozlab_session::deadline::{Activity, Due};
use dozlab_session::vm_status::VmState;

use super::{Over, SuperviseError, Supervisor};
use crate::component::Component;
use crate::launch::now_ms;

/// How often the session is looked at while it runs: for a reboot to tell of, for a deadline.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The pause before a component that ended by itself is started again, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Supervisor<'_> {
    /// Keeps the session's processes running until something ends it.
    pub(super) async fn look_after(&mut self) -> Result<Over, SuperviseError> {
        let mut restarts: BTreeMap<Component, (Instant, Duration)> = BTreeMap::new();
        let mut boot = self.folder.vm_status().map_or(1, |status| status.boot);
        let mut warned = false;
        // Nobody can use a session before it has a prompt.
        let ready_ms = now_ms();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(over) = self.look_at_machine(&mut boot) {
                return Ok(over);
            }
            for component in [Component::TerminalSidecar, Component::CodeServer] {
                self.look_at_component(component, &mut restarts)?;
            }
            self.look_for_editor().await?;
            let started_ms = self.record.started_ms;
            let now = now_ms();
            let last_active_ms = self.folder.last_used_ms(now).unwrap_or(0).max(ready_ms);
            let activity = Activity { started_ms, last_active_ms };
            match self.record.plan.deadlines.due(activity, now) {
                Due::Nothing { .. } => warned = false,
                Due::Warn { ends_ms, .. } => {
                    if !std::mem::replace(&mut warned, true) {
                        let minutes = ends_ms.saturating_sub(now).div_ceil(60_000);
                        self.watcher.notice(&format!("the session ends in {minutes} min"));
                    }
                }
                Due::Expired => return Ok(Over::Stopped("its time is over".into())),
                Due::Idle => return Ok(Over::Stopped("nobody used it".into())),
            }
        }
    }

    fn look_at_machine(&mut self, boot: &mut u32) -> Option<Over> {
        let status = self.folder.vm_status();
        if let Some(status) = &status
            && status.state == VmState::Restarting
            && status.boot == *boot
        {
            *boot += 1;
            let reason = status.reason.as_deref().unwrap_or("the machine starts again");
            self.watcher.notice(reason);
        }
        let child = self.children.get_mut(&Component::FirecrackerVm)?;
        let exit = child.inner().try_wait().ok().flatten()?;
        let reason = status.as_ref().and_then(|status| status.reason.clone());
        Some(match status.map(|status| status.state) {
            Some(VmState::Stopped) => Over::Stopped(reason.unwrap_or_default()),
            Some(VmState::Failed) => Over::Failed(reason.unwrap_or_default()),
            _ => Over::Failed(format!(
                "the machine's supervisor ended ({exit}): {}",
                self.last_words(Component::FirecrackerVm)
            )),
        })
    }

    /// Starts a component again that ended by itself, after a pause that doubles.
    fn look_at_component(
        &mut self,
        component: Component,
        restarts: &mut BTreeMap<Component, (Instant, Duration)>,
    ) -> Result<(), SuperviseError> {
        let Some(child) = self.children.get_mut(&component) else {
            let due = restarts.get(&component).is_some_and(|(when, _)| Instant::now() >= *when);
            if due {
                self.start(component)?;
                self.write_record()?;
            }
            return Ok(());
        };
        let Some(status) = child.inner().try_wait().ok().flatten() else { return Ok(()) };
        self.children.remove(&component);
        if component == Component::CodeServer && self.record.means.editor.is_none() {
            return self.editor_was_installed(status);
        }
        let pause =
            restarts.get(&component).map_or(FIRST_PAUSE, |(_, pause)| (*pause * 2).min(LONGEST_PAUSE));
        restarts.insert(component, (Instant::now() + pause, pause));
        let message = self.last_words(component);
        self.watcher.notice(&format!("{component} ended ({status}) and is started again: {message}"));
        Ok(())
    }
}
