//! `dozlab stop` and `dozlab rm`.

use std::process::ExitCode;

use dozlab_local::{Sessions, StopKind};

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
    for name in names {
        let folder = match kind {
            StopKind::Keep => sessions.find(Some(&name))?.0,
            StopKind::Remove => sessions.find_folder(&name)?,
        };
        let doing = if kind == StopKind::Keep { "stopping" } else { "removing" };
        screen.doing(&format!("{doing} {name}"));
        let ended = sessions.end(&folder, kind).await;
        screen.clear();
        ended?;
    }
    Ok(ExitCode::SUCCESS)
}
