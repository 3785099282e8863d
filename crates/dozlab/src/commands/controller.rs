//! `dozlab controller` and `dozlab crd`.

use std::process::ExitCode;

use dozlab_controller::{Settings, definition};

use super::{Outcome, until_terminated};
use crate::output::json;

pub(super) async fn run(settings: Settings) -> Outcome {
    dozlab_controller::run(settings, until_terminated()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the definition of the resource, with its rules in CEL or without.
pub(super) fn print_definition(with_rules: bool) -> Outcome {
    json(&definition(with_rules));
    Ok(ExitCode::SUCCESS)
}
