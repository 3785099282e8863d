//! `dozlab --cluster up`: asks for a lab, waits for its prompt, and keeps the way to it open.

use std::process::ExitCode;

use dozlab_cluster::sessions::{phase, reason};
use dozlab_local::EndRequest;
use dozlab_pod::lab_session::Config;
use dozlab_pod::{DiskPolicy, LabSession, LabSessionSpec, PodOptions};
use dozlab_session::phase::Phase;
use dozlab_session::plan::{Plan, PlanRequest};
use tokio::sync::watch;

use super::reach::{Reach, is_outside};
use super::start::until_running;
use super::{End, Target, end_one};
use crate::cli::{DiskMode, NetworkKind, Up};
use crate::commands::{INTERRUPTED, Outcome, signals, variable};
use crate::progress::Screen;

pub(super) async fn run(target: &Target, flags: &Up) -> Outcome {
    refuse_what_is_local(flags)?;
    let (name, spec) = wanted(flags)?;
    let screen = Screen::new();
    let mut requests = signals::end_requests(flags.keep)?;
    target.cluster.create(&name, spec).await?;
    let (session, stages) = tokio::select! {
        running = until_running(target, &name, &screen) => running?,
        how = asked_to_end(&mut requests) => return end(target, &name, how, &screen).await,
    };
    if flags.detach {
        let reach = Reach::from_inside(target, &session, &screen).await;
        let open = || ("Open", format!("{} open {name}", target.call));
        let inside =
            session.status.as_ref().and_then(|status| status.endpoints.as_ref()?.terminal.as_deref());
        let next = inside.is_some_and(|url| !is_outside(url)).then(open);
        reach.access(&name, stages, next).print(flags.output.output);
        return Ok(ExitCode::SUCCESS);
    }
    let reach = match Reach::of(target, &session, &screen).await {
        Ok(reach) => reach,
        Err(error) => {
            screen.line(&format!("the lab cannot be reached from here: {error}"));
            Reach::from_inside(target, &session, &screen).await
        }
    };
    reach.access(&name, stages, None).print(flags.output.output);
    let end_of_it =
        if flags.keep { "stops the lab and keeps its disk" } else { "ends the lab and removes it" };
    screen.line(&format!("Ctrl-C {end_of_it}"));
    let over = target.cluster.follow(&name, |session| match session {
        None => Some((Phase::Terminated, "somebody has removed it".to_owned())),
        Some(session) => {
            let is_over = matches!(phase(session), Phase::Terminating | Phase::Terminated | Phase::Failed);
            is_over.then(|| (phase(session), reason(session)))
        }
    });
    let over = tokio::select! {
        over = over => over?,
        () = reach.carry() => unreachable!("it carries until it is dropped"),
        how = asked_to_end(&mut requests) => {
            end(target, &name, how, &screen).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    match over {
        (Phase::Failed, reason) => {
            Err(format!("{reason}\n`{} doctor --session {name}` says more", target.call).into())
        }
        (_, reason) => {
            screen.line(&format!("the lab stopped: {reason}"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Waits for Ctrl-C or a signal like it, and says what it asks for.
async fn asked_to_end(requests: &mut watch::Receiver<EndRequest>) -> End {
    let request = requests.wait_for(|request| *request != EndRequest::Run).await.map(|request| *request);
    match request {
        Ok(EndRequest::Stop) => End::Stop,
        _ => End::Remove,
    }
}

/// Ends the lab. A second Ctrl-C leaves the rest to the cluster, which goes on by itself.
async fn end(target: &Target, name: &str, how: End, screen: &Screen) -> Outcome {
    let impatient = signals::termination()?;
    tokio::select! {
        ended = end_one(&target.cluster, name, how, screen) => ended?,
        _ = impatient => {
            screen.clear();
            screen.line("the cluster goes on ending the lab");
        }
    }
    Ok(ExitCode::from(INTERRUPTED))
}

/// What has no meaning on a cluster, where the controller and the node decide it.
fn refuse_what_is_local(flags: &Up) -> Result<(), String> {
    // What the environment says about labs on this machine is no part of the command.
    let kernel = flags.kernel.is_some() && flags.kernel != variable("DOZLAB_KERNEL");
    let disk_mode = flags.disk_mode != DiskMode::Auto && variable("DOZLAB_DISK_MODE").is_none();
    let local = [
        ("--disk-mode", disk_mode),
        ("--network", flags.network.is_some_and(|network| network != NetworkKind::User)),
        ("--kernel", kernel),
        ("--hypervisor", flags.hypervisor.is_some_and(|wanted| wanted != dozlab_vm::Choice::default())),
        ("--code-server", flags.code_server.is_some()),
        ("--terminal-port", flags.terminal_port.is_some()),
        ("--editor-port", flags.editor_port.is_some()),
        ("--ssh-port", flags.ssh_port.is_some()),
    ];
    let given: Vec<&str> = local.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect();
    if given.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} has no meaning on a cluster, where the controller and the node decide it",
        given.join(", ")
    ))
}

/// The name of the lab, and its spec, which has been checked as the controller will.
fn wanted(flags: &Up) -> Result<(String, LabSessionSpec), Box<dyn std::error::Error>> {
    let mut plan = PlanRequest::default();
    flags.machine.amend(&mut plan);
    let new_name = || format!("lab-{}", dozlab_keys::token(6).to_ascii_lowercase());
    let name = flags.name.as_ref().map_or_else(new_name, ToString::to_string);
    let spec = LabSessionSpec {
        session_id: name.clone(),
        user_id: flags.user_id.as_ref().map_or_else(|| "local".to_owned(), ToString::to_string),
        image: flags.image.as_ref().map(ToString::to_string),
        vcpus: plan.vcpus.map(|count| count.get().into()),
        memory: plan.memory.as_ref().map(ToString::to_string),
        disk: plan.disk.as_ref().map(ToString::to_string),
        login_user: plan.login_user.as_ref().map(ToString::to_string),
        hostname: plan.hostname.as_ref().map(ToString::to_string),
        egress: plan.egress.unwrap_or_default(),
        timeout: plan.timeout.as_ref().map(ToString::to_string),
        idle_stop: plan.idle_stop.as_ref().map(ToString::to_string),
        disk_policy: if flags.keep { DiskPolicy::Keep } else { DiskPolicy::default() },
        config: (flags.no_editor == Some(true))
            .then(|| Config { enable_vs_code: false, ..Config::default() }),
        ..LabSessionSpec::default()
    };
    let request = LabSession::new(&name, spec.clone()).request(&PodOptions::default())?;
    Plan::resolve(&request.plan)?;
    Ok((name, spec))
}
