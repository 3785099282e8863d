//! Runs one microVM and keeps it running.
//!
//! [`Hypervisor`] is what a back end offers: [`Qemu`] runs everywhere, [`Firecracker`] where KVM really
//! works. Which one it is, [`probe`] finds out by booting our own kernel to the guest's first line, because a
//! `/dev/kvm` that opens says little. [`Supervisor`] boots the session's machine, follows its serial
//! [`console`], tells its neighbours how it is, and starts it again after a reboot or a crash, on its own
//! disk.

mod command_line;
pub mod console;
pub mod firecracker;
mod hypervisor;
mod machine;
pub mod probe;
pub mod qemu;
mod run_folder;
mod settings;
mod socket_folder;
pub mod supervisor;

pub use firecracker::Firecracker;
pub use hypervisor::{ControlError, Hypervisor, LaunchError, RunningVm, VmEnd};
pub use machine::{Machine, NetworkBackend};
pub use probe::{Accelerator, Choice, HypervisorKind};
pub use qemu::Qemu;
pub use settings::{Guest, GuestVariables, Settings, SettingsError};
pub use supervisor::{Outcome, Supervisor, SupervisorError};
