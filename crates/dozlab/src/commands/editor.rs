//! `dozlab editor`.

use std::process::ExitCode;

use dozlab_local::install_editor;

use super::{Outcome, folders, until_interrupted};
use crate::cli::Editor;
use crate::output::line;
use crate::progress::Screen;

pub(super) async fn run(command: Editor) -> Outcome {
    match command {
        Editor::Install => {
            let screen = Screen::new();
            until_interrupted(&screen, async {
                let installed = install_editor(&folders()?.editor(), &|text| screen.doing(text)).await;
                screen.clear();
                line(&installed?.describe());
                Ok(ExitCode::SUCCESS)
            })
            .await
        }
    }
}
