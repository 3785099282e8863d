//! `dozlab kernel`.

use std::process::ExitCode;

use dozlab_boot::KernelStore;

use super::{Outcome, folders, until_interrupted};
use crate::cli::Kernel;
use crate::output::{self, line, table};
use crate::progress::Screen;

pub(super) async fn run(command: Kernel) -> Outcome {
    let store = KernelStore::new(folders()?.kernels());
    match command {
        Kernel::Import { package } => {
            let screen = Screen::new();
            let show = |text: &str| screen.doing(text);
            return until_interrupted(&screen, async {
                let imported = match package {
                    Some(package) => store.import_package(&package, &show).await,
                    None => store.import_debian(&show).await,
                };
                screen.clear();
                line(&imported?.release);
                Ok(ExitCode::SUCCESS)
            })
            .await;
        }
        Kernel::Ls(flags) => {
            let kernels = store.list()?;
            output::print(flags.output, &kernels, || {
                let rows: Vec<_> = kernels
                    .iter()
                    .map(|kernel| vec![kernel.release.clone(), kernel.source.clone()])
                    .collect();
                table(&["RELEASE", "SOURCE"], &rows);
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
