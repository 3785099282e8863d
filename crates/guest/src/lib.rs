//! `dozlab-guest`: the first process inside a lab's VM, and then its SSH server.
//!
//! The kernel starts this program as `/init` of the initramfs. It mounts the root disk, sets the network up,
//! starts its own SSH server and hands the machine over to the image's init, or stays process 1 where the
//! image has none. What it reaches, it says on the serial console. Started under another name it is something
//! smaller: see [`run`].

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

mod boot;
mod console;
mod init;
pub mod login;
mod memory_guard;
mod power;
mod raw_signal;
pub mod server;
mod service;
pub mod sftp;

/// Runs what the program was called for. As process 1 that is the machine's start. Called `dozlab-sftp`, it
/// serves SFTP on its standard streams; called `reboot`, `poweroff`, `halt` or `shutdown`, it asks process 1
/// for that.
#[must_use]
pub fn run() -> ExitCode {
    if rustix::process::getpid().is_init() {
        boot::run();
    }
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let called = arguments.next().unwrap_or_default();
    let name =
        Path::new(&called).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name == sftp::PROGRAM_NAME {
        return exit_code(&name, sftp::serve_standard_streams());
    }
    if power::command::NAMES.contains(&name.as_str()) {
        return exit_code(&name, power::command::run(&name, &arguments.collect::<Vec<_>>()));
    }
    exit_code(&name, Err("this is the first process of a lab's VM: it is started by the VM's kernel"))
}

/// Tells the user of a command why it failed.
fn exit_code(name: &str, outcome: Result<(), impl Display>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
