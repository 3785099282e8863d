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
use crate::power::{self, Action, button, command};
use crate::raw_signal::Awaited;
use crate::server::{self, FirstPrompt, ServerConfig};

/// A cgroup of the server's own. systemd takes every process that it finds in the root cgroup for its own, and stops it
/// with its units.
const CGROUP: &str = "/sys/fs/cgroup/dozlab";

/// What the server needs, kept so that it can be started again.
pub(crate) struct Service {
    listener: TcpListener,
    config: ServerConfig,
    late_modules: LateModules,
}

/// A server that was started.
pub(crate) struct Running {
    /// Its process.
    pub(crate) process: Pid,
    /// Closed by the server when somebody has a prompt.
    prompted: PipeReader,
}

impl Running {
    /// Waits until somebody has a prompt, at most for `patience`. On an emulated processor a shell that starts beside
    /// the image's init takes twice the time.
    pub(crate) fn wait_for_prompt(&self, patience: Duration) {
        let patience = Timespec::try_from(patience).ok();
        let mut prompted = [PollFd::new(&self.prompted, PollFlags::empty())];
        // Whatever the outcome, the image's init comes next.
        let _ = rustix::event::poll(&mut prompted, patience.as_ref());
    }
}

impl Service {
    pub(crate) fn new(listener: TcpListener, config: ServerConfig, late_modules: LateModules) -> Self {
        Self { listener, config, late_modules }
    }

    /// The user whom the server logs in.
    pub(crate) fn login(&self) -> &Login {
        &self.config.login
    }

    /// Starts the server in a process of its own, which serves the socket that listens already. `blocked` are the
    /// signals that the caller waits for.
    pub(crate) fn start(&self, console: &Console, blocked: &Awaited) -> io::Result<Running> {
        let (prompted, prompt) = io::pipe()?;
        // SAFETY: process 1 has a single thread here: the runtime that set the network up has none of its own and is
        // gone. So no lock is held by a thread that the child does not have.
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
                    watch_power_button(console, &self.late_modules).await;
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
}

/// Leaves process 1's session and cgroup, and is spared by the out-of-memory killer. None of it is needed for a prompt.
fn leave_init() {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"dozlab-ssh");
    let _ = fs::create_dir(CGROUP);
    let _ = fs::write(format!("{CGROUP}/cgroup.procs"), "0");
    memory_guard::spare();
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// The folder of the power commands that the image lacks, if it lacks any. They are the program that runs here.
fn provide_power_commands(console: &Console) -> Option<PathBuf> {
    let program = format!("/proc/{}/exe", std::process::id());
    let provided = command::provide(ROOT_PATH, Path::new(&program), Path::new(command::FOLDER));
    provided.unwrap_or_else(|error| {
        console.remark(&format!("cannot provide the power commands that the image lacks: {error}"));
        None
    })
}

async fn watch_power_button(console: &Console, late_modules: &LateModules) {
    // The first client comes first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    if let Err(error) = late_modules.load() {
        console.remark(&error.to_string());
    }
    loop {
        match button::pressed().await {
            Ok(()) => console.remark("the power button was pressed"),
            Err(error) => return console.remark(&error.to_string()),
        }
        if let Err(error) = power::request(Action::PowerOff) {
            console.remark(&error.to_string());
        }
    }
}
