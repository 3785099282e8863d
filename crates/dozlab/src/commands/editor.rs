//! `dozlab editor`.

use std::process::ExitCode;

use dozlab_local::install_editor;
use serde_json::json;

use super::{Outcome, folders, until_interrupted};
use crate::cli::Editor;
use crate::output::{self, line};
use crate::progress::Screen;

pub(super) async fn run(command: Editor) -> Outcome {
    match command {
        Editor::Install(flags) => {
            let screen = Screen::new();
            until_interrupted(&screen, async {
                let installed = install_editor(&folders()?.editor(), &|text| screen.doing(text)).await;
                screen.clear();
                let program = installed?;
                output::print(flags.output, &json!({ "program": program }), || line(&program.describe()));
                Ok(ExitCode::SUCCESS)
            })
            .await
        }
    }
}
