//! Where the programs that make trees run: as root in mount and process namespaces that end with them, as an
//! ordinary user in a user namespace, whose ids are the user's subordinate ones.

use std::fs;
use std::path::Path;

use dozlab_process::{Tool, ToolError};
use tokio::process::Command;

use super::BuildError;

const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
/// What the script `furnish` runs commands in.
pub const BWRAP: Tool = Tool { program: "bwrap", package: "bubblewrap" };
const NEWUIDMAP: Tool = Tool { program: "newuidmap", package: "uidmap" };

/// Whether commands of a definition can be run.
pub(super) fn check_bwrap() -> Result<(), ToolError> {
    let Tool { program, package } = BWRAP;
    BWRAP.find().map(|_| ()).ok_or(ToolError::Missing { program, package })
}

/// Whether the files of a tree can belong to whom they should: to root anybody's, to an ordinary user those of a user
/// namespace with many ids.
///
/// # Errors
/// [`BuildError::Tool`], [`BuildError::NoSubordinateIds`], with what to do.
pub fn check_owners() -> Result<(), BuildError> {
    if is_root() { Ok(()) } else { check_subordinate_ids() }
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
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !has_ids(&fs::read_to_string(file).unwrap_or_default(), user, &uid) {
            return Err(BuildError::NoSubordinateIds { file, user: user.to_owned() });
        }
    }
    Ok(())
}

/// Whether `subuid(5)` or `subgid(5)` has a range for a user, who is in it by name or number.
fn has_ids(ranges: &str, user: &str, uid: &str) -> bool {
    ranges.lines().any(|line| line.split(':').next().is_some_and(|owner| owner == user || owner == uid))
}

fn user_name<'a>(passwd: &'a str, uid: &str) -> Option<&'a str> {
    passwd.lines().find(|line| line.split(':').nth(2) == Some(uid))?.split(':').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As those of mmdebstrap's hooks are that runs for an ordinary user.
    #[test]
    fn commands_run_in_namespaces_that_have_the_proc_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["commands", "tree/bin", "tree/etc/ssh"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("furnish"), include_str!("furnish")).unwrap();
        fs::write(path("overlay.tar"), [0; 1024]).unwrap();
        fs::write(path("commands/0"), "/bin/busybox touch /made").unwrap();
        fs::copy("/bin/busybox", path("tree/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", path("tree/bin/sh")).unwrap();
        let mut command = std::process::Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--pid", "--fork", "sh"]).arg(path("furnish")).arg(path("tree"));
        let output = command.env("SOURCE_DATE_EPOCH", "0").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(path("tree/made").exists());
    }

    #[test]
    fn a_user_is_found_by_number_and_a_range_by_either() {
        let passwd = "root:x:0:0::/root:/bin/sh\nlab:x:1000:1000::/home/lab:/bin/sh\n";
        assert_eq!((user_name(passwd, "1000"), user_name(passwd, "7")), (Some("lab"), None));
        let ranges = "other:100000:65536\n1001:165536:65536\nlab:231072:65536\n";
        assert!(has_ids(ranges, "lab", "1000") && has_ids(ranges, "mia", "1001"));
        assert!(!has_ids(ranges, "la", "100000") && !has_ids("", "lab", "1000"));
    }
}
