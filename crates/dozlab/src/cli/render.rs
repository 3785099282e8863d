//! The flags of `dozlab render`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dozlab_pod::{ImageCache, SecurityProfile};
use dozlab_session::id::{SessionId, UserId};
use dozlab_session::image::{ContainerImage, ImageRef};

use super::Machine;

#[derive(Debug, Args)]
#[command(after_help = "\
Without a file, these variables count, each of which a flag can replace:
  SESSION_ID, USER_ID, ROOTFS_IMAGE_URL, VSCODE_PASSWORD, DISK_SIZE, VM_CPU, VM_MEMORY, TERMINAL_IMAGE,
  VM_MEMORY_LIMIT, VM_CPU_LIMIT, VM_MEMORY_REQUEST, VM_CPU_REQUEST,
  KERNEL_SIZE_LIMIT, VM_DATA_SIZE_LIMIT, VSCODE_DATA_SIZE_LIMIT

Examples:
  SESSION_ID=abc123 ROOTFS_IMAGE_URL=https://images.example.org/k8s.ext4 dozlab render | kubectl apply -f -
  dozlab render --name abc123 --image oci://registry.example.org/labs/k8s:1.30 --disk 8G
  dozlab render session.yaml --secrets omit
  dozlab render session.yaml --profile compat")]
pub(crate) struct Render {
    /// A LabSession in YAML or JSON; `-` is the standard input
    pub(crate) file: Option<PathBuf>,
    /// What the containers may do to their node: hardened, compat [default: hardened]
    #[arg(long)]
    pub(crate) profile: Option<SecurityProfile>,
    /// The session's id
    #[arg(long, value_name = "ID")]
    pub(crate) name: Option<SessionId>,
    /// Whose session it is [default: local]
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: Option<UserId>,
    /// The VM's root file system: a URL, or the name of an image
    #[arg(long)]
    pub(crate) image: Option<ImageRef>,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Keep the disks on persistent volume claims
    #[arg(long)]
    pub(crate) keep_disks: bool,
    /// Storage class of the claims [default: the cluster's]
    #[arg(long, value_name = "CLASS")]
    pub(crate) storage_class: Option<String>,
    /// Folder of the node where images are kept for all its sessions [default: each fetches]
    #[arg(long, value_name = "DIR")]
    pub(crate) image_cache_path: Option<ImageCache>,
    /// Namespace of the objects [default: that of whoever applies them]
    #[arg(long)]
    pub(crate) namespace: Option<String>,
    /// Ask for no dozlab.io/kvm: the VM is emulated
    #[arg(long)]
    pub(crate) emulated: bool,
    /// No editor
    #[arg(long)]
    pub(crate) no_editor: bool,
    /// Image of the container init-rootfs
    #[arg(long, value_name = "IMAGE")]
    pub(crate) init_image: Option<ContainerImage>,
    /// Image of the container network-setup
    #[arg(long, value_name = "IMAGE")]
    pub(crate) network_image: Option<ContainerImage>,
    /// Image of the container firecracker-vm
    #[arg(long, value_name = "IMAGE")]
    pub(crate) vm_image: Option<ContainerImage>,
    /// Image of the container terminal-sidecar
    #[arg(long, value_name = "IMAGE")]
    pub(crate) terminal_image: Option<ContainerImage>,
    /// Image of the container code-server
    #[arg(long, value_name = "IMAGE")]
    pub(crate) editor_image: Option<ContainerImage>,
    /// Print new secrets with the objects, or refer to those that are there
    #[arg(long, value_enum, default_value_t)]
    pub(crate) secrets: SecretSource,
    /// The Secret with the editor's password and the terminal's token [default: lab-session-ID-secrets]
    #[arg(long, value_name = "NAME")]
    pub(crate) secrets_name: Option<String>,
    /// The Secret with the SSH keys [default: lab-session-ID-ssh]
    #[arg(long, value_name = "NAME")]
    pub(crate) ssh_secret_name: Option<String>,
}

/// Where a session's secrets come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretSource {
    /// Made now and printed
    #[default]
    Generate,
    /// Somebody else's to make
    Omit,
}
