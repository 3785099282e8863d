//! `dozlab ls`, `dozlab get` and `dozlab open` for labs on this machine.

use std::process::ExitCode;

use dozlab_local::{SessionState, Sessions};

use super::access::Access;
use super::listing::{self, Listed};
use super::{Outcome, folders};
use crate::cli::{Format, One};

pub(super) fn run(format: Format) -> Outcome {
    let sessions = Sessions::new(&folders()?);
    let mut labs: Vec<_> =
        sessions.list()?.iter().map(|(folder, record)| Listed::of(folder, record)).collect();
    labs.extend(sessions.damaged()?.iter().map(|(folder, error)| Listed::damaged(folder, error)));
    listing::print(format, &labs, "dozlab");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn get(flags: &One) -> Outcome {
    let (folder, record) = Sessions::new(&folders()?).find(flags.name.as_deref())?;
    Listed::of(&folder, &record).print(flags.output.output);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn open(flags: &One) -> Outcome {
    let (folder, record) = Sessions::new(&folders()?).find(flags.name.as_deref())?;
    if record.state != SessionState::Running {
        let (name, state) = (record.name(), record.state.as_str());
        return Err(format!("lab `{name}` is {state}: `dozlab up --name {name}` starts it").into());
    }
    Access::of(&folder, &record)?.print(flags.output.output);
    Ok(ExitCode::SUCCESS)
}
