//! When a session was last used, for `--idle-stop`.
//!
//! Three things count: what a learner types in the web terminal, of which the terminal tells by touching a file; an editor
//! that is open in a browser, of which code-server does the same once a minute; and a `dozlab ssh` or `dozlab exec` for
//! as long as it runs, which leaves its process's identity in the session's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use dozlab_process::Identity;

use crate::session_folder::{SessionFolder, SessionFolderError, file_error};

/// How often code-server says that a browser is connected: every minute, and some time for a busy machine.
const HEARTBEAT_MS: u64 = 65_000;

impl SessionFolder {
    /// Says that this process uses the session for as long as it runs, whatever program it becomes.
    ///
    /// # Errors
    /// [`SessionFolderError`] when that cannot be written down.
    pub fn use_while_running(&self) -> Result<(), SessionFolderError> {
        let users = self.users();
        fs::create_dir_all(&users).map_err(file_error("create", &users))?;
        let process = Identity::current();
        let text = serde_json::to_string(&process).expect("an identity has only numbers");
        let user = users.join(process.pid.to_string());
        fs::write(&user, text).map_err(file_error("write", &user))
    }

    /// When the session was last used, in milliseconds since the epoch; `now_ms` while somebody is using it, `None` where
    /// nobody ever has.
    pub(crate) fn last_used_ms(&self, now_ms: u64) -> Option<u64> {
        if self.has_users() {
            return Some(now_ms);
        }
        let typed = modified_ms(&self.activity());
        // Between two signs of life an editor is open all the same.
        let open = modified_ms(&self.editor_heartbeat()).map(|beat| now_ms.min(beat + HEARTBEAT_MS));
        typed.max(open)
    }

    /// Whether a process that used the session still runs. Those that do not are forgotten.
    fn has_users(&self) -> bool {
        let Ok(users) = fs::read_dir(self.users()) else { return false };
        let mut in_use = false;
        for user in users.filter_map(Result::ok).map(|entry| entry.path()) {
            let process =
                fs::read(&user).ok().and_then(|text| serde_json::from_slice::<Identity>(&text).ok());
            match process {
                Some(process) if process.is_running() => in_use = true,
                Some(_) => {
                    let _ = fs::remove_file(&user);
                }
                // It is just being written.
                None => {}
            }
        }
        in_use
    }

    /// What code-server touches every [`HEARTBEAT_MS`] while a browser is connected.
    pub(crate) fn editor_heartbeat(&self) -> PathBuf {
        self.vscode_data().join("code-server/heartbeat")
    }

    fn users(&self) -> PathBuf {
        self.path().join("run/users")
    }
}

fn modified_ms(path: &Path) -> Option<u64> {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    u64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_used_while_its_user_runs_and_then_since_the_last_sign_of_life() {
        let folder = tempfile::tempdir().unwrap();
        let session = SessionFolder::new(folder.path().join("lab"));
        session.create().unwrap();
        assert_eq!(session.last_used_ms(7), None);

        let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let user = serde_json::to_string(&Identity::of(other.id()).unwrap()).unwrap();
        fs::create_dir_all(session.users()).unwrap();
        fs::write(session.users().join("other"), user).unwrap();
        assert_eq!(session.last_used_ms(7), Some(7));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(session.last_used_ms(7), None);
        assert!(!session.users().join("other").exists());

        fs::write(session.activity(), "").unwrap();
        assert_eq!(session.last_used_ms(7), modified_ms(&session.activity()));
        fs::remove_file(session.activity()).unwrap();
        let heartbeat = session.editor_heartbeat();
        fs::create_dir_all(heartbeat.parent().unwrap()).unwrap();
        fs::write(&heartbeat, "").unwrap();
        let beat = modified_ms(&heartbeat).unwrap();
        assert_eq!(session.last_used_ms(beat + 60_000), Some(beat + 60_000));
        assert_eq!(session.last_used_ms(beat + 600_000), Some(beat + HEARTBEAT_MS));

        session.use_while_running().unwrap();
        assert_eq!(session.last_used_ms(7), Some(7));
    }
}
