//! The command line of Dozlab. See `dozlab --help`.

mod cli;
mod commands;
mod output;
mod progress;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run(cli::parse())
}
