//! One thin file a subcommand: flags in, a library called, a result out.

mod access;
mod cluster;
mod containers;
mod controller;
mod doctor;
mod editor;
mod gc;
mod image;
mod kernel;
mod listing;
mod logs;
mod ls;
mod render;
mod signals;
mod ssh;
mod stop;
mod supervise;
mod up;

use std::error::Error;
use std::process::ExitCode;

use clap::CommandFactory;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::output::{colour_on_stderr, error_line};
use crate::progress::Screen;

/// What a subcommand returns: its exit code, or an error to show.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Runs the command, shows its error, and returns the exit code: 0 for success, 1 for failure, 2 for a command line that
/// makes no sense, 130 for an interrupted start; `exec` and `ssh` return what the command returned.
pub(crate) fn run(cli: Cli) -> ExitCode {
    start_logging(&cli);
    // One thread is enough for each of these, and keeps their memory small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli)),
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| {
        let (red, plain) = if colour_on_stderr() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        error_line(&format!("{red}error:{plain} {error}"));
        ExitCode::FAILURE
    })
}

async fn dispatch(cli: Cli) -> Outcome {
    if let Some(context) = &cli.cluster {
        return cluster::run(context, cli.command).await;
    }
    if cluster::place(&cli.command).is_some_and(|place| place.namespace.is_some()) {
        return Err("a namespace is of a cluster: say `--cluster` too".into());
    }
    match cli.command {
        Command::Up(flags) => up::run(*flags).await,
        Command::Ls(flags) => ls::run(flags.output.output),
        Command::Get(flags) => ls::get(&flags),
        Command::Open(flags) => ls::open(&flags),
        Command::Extend(_) => {
            Err("a lab on this machine ends when `up --timeout` said: only one on a cluster can be \
                                   extended (`dozlab --cluster extend`)"
                .into())
        }
        Command::Render(flags) => render::run(&flags),
        Command::Ssh(flags) => ssh::shell(&flags),
        Command::Exec(flags) => ssh::exec(&flags),
        Command::Logs(flags) => logs::run(&flags).await,
        Command::Stop(names) => stop::run(&names, dozlab_local::StopKind::Keep).await,
        Command::Rm(names) => stop::run(&names, dozlab_local::StopKind::Remove).await,
        Command::Gc(output) => gc::run(output.output).await,
        Command::Doctor(flags) => doctor::run(&flags).await,
        Command::Image(image) => image::run(image).await,
        Command::Kernel(kernel) => kernel::run(kernel).await,
        Command::Editor(editor) => editor::run(editor).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "dozlab", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::InitRootfs => containers::init_rootfs().await,
        Command::NetworkSetup => containers::network_setup().await,
        Command::Vm => containers::vm().await,
        Command::Terminal => containers::terminal().await,
        Command::DevicePlugin => containers::device_plugin().await,
        Command::Controller(settings) => controller::run(*settings).await,
        Command::Crd { without_rules } => controller::print_definition(!without_rules),
        Command::Supervise { name } => supervise::run(&name).await,
    }
}

/// Logs go to standard error. Containers and supervisors say what they do; commands for a person only what is wrong.
fn start_logging(cli: &Cli) {
    let is_service = matches!(
        cli.command,
        Command::InitRootfs
            | Command::NetworkSetup
            | Command::Vm
            | Command::Terminal
            | Command::DevicePlugin
            | Command::Controller(_)
            | Command::Supervise { .. }
    );
    let level = match (cli.verbose, is_service) {
        (0, false) => "warn",
        (0, true) | (1, _) => "info",
        (2, _) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let json = std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json");
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // What cannot be logged would be complained about on the same standard error, with a panic.
    let logs = logs.log_internal_errors(false);
    if json {
        logs.json().init();
    } else {
        logs.with_ansi(colour_on_stderr()).init();
    }
}

/// The exit code after Ctrl-C: 128 and the signal's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// Does the work, or drops it at Ctrl-C or SIGTERM, which ends the programs it runs and removes its half-made files.
async fn until_interrupted(screen: &Screen, work: impl Future<Output = Outcome>) -> Outcome {
    let terminated = signals::termination()?;
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = terminated => Ok(ExitCode::from(INTERRUPTED)),
    };
    screen.clear();
    outcome
}

/// A token that Ctrl-C or SIGTERM cancels.
fn until_terminated() -> std::io::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    let terminated = signals::termination()?;
    tokio::spawn(async move {
        terminated.await;
        asked.cancel();
    });
    Ok(shutdown)
}

/// A variable of the environment, for the settings of containers.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The user's folders.
fn folders() -> Result<dozlab_local::Folders, dozlab_local::FoldersError> {
    dozlab_local::Folders::from_env(variable)
}
