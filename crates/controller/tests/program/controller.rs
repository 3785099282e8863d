//! The controller as the tests and the benchmark start it: a process that can be killed, with the failpoints of a debug
//! build. What ships is `dozlab controller`.

use std::process::ExitCode;

use clap::Parser;
use dozlab_controller::{Settings, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = Cli::parse().settings;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match until_terminated(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn until_terminated(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let asked = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        asked.cancel();
    });
    Ok(run(settings, stop).await?)
}
