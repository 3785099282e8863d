//! `dozlab doctor`: of this machine, or of one lab.

use std::process::ExitCode;

use dozlab_cluster::diagnosis::{Diagnosis, Verdict};
use dozlab_local::doctor::{Check, Finding, can_run, examine};
use dozlab_local::{COMPONENTS, SessionFolder, SessionRecord, SessionState, Sessions};

use super::{Outcome, folders};
use crate::cli::{Doctor, Format};
use crate::output::{self, colour_on_stdout, line};
use crate::progress::Screen;

/// How many lines of each log are shown beside a diagnosis.
const LINES: usize = 5;

pub(super) async fn run(flags: &Doctor) -> Outcome {
    if let Some(name) = &flags.session {
        let (folder, record) = Sessions::new(&folders()?).find(Some(name))?;
        return Ok(tell(&of_local(&folder, &record), flags.output.output));
    }
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
    let mark = coloured(mark, colour);
    let remedy = check.remedy.as_deref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
    line(&format!("{mark}  {:<19} {}{remedy}", check.subject, check.found));
}

fn coloured(mark: &str, colour: &str) -> String {
    if colour_on_stdout() { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() }
}

/// Prints what is wrong with a lab. The exit code is 1 where somebody must do something.
pub(super) fn tell(diagnosis: &Diagnosis, format: Format) -> ExitCode {
    let Diagnosis { name, state, cause, message, remedy, evidence, .. } = diagnosis;
    let (mark, colour) = match diagnosis.verdict {
        Verdict::Good => ("ok", "32"),
        Verdict::Waiting => ("--", "33"),
        Verdict::Bad => ("NO", "31"),
    };
    output::print(format, diagnosis, || {
        line(&format!("{}  lab `{name}` is {state}: {cause}", coloured(mark, colour)));
        if !message.is_empty() {
            line(&format!("    {message}"));
        }
        if let Some(remedy) = remedy {
            line(&format!(" -> {remedy}"));
        }
        for said in evidence {
            line(&format!("    | {said}"));
        }
    });
    if diagnosis.verdict == Verdict::Bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A lab on this machine: its supervisor has written down what went wrong.
fn of_local(folder: &SessionFolder, record: &SessionRecord) -> Diagnosis {
    let name = record.name();
    let (verdict, cause, remedy) = match record.state {
        SessionState::Running => (Verdict::Good, "Ready", None),
        SessionState::Starting => (Verdict::Waiting, "Starting", None),
        SessionState::Stopped => {
            (Verdict::Good, "Stopped", Some(format!("`dozlab up --name {name}` starts it again")))
        }
        SessionState::Failed => (
            Verdict::Bad,
            "Failed",
            Some(format!(
                "`dozlab logs {name}` has all of it, `dozlab doctor` what this machine lacks; `dozlab up --name {name}` \
                 starts it again"
            )),
        ),
    };
    Diagnosis {
        name: name.to_owned(),
        state: record.state.as_str(),
        verdict,
        cause: cause.to_owned(),
        message: record.reason.clone().unwrap_or_default(),
        remedy,
        evidence: if verdict == Verdict::Bad { last_words(folder) } else { Vec::new() },
    }
}

/// The end of each component's log.
fn last_words(folder: &SessionFolder) -> Vec<String> {
    let mut words = Vec::new();
    for component in COMPONENTS {
        // A component that has not started has no log.
        let Ok(log) = std::fs::read(folder.log(component)) else { continue };
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        words.extend(last.iter().map(|line| {
            let line: String = line.chars().filter(|sign| !sign.is_control()).collect();
            format!("{component}: {line}")
        }));
    }
    words
}
