//! `dozlab ls`.

use std::process::ExitCode;

use dozlab_local::Sessions;
use serde_json::json;

use super::{Outcome, folders};
use crate::cli::Format;
use crate::output::{self, ago, line, table};

pub(super) fn run(format: Format) -> Outcome {
    let sessions = Sessions::new(&folders()?).list()?;
    let objects: Vec<_> = sessions
        .iter()
        .map(|(folder, record)| {
            json!({
                "name": record.name(),
                "state": record.state,
                "reason": record.reason,
                "image": record.plan.image,
                "disk": record.disk,
                "user": record.user,
                "hypervisor": record.hypervisor,
                "createdMs": record.created_ms,
                "startedMs": record.started_ms,
                "terminal": format!("http://{}/", record.terminal),
                "ssh": record.ssh,
                "folder": folder.path(),
            })
        })
        .collect();
    output::print(format, &objects, || {
        if sessions.is_empty() {
            line("no labs; `dozlab up` starts one");
            return;
        }
        let rows: Vec<_> = sessions
            .iter()
            .map(|(_, record)| {
                let reason = record.reason.as_deref().unwrap_or_default();
                vec![
                    record.name().to_owned(),
                    record.state.as_str().to_owned(),
                    record.plan.image.to_string(),
                    ago(record.created_ms),
                    format!("http://{}/", record.terminal),
                    reason.lines().next().unwrap_or_default().to_owned(),
                ]
            })
            .collect();
        table(&["NAME", "STATE", "IMAGE", "AGE", "TERMINAL", ""], &rows);
    });
    Ok(ExitCode::SUCCESS)
}
