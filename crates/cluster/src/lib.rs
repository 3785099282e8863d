//! The client of a cluster: labs on Kubernetes asked for, looked at, extended, ended and reached from somebody's own
//! machine.
//!
//! ```text
//!  kubeconfig ──▶ Cluster ──▶ LabSession objects ◀──▶ the controller
//!                    ├──────▶ logs and ports of a lab's pod, the secrets of its links
//!                    └──────▶ Evidence ── diagnose (pure) ──▶ Diagnosis
//! ```
//!
//! A lab is its `LabSession`: this client writes no other object. What the controller makes of it, and when, is not
//! repeated here.

#![forbid(unsafe_code)]

mod connect;
pub mod diagnosis;
mod error;
mod evidence;
mod forward;
mod logs;
mod secrets;
pub mod sessions;

pub use connect::Cluster;
pub use error::ClusterError;
pub use evidence::Evidence;
pub use forward::Forward;
pub use logs::{Follow, LogLine};
pub use secrets::LinkSecrets;
