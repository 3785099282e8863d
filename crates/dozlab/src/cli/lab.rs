//! The verbs for labs: what is the same for labs on this machine and on a cluster.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dozlab_local::Component;
use dozlab_session::duration::TimeLimit;
use dozlab_session::id::{SessionId, UserId};
use dozlab_session::image::ImageRef;
use dozlab_vm::Choice;

use super::{Machine, Output};

/// Where on a cluster.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// The namespace, with --cluster [default: the context's]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab up                           the general image; Ctrl-C ends the lab and leaves nothing behind
  dozlab up vm --cpus 2 --memory 2G --disk 8G
  dozlab up mine --user root --egress none
  dozlab up --detach --output json | jq -r .terminal
  dozlab --cluster up https://images.example.org/vm.ext4 --name demo")]
pub(crate) struct Up {
    /// The image: a name from `dozlab image ls`, or one of a definition, which is built then [default: vm]; on a
    /// cluster its URL, or a name that the nodes know [default: the one that init-rootfs carries]
    pub(crate) image: Option<ImageRef>,
    /// The lab's name; a stopped lab of this name is started again on its own disk, as it was
    #[arg(long)]
    pub(crate) name: Option<SessionId>,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// How the disk comes from the image: auto, reflink, overlay, copy; auto is the first that this machine can do
    #[arg(long, value_name = "MODE", env = "DOZLAB_DISK_MODE", default_value = "auto")]
    pub(crate) disk_mode: DiskMode,
    /// How the network is made [default: user]
    #[arg(long, value_enum)]
    pub(crate) network: Option<NetworkKind>,
    /// Which kernel: slim, debian, or a release from `dozlab kernel ls` [default: as `dozlab kernel use` said]
    #[arg(long, env = "DOZLAB_KERNEL", value_name = "WHICH")]
    pub(crate) kernel: Option<String>,
    /// Which hypervisor: auto, firecracker, qemu, qemu-kvm, qemu-tcg [default: auto]
    #[arg(long, value_name = "WHICH")]
    pub(crate) hypervisor: Option<Choice>,
    /// The editor's program [default: code-server on the PATH, or installed on demand]
    #[arg(long, value_name = "PATH", conflicts_with = "no_editor")]
    pub(crate) code_server: Option<PathBuf>,
    /// No editor; `--no-editor=false` gives one to a stopped lab that had none
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_editor: Option<bool>,
    /// The terminal's port [default: any free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) terminal_port: Option<u16>,
    /// The editor's port [default: any free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) editor_port: Option<u16>,
    /// The port of the machine's SSH server on this machine [default: any free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) ssh_port: Option<u16>,
    /// Return when a prompt can be had; the lab goes on in the background
    #[arg(long)]
    pub(crate) detach: bool,
    /// Keep the lab's disk when Ctrl-C ends it; on a cluster, on persistent volume claims
    #[arg(long, conflicts_with = "detach")]
    pub(crate) keep: bool,
    /// Whose lab it is, on a cluster [default: local]
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: Option<UserId>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How the lab's disk comes from its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiskMode {
    /// The first of the others that this machine can do
    #[default]
    Auto,
    /// A clone that shares its blocks with the image
    Reflink,
    /// The image, read-only, under a disk that holds what the lab writes
    Overlay,
    /// A copy of the image
    Copy,
}

/// How the lab's network is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkKind {
    /// A user-mode network stack inside the hypervisor; needs no privilege
    User,
    /// A network namespace with tap, NAT and firewall, as in the lab pod; needs root
    Pod,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab ls
  dozlab ls --output json | jq -r '.[] | select(.state == \"running\") | .name'
  dozlab --cluster ls --namespace labs")]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The lab; may be left out when there is only one
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab --cluster extend demo 1h
  dozlab --cluster extend demo none")]
pub(crate) struct Extend {
    /// The lab
    pub(crate) name: String,
    /// How much longer it lasts: 1h, 30m, or `none` for no end at all
    #[arg(value_name = "TIME")]
    pub(crate) by: TimeLimit,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab ssh                                the only lab
  dozlab ssh demo
  dozlab ssh demo -- -L 8000:localhost:8000")]
pub(crate) struct Ssh {
    /// The lab; may be left out when there is only one
    pub(crate) name: Option<String>,
    /// Arguments for `ssh`, such as `-L 8000:localhost:8000`
    #[arg(last = true, value_name = "SSH ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab exec demo -- uname -a
  dozlab exec demo --tty -- vim /etc/hosts
  tar c exercise | dozlab exec demo -- tar x")]
pub(crate) struct Exec {
    /// The lab
    pub(crate) name: String,
    /// Run the command on a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The command with its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dozlab logs demo
  dozlab logs demo --component console --follow
  dozlab --cluster logs demo --component vm")]
pub(crate) struct Logs {
    /// The lab; may be left out when there is only one
    pub(crate) name: Option<String>,
    /// Only this component: supervisor, init-rootfs, network-setup, vm, terminal, editor, console
    #[arg(short, long)]
    pub(crate) component: Option<Component>,
    /// Go on with what is added
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// The labs
    #[arg(required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}
