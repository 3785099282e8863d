//! What a back end offers: launching a machine, and controlling it while it runs.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use dozlab_process::Identity;
use tokio::process::ChildStdout;

use crate::machine::Machine;

/// A program that can run microVMs.
pub trait Hypervisor {
    /// A machine that runs.
    type Vm: RunningVm;

    /// The program and its accelerator, for a person: `QEMU with TCG`.
    fn describe(&self) -> String;

    /// Starts the machine. When this returns, the hypervisor runs and the guest's CPU is about to; on failure
    /// no process is left.
    fn launch(&self, machine: &Machine) -> impl Future<Output = Result<Self::Vm, LaunchError>>;
}

/// A machine that runs. Dropping it kills the hypervisor.
pub trait RunningVm {
    /// The hypervisor's process.
    fn identity(&self) -> Identity;

    /// The guest's serial console, which can be taken once. It must be read to its end: a hypervisor whose
    /// console is not drained stands still.
    fn take_console(&mut self) -> ChildStdout;

    /// Waits until the machine is no more. May be dropped and called again.
    fn wait(&mut self) -> impl Future<Output = VmEnd>;

    /// Asks the guest to power off in order, as the button on a computer does. Whether it does is the guest's
    /// business.
    fn power_down(&mut self) -> impl Future<Output = Result<(), ControlError>>;

    /// Stops the virtual CPUs.
    fn pause(&mut self) -> impl Future<Output = Result<(), ControlError>>;

    /// Lets the virtual CPUs go on.
    fn resume(&mut self) -> impl Future<Output = Result<(), ControlError>>;

    /// Ends the machine as pulling the plug does, giving the hypervisor `grace` to close its files.
    fn kill(&mut self, grace: Duration) -> impl Future<Output = ()>;
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmEnd {
    /// The guest asked to be started again.
    Reset,
    /// The guest powered itself off.
    PoweredOff,
    /// The hypervisor ended without the guest's asking for it.
    Died {
        /// The hypervisor's exit status.
        status: Option<ExitStatus>,
        /// What it said last on standard error.
        message: String,
    },
}

/// A machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program is not there.
    #[error("{program} is not installed: {remedy}")]
    Missing {
        /// The program.
        program: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended at once.
    #[error("{program} ended as soon as it was started: {message}")]
    Ended {
        /// The program.
        program: String,
        /// What it said last.
        message: String,
    },
    /// A file or socket that the machine needs could not be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The network asked for is not one that this hypervisor has.
    #[error("{program} has no {network} network: {remedy}")]
    Network {
        /// The program.
        program: &'static str,
        /// The network that was asked for.
        network: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The program runs but refused what it was asked.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// A running hypervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The hypervisor said no.
    #[error("{program} refused {request}: {fault}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What was asked of it.
        request: String,
        /// Its own words.
        fault: String,
    },
    /// The control socket broke.
    #[error("cannot talk to {program} about {request}: {source}")]
    Socket {
        /// The program.
        program: &'static str,
        /// What was asked of it.
        request: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer came in time.
    #[error("{program} did not answer {request} within {seconds} s")]
    NoAnswer {
        /// The program.
        program: &'static str,
        /// What was asked of it.
        request: String,
        /// How long was waited.
        seconds: u64,
    },
}
