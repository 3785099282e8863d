//! `dozlab stop` and `dozlab rm`.

use std::process::ExitCode;

use dozlab_local::{Sessions, SessionsError, StopKind};

use super::{Outcome, folders};
use crate::cli::Names;
use crate::progress::Screen;

pub(super) async fn run(names: &Names, kind: StopKind) -> Outcome {
    let sessions = Sessions::new(&folders()?);
    let names = if names.all {
        let mut all: Vec<String> = sessions.list()?.iter().map(|(folder, _)| folder.name()).collect();
        if kind == StopKind::Remove {
            all.extend(sessions.damaged()?.iter().map(|(folder, _)| folder.name()));
        }
        all
    } else {
        names.names.clone()
    };
    let screen = Screen::new();
    let mut failures = Vec::new();
    for name in names {
        let doing = if kind == StopKind::Keep { "stopping" } else { "removing" };
        screen.doing(&format!("{doing} {name}"));
        // One that cannot be ended keeps no other from it.
        if let Err(error) = end(&sessions, &name, kind).await {
            failures.push(error.to_string());
        }
        screen.clear();
    }
    if failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(failures.join("\n").into()) }
}

async fn end(sessions: &Sessions, name: &str, kind: StopKind) -> Result<(), SessionsError> {
    let folder = match kind {
        StopKind::Keep => sessions.find(Some(name))?.0,
        StopKind::Remove => sessions.find_folder(name)?,
    };
    sessions.end(&folder, kind).await
}
