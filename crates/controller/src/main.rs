//! The controller as a program of its own, without the rest of Dozlab.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dozlab_controller::{Settings, definition, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs lab sessions on Kubernetes.
#[derive(Parser)]
#[command(
    name = "dozlab-controller",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Option<Settings>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the definition of the resource LabSession, for `kubectl apply --server-side -f -`
    Crd {
        /// Leave out the rules in CEL, which servers before Kubernetes 1.25 do not know
        #[arg(long)]
        without_rules: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Crd { without_rules }) = cli.command {
        println!("{:#}", definition(!without_rules));
        return ExitCode::SUCCESS;
    }
    // Without a subcommand the grammar asks for them.
    let Some(settings) = cli.settings else { return ExitCode::FAILURE };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(until_terminated(settings)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn until_terminated(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.cancel();
    });
    Ok(run(settings, stop).await?)
}
