//! A lab's links: those of its ingress, or ports of its pod on this machine.

use std::future;
use std::process::ExitCode;

use dozlab_cluster::sessions::{phase, reason, state};
use dozlab_cluster::{ClusterError, Forward, LinkSecrets};
use dozlab_pod::LabSession;
use dozlab_session::defaults::{EDITOR_PORT, TERMINAL_PORT};
use dozlab_session::phase::Phase;
use dozlab_session::secret::Secret;

use super::Target;
use super::start::Stages;
use crate::cli::One;
use crate::commands::access::Access;
use crate::commands::{Outcome, signals};
use crate::output::colour_on_stderr;
use crate::progress::Screen;

/// The way to a lab's terminal and editor.
pub(super) struct Reach {
    /// Where the terminal and the editor are, without secrets; the editor is reached by way of the terminal.
    terminal: Option<String>,
    has_editor: bool,
    secrets: LinkSecrets,
    forward: Option<Forward>,
}

pub(super) async fn open(target: &Target, flags: &One) -> Outcome {
    let session = target.cluster.find(flags.name.as_deref()).await?;
    let name = name(&session);
    if phase(&session) != Phase::Running {
        let (state, call, reason) = (state(&session), &target.call, reason(&session));
        return Err(
            format!("lab `{name}` is {state}: {reason}\n`{call} doctor --session {name}` says more").into()
        );
    }
    let terminated = signals::termination()?;
    let screen = Screen::new();
    let reach = Reach::of(target, &session, &screen).await?;
    reach.access(&name, Stages::default(), None).print(flags.output.output);
    if !reach.is_forwarded() {
        return Ok(ExitCode::SUCCESS);
    }
    screen.line("Ctrl-C closes the way to the lab, which goes on");
    tokio::select! {
        () = reach.carry() => {}
        _ = terminated => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of the object.
pub(super) fn name(session: &LabSession) -> String {
    session.metadata.name.clone().unwrap_or_default()
}

impl Reach {
    /// The way to a lab that runs: by its ingress where it has one, and through the API server elsewhere.
    pub(super) async fn of(
        target: &Target,
        session: &LabSession,
        screen: &Screen,
    ) -> Result<Self, ClusterError> {
        let mut reach = Self::from_inside(target, session, screen).await;
        if reach.terminal.as_deref().is_none_or(is_outside) {
            return Ok(reach);
        }
        let ports: &[u16] = if reach.has_editor { &[TERMINAL_PORT, EDITOR_PORT] } else { &[TERMINAL_PORT] };
        let pod = session.status.as_ref().and_then(|status| status.pod_name.clone());
        let no_pod = || ClusterError::NoPod { name: name(session), state: state(session) };
        let forward = target.cluster.forward(&pod.ok_or_else(no_pod)?, ports).await?;
        reach.terminal = Some(format!("http://{}:{TERMINAL_PORT}/", forward.address()));
        reach.forward = Some(forward);
        Ok(reach)
    }

    /// The links as the status has them.
    pub(super) async fn from_inside(target: &Target, session: &LabSession, screen: &Screen) -> Self {
        let status = session.status.clone().unwrap_or_default();
        let endpoints = status.endpoints.unwrap_or_default();
        let read = match &status.pod_name {
            Some(pod) => target.cluster.link_secrets(pod).await,
            None => Ok(LinkSecrets::default()),
        };
        let secrets = read.unwrap_or_else(|error| {
            let (yellow, plain) = if colour_on_stderr() { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
            screen.line(&format!("{yellow}warning:{plain} the links are without their secret: {error}"));
            LinkSecrets::default()
        });
        let has_editor = endpoints.vscode.is_some() && endpoints.terminal.is_some();
        Self { terminal: endpoints.terminal, has_editor, secrets, forward: None }
    }

    pub(super) fn is_forwarded(&self) -> bool {
        self.forward.is_some()
    }

    /// The links with their secrets.
    pub(super) fn access(
        &self,
        name: &str,
        stages: Stages,
        next: Option<(&'static str, String)>,
    ) -> Access<Stages> {
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
        let token = text(&self.secrets.token);
        let fragment = token.as_ref().map(|token| format!("#token={token}")).unwrap_or_default();
        let base = self.terminal.as_ref().map(|url| url.trim_end_matches('/'));
        Access {
            name: name.to_owned(),
            terminal: base.map(|base| format!("{base}/{fragment}")),
            editor: base.filter(|_| self.has_editor).map(|base| format!("{base}/editor{fragment}")),
            editor_password: text(&self.secrets.editor_password).filter(|_| self.has_editor),
            token,
            ssh: None,
            stages,
            next,
        }
    }

    /// Carries connections, where the lab is reached so, until it is dropped.
    pub(super) async fn carry(self) {
        match self.forward {
            Some(forward) => forward.run().await,
            None => future::pending().await,
        }
    }
}

/// Whether a URL means something outside the cluster. Its services are called `NAME.NAMESPACE.svc`.
pub(super) fn is_outside(url: &str) -> bool {
    let host = url.split("://").last().unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    !(host.ends_with(".svc") || host.ends_with(".svc.cluster.local"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_name_leads_nowhere_from_here() {
        assert!(!is_outside("http://lab-service-a.labs.svc:8081/"));
        assert!(!is_outside("http://lab-service-a.labs.svc.cluster.local/"));
        assert!(is_outside("https://labs.example.org/sessions/a/terminal/"));
    }
}
