//! The programs of Debian's `e2fsprogs`, and what `e2fsck`'s exit status means.
//!
//! The file systems are ordinary files that nobody has mounted. Times that the programs would take from the
//! clock can be given instead, so that the same input makes the same bytes.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Output;

use dozlab_process::{Tool, ToolError, last_lines};

pub(crate) const MKE2FS: Tool = tool("mke2fs");
pub(crate) const DEBUGFS: Tool = tool("debugfs");
pub(crate) const E2FSCK: Tool = tool("e2fsck");
pub(crate) const RESIZE2FS: Tool = tool("resize2fs");

const fn tool(program: &'static str) -> Tool {
    Tool { program, package: "e2fsprogs" }
}

/// Runs a program of e2fsprogs. `clock`, in seconds since the epoch, stands in for the time of day: 1.47.0
/// reads it from `E2FSPROGS_FAKE_TIME`, its `e2fsck` from `E2FSCK_TIME`, 1.47.1 and later from
/// `SOURCE_DATE_EPOCH` too.
pub(crate) async fn run<A: AsRef<OsStr>>(
    tool: Tool,
    arguments: impl IntoIterator<Item = A>,
    clock: Option<i64>,
) -> Result<Output, ToolError> {
    let mut command = tool.command()?;
    // The host's configuration must not decide what an image looks like, nor its language how a message
    // reads.
    command.args(arguments).env("MKE2FS_CONFIG", "/dev/null").env("LC_ALL", "C");
    if let Some(seconds) = clock {
        for variable in ["E2FSPROGS_FAKE_TIME", "E2FSCK_TIME", "SOURCE_DATE_EPOCH"] {
            command.env(variable, seconds.to_string());
        }
    }
    command.output().await.map_err(|source| ToolError::Run { program: tool.program, source })
}

/// The failure of a program that ended with a status other than it should.
pub(crate) fn failed(tool: Tool, subject: &Path, output: &Output) -> ToolError {
    let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
    ToolError::Failed {
        command: format!("{} {}", tool.program, subject.display()),
        status: output.status,
        message: last_lines(said, 6),
    }
}

/// How to run `e2fsck`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `-fn`: look at everything, change nothing.
    ReadOnly,
    /// `-fy`: look at everything, repair what is wrong.
    Repair,
    /// `-fyD`: the same, and index large directories, which `mke2fs -d` leaves linear.
    Optimise,
}

/// `e2fsck` did not find, or could not make, the file system whole.
#[derive(Debug, thiserror::Error)]
#[error(
    "the file system in {} is damaged: e2fsck ended with {code} ({}); it said: {output}",
    path.display(), explain(*code)
)]
pub struct FsckFailure {
    /// The file that holds the file system.
    pub path: PathBuf,
    /// `e2fsck`'s exit status, a sum of the flags in `e2fsck(8)`; 128 where a signal ended it.
    pub code: i32,
    /// The last lines it printed.
    pub output: String,
}

/// Why a check did not pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Damaged(#[from] FsckFailure),
}

/// Checks the file system in `image`. Only a status of 0, or 1 (errors corrected) where it may correct,
/// passes.
pub(crate) async fn check(image: &Path, how: Check, clock: Option<i64>) -> Result<(), CheckError> {
    let flags = match how {
        Check::ReadOnly => "-fn",
        Check::Repair => "-fy",
        Check::Optimise => "-fyD",
    };
    let arguments = [OsString::from(flags), image.into()];
    let output = run(E2FSCK, arguments, clock).await?;
    let code = output.status.code().unwrap_or(128);
    let passed = code == 0 || (code == 1 && how != Check::ReadOnly);
    if !passed {
        let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        return Err(FsckFailure { path: image.to_owned(), code, output: last_lines(&printed, 4) }.into());
    }
    Ok(())
}

/// What `e2fsck(8)` says about an exit status, the gravest flag first. Errors come before trouble with the
/// file: a check that gives up because it may not correct anything sets both.
fn explain(code: i32) -> &'static str {
    const FLAGS: [(i32, &str); 8] = [
        (128, "a shared library is missing or it was killed: reinstall e2fsprogs, look for a lack of memory"),
        (32, "it was cancelled"),
        (16, "wrong usage: this e2fsprogs is too old, install Debian 12's or later"),
        (4, "errors were left uncorrected: make the image anew, or repair a copy of it by `e2fsck -f`"),
        (8, "it could not read or write the file: look at the disk and the permissions"),
        (2, "errors were corrected, but the file is mounted on this machine: unmount it"),
        (1, "errors were corrected"),
        (0, "no errors"),
    ];
    FLAGS.iter().find(|(flag, _)| code & flag == *flag).map_or("unknown status", |(_, meaning)| meaning)
}

/// Runs commands that change the image. `debugfs` ends with 0 whatever they did; what failed is on standard
/// error, after the version.
pub(crate) async fn edit(commands: &[OsString], image: &Path, clock: Option<i64>) -> Result<(), ToolError> {
    let arguments = [&["-w".into()], commands, &[image.into()]].concat();
    let output = run(DEBUGFS, arguments, clock).await?;
    let is_complaint = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"debugfs 1");
    let complaints: Vec<&[u8]> = output.stderr.split(|byte| *byte == b'\n').filter(is_complaint).collect();
    if output.status.success() && complaints.is_empty() {
        return Ok(());
    }
    let message = last_lines(&complaints.join(&b'\n'), 6);
    let command = format!("{} {}", DEBUGFS.program, image.display());
    Err(ToolError::Failed { command, status: output.status, message })
}

/// An argument in double quotes, a quote in it doubled: how the command line of `debugfs` (libss) reads it.
/// There are no other special characters in quotes; a line break would end the command.
pub(crate) fn quote(script: &mut Vec<u8>, argument: &[u8]) {
    script.push(b'"');
    for byte in argument {
        if *byte == b'"' {
            script.push(b'"');
        }
        script.push(*byte);
    }
    script.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_status_has_its_own_explanation_and_the_gravest_flag_wins() {
        let meanings: std::collections::HashSet<_> = [0, 1, 2, 4, 8, 16, 32, 128].map(explain).into();
        assert_eq!(meanings.len(), 8);
        assert_eq!(explain(1 | 4), explain(4));
        assert_eq!(explain(8 | 2), explain(8));
        assert_eq!(explain(8 | 4), explain(4));
    }
}
