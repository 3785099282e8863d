//! The command line's grammar, with the help that teaches it.

use std::ffi::OsString;
mod render;

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
    /// Look after a lab that `up --detach` made
    #[command(hide = true)]
    Supervise {
        /// Its name
        name: String,
    },
}

const INIT_ROOTFS: &str = "\
Environment:
  IMAGE_DOWNLOAD_URL    where the image comes from: http(s)://…, s3://…, gs://…, file://…, a path, oci://…,
                        docker://…, or a name in IMAGE_STORE_DIR; ext4 or tar, plain or compressed by zstd, gzip or xz
  IMAGE_SHA256          the SHA-256 of what is at that URL, compressed as it is there
  IMAGE_CACHE_DIR       an image store that all sessions of this machine share: each image is fetched once
  IMAGE_BEARER_TOKEN_FILE, IMAGE_HEADER_FILE
                        a token, or lines `Name: value`, that the URL's server gets to see and no other
  IMAGE_STORE_DIR       the image store
  IMAGE_SIZE            the disk's size, 4G (default 1G)
  IMAGE_PATH            the disk (default /srv/vm/kernels/image.ext4)
  DISK_CLONING          how it comes from an image of a store: auto, reflink, copy
  LOCAL_DEV_IMAGE_PATH  the image where no other is named (default /app/image.ext4)
  WRITABLE_DISK_PATH, WRITABLE_DISK_SIZE
                        a disk to lay over the image, which then stays as it is (default none, 1G)
  SSH_AUTHORIZED_KEY, VM_HOSTNAME, SESSION_ID, USER_DATA
                        what cloud-init finds on a WRITABLE_DISK_PATH that is made";

const NETWORK_SETUP: &str = "\
Environment:
  NETWORK_MODE          pod: make tap, NAT and firewall in this network namespace; user: write the file only
  NETWORK_CONFIG_PATH   the file to write (default /shared/network-config)
  GATEWAY_IP, VM_IP     the two ends of the machine's network (default 172.16.0.1, 172.16.0.2)
  POD_IP                the pod's own address, where it cannot be read off the uplink
  TAP_DEVICE_NAME       the tap device (default tap0); TAP_OWNER: the user id that may open it
  UPLINK                the interface towards the world (default eth0)
  POD_LOCAL_PORTS       ports of the pod's own containers (default \"8080 8081\")
  EGRESS                what the guest may reach: internet, open, none";

const VM: &str = "\
Environment:
  ROOTFS_PATH           the disk that init-rootfs prepared, or the image below WRITABLE_DISK_PATH
  WRITABLE_DISK_PATH    the disk that is laid over ROOTFS_PATH, which is then only read
  KERNEL_PATH           a kernel that `dozlab kernel import` prepared (default /find/vmlinux.bin)
  GUEST_CONFIG          the guest's configuration, with the machine's host key; or, as in a lab pod:
    SESSION_ID, VM_HOSTNAME, SSH_USER, SSH_AUTHORIZED_KEY, SSH_HOST_PRIVATE_KEY, VM_IP, GATEWAY_IP, DNS
  NETWORK_MODE          pod: make the network first, as `dozlab network-setup` does, with its variables
  CPU_COUNT, MEMORY     virtual CPUs (default 1), memory in MiB (default 1024)
  HYPERVISOR            auto, firecracker, qemu, qemu-kvm, qemu-tcg; FIRECRACKER_BIN names a binary
  TAP_DEVICE_NAME       the tap device (default tap0), or SSH_FORWARD=127.0.0.1:PORT for a user-mode network
  EGRESS                what the guest may reach, with a user-mode network: internet, open, none
  RUN_DIR, CACHE_DIR, CONSOLE_LOG, VM_STATUS_PATH   where files go
  STOP_GRACE_SECONDS    how long the guest may take to power off (default 15)";

const TERMINAL: &str = "\
Environment:
  HOST, PORT            where to listen (default 0.0.0.0, 8081)
  SESSION_ID            the session's id
  SESSION_TOKEN_FILE    a file with the secret of the session's links, or SESSION_TOKEN
  VM_IP, VM_SSH_PORT    the machine's SSH server (default from /shared/network-config, 22)
  SSH_USER              whom to log in as (default root)
  SSH_PRIVATE_KEY_FILE  the session's key, or SSH_PRIVATE_KEY
  SSH_HOST_KEY_FILE     the machine's host key, or SSH_HOST_KEY
  ALLOWED_ORIGINS       other origins whose pages may connect, separated by commas
  EDITOR_URL, EDITOR_PUBLIC_URL, EDITOR_PASSWORD_FILE   the editor to log in to
  VM_STATUS_PATH, IDLE_FILE, SESSION_EXPIRES_AT         what it reads and tells";

const DEVICE_PLUGIN: &str = "\
Environment:
  KERNEL_PATH           the kernel to boot a probe with (default /find/vmlinux.bin)
  DEVICE_PLUGIN_DIR     the kubelet's folder of sockets (default /var/lib/kubelet/device-plugins)
  DEVICE_COUNT          how many containers may have a device at once (default 110)
  CACHE_DIR             where the probe's verdicts are remembered (default /var/cache/dozlab)
  FIRECRACKER_BIN       Firecracker, where it is not on the PATH";

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
