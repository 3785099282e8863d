//! `dozlab up`: starts a lab, in the foreground or in the background.

use std::collections::BTreeMap;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use dozlab_local::{
    Asked, DiskStrategy, EditorChoice, EndRequest, Folders, Launched, Network, Options, SessionEnd,
    SessionFolder, SessionRecord, SessionState, Sessions, Stage, StopKind, Supervisor, Watcher, create,
    prepare,
};
use dozlab_process::Identity;
use dozlab_session::plan::PlanRequest;

use super::access::Access;
use super::{INTERRUPTED, Outcome, folders, signals};
use crate::cli::{DiskMode, Format, NetworkKind, Up};
use crate::progress::Screen;

/// How often a lab in the background is looked at until it has a prompt.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn run(flags: Up) -> Outcome {
    if flags.user_id.is_some() {
        return Err("--user-id is for a lab on a cluster: say `--cluster` too".into());
    }
    let folders = folders()?;
    let screen = Screen::new();
    let (detach, format, keep) = (flags.detach, flags.output.output, flags.keep);
    let options = options(flags);
    let mut requests = signals::end_requests(keep)?;
    let prepared = tokio::select! {
        prepared = prepare(&folders, &options, &screen) => prepared,
        _ = requests.wait_for(|request| *request != EndRequest::Run) => {
            screen.clear();
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    screen.clear();
    let launched = create(&folders, &options, prepared?)?;
    if detach {
        return in_background(&folders, launched, &screen, format, requests).await;
    }
    let mut reached_prompt = false;
    let (sessions, folder) = (Sessions::new(&folders), launched.folder.clone());
    let ready = |folder: &SessionFolder, record: &SessionRecord| {
        reached_prompt = true;
        match Access::of(folder, record) {
            Ok(access) => access.print(format),
            Err(error) => screen.notice(&error.to_string()),
        }
        let end = if keep {
            "Ctrl-C stops the lab and keeps its disk"
        } else {
            "Ctrl-C ends the lab and removes it"
        };
        screen.line(end);
    };
    let ended = match Supervisor::new(launched.folder, launched.record, folders, &screen) {
        Ok(supervisor) => supervisor.run(requests, ready).await,
        Err(error) => Err(error),
    };
    screen.clear();
    if !keep {
        sessions.remove_failed_start(&folder).await?;
    }
    match ended? {
        SessionEnd::Discarded if reached_prompt => Ok(ExitCode::SUCCESS),
        SessionEnd::Discarded => Ok(ExitCode::from(INTERRUPTED)),
        SessionEnd::Stopped(reason) => {
            screen.line(&format!("the lab stopped: {reason}"));
            Ok(ExitCode::SUCCESS)
        }
        SessionEnd::Failed(reason) => Err(reason.into()),
    }
}

fn options(flags: Up) -> Options {
    let editor = match (flags.no_editor, flags.code_server) {
        (Some(true), _) => Some(EditorChoice::None),
        (_, Some(path)) => Some(EditorChoice::At(path)),
        (Some(false), None) => Some(EditorChoice::Found),
        (None, None) => None,
    };
    let mut request = PlanRequest { session_id: flags.name, image: flags.image, ..PlanRequest::default() };
    flags.machine.amend(&mut request);
    Options {
        request,
        disk: match flags.disk_mode {
            DiskMode::Auto => None,
            DiskMode::Reflink => Some(DiskStrategy::Reflink),
            DiskMode::Overlay => Some(DiskStrategy::Overlay),
            DiskMode::Copy => Some(DiskStrategy::Copy),
        },
        network: flags.network.map(|kind| match kind {
            NetworkKind::User => Network::User,
            NetworkKind::Pod => Network::Pod,
        }),
        asked: Asked { kernel: flags.kernel, hypervisor: flags.hypervisor, editor },
        terminal_port: flags.terminal_port,
        editor_port: flags.editor_port,
        ssh_port: flags.ssh_port,
    }
}

/// Starts a supervisor of its own for the lab, and waits for its prompt.
async fn in_background(
    folders: &Folders,
    launched: Launched,
    screen: &Screen,
    format: Format,
    mut requests: tokio::sync::watch::Receiver<EndRequest>,
) -> Outcome {
    let Launched { folder, .. } = launched;
    let sessions = Sessions::new(folders);
    let supervisor = start_supervisor(folders, &folder)?;
    let mut shown = BTreeMap::new();
    loop {
        let record = folder.record()?;
        if let Some(record) = &record {
            show_stages(record, &mut shown, screen);
            match record.state {
                SessionState::Running => {
                    Access::of(&folder, record)?.print(format);
                    return Ok(ExitCode::SUCCESS);
                }
                SessionState::Starting => {}
                SessionState::Stopped | SessionState::Failed => {
                    let mut reason = record.reason.clone().unwrap_or_default();
                    // Its supervisor may still be on its way out.
                    wait_for_end(supervisor).await;
                    if !sessions.remove_failed_start(&folder).await? {
                        reason += &format!("\n`dozlab logs {}` says more", folder.name());
                    }
                    return Err(reason.into());
                }
            }
        }
        if !supervisor.is_running() {
            let log = folder.log(dozlab_local::Component::Supervisor);
            return Err(format!(
                "the lab's supervisor ended before there was a prompt: see {}",
                log.display()
            )
            .into());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = requests.wait_for(|request| *request != EndRequest::Run) => {
                sessions.end(&folder, StopKind::Remove).await?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
}

async fn wait_for_end(process: Identity) {
    while process.is_running() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn show_stages(record: &SessionRecord, shown: &mut BTreeMap<Stage, u64>, screen: &Screen) {
    // What was shared by all sessions was shown while it was prepared.
    for (stage, took) in record.stages.iter().filter(|(stage, _)| **stage > Stage::Image) {
        if shown.insert(*stage, *took).is_none() {
            screen.done(*stage, Duration::from_millis(*took), "");
        }
    }
}

/// The supervisor leads a session of its own, so that it outlives this shell.
fn start_supervisor(
    folders: &Folders,
    folder: &SessionFolder,
) -> Result<Identity, Box<dyn std::error::Error>> {
    let log = folder.log(dozlab_local::Component::Supervisor);
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&log);
    let (output, errors) = (open()?, open()?);
    let mut command = std::process::Command::new("setsid");
    command.arg(std::env::current_exe()?).args(["supervise", &folder.name()]);
    command.env("DOZLAB_DATA_DIR", &folders.data).env("DOZLAB_CACHE_DIR", &folders.cache);
    command.stdin(Stdio::null()).stdout(output).stderr(errors).current_dir("/");
    let child = command.spawn().map_err(|error| format!("cannot start the lab's supervisor: {error}"))?;
    Identity::of(child.id())
        .ok_or_else(|| format!("the lab's supervisor ended at once: see {}", log.display()).into())
}
