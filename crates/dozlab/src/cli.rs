//! The command line's grammar, with the help that teaches it.

mod environment;
mod render;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dozlab_local::Component;
use dozlab_session::cpu::Vcpus;
use dozlab_session::duration::{SessionDuration, TimeLimit};
use dozlab_session::id::SessionId;
use dozlab_session::image::ImageRef;
use dozlab_session::name::{Hostname, LoginUser};
use dozlab_session::plan::Egress;
use dozlab_session::size::{ByteSize, SizeError};
use dozlab_vm::Choice;

use environment::{DEVICE_PLUGIN, INIT_ROOTFS, NETWORK_SETUP, TERMINAL, VM};
pub(crate) use render::{Render, SecretSource};

/// Hands-on labs: a virtual machine with a web terminal and an editor, made from any root file system.
#[derive(Debug, Parser)]
#[command(name = "dozlab", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Say more on standard error; twice for everything. `RUST_LOG` goes before it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
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
  dozlab doctor                           what this machine has, and what to install";

pub(crate) fn parse() -> Cli {
    Cli::parse()
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a lab and print its links
    Up(Box<Up>),
    /// List the labs
    Ls(Output),
    /// Open a shell in a lab's machine
    Ssh(Ssh),
    /// Run a command in a lab's machine and exit with its status
    Exec(Exec),
    /// Show what a lab's components, or its machine's console, have said
    Logs(Logs),
    /// End a lab in order and keep its disk
    Stop(Names),
    /// End a lab and remove everything of it
    Rm(Names),
    /// Clean up what killed supervisors have left
    Gc(Output),
    /// Say what this machine has, what a lab would use, and what to install or fix
    ///
    /// Exits with 1 if no lab can run.
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
  dozlab up                           the general image; Ctrl-C ends the lab and leaves nothing behind
  dozlab up vm --cpus 2 --memory 2G --disk 8G
  dozlab up mine --user root --egress none
  dozlab up --detach --output json | jq -r .terminal")]
pub(crate) struct Up {
    /// The image: a name from `dozlab image ls`, or one of a definition, which is built then [default: vm]
    pub(crate) image: Option<ImageRef>,
    /// The lab's name; a stopped lab of this name is started again on its own disk, as it was
    #[arg(long)]
    pub(crate) name: Option<SessionId>,
    /// Virtual CPUs, 1 to 32 [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<Vcpus>,
    /// Memory: 2G, 1536Mi, or a number of MiB [default: 1024]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub(crate) memory: Option<ByteSize>,
    /// The disk's size: 8G, 512M [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = disk)]
    pub(crate) disk: Option<ByteSize>,
    /// How the disk comes from the image: auto, reflink, overlay, copy; auto is the first that this machine can do
    #[arg(long, value_name = "MODE", env = "DOZLAB_DISK_MODE", default_value = "auto")]
    pub(crate) disk_mode: DiskMode,
    /// The user to be in the machine [default: the image's]
    #[arg(long)]
    pub(crate) user: Option<LoginUser>,
    /// The machine's host name [default: lab-NAME]
    #[arg(long)]
    pub(crate) hostname: Option<Hostname>,
    /// What the machine may reach: internet (public addresses only), open (private networks too), none
    #[arg(long, value_name = "POLICY")]
    pub(crate) egress: Option<Egress>,
    /// End the lab after this time, 2h or 90m; it keeps its disk [default: none]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<TimeLimit>,
    /// End the lab when nobody has used it for this time; it keeps its disk
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_stop: Option<SessionDuration>,
    /// How the network is made
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkKind,
    /// Which kernel: slim, debian, or a release from `dozlab kernel ls` [default: as `dozlab kernel use` said]
    #[arg(long, env = "DOZLAB_KERNEL", value_name = "WHICH")]
    pub(crate) kernel: Option<String>,
    /// Which hypervisor: auto, firecracker, qemu, qemu-kvm, qemu-tcg
    #[arg(long, default_value_t, value_name = "WHICH")]
    pub(crate) hypervisor: Choice,
    /// The editor's program [default: code-server on the PATH, or installed on demand]
    #[arg(long, value_name = "PATH", conflicts_with = "no_editor")]
    pub(crate) code_server: Option<PathBuf>,
    /// No editor
    #[arg(long)]
    pub(crate) no_editor: bool,
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
    /// Keep the lab's disk when Ctrl-C ends it
    #[arg(long, conflicts_with = "detach")]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn memory(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::from_memory(text)
}

fn store_size(text: &str) -> Result<u64, SizeError> {
    if text == "0" { Ok(0) } else { ByteSize::from_disk_size(text).map(ByteSize::as_bytes) }
}

fn disk(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::from_disk_size(text)
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkKind {
    /// A user-mode network stack inside the hypervisor; needs no privilege
    #[default]
    User,
    /// A network namespace with tap, NAT and firewall, as in the lab pod; needs root
    Pod,
}

#[derive(Debug, Args)]
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
pub(crate) struct Logs {
    /// The lab; may be left out when there is only one
    pub(crate) name: Option<String>,
    /// Only this component: supervisor, init-rootfs, network-setup, vm, terminal, editor, console
    #[arg(short, long)]
    pub(crate) component: Option<Component>,
    /// Go on with what is added
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// The labs
    #[arg(required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Boot the probes again, whatever is remembered of earlier ones
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The kernel to boot: slim, debian, or a release [default: the one that labs boot]
    #[arg(long, env = "DOZLAB_KERNEL", value_name = "WHICH")]
    pub(crate) kernel: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Make an image of an ext4 file, a folder, a tar (.tar, .tar.gz, .tar.xz, .tar.zst), or an OCI image
    Import {
        /// The file or folder, or http(s)://…, s3://…, gs://…, oci://HOST/NAME:TAG, docker://NAME:TAG, oci:FOLDER,
        /// oci-archive:FILE, docker-archive:FILE
        source: OsString,
        /// The image's name [default: the file's or repository's, without endings]
        #[arg(long)]
        name: Option<String>,
        /// Speak to the registry without TLS (on a loopback address that is so anyway)
        #[arg(long)]
        plain_http: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Build an image
    #[command(after_help = BUILD)]
    Build {
        /// Which: a name, or the path of a folder with an image.toml
        definition: String,
        /// The image's name [default: the definition's]
        #[arg(long)]
        name: Option<String>,
        /// The Debian mirror
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Take the programs of the definition's source NAME from a folder
        #[arg(long, value_name = "NAME=FOLDER", value_parser = source_folder)]
        source: Vec<(String, PathBuf)>,
        /// Write the compressed image, its digest, provenance and list of software into this folder too
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// List the images
    Ls(Output),
    /// Show what is known of an image, and who uses it
    Inspect {
        /// Its name, or the beginning of its digest
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Read images again and compare them with their digests
    ///
    /// Exits with 1 if one is damaged.
    Verify {
        /// Their names [default: all]
        names: Vec<String>,
    },
    /// Remove images that were not used for longest, until the store is small enough
    ///
    /// An image that a lab uses stays, and so does what somebody is reading.
    Prune {
        /// How much the store may take: 20G, 0
        #[arg(long, value_name = "SIZE", value_parser = store_size)]
        keep: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Remove an image
    Rm {
        /// Its name
        name: String,
    },
}

fn source_folder(text: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("it must be NAME=FOLDER")?;
    Ok((name.to_owned(), folder.into()))
}

const BUILD: &str = "\
Definitions that come with this program:
  vm        the general Linux lab
  k8s       Kubernetes on one node; takes its programs from upstream, or from --source kubernetes=FOLDER
  minimal   busybox and nothing else

SOURCE_DATE_EPOCH, in seconds, is the newest time that anything in the image has.

Examples:
  dozlab image build vm
  dozlab image build ./images/mine --name mine --out release";

#[derive(Debug, Subcommand)]
pub(crate) enum Kernel {
    /// Prepare Debian's newest kernel for virtual machines, or that of a package file
    Import {
        /// A Debian kernel package (linux-image-…_amd64.deb)
        package: Option<PathBuf>,
    },
    /// Build the slim kernel from Debian's source of Linux: some 20 minutes on two processors, once
    ///
    /// What was built is kept by its source, configuration and way of building, and labs boot it from then on. An
    /// interrupted build goes on where it was.
    Build(Build),
    /// Choose the kernel that labs boot
    Use {
        /// slim, debian, a release from `dozlab kernel ls`, or auto: a slim one where there is one
        which: String,
    },
    /// List the kernels
    Ls(Output),
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// A source package (linux-source-…_all.deb) [default: Debian's newest is downloaded]
    pub(crate) package: Option<PathBuf>,
    /// Another configuration: lines as in `.config`, over everything off
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Compilers at a time [default: one a processor]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Keep source and objects (4 GB), so that another configuration compiles only what it changes
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only check that the source can be configured so
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Editor {
    /// Install code-server for this user, from the npm registry
    Install,
}
