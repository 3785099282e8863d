//! Whose turn it is: which session is looked at next.
//!
//! ```text
//!  what the watches tell ─┐
//!  what is due by time  ──┴─▶ turns: those that are there, then births and ends ─▶ so many looks at once
//! ```
//!
//! Each session is looked at by one look at a time, and once more if something happens meanwhile. A class
//! that begins asks for hundreds of sessions at once, and each takes several writes; somebody whose pod has
//! just become ready, or whose lab has just failed, waits for one. So what is there already goes first, and
//! births and ends never take all the places.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dozlab_pod::{LabSession, LabSessionStatus};
use dozlab_session::phase::Phase;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::reconcile::{Context, reconcile};

/// A session, by namespace and name.
pub(crate) type Name = ObjectRef<LabSession>;

/// How urgent a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// The session is there: somebody waits for it, or works in it.
    There,
    /// It has no pod yet, or it ends: many writes, and nothing that a moment more would spoil.
    BirthOrEnd,
}

impl Lane {
    fn of(session: &LabSession) -> Self {
        let none = LabSessionStatus::default();
        let status = session.status.as_ref().unwrap_or(&none);
        let ends = session.metadata.deletion_timestamp.is_some() || status.phase == Phase::Terminating;
        let is_to_be_made =
            status.phase == Phase::Pending || (status.phase == Phase::Creating && status.pod_uid.is_none());
        if ends || is_to_be_made { Self::BirthOrEnd } else { Self::There }
    }
}

/// Looks at sessions when they are asked for and when they are due, until it is told to stop; looks that
/// have begun are finished.
pub(crate) async fn take_turns(
    mut asked: UnboundedReceiver<Name>,
    context: Arc<Context>,
    at_once: usize,
    stop: CancellationToken,
) {
    let mut turns = Turns::new(at_once);
    let mut timers = Timers::default();
    let mut looks = FuturesUnordered::new();
    loop {
        while let Some((name, lane)) = turns.next() {
            match context.sessions.get(&name) {
                Some(session) => {
                    let look = reconcile(session, Arc::clone(&context));
                    looks.push(Box::pin(async move { (name, lane, look.await) }));
                }
                // It is gone, and what was its is the sweep's.
                None => drop(turns.done(&name, lane)),
            }
        }
        let name = tokio::select! {
            () = stop.cancelled() => break,
            Some((name, lane, again)) = looks.next(), if !looks.is_empty() => {
                if turns.done(&name, lane) == Done::AndAskedAgain {
                    name
                } else {
                    timers.set(name, again);
                    continue;
                }
            }
            Some(name) = asked.recv() => name,
            Some(name) = timers.due(), if !timers.is_empty() => name,
        };
        timers.cancel(&name);
        if let Some(session) = context.sessions.get(&name) {
            // A pod may be ready before the watch shows that the session has one.
            turns.ask(name, Lane::of(&context.memory.freshest(session)));
        }
    }
    while looks.next().await.is_some() {}
}

/// Who waits, and who has the turn.
struct Turns {
    there: VecDeque<Name>,
    births_and_ends: VecDeque<Name>,
    places: HashMap<Name, Place>,
    at_once: usize,
    births_and_ends_at_once: usize,
    looks: usize,
    looks_at_births_and_ends: usize,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waits,
    IsLookedAt,
    IsLookedAtAndAskedFor,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Nothing has happened meanwhile.
    AndAtRest,
    /// The session was asked for while it was looked at.
    AndAskedAgain,
}

impl Turns {
    fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self {
            there: VecDeque::new(),
            births_and_ends: VecDeque::new(),
            places: HashMap::new(),
            at_once,
            births_and_ends_at_once: (at_once - at_once / 4).max(1),
            looks: 0,
            looks_at_births_and_ends: 0,
        }
    }

    /// A session is to be looked at; once, however often it is asked for before that.
    fn ask(&mut self, name: Name, lane: Lane) {
        match self.places.get_mut(&name) {
            Some(Place::Waits) => {}
            Some(place) => *place = Place::IsLookedAtAndAskedFor,
            None => {
                self.places.insert(name.clone(), Place::Waits);
                match lane {
                    Lane::There => self.there.push_back(name),
                    Lane::BirthOrEnd => self.births_and_ends.push_back(name),
                }
            }
        }
    }

    /// The session whose turn it is, if one more can be looked at.
    fn next(&mut self) -> Option<(Name, Lane)> {
        if self.looks >= self.at_once {
            return None;
        }
        let (name, lane) = match self.there.pop_front() {
            Some(name) => (name, Lane::There),
            None if self.looks_at_births_and_ends >= self.births_and_ends_at_once => return None,
            None => (self.births_and_ends.pop_front()?, Lane::BirthOrEnd),
        };
        self.looks += 1;
        self.looks_at_births_and_ends += usize::from(lane == Lane::BirthOrEnd);
        self.places.insert(name.clone(), Place::IsLookedAt);
        Some((name, lane))
    }

    /// A session was looked at.
    fn done(&mut self, name: &Name, lane: Lane) -> Done {
        self.looks -= 1;
        self.looks_at_births_and_ends -= usize::from(lane == Lane::BirthOrEnd);
        match self.places.remove(name) {
            Some(Place::IsLookedAtAndAskedFor) => Done::AndAskedAgain,
            _ => Done::AndAtRest,
        }
    }
}

/// When sessions are looked at even if nothing happens: one time for each.
#[derive(Default)]
struct Timers {
    queue: DelayQueue<Name>,
    keys: HashMap<Name, delay_queue::Key>,
}

impl Timers {
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn set(&mut self, name: Name, wait: Duration) {
        self.cancel(&name);
        let key = self.queue.insert(name.clone(), wait);
        self.keys.insert(name, key);
    }

    fn cancel(&mut self, name: &Name) {
        if let Some(key) = self.keys.remove(name) {
            self.queue.remove(&key);
        }
    }

    async fn due(&mut self) -> Option<Name> {
        let name = self.queue.next().await?.into_inner();
        self.keys.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        ObjectRef::new(text).within("labs")
    }

    fn next(turns: &mut Turns) -> Option<String> {
        turns.next().map(|(name, _)| name.name)
    }

    #[test]
    fn what_is_there_goes_before_births_and_finds_a_place_free() {
        let mut turns = Turns::new(4);
        for birth in ["a", "b", "c", "d"] {
            turns.ask(name(birth), Lane::BirthOrEnd);
        }
        turns.ask(name("ready"), Lane::There);
        assert_eq!(next(&mut turns).as_deref(), Some("ready"));
        turns.done(&name("ready"), Lane::There);
        let births: Vec<_> = std::iter::from_fn(|| next(&mut turns)).collect();
        assert_eq!(births, ["a", "b", "c"], "one of four places is kept");
        turns.ask(name("failed"), Lane::There);
        turns.ask(name("expired"), Lane::There);
        assert_eq!(next(&mut turns).as_deref(), Some("failed"));
        assert_eq!(next(&mut turns), None, "all places are taken");
        turns.done(&name("a"), Lane::BirthOrEnd);
        assert_eq!(next(&mut turns).as_deref(), Some("expired"));
    }

    #[test]
    fn a_session_is_looked_at_by_one_at_a_time_and_once_more_for_what_happens_meanwhile() {
        let mut turns = Turns::new(10);
        turns.ask(name("a"), Lane::There);
        turns.ask(name("a"), Lane::There);
        assert_eq!(next(&mut turns).as_deref(), Some("a"));
        assert_eq!(next(&mut turns), None, "asked for twice, looked at once");
        turns.ask(name("a"), Lane::There);
        turns.ask(name("a"), Lane::There);
        assert_eq!(next(&mut turns), None, "it is being looked at");
        assert_eq!(turns.done(&name("a"), Lane::There), Done::AndAskedAgain);
        turns.ask(name("a"), Lane::There);
        assert_eq!(next(&mut turns).as_deref(), Some("a"));
        assert_eq!(turns.done(&name("a"), Lane::There), Done::AndAtRest);
        assert!(turns.places.is_empty());
    }

    #[test]
    fn one_place_is_enough_for_everything() {
        let mut turns = Turns::new(0);
        turns.ask(name("birth"), Lane::BirthOrEnd);
        assert_eq!(next(&mut turns).as_deref(), Some("birth"));
    }

    #[test]
    fn births_and_ends_are_told_from_what_is_there() {
        let session = |phase: Phase, pod: Option<&str>| {
            let status =
                LabSessionStatus { phase, pod_uid: pod.map(str::to_owned), ..LabSessionStatus::default() };
            LabSession { status: Some(status), ..LabSession::default() }
        };
        assert_eq!(Lane::of(&LabSession::default()), Lane::BirthOrEnd);
        assert_eq!(Lane::of(&session(Phase::Creating, None)), Lane::BirthOrEnd);
        assert_eq!(Lane::of(&session(Phase::Creating, Some("pod"))), Lane::There);
        assert_eq!(Lane::of(&session(Phase::Running, Some("pod"))), Lane::There);
        assert_eq!(Lane::of(&session(Phase::Terminating, Some("pod"))), Lane::BirthOrEnd);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_one_timer() {
        let mut timers = Timers::default();
        timers.set(name("a"), Duration::from_secs(5));
        timers.set(name("a"), Duration::from_secs(9));
        timers.set(name("b"), Duration::from_secs(7));
        timers.set(name("c"), Duration::from_secs(1));
        timers.cancel(&name("c"));
        let due: Vec<_> = [timers.due().await, timers.due().await, timers.due().await].into();
        let due: Vec<_> = due.into_iter().flatten().map(|name| name.name).collect();
        assert_eq!(due, ["b", "a"]);
        assert!(timers.is_empty() && timers.keys.is_empty());
    }
}
