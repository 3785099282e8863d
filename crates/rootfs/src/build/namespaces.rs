//! Where the programs that make trees run: as root in mount and process namespaces that end with them, as an
//! ordinary user in a user namespace, whose ids are the user's subordinate ones.

use std::fs;
use std::path::Path;

use dozlab_process::{Tool, ToolError};
use tokio::process::Command;

use super::BuildError;

const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
/// What the script `furnish` runs commands in.
const BWRAP: Tool = Tool { program: "bwrap", package: "bubblewrap" };
const NEWUIDMAP: Tool = Tool { program: "newuidmap", package: "uidmap" };

/// Whether commands of a definition can be run.
pub(super) fn check_bwrap() -> Result<(), ToolError> {
    let Tool { program, package } = BWRAP;
    BWRAP.find().map(|_| ()).ok_or(ToolError::Missing { program, package })
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `program` in a mount and a process namespace, which end with the process that we start, however that ends.
pub(super) fn unshared(program: &Path) -> Result<Command, ToolError> {
    let mut command = UNSHARE.command()?;
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(program);
    Ok(command)
}

/// A script as root of a user namespace with many ids, or as root, in namespaces that end with it.
pub(super) fn contained(script: &Path) -> Result<Command, BuildError> {
    let mut command = UNSHARE.command()?;
    if !is_root() {
        check_subordinate_ids()?;
        command.args(["--user", "--map-root-user", "--map-auto"]);
    }
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(script);
    Ok(command)
}

/// Whether an ordinary user may have a user namespace with many ids.
pub(super) fn check_subordinate_ids() -> Result<(), BuildError> {
    if NEWUIDMAP.find().is_none() {
        return Err(ToolError::Missing { program: NEWUIDMAP.program, package: NEWUIDMAP.package }.into());
    }
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = user_name(&passwd, &uid).unwrap_or(&uid);
    let subuid = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let has_ids =
        subuid.lines().any(|line| line.split(':').next().is_some_and(|owner| owner == user || owner == uid));
    if !has_ids {
        return Err(BuildError::NoSubordinateIds { user: user.to_owned() });
    }
    Ok(())
}

fn user_name<'a>(passwd: &'a str, uid: &str) -> Option<&'a str> {
    passwd.lines().find(|line| line.split(':').nth(2) == Some(uid))?.split(':').next()
}
