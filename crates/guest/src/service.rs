//! The SSH server as a process of its own, beside the image's init.

use std::fs;
use std::io::{self, PipeReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::process::Pid;
use rustix::time::Timespec;
use tokio::runtime::Builder;

use crate::boot::modules::LateModules;
use crate::console::Console;
use crate::login::{Login, ROOT_PATH};
use crate::memory_guard;
use crate::power::{self, Action, button, command, initctl};
use crate::raw_signal::Awaited;
use crate::server::{self, FirstPrompt, ServerConfig};

/// A cgroup of the server's own. systemd takes every process that it finds in the root cgroup for its own,
/// and stops it with its units.
const CGROUP: &str = "/sys/fs/cgroup/dozlab";

/// What the server needs, kept so that it can be started again.
pub(crate) struct Service {
    listener: TcpListener,
    config: ServerConfig,
    late_modules: LateModules,
    /// systemd is to become process 1, and takes no requests before it has started.
    awaits_systemd: bool,
}

/// A server that was started.
pub(crate) struct Running {
    /// Its process.
    pub(crate) process: Pid,
    /// Closed by the server when somebody has a prompt.
    prompted: PipeReader,
}

impl Running {
    /// Waits until somebody has a prompt, at most for `patience`. On an emulated processor a shell that
    /// starts beside the image's init takes twice the time.
    pub(crate) fn wait_for_prompt(&self, patience: Duration) {
        let patience = Timespec::try_from(patience).ok();
        let mut prompted = [PollFd::new(&self.prompted, PollFlags::empty())];
        // Whatever the outcome, the image's init comes next.
        let _ = rustix::event::poll(&mut prompted, patience.as_ref());
    }
}

impl Service {
    /// `awaits_systemd` says that the image's init is systemd.
    pub(crate) fn new(
        listener: TcpListener,
        config: ServerConfig,
        late_modules: LateModules,
        awaits_systemd: bool,
    ) -> Self {
        Self { listener, config, late_modules, awaits_systemd }
    }

    /// The user whom the server logs in.
    pub(crate) fn login(&self) -> &Login {
        &self.config.login
    }

    /// Starts the server in a process of its own, which serves the socket that listens already. `blocked` are
    /// the signals that the caller waits for.
    pub(crate) fn start(&self, console: &Console, blocked: &Awaited) -> io::Result<Running> {
        let (prompted, prompt) = io::pipe()?;
        // SAFETY: process 1 has a single thread here: the runtime that set the network up has none of its own
        // and is gone. So no lock is held by a thread that the child does not have.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                blocked.release();
                self.serve(console, FirstPrompt::closing(prompt))
            }
            child => {
                let process = Pid::from_raw(child).expect("a child's process id is not zero");
                Ok(Running { process, prompted })
            }
        }
    }

    fn serve(&self, console: &Console, first_prompt: FirstPrompt) -> ! {
        leave_init();
        let extra_path = provide_power_commands(console);
        let config = ServerConfig { extra_path, first_prompt, ..self.config.clone() };
        let outcome = Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            let listener = self.listener.try_clone()?;
            runtime.block_on(async {
                let watching = async {
                    tokio::join!(self.watch_power_button(console), self.hear_early_requests(console));
                    std::future::pending::<io::Result<()>>().await
                };
                tokio::select! {
                    served = server::serve(listener, config) => served.map_err(io::Error::other),
                    never = watching => never,
                }
            })
        });
        if let Err(error) = outcome {
            console.remark(&error.to_string());
        }
        std::process::exit(1);
    }

    async fn watch_power_button(&self, console: &Console) {
        // The first client comes first.
        tokio::time::sleep(Duration::from_secs(2)).await;
        if let Err(error) = self.late_modules.load() {
            console.remark(&error.to_string());
        }
        loop {
            match button::pressed().await {
                Ok(()) => console.remark("the power button was pressed"),
                Err(error) => return console.remark(&error.to_string()),
            }
            self.end(console, Action::PowerOff).await;
        }
    }

    /// Hears what the image's commands ask before systemd does.
    async fn hear_early_requests(&self, console: &Console) {
        if !self.awaits_systemd {
            return;
        }
        let fifo = Path::new(initctl::FIFO);
        let requested = async { initctl::create(fifo).map(|()| initctl::requested(fifo))?.await };
        tokio::select! {
            () = power::systemd_listens() => {}
            action = requested => match action {
                Ok(action) => self.end(console, action).await,
                Err(error) => console.remark(&format!("cannot hear early requests on {}: {error}", initctl::FIFO)),
            },
        }
    }

    /// Asks process 1 to end the machine, as soon as it can be asked.
    async fn end(&self, console: &Console, action: Action) {
        if self.awaits_systemd {
            power::systemd_listens().await;
        }
        if let Err(error) = power::request(action) {
            console.remark(&error.to_string());
        }
    }
}

/// Leaves process 1's session and cgroup, and is spared by the out-of-memory killer. None of it is needed for
/// a prompt.
fn leave_init() {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"dozlab-ssh");
    let _ = fs::create_dir(CGROUP);
    let _ = fs::write(format!("{CGROUP}/cgroup.procs"), "0");
    memory_guard::spare();
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// The folder of the power commands that the image lacks, if it lacks any. They are the program that runs
/// here.
fn provide_power_commands(console: &Console) -> Option<PathBuf> {
    let program = format!("/proc/{}/exe", std::process::id());
    let provided = command::provide(ROOT_PATH, Path::new(&program), Path::new(command::FOLDER));
    provided.unwrap_or_else(|error| {
        console.remark(&format!("cannot provide the power commands that the image lacks: {error}"));
        None
    })
}
