//! The lab pod as processes on one machine.
//!
//! ```text
//!  dozlab up ──▶ launch: kernel, image, hypervisor, editor  ──▶  SessionFolder with its secrets
//!                                                                   │
//!                                                              Supervisor
//!                 init-rootfs ─▶ network-setup ─▶ ( vm ‖ terminal ‖ code-server )
//! ```
//!
//! Each box at the bottom is a subcommand of the same binary that the pod's containers run, with the same environment
//! variables; code-server is itself. The supervisor is one process a session. What it does is written to the session's
//! folder as it happens, so that other shells can see and end a session, and what a crash has left can be found.

#![forbid(unsafe_code)]

mod component;
pub mod doctor;
mod editor;
mod folders;
mod keys;
mod launch;
mod ports;
mod record;
mod session_folder;
mod sessions;
mod supervisor;
mod usage;

pub use component::{COMPONENTS, Component};
pub use dozlab_rootfs::disk::Strategy as DiskStrategy;
pub use editor::{EditorChoice, EditorError, EditorProgram, find_editor, install_editor};
pub use folders::{Folders, FoldersError};
pub use keys::KeyError;
pub use launch::{Asked, LaunchError, Launched, Means, Network, Options, Prepared, Watcher, create, prepare};
pub use record::{SessionRecord, SessionState, Stage};
pub use session_folder::{SessionFolder, SessionFolderError, SshAccess};
pub use sessions::{GarbageReport, Sessions, SessionsError, StopKind};
pub use supervisor::{EndRequest, SessionEnd, SuperviseError, Supervisor};
