//! What this process has just done, until its watches show it.
//!
//! Between a write and the watch event that tells of it, a cache shows the object as it was. A decision made
//! then would write again what stands there already. So the answer to each write is kept, with the versions
//! that it replaced; as soon as the cache shows any other version, the cache is newer, and the memory is
//! dropped. Nothing here needs to outlive the process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dozlab_pod::LabSession;

/// What this process remembers, by the uid of the session.
#[derive(Default)]
pub(crate) struct Memory {
    sessions: Mutex<HashMap<String, Recent>>,
}

/// What was just done for one session.
#[derive(Default)]
struct Recent {
    written: Option<Written>,
    status_written_ms: Option<u64>,
    failures_in_a_row: u32,
    last_used_ms: Option<u64>,
}

/// The session as the API server answered to a write.
struct Written {
    session: Arc<LabSession>,
    replaced: Vec<String>,
}

impl Memory {
    /// The newer of the cache's object and what the API server last answered.
    pub(crate) fn freshest(&self, cached: Arc<LabSession>) -> Arc<LabSession> {
        self.with(&cached, |recent| {
            let version = cached.metadata.resource_version.as_ref();
            match &recent.written {
                Some(written) if version.is_some_and(|version| written.replaced.contains(version)) => {
                    Arc::clone(&written.session)
                }
                _ => {
                    recent.written = None;
                    Arc::clone(&cached)
                }
            }
        })
    }

    /// The API server answered to a write of ours.
    pub(crate) fn wrote(&self, before: &LabSession, after: Arc<LabSession>) {
        self.with(before, |recent| {
            let mut replaced = recent.written.take().map(|written| written.replaced).unwrap_or_default();
            replaced.extend(before.metadata.resource_version.clone());
            recent.written = Some(Written { session: Arc::clone(&after), replaced });
        });
    }

    pub(crate) fn status_written_ms(&self, session: &LabSession) -> Option<u64> {
        self.with(session, |recent| recent.status_written_ms)
    }

    pub(crate) fn wrote_status(&self, session: &LabSession, now_ms: u64) {
        self.with(session, |recent| recent.status_written_ms = Some(now_ms));
    }

    /// When the session's terminal last said that it was used.
    pub(crate) fn last_used_ms(&self, session: &LabSession) -> Option<u64> {
        self.with(session, |recent| recent.last_used_ms)
    }

    pub(crate) fn used(&self, session: &LabSession, last_used_ms: Option<u64>) {
        self.with(session, |recent| recent.last_used_ms = last_used_ms);
    }

    /// Looking at the session worked.
    pub(crate) fn succeeded(&self, session: &LabSession) {
        self.with(session, |recent| recent.failures_in_a_row = 0);
    }

    /// Looking at the session failed; how long to wait before it is tried again.
    pub(crate) fn failed(&self, session: &LabSession) -> Duration {
        let failures = self.with(session, |recent| {
            recent.failures_in_a_row += 1;
            recent.failures_in_a_row
        });
        let doublings = failures.saturating_sub(1).min(8);
        Duration::from_millis(200 << doublings).min(Duration::from_secs(30))
    }

    /// The session is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Forgets all but these.
    pub(crate) fn keep_only(&self, uids: &HashSet<String>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| uids.contains(uid));
    }

    fn with<T>(&self, session: &LabSession, act: impl FnOnce(&mut Recent) -> T) -> T {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = session.metadata.uid.clone().unwrap_or_default();
        act(sessions.entry(uid).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(version: &str) -> Arc<LabSession> {
        let mut session = LabSession::default();
        session.metadata.uid = Some("uid".into());
        session.metadata.resource_version = Some(version.into());
        Arc::new(session)
    }

    fn version(session: &LabSession) -> &str {
        session.metadata.resource_version.as_deref().unwrap()
    }

    #[test]
    fn our_own_writes_are_seen_at_once_and_everybody_elses_afterwards() {
        let memory = Memory::default();
        assert_eq!(version(&memory.freshest(session("1"))), "1");
        memory.wrote(&session("1"), session("2"));
        memory.wrote(&session("2"), session("3"));
        assert_eq!(version(&memory.freshest(session("1"))), "3", "the cache is two writes behind");
        assert_eq!(version(&memory.freshest(session("2"))), "3", "the cache is one write behind");
        assert_eq!(version(&memory.freshest(session("4"))), "4", "somebody else has written");
        assert_eq!(version(&memory.freshest(session("1"))), "1", "what was remembered is dropped");
    }

    #[test]
    fn waits_grow_with_failures_and_start_again_after_a_success() {
        let memory = Memory::default();
        let waits: Vec<u128> = (0..10).map(|_| memory.failed(&session("1")).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        memory.succeeded(&session("1"));
        assert_eq!(memory.failed(&session("1")).as_millis(), 200);
    }
}
