//! `dozlab doctor`.

use std::process::ExitCode;

use dozlab_local::doctor::{Check, Finding, can_run, examine};

use super::{Outcome, folders};
use crate::cli::Doctor;
use crate::output::{self, colour_on_stdout, line};
use crate::progress::Screen;

pub(super) async fn run(flags: &Doctor) -> Outcome {
    let screen = Screen::new();
    let kernel = flags.kernel.as_deref();
    let checks = examine(&folders()?, kernel, flags.fresh, &|text| screen.doing(text)).await;
    screen.clear();
    output::print(flags.output.output, &checks, || checks.iter().for_each(show));
    Ok(if can_run(&checks) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(check: &Check) {
    let (mark, colour) = match check.finding {
        Finding::Good => ("ok", "32"),
        Finding::Warning => ("--", "33"),
        Finding::Bad => ("NO", "31"),
    };
    let mark = if colour_on_stdout() { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() };
    let remedy = check.remedy.as_deref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
    line(&format!("{mark}  {:<19} {}{remedy}", check.subject, check.found));
}
