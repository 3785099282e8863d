//! Labs as `ls` and `get` show them, wherever they run.

use std::time::UNIX_EPOCH;

use dozlab_local::{SessionFolder, SessionFolderError, SessionRecord};
use serde_json::{Value, json};

use crate::cli::Format;
use crate::output::{self, ago, line, table, until};

/// A lab as a person sees it, and all that is known of it for a program.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) image: String,
    pub(super) created_ms: u64,
    /// When it ends by itself.
    pub(super) ends_ms: Option<u64>,
    pub(super) terminal: String,
    pub(super) object: Value,
}

impl Listed {
    /// A lab on this machine.
    pub(super) fn of(folder: &SessionFolder, record: &SessionRecord) -> Self {
        let terminal = format!("http://{}/", record.terminal);
        Self {
            name: record.name().to_owned(),
            state: record.state.as_str().to_owned(),
            reason: record.reason.clone().unwrap_or_default(),
            image: record.plan.image.to_string(),
            created_ms: record.created_ms,
            ends_ms: record.plan.deadlines.expires_ms(record.started_ms),
            object: json!({
                "name": record.name(),
                "state": record.state,
                "reason": record.reason,
                "image": record.plan.image,
                "disk": record.disk,
                "user": record.user,
                "hypervisor": record.hypervisor,
                "createdMs": record.created_ms,
                "startedMs": record.started_ms,
                "terminal": terminal,
                "ssh": record.ssh,
                "folder": folder.path(),
            }),
            terminal,
        }
    }

    /// A lab on this machine of which nothing is known but its folder.
    pub(super) fn damaged(folder: &SessionFolder, error: &SessionFolderError) -> Self {
        let (name, reason) = (folder.name(), error.to_string());
        let object = json!({ "name": name, "state": "damaged", "reason": reason, "folder": folder.path() });
        let made = std::fs::metadata(folder.path()).and_then(|metadata| metadata.modified());
        let since = made.ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Self {
            name,
            state: "damaged".to_owned(),
            reason,
            image: String::new(),
            created_ms: u64::try_from(since.as_millis()).unwrap_or_default(),
            ends_ms: None,
            terminal: String::new(),
            object,
        }
    }

    /// Prints one.
    pub(super) fn print(&self, format: Format) {
        output::print(format, &self.object, || {
            let made = format!("{} ago", ago(self.created_ms));
            let ends =
                self.ends_ms.filter(|_| self.state == "running" || self.state == "starting").map(until);
            let rows = [
                ("Name", self.name.as_str()),
                ("State", &self.state),
                ("Reason", &self.reason),
                ("Image", &self.image),
                ("Made", &made),
                ("Ends", ends.as_deref().unwrap_or_default()),
                ("Terminal", &self.terminal),
            ];
            for (word, text) in rows.into_iter().filter(|(_, text)| !text.is_empty()) {
                line(&format!("{word:<10}{text}"));
            }
        });
    }
}

/// Prints all. `call` is the program with what makes it mean these labs, for whoever has none yet.
pub(super) fn print(format: Format, labs: &[Listed], call: &str) {
    let objects: Vec<&Value> = labs.iter().map(|lab| &lab.object).collect();
    output::print(format, &objects, || {
        if labs.is_empty() {
            line(&format!("no labs; `{call} up` starts one"));
            return;
        }
        let rows: Vec<_> = labs
            .iter()
            .map(|lab| {
                vec![
                    lab.name.clone(),
                    lab.state.clone(),
                    lab.image.clone(),
                    ago(lab.created_ms),
                    lab.terminal.clone(),
                    lab.reason.lines().next().unwrap_or_default().to_owned(),
                ]
            })
            .collect();
        table(&["NAME", "STATE", "IMAGE", "AGE", "TERMINAL", ""], &rows);
    });
}
