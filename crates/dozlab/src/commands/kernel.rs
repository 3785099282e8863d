//! `dozlab kernel`.

use std::process::ExitCode;

use dozlab_boot::{Built, Fragment, KernelBuilder, KernelError, KernelStore};
use dozlab_local::Folders;
use dozlab_vm::probe::{Choice, ProbeError, Prober};

use super::{Outcome, folders, until_interrupted};
use crate::cli::{Build, Format, Kernel};
use crate::output::{self, line, table};
use crate::progress::Screen;

pub(super) async fn run(command: Kernel) -> Outcome {
    let folders = folders()?;
    let store = KernelStore::new(folders.kernels());
    match command {
        Kernel::Import { package, output } => {
            let screen = Screen::new();
            let show = |text: &str| screen.doing(text);
            return until_interrupted(&screen, async {
                let imported = match package {
                    Some(package) => store.import_package(&package, &show).await,
                    None => store.import_debian(&show).await,
                };
                screen.clear();
                show_kernel(&imported?, output.output);
                Ok(ExitCode::SUCCESS)
            })
            .await;
        }
        Kernel::Build(flags) => return build(flags, &folders, &store).await,
        Kernel::Use { which, output } => {
            let wanted = Some(which.as_str()).filter(|which| *which != "auto");
            let kernel = store.choose(wanted)?;
            output::print(output.output, &kernel, || line(&kernel.describe()));
        }
        Kernel::Ls(flags) => {
            let kernels = store.list()?;
            let booted = store.current().ok();
            output::print(flags.output, &kernels, || {
                let row = |kernel: &dozlab_boot::Kernel| {
                    let mark = if booted.as_ref() == Some(kernel) { "*" } else { "" };
                    let kind = kernel.kind.to_string();
                    vec![mark.to_owned(), kernel.release.clone(), kind, kernel.source.clone()]
                };
                table(&["", "RELEASE", "KIND", "SOURCE"], &kernels.iter().map(row).collect::<Vec<_>>());
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_kernel(kernel: &dozlab_boot::Kernel, format: Format) {
    output::print(format, kernel, || line(&kernel.release));
}

async fn build(flags: Build, folders: &Folders, store: &KernelStore) -> Outcome {
    let mut builder = KernelBuilder::new(folders.kernel_build()).source(flags.package).keep(flags.keep);
    if let Some(path) = flags.config {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        builder = builder.fragment(Fragment::parse(text)?);
    }
    if let Some(jobs) = flags.jobs {
        builder = builder.jobs(jobs.into());
    }
    let format = flags.output.output;
    let screen = Screen::new();
    let show = |text: &str| screen.doing(text);
    let earlier = store.current().ok();
    until_interrupted(&screen, async {
        if flags.check {
            builder.check(&show).await?;
            screen.clear();
            let checked = serde_json::json!({ "configurable": true });
            output::print(format, &checked, || line("the source can be configured so"));
            return Ok(ExitCode::SUCCESS);
        }
        let Built { kernel, anew } = builder.build(store, &show).await?;
        if anew {
            show("booting it once");
            let prober = Prober::new(&kernel, &folders.cache, false);
            if let Err(error) = prober.choose(Choice::Auto, true).await {
                return Err(does_not_boot(&kernel, earlier, store, &error)?.into());
            }
        }
        screen.clear();
        if !anew {
            screen.line("it is there already: same source, same configuration");
        }
        show_kernel(&kernel, format);
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// A kernel that does not boot must not be what labs boot from now on, so the earlier one is chosen; says both.
fn does_not_boot(
    kernel: &dozlab_boot::Kernel,
    earlier: Option<dozlab_boot::Kernel>,
    store: &KernelStore,
    why: &ProbeError,
) -> Result<String, KernelError> {
    let told = format!("{} is built, but does not boot: {why}", kernel.release);
    let Some(earlier) = earlier else { return Ok(told) };
    let booted = store.choose(Some(&earlier.release))?;
    Ok(format!("{told}\nlabs go on with {}", booted.describe()))
}
