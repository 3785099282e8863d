//! The editor: code-server, found on this machine or installed on demand, and how it is started for a session.
//!
//! Its terminal is the VM's shell (`dozlab ssh`), its folder the session's volume `vm-data`. It gets its password from a
//! file that its owner alone may read, reports nothing to anybody, and looks for no updates.

mod install;

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::process::Command;

use crate::folders::Folders;
use crate::keys::write_private;
use crate::session_folder::SessionFolder;

pub use install::install as install_editor;

/// Which editor a session gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EditorChoice {
    /// The one on the `PATH`, or the one that was installed; else it is installed while the session starts.
    #[default]
    Found,
    /// The program at this path.
    At(PathBuf),
    /// None.
    None,
}

/// What was found of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EditorFinding {
    /// The program is there.
    Program(EditorProgram),
    /// It must be installed first.
    ToInstall,
}

/// The editor's program, as a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditorProgram(Vec<PathBuf>);

/// The editor cannot be used or installed.
#[derive(Debug, thiserror::Error)]
pub enum EditorError {
    /// There is no program at the path that was named.
    #[error("there is no code-server at {0}: give the path of its program, or `--no-editor`")]
    NotAt(PathBuf),
    /// It could not be installed.
    #[error("cannot install code-server in {folder}: {reason}")]
    Install {
        /// The folder.
        folder: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

impl EditorChoice {
    /// What this choice comes to on this machine; `None` for no editor.
    ///
    /// # Errors
    /// [`EditorError::NotAt`].
    pub(crate) fn find(&self, folders: &Folders) -> Result<Option<EditorFinding>, EditorError> {
        match self {
            Self::None => Ok(None),
            Self::Found => {
                Ok(Some(find_editor(folders).map_or(EditorFinding::ToInstall, EditorFinding::Program)))
            }
            Self::At(path) => match fs::canonicalize(path) {
                Ok(path) if path.is_file() => Ok(Some(EditorFinding::Program(EditorProgram::at(path)))),
                _ => Err(EditorError::NotAt(path.clone())),
            },
        }
    }
}

impl EditorProgram {
    /// A script of Node's is started with `node`, anything else as it is.
    fn at(path: PathBuf) -> Self {
        if path.extension().is_some_and(|extension| extension == "js") {
            return Self(vec!["node".into(), path]);
        }
        Self(vec![path])
    }

    /// The command as a person would type it.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.iter().map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// code-server on the `PATH`, or the one that [`install_editor`] installed.
#[must_use]
pub fn find_editor(folders: &Folders) -> Option<EditorProgram> {
    let on_path = dozlab_process::Tool { program: "code-server", package: "code-server" }.find();
    on_path.map(EditorProgram::at).or_else(|| install::installed(&folders.editor()))
}

/// The command that starts the editor for a session.
pub(crate) fn command(
    program: &EditorProgram,
    session: &SessionFolder,
    address: SocketAddrV4,
    dozlab: &Path,
) -> io::Result<Command> {
    let data = session.vscode_data();
    write_settings(session, dozlab)?;
    let config = session.path().join("code-server.yaml");
    let password = fs::read_to_string(session.editor_password_file())?;
    let text = format!("bind-addr: {address}\nauth: password\npassword: {password}\ncert: false\n");
    write_private(&config, &text).map_err(io::Error::other)?;

    let (first, rest) = program.0.split_first().expect("an editor's program is at least one word");
    let mut command = Command::new(first);
    command.args(rest).arg("--config").arg(&config);
    command.arg("--user-data-dir").arg(&data).arg("--extensions-dir").arg(data.join("extensions"));
    command.args(["--auth", "password", "--disable-telemetry", "--disable-update-check"]);
    // Its proxy would make every service on this machine's loopback reachable through the editor.
    command.args(["--disable-workspace-trust", "--disable-getting-started-override", "--disable-proxy"]);
    command.arg(session.vm_data());
    // Where code-server keeps its own things, in a folder of its name, whatever its --user-data-dir is.
    command.env("XDG_DATA_HOME", &data);
    // A password in the environment would go before the file's, and reach the editor's terminals.
    command.env_remove("PASSWORD").env_remove("HASHED_PASSWORD").env_remove("PORT");
    Ok(command)
}

/// The editor's settings. Its terminal is the VM's; the profiles of this machine's own shells are taken out so that nobody
/// opens one by mistake, which is no protection: the editor runs on this machine, as its user. Written at each start; what a learner changes goes to the workspace's own settings.
fn write_settings(session: &SessionFolder, dozlab: &Path) -> io::Result<()> {
    let sessions = session.path().parent().unwrap_or(Path::new("/"));
    let data = sessions.parent().unwrap_or(Path::new("/"));
    let settings = json!({
        "telemetry.telemetryLevel": "off",
        "update.mode": "none",
        "extensions.autoCheckUpdates": false,
        "extensions.autoUpdate": false,
        "workbench.enableExperiments": false,
        "workbench.startupEditor": "none",
        "remote.autoForwardPorts": false,
        "security.workspace.trust.enabled": false,
        "terminal.integrated.defaultProfile.linux": "lab",
        "terminal.integrated.profiles.linux": {
            "lab": {
                "path": dozlab,
                "args": ["ssh", session.name()],
                "env": { "DOZLAB_DATA_DIR": data },
                "icon": "vm"
            },
            "bash": null, "fish": null, "pwsh": null, "sh": null, "tmux": null, "zsh": null,
        },
    });
    let folder = session.vscode_data().join("User");
    fs::create_dir_all(&folder)?;
    let text = serde_json::to_string_pretty(&settings)?;
    write_private(&folder.join("settings.json"), &text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_a_program_is_refused() {
        let folders = Folders { data: "/nowhere".into(), cache: "/nowhere".into() };
        let error = EditorChoice::At("/no/such/editor".into()).find(&folders).unwrap_err().to_string();
        assert!(error.contains("/no/such/editor") && error.contains("--no-editor"), "{error}");
        assert_eq!(EditorChoice::None.find(&folders).unwrap(), None);
    }

    fn session(folder: &Path) -> (SessionFolder, SocketAddrV4) {
        let session = SessionFolder::new(folder.join("sessions/lab"));
        session.create().unwrap();
        let address: SocketAddrV4 = "127.0.0.2:8080".parse().unwrap();
        session.make_secrets(address).unwrap();
        (session, address)
    }

    #[test]
    fn the_password_is_in_a_private_file_and_in_no_argument() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (session, address) = session(folder.path());
        let program = EditorProgram::at("/opt/entry.js".into());

        let command = command(&program, &session, address, Path::new("/usr/bin/dozlab")).unwrap();

        let password = session.editor_password().unwrap();
        let command = format!("{:?}", command.as_std());
        assert!(command.starts_with("env") || command.contains("\"node\" \"/opt/entry.js\""), "{command}");
        assert!(!command.contains(&password));
        let config = session.path().join("code-server.yaml");
        assert!(fs::read_to_string(&config).unwrap().contains(&password));
        assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_editors_sign_of_use_is_where_it_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (session, address) = session(folder.path());
        let program = EditorProgram::at("/opt/code-server".into());
        let command = command(&program, &session, address, Path::new("/usr/bin/dozlab")).unwrap();
        let mut variables = command.as_std().get_envs();
        let data = variables.find(|(name, _)| *name == "XDG_DATA_HOME").and_then(|(_, value)| value).unwrap();
        assert_eq!(session.editor_heartbeat(), Path::new(data).join("code-server/heartbeat"));
    }
}
