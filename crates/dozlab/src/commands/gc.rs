//! `dozlab gc`.

use std::process::ExitCode;

use dozlab_local::Sessions;

use super::{Outcome, folders};
use crate::cli::Format;
use crate::output::{self, line};

pub(super) async fn run(format: Format) -> Outcome {
    let report = Sessions::new(&folders()?).collect_garbage().await?;
    output::print(format, &report, || {
        if report.is_empty() {
            line("nothing to clean up");
        }
        for name in &report.sessions {
            line(&format!("session {name}: its supervisor was killed; its disk is kept"));
        }
        for pid in &report.processes {
            line(&format!("process {pid}: ended"));
        }
        for name in &report.namespaces {
            line(&format!("network namespace {name}: removed"));
        }
        for folder in &report.folders {
            line(&format!("folder {}: removed", folder.display()));
        }
    });
    if report.failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(report.failures.join("\n").into()) }
}
