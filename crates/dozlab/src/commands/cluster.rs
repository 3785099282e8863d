//! The verbs for labs with `--cluster`: the same flags and the same output, with the cluster in this machine's place.

mod diagnose;
mod logs;
mod look;
mod reach;
mod start;
mod up;

use std::process::ExitCode;

use dozlab_cluster::{Cluster, ClusterError};

use super::Outcome;
use crate::cli::{Command, Names, Place};
use crate::progress::Screen;

/// A cluster, and what a command line that means it begins with.
struct Target {
    cluster: Cluster,
    /// `dozlab --cluster`, or `dozlab --cluster=CONTEXT`.
    call: String,
}

/// Carries a command out on the cluster of a context, or of the current one where the text is empty.
pub(super) async fn run(context: &str, command: Command) -> Outcome {
    let Some(place) = place(&command) else {
        return Err(
            "this command is about this machine, not about a cluster: leave `--cluster` out; up, ls, get, \
                    extend, open, logs, stop, rm and doctor take it"
                .into(),
        );
    };
    let context = Some(context).filter(|context| !context.is_empty());
    let cluster = Cluster::connect(context, place.namespace.as_deref()).await?;
    let call = context.map_or("dozlab --cluster".to_owned(), |context| format!("dozlab --cluster={context}"));
    let target = Target { cluster, call };
    match command {
        Command::Up(flags) => up::run(&target, &flags).await,
        Command::Ls(flags) => look::list(&target, flags.output.output).await,
        Command::Get(flags) => look::get(&target, &flags).await,
        Command::Extend(flags) => look::extend(&target, &flags).await,
        Command::Open(flags) => reach::open(&target, &flags).await,
        Command::Logs(flags) => logs::run(&target, &flags).await,
        Command::Stop(names) => end(&target, &names, End::Stop).await,
        Command::Rm(names) => end(&target, &names, End::Remove).await,
        Command::Doctor(flags) => diagnose::run(&target, &flags).await,
        _ => unreachable!("only these have a place"),
    }
}

/// Where on the cluster; `None` for a command that cannot be meant for one.
pub(super) fn place(command: &Command) -> Option<&Place> {
    match command {
        Command::Up(flags) => Some(&flags.place),
        Command::Ls(flags) => Some(&flags.place),
        Command::Get(flags) | Command::Open(flags) => Some(&flags.place),
        Command::Extend(flags) => Some(&flags.place),
        Command::Logs(flags) => Some(&flags.place),
        Command::Stop(flags) | Command::Rm(flags) => Some(&flags.place),
        Command::Doctor(flags) => Some(&flags.place),
        _ => None,
    }
}

/// How a lab is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Remove,
}

async fn end(target: &Target, names: &Names, how: End) -> Outcome {
    let names = if names.all {
        target.cluster.list().await?.into_iter().filter_map(|session| session.metadata.name).collect()
    } else {
        names.names.clone()
    };
    let screen = Screen::new();
    for name in names {
        end_one(&target.cluster, &name, how, &screen).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn end_one(cluster: &Cluster, name: &str, how: End, screen: &Screen) -> Result<(), ClusterError> {
    let ended = match how {
        End::Stop => {
            screen.doing(&format!("stopping {name}"));
            cluster.stop(name).await
        }
        End::Remove => {
            screen.doing(&format!("removing {name}"));
            cluster.remove(name).await
        }
    };
    screen.clear();
    ended
}
