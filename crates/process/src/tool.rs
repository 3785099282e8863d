//! Programs from Debian packages that run to their end: `e2fsck`, `ip`, `mmdebstrap`.

use std::ffi::OsStr;
use std::io;
use std::process::{Output, Stdio};

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::bind_to_parent;

/// A program that we call, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program's name, looked up on the `PATH` and in the `sbin` folders that an ordinary user's `PATH` lacks.
    pub program: &'static str,
    /// The Debian package to install when it is missing.
    pub package: &'static str,
}

/// A tool could not be run, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program is not on this machine.
    #[error("`{program}` is not installed: run `apt-get install {package}`")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The program is there but could not be started, or its pipes broke.
    #[error("cannot run `{program}`: {source}")]
    Run {
        /// The program's name.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The program ran and failed.
    #[error("`{command}` failed ({status}): {message}")]
    Failed {
        /// The program with its arguments.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines it wrote to standard error, or else to standard output.
        message: String,
    },
}

impl Tool {
    /// Where the program is, `None` where it is not installed.
    #[must_use]
    pub fn find(self) -> Option<std::path::PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders =
            std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into));
        folders.map(|folder| folder.join(self.program)).find(|candidate| is_executable(candidate))
    }

    /// The command for this program, with no standard input, killed when it is dropped or when this process ends.
    ///
    /// # Errors
    /// [`ToolError::Missing`].
    pub fn command(self) -> Result<Command, ToolError> {
        let path = self.find().ok_or(ToolError::Missing { program: self.program, package: self.package })?;
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).kill_on_drop(true);
        bind_to_parent(&mut command, Signal::KILL);
        Ok(command)
    }

    /// Runs the program to its end and returns what it printed, whatever its exit status.
    ///
    /// # Errors
    /// [`ToolError::Missing`], [`ToolError::Run`].
    pub async fn output<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Output, ToolError> {
        let mut command = self.command()?;
        command.args(arguments);
        command.output().await.map_err(|source| ToolError::Run { program: self.program, source })
    }

    /// Runs the program with `input` on its standard input; a non-zero exit status is an error.
    ///
    /// # Errors
    /// All of [`ToolError`].
    pub async fn run_with_input<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Result<Output, ToolError> {
        let run = |source| ToolError::Run { program: self.program, source };
        let mut command = self.command()?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let description = describe(&command, self.program);
        let mut child = command.spawn().map_err(run)?;
        let mut stdin = child.stdin.take().expect("standard input was asked to be a pipe");
        let write = async {
            // A program that stops reading early says why by its exit status, so a broken pipe is not the news.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        succeeded(output.map_err(run)?, description)
    }

    /// Runs the program to its end; a non-zero exit status is an error.
    ///
    /// # Errors
    /// All of [`ToolError`].
    pub async fn run<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Output, ToolError> {
        self.run_with_input(arguments, &[]).await
    }
}

fn succeeded(output: Output, command: String) -> Result<Output, ToolError> {
    if output.status.success() {
        return Ok(output);
    }
    let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
    Err(ToolError::Failed { command, status: output.status, message: last_lines(said, 6) })
}

fn describe(command: &Command, program: &str) -> String {
    let arguments = command.as_std().get_args().map(OsStr::to_string_lossy);
    std::iter::once(program.into()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The last `count` non-empty lines of what a program printed, for an error message.
#[must_use]
pub fn last_lines(printed: &[u8], count: usize) -> String {
    let printed = String::from_utf8_lossy(printed);
    let lines: Vec<&str> = printed.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn is_executable(path: &std::path::Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: Tool = Tool { program: "sh", package: "dash" };

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let error =
            Tool { program: "no-such-program", package: "some-package" }.run(["x"]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`no-such-program` is not installed: run `apt-get install some-package`"
        );
    }

    #[tokio::test]
    async fn a_failure_carries_the_last_words() {
        let error =
            SHELL.run(["-c", "echo out; echo one >&2; echo two >&2; exit 3"]).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("one\ntwo"), "{error}");
    }

    #[tokio::test]
    async fn input_larger_than_a_pipe_goes_through_and_back() {
        let input = vec![b'x'; 1 << 20];
        let output = SHELL.run_with_input(["-c", "cat"], &input).await.unwrap();
        assert_eq!(output.stdout, input);
    }
}
