//! `dozlab ssh` and `dozlab exec`: OpenSSH's own client, told where the machine is and which key it must have.

use std::os::unix::process::CommandExt;
use std::process::Command;

use dozlab_local::{SessionState, Sessions};
use dozlab_process::Tool;

use super::{Outcome, folders};
use crate::cli::{Exec, Ssh};

const SSH: Tool = Tool { program: "ssh", package: "openssh-client" };

pub(super) fn shell(flags: &Ssh) -> Outcome {
    let (mut command, host) = client(flags.name.as_deref())?;
    command.args(&flags.arguments).args(["--", &host]);
    replace(command)
}

pub(super) fn exec(flags: &Exec) -> Outcome {
    let (mut command, host) = client(Some(&flags.name))?;
    command.arg(if flags.tty { "-t" } else { "-T" });
    let words = shlex::try_join(flags.command.iter().map(String::as_str));
    let line = words.map_err(|error| format!("the command cannot be passed on: {error}"))?;
    command.args(["--", &host, &line]);
    replace(command)
}

/// The client with everything but the host, and the host. An image names its user, so the name is an argument that cannot
/// be taken for an option.
fn client(name: Option<&str>) -> Result<(Command, String), Box<dyn std::error::Error>> {
    let (folder, record) = Sessions::new(&folders()?).find(name)?;
    if record.state != SessionState::Running {
        let (name, state) = (record.name(), record.state.as_str());
        return Err(format!("lab `{name}` is {state}: `dozlab up --name {name}` starts it").into());
    }
    if let Err(error) = folder.use_while_running() {
        tracing::warn!(%error, "the lab may be taken for idle");
    }
    let missing = || format!("`ssh` is not installed: run `apt-get install {}`", SSH.package);
    let mut command = Command::new(SSH.find().ok_or_else(missing)?);
    let access = folder.ssh(&record);
    let option = |name: &str, value: &dyn std::fmt::Display| format!("-o{name}={value}");
    command
        // The user's own configuration is about other machines.
        .args(["-F", "none"])
        .arg(option("IdentityFile", &quoted(&access.identity_file)))
        .arg(option("UserKnownHostsFile", &quoted(&access.known_hosts)))
        .args(["-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=yes", "-oLogLevel=ERROR"])
        .args(["-oPasswordAuthentication=no", "-oServerAliveInterval=15"])
        .args(["-p", &access.address.port().to_string(), "-l", &access.user]);
    Ok((command, access.address.ip().to_string()))
}

/// A path for an option of ssh, which splits its values at spaces.
fn quoted(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display())
}

fn replace(mut command: Command) -> Outcome {
    let error = command.exec();
    Err(format!("cannot run `ssh`: {error}").into())
}
