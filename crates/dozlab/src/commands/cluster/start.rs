//! A lab's start on a cluster, shown as a start on this machine is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future;
use std::time::{Duration, Instant};

use dozlab_cluster::sessions::{phase, reason};
use dozlab_pod::LabSession;
use dozlab_session::phase::Phase;

use super::Target;
use crate::progress::Screen;

/// How long a controller may take to notice a new lab before somebody is told.
const NOTICE: Duration = Duration::from_secs(15);

/// How many milliseconds each stage took, by the word that the status has for it.
pub(super) type Stages = BTreeMap<String, u64>;

/// The stages in the words of the status, and what has been achieved when one is over.
const ACHIEVED: [(&str, &str); 6] = [
    ("scheduling", "node found"),
    ("preparing", "pod prepared"),
    ("init-rootfs", "disk ready"),
    ("network-setup", "network ready"),
    ("starting-containers", "containers started"),
    ("booting-vm", "machine ready"),
];

/// Waits until a lab runs. Its object then, and how long the stages took that could be seen; or why it does not run.
pub(super) async fn until_running(
    target: &Target,
    name: &str,
    screen: &Screen,
) -> Result<(LabSession, Stages), Box<dyn std::error::Error>> {
    let noticed = Cell::new(false);
    let start = RefCell::new(Start { screen, stage: None, said: String::new(), stages: Stages::new() });
    let followed = target.cluster.follow(name, |session| {
        let session = match session {
            Some(session) => session,
            // A watch may begin before the object is seen.
            None if start.borrow().stage.is_none() => return None,
            None => return Some(Err("somebody has removed it".to_owned())),
        };
        noticed.set(session.status.is_some());
        start.borrow_mut().see(session)
    });
    let told = async {
        tokio::time::sleep(NOTICE).await;
        if !noticed.get() {
            screen.line(&format!(
                "no controller has taken notice of the lab yet: does it run? `kubectl -n dozlab-system get pods`, `{} \
                 doctor --session {name}`",
                target.call
            ));
        }
        future::pending::<()>().await;
    };
    let followed = tokio::select! {
        followed = followed => followed,
        () = told => unreachable!("it never ends"),
    };
    screen.clear();
    match followed? {
        Ok(session) => Ok((session, start.into_inner().stages)),
        Err(why) => Err(format!("{why}\n`{} doctor --session {name}` says more", target.call).into()),
    }
}

struct Start<'a> {
    screen: &'a Screen,
    /// The stage that the lab is in, and since when.
    stage: Option<(String, Instant)>,
    said: String,
    stages: Stages,
}

impl Start<'_> {
    /// Shows what has changed. The lab when it runs, or why it will not.
    fn see(&mut self, session: &LabSession) -> Option<Result<LabSession, String>> {
        let stage = session.status.as_ref().and_then(|status| status.stage.clone());
        match phase(session) {
            Phase::Running => {
                self.enter(None);
                return Some(Ok(session.clone()));
            }
            Phase::Failed => return Some(Err(reason(session))),
            Phase::Terminating | Phase::Terminated => {
                return Some(Err(format!("it has ended: {}", reason(session))));
            }
            Phase::Pending | Phase::Creating => {}
        }
        if let Some(stage) = stage {
            self.enter(Some(stage));
        }
        let message = session.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
        if !message.is_empty() && message != self.said {
            self.screen.doing(&format!("{message} …"));
            self.said = message;
        }
        None
    }

    /// The stage before is over, unless it is the same.
    fn enter(&mut self, stage: Option<String>) {
        if self.stage.as_ref().map(|(stage, _)| stage) == stage.as_ref() {
            return;
        }
        let now = Instant::now();
        if let Some((over, since)) = self.stage.take() {
            let took = now.duration_since(since);
            let achieved =
                ACHIEVED.iter().find(|(word, _)| *word == over).map_or(over.as_str(), |(_, done)| done);
            self.screen.achieved(achieved, took, "");
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            *self.stages.entry(over).or_default() += millis;
        }
        self.stage = stage.map(|stage| (stage, now));
    }
}
