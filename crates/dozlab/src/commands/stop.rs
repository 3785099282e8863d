//! `dozlab stop` and `dozlab rm`.

use std::process::ExitCode;

use dozlab_local::{Sessions, StopKind};

use super::{Outcome, folders};
use crate::cli::Names;
use crate::progress::Screen;

pub(super) async fn run(names: &Names, kind: StopKind) -> Outcome {
    let sessions = Sessions::new(&folders()?);
    let names = if names.all {
        sessions.list()?.iter().map(|(folder, _)| folder.name()).collect()
    } else {
        names.names.clone()
    };
    let screen = Screen::new();
    for name in names {
        let (folder, _) = sessions.find(Some(&name))?;
        let doing = if kind == StopKind::Keep { "stopping" } else { "removing" };
        screen.doing(&format!("{doing} {name}"));
        let ended = sessions.end(&folder, kind).await;
        screen.clear();
        ended?;
    }
    Ok(ExitCode::SUCCESS)
}
