//! Where the programs that make trees run: as root in mount and process namespaces that end with them, as an
//! ordinary user in a user namespace, whose ids are the user's subordinate ones.

use std::fs;
use std::path::Path;

use dozlab_process::{Tool, ToolError};
use tokio::process::Command;

use super::BuildError;

const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
const NEWUIDMAP: Tool = Tool { program: "newuidmap", package: "uidmap" };

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `program` in a mount and a process namespace, which end with the process that we start, however that ends.
pub(super) fn unshared(program: &Path) -> Result<Command, ToolError> {
    let mut command = UNSHARE.command()?;
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(program);
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
