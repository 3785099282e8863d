//! The VM's network: the file that describes it, the devices and rules that make it, and what the guest may reach.
//!
//! The guest is hostile. It may reach the internet as the lab's [egress policy](dozlab_session::plan::Egress) says, and never the lab's own ports, the
//! host's loopback, the host's addresses or a metadata service. The policy is one ([`egress`]); it is enforced in one of
//! two places:
//!
//! * *rootless*: the hypervisor's user-mode network stack hands every frame of the guest to [`relay`], which passes on
//!   what the policy allows. No privilege, no device, no firewall of the host is involved.
//! * *in a network namespace* ([`namespace`], needs root or `NET_ADMIN`): a tap device, NAT and an nftables ruleset
//!   generated from the same policy, in the pod of Kubernetes as on one machine.
//!
//! Both write [`NetworkConfig`], the file `/shared/network-config` that the lab pod's containers read.

#![forbid(unsafe_code)]

mod config;
pub mod egress;
mod forwarding;
pub mod namespace;
pub mod relay;
mod ruleset;
mod setup;

pub use config::{NetworkConfig, NetworkConfigError};
pub use egress::EgressFilter;
pub use forwarding::ForwardingError;
pub use setup::{Mode, NetworkSetup, SetupError};
