//! The command line's grammar, with the help that teaches it.

mod cluster;
mod environment;
mod image;
mod kernel;
mod lab;
mod machine;
mod render;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use environment::{DEVICE_PLUGIN, INIT_ROOTFS, NETWORK_SETUP, TERMINAL, VM};
pub(crate) use image::Image;
pub(crate) use kernel::{Build, Kernel};
pub(crate) use lab::{DiskMode, Exec, Extend, List, Logs, Names, NetworkKind, One, Place, Ssh, Up};
pub(crate) use machine::{Machine, set};
pub(crate) use render::{Render, SecretSource};

/// Hands-on labs: a virtual machine with a web terminal and an editor, made from any root file system.
#[derive(Debug, Parser)]
#[command(name = "dozlab", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Say more on standard error; twice for everything. `RUST_LOG` goes before it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Labs of a cluster instead of this machine's: of this context of the kubeconfig, or of the current one. After the
    /// verb the context is said with `=`
    #[arg(long, global = true, value_name = "CONTEXT", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) cluster: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  dozlab up                               a lab of the general image; Ctrl-C ends it
  dozlab up --detach --name demo          the same, in the background
  dozlab ssh demo                         a shell in it, from this terminal
  dozlab stop demo && dozlab up --name demo   later, on the same disk
  dozlab image import rootfs.tar --name mine && dozlab up mine
  dozlab --cluster up --name demo         a lab on the cluster that kubectl talks to
  dozlab doctor                           what this machine has, and what to install";

pub(crate) fn parse() -> Cli {
    let grammar = Cli::command();
    let is_verb = |word: &std::ffi::OsStr| {
        word.to_str().is_some_and(|word| word == "help" || grammar.find_subcommand(word).is_some())
    };
    Cli::parse_from(cluster::bind_context(std::env::args_os(), is_verb))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a lab and print its links
    Up(Box<Up>),
    /// List the labs
    Ls(List),
    /// Show a lab
    #[command(after_help = "\
Examples:
  dozlab get demo
  dozlab get demo --output json | jq -r .state
  dozlab --cluster get demo")]
    Get(One),
    /// Let a lab on a cluster last longer
    Extend(Extend),
    /// Show a lab's links; on a cluster, reach its terminal and editor from this machine until Ctrl-C
    #[command(after_help = "\
Examples:
  dozlab open demo
  dozlab open demo --output json | jq -r .terminal
  dozlab --cluster open demo")]
    Open(One),
    /// Open a shell in a lab's machine
    Ssh(Ssh),
    /// Run a command in a lab's machine and exit with its status
    Exec(Exec),
    /// Show what a lab's components, or its machine's console, have said
    Logs(Logs),
    /// End a lab in order and keep its disk; on a cluster, where `up --keep` asked for that
    #[command(after_help = "\
Examples:
  dozlab stop demo && dozlab up --name demo     later, on the same disk
  dozlab stop --all
  dozlab --cluster stop demo")]
    Stop(Names),
    /// End a lab and remove everything of it
    #[command(after_help = "\
Examples:
  dozlab rm demo
  dozlab rm --all
  dozlab --cluster rm demo --namespace labs")]
    Rm(Names),
    /// Clean up what killed supervisors have left
    #[command(after_help = "\
Examples:
  dozlab gc
  dozlab gc --output json | jq -r '.sessions[]'")]
    Gc(Output),
    /// Say what this machine has, what a lab would use, and what to install or fix; or what is wrong with a lab
    ///
    /// Exits with 1 if no lab can run, or if something must be done about the lab.
    Doctor(Doctor),
    /// Images: what labs are made from
    #[command(subcommand)]
    Image(Image),
    /// Kernels: what machines boot
    #[command(subcommand)]
    Kernel(Kernel),
    /// The editor
    #[command(subcommand)]
    Editor(Editor),
    /// Print the objects of Kubernetes that a lab comes to, as YAML
    Render(Box<Render>),
    /// Write a completion script for a shell
    ///
    /// For bash: `dozlab completions bash > ~/.local/share/bash-completion/completions/dozlab`
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The lab pod's container `init-rootfs`: prepare the disk that the environment describes
    #[command(after_help = INIT_ROOTFS)]
    InitRootfs,
    /// The lab pod's container `network-setup`: make the network that the environment describes
    #[command(after_help = NETWORK_SETUP)]
    NetworkSetup,
    /// The lab pod's container `firecracker-vm`: run the machine that the environment describes
    #[command(after_help = VM)]
    Vm,
    /// The lab pod's container `terminal-sidecar`: serve the web terminal that the environment describes
    #[command(after_help = TERMINAL)]
    Terminal,
    /// A node's device plugin: offer /dev/kvm, where machines boot with it, and /dev/net/tun to the kubelet
    #[command(after_help = DEVICE_PLUGIN)]
    DevicePlugin,
    /// The controller: look after the LabSession objects of a cluster
    Controller(Box<dozlab_controller::Settings>),
    /// Print the definition of the resource LabSession, for `kubectl apply --server-side -f -`
    Crd {
        /// Leave out the rules in CEL, which servers before Kubernetes 1.25 do not know
        #[arg(long)]
        without_rules: bool,
    },
    /// Look after a lab that `up --detach` made
    #[command(hide = true)]
    Supervise {
        /// Its name
        name: String,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person
    #[default]
    Text,
    /// For a program
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab doctor
  dozlab doctor --fresh                     boot the probes again
  dozlab doctor --session demo              what is wrong with one lab
  dozlab doctor --output json | jq -r '.[] | select(.finding != \"good\") | .remedy'
  dozlab --cluster doctor --session demo")]
pub(crate) struct Doctor {
    /// Say what is wrong with this lab, and what to do
    #[arg(long, value_name = "ID", conflicts_with_all = ["fresh", "kernel"])]
    pub(crate) session: Option<String>,
    /// Boot the probes again, whatever is remembered of earlier ones
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The kernel to boot: slim, debian, or a release [default: the one that labs boot]
    #[arg(long, env = "DOZLAB_KERNEL", value_name = "WHICH")]
    pub(crate) kernel: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Editor {
    /// Install code-server for this user, from the npm registry
    #[command(after_help = "\
Examples:
  dozlab editor install
  dozlab editor install --output json | jq -r '.program[-1]'")]
    Install(Output),
}

#[cfg(test)]
mod tests;
