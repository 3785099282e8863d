//! One process of a session channel: a login shell, a command, or SFTP, on a PTY or on three pipes.
//!
//! Each process leads a session of its own, so that a signal to its group reaches all that it started and
//! nothing else.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use pty_process::{Pts, Pty, Size};
use rustix::fs::{Gid, Uid};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};

use super::ServerConfig;
use super::environment::{self, ClientVariables};
use super::terminal_modes;
use crate::login::Login;
use crate::sftp::PROGRAM_NAME;

/// The most of `/etc/motd` that is shown.
const MAX_GREETING: usize = 64 * 1024;

/// What to run.
#[derive(Debug)]
pub(super) enum Program {
    /// The user's login shell.
    Shell,
    /// A command line for the user's shell.
    Command(Vec<u8>),
    /// The SFTP server.
    Sftp,
}

/// The PTY that a client asked for.
#[derive(Debug)]
pub(super) struct TerminalRequest {
    /// Value of `TERM`.
    pub(super) term: String,
    /// Size of the window.
    pub(super) size: Size,
    /// Settings of the client's own terminal.
    pub(super) modes: Vec<(russh::Pty, u32)>,
}

/// A process that runs.
pub(super) struct Process {
    child: Child,
    /// The process's id, which is also that of its session and group.
    leader: Pid,
    /// A second handle on the PTY, for its window and its foreground group.
    terminal: Option<OwnedFd>,
}

/// A process that was just started, with the server's ends of its streams.
pub(super) struct Started {
    pub(super) process: Process,
    /// Its standard input, or the keyboard of its terminal.
    pub(super) input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output, or everything that appears on its terminal.
    pub(super) output: Stream,
    /// Its standard error; what runs on a terminal has none of its own.
    pub(super) errors: Option<Stream>,
    /// Text to show before the process's own.
    pub(super) greeting: Vec<u8>,
}

/// A stream of the process's output.
pub(super) struct Stream {
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// The same, to be read without waiting once the process has ended.
    pub(super) rest: OwnedFd,
}

/// The process cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot run {}: {source}", program.display())]
    Spawn { program: OsString, source: io::Error },
    #[error("cannot get a terminal: {0}; is /dev/pts mounted?")]
    Terminal(#[from] pty_process::Error),
    #[error("cannot set up the terminal: {0}")]
    TerminalSetup(#[source] io::Error),
    #[error("cannot set up the process's streams: {0}")]
    Streams(#[source] io::Error),
}

/// Starts a program as the configured user.
pub(super) fn start(
    config: &ServerConfig,
    program: &Program,
    terminal: Option<&TerminalRequest>,
    client: &ClientVariables,
) -> Result<Started, StartError> {
    let command = command(config, program, terminal.map(|terminal| terminal.term.as_str()), client);
    match terminal {
        Some(request) => {
            let mut started = on_terminal(config, command, request)?;
            if matches!(program, Program::Shell) {
                started.greeting = greeting(&config.login.home);
            }
            Ok(started)
        }
        None => on_pipes(config, command),
    }
}

fn command(
    config: &ServerConfig,
    program: &Program,
    term: Option<&str>,
    client: &ClientVariables,
) -> Command {
    let login = &config.login;
    let mut command = match program {
        Program::Shell => {
            let mut command = Command::new(&login.shell);
            // The leading dash makes a shell a login shell.
            let mut name = OsString::from("-");
            name.push(login.shell.file_name().unwrap_or(OsStr::new("sh")));
            command.arg0(name);
            command
        }
        Program::Command(line) => {
            let mut command = Command::new(&login.shell);
            command.arg("-c").arg(OsStr::from_bytes(line));
            command
        }
        Program::Sftp => {
            let mut command = Command::new(&config.sftp_program);
            command.arg0(PROGRAM_NAME);
            command
        }
    };
    command.env_clear();
    command.envs(environment::variables(login, config.extra_path.as_deref(), client, term));
    command.current_dir(if login.home.is_dir() { &login.home } else { Path::new("/") });
    command
}

fn on_terminal(
    config: &ServerConfig,
    command: Command,
    request: &TerminalRequest,
) -> Result<Started, StartError> {
    let (pty, pts) = pty_process::open()?;
    set_up(&pty, &pts, &config.login, request).map_err(StartError::TerminalSetup)?;
    let duplicate = || pty.as_fd().try_clone_to_owned().map_err(StartError::Streams);
    let (terminal, rest) = (duplicate()?, duplicate()?);
    let program = command.as_std().get_program().to_owned();
    let become_user = becoming_user(config);
    let command = pty_process::Command::from(command);
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    let command = unsafe { command.pre_exec(become_user) };
    let child = command.spawn(pts).map_err(|error| spawn_error(program, error))?;
    let (reader, writer) = pty.into_split();
    Ok(Started {
        process: Process { leader: leader_of(&child), child, terminal: Some(terminal) },
        input: Box::new(writer),
        output: Stream { reader: Box::new(reader), rest },
        errors: None,
        greeting: Vec::new(),
    })
}

fn on_pipes(config: &ServerConfig, mut command: Command) -> Result<Started, StartError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut become_user = becoming_user(config);
    let lead_session = move || {
        rustix::process::setsid()?;
        become_user()
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(lead_session) };
    let program = command.as_std().get_program().to_owned();
    let mut child = command.spawn().map_err(|source| StartError::Spawn { program, source })?;
    let stdout = child.stdout.take().expect("standard output was piped");
    let stderr = child.stderr.take().expect("standard error was piped");
    let stdin = child.stdin.take().expect("standard input was piped");
    let rest = |stream: &dyn AsFd| stream.as_fd().try_clone_to_owned().map_err(StartError::Streams);
    Ok(Started {
        process: Process { leader: leader_of(&child), child, terminal: None },
        input: Box::new(stdin),
        output: Stream { rest: rest(&stdout)?, reader: Box::new(stdout) },
        errors: Some(Stream { rest: rest(&stderr)?, reader: Box::new(stderr) }),
        greeting: Vec::new(),
    })
}

fn spawn_error(program: OsString, error: pty_process::Error) -> StartError {
    match error {
        pty_process::Error::Io(source) => StartError::Spawn { program, source },
        other => StartError::Terminal(other),
    }
}

fn leader_of(child: &Child) -> Pid {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    id.expect("a child that nobody waited for has a process id")
}

/// Gives the terminal its size, its modes and its owner. The group stays that of the devpts mount (`tty`).
fn set_up(pty: &Pty, pts: &Pts, login: &Login, request: &TerminalRequest) -> io::Result<()> {
    pty.resize(request.size).map_err(io::Error::other)?;
    terminal_modes::apply(pty, &request.modes)?;
    rustix::fs::fchown(pts, Some(Uid::from_raw(login.uid)), None)?;
    Ok(())
}

/// What the new process does between fork and exec. Only root can become somebody else; a server that anybody
/// else started serves that user alone.
fn becoming_user(config: &ServerConfig) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let groups: Vec<Gid> = config.login.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(config.login.uid), Gid::from_raw(config.login.gid));
    let is_root = rustix::process::geteuid().is_root();
    let spared = config.spared;
    move || {
        crate::raw_signal::heed_all();
        if spared {
            let _ = crate::memory_guard::expose();
        }
        if is_root {
            // The process has one thread here, so that the thread's ids are the process's.
            rustix::thread::set_thread_groups(&groups)?;
            rustix::thread::set_thread_gid(gid)?;
            rustix::thread::set_thread_uid(uid)?;
        }
        Ok(())
    }
}

/// The message of the day with the line ends of a terminal; empty where the user does not want it.
fn greeting(home: &Path) -> Vec<u8> {
    if home.join(".hushlogin").exists() {
        return Vec::new();
    }
    let Ok(mut text) = fs::read("/etc/motd") else { return Vec::new() };
    text.truncate(MAX_GREETING);
    let mut shown = Vec::with_capacity(text.len() + 64);
    for byte in text {
        if byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(byte);
    }
    shown
}

impl Process {
    /// Whether the process has a terminal.
    pub(super) fn is_on_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Waits for the end of the process. May be called again after it was interrupted.
    pub(super) async fn wait(&mut self) -> ExitStatus {
        // A process that cannot be waited for is reported as killed.
        self.child.wait().await.unwrap_or(ExitStatus::from_raw(libc::SIGKILL))
    }

    /// Tells the terminal, and so the programs on it, the size of the window.
    pub(super) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            // A terminal whose program is gone has no size to set.
            let _ = rustix::termios::tcsetwinsize(terminal, size.into());
        }
    }

    /// Signals the job that the user sees: the terminal's foreground group, or the process's own.
    pub(super) fn signal(&self, signal: Signal) {
        let foreground =
            self.terminal.as_ref().and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok());
        self.signal_group(foreground.unwrap_or(self.leader), signal);
    }

    /// Tells the process that nobody listens any more.
    pub(super) fn hang_up(&self) {
        if self.terminal.is_some() {
            self.signal(Signal::HUP);
        }
        self.signal_group(self.leader, Signal::HUP);
        self.signal_group(self.leader, Signal::CONT);
    }

    fn signal_group(&self, group: Pid, signal: Signal) {
        // An id is another process's only after this one was waited for.
        if self.child.id().is_some() {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}
