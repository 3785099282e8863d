//! Notes that the learner is doing something, for whoever stops idle sessions.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

/// How often the file is touched at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// Remembers when something happened last, and sets a file's modification time then.
pub(crate) struct Activity {
    file: Option<PathBuf>,
    last: Mutex<Option<Instant>>,
    used: Mutex<Instant>,
}

impl Activity {
    /// Notes activity on this file, if there is one.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, last: Mutex::new(None), used: Mutex::new(Instant::now()) }
    }

    /// For how long the learner has done nothing; since the start, if ever.
    pub(crate) fn idle_for(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The learner did something. A file that cannot be touched is reported and does not stand in the
    /// learner's way.
    pub(crate) fn note(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let Some(file) = &self.file else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        if let Err(error) = touch(file) {
            warn!(path = %file.display(), %error, "cannot note that the learner is active");
        }
    }
}

fn touch(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(path: &Path) -> Duration {
        path.metadata().unwrap().modified().unwrap().elapsed().unwrap_or_default()
    }

    #[test]
    fn activity_touches_the_file_at_most_once_in_the_interval() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("idle");
        let activity = Activity::new(Some(path.clone()));
        activity.note();
        assert!(age(&path) < INTERVAL);

        let long_ago = SystemTime::now() - INTERVAL * 100;
        OpenOptions::new().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        activity.note();
        assert!(age(&path) > INTERVAL, "a second note within the interval left the file alone");

        Activity::new(Some(path.clone())).note();
        assert!(age(&path) < INTERVAL, "an old file is touched again");
    }

    #[test]
    fn activity_ends_idleness() {
        let activity = Activity::new(None);
        std::thread::sleep(Duration::from_millis(20));
        let before = activity.idle_for();
        assert!(before >= Duration::from_millis(20));
        activity.note();
        assert!(activity.idle_for() < before);
    }

    #[test]
    fn a_file_that_cannot_be_touched_is_no_obstacle() {
        Activity::new(Some(PathBuf::from("/proc/no/such/file"))).note();
        Activity::new(None).note();
    }
}
