//! The vocabulary of a lab session: what every other crate means by an id, a size, a plan, a phase.
//!
//! Nothing here does I/O. A request (flags, a `LabSession` object, the seed's template variables) is resolved
//! once into a [`Plan`](plan::Plan) whose numbers agree with each other; the two wire formats between host
//! and guest ([`guest_config`]) and between the VM's supervisor and its neighbours ([`vm_status`]) are
//! defined here because both ends must read them the same way.

#![forbid(unsafe_code)]

pub mod cpu;
pub mod deadline;
mod decimal;
pub mod defaults;
pub mod duration;
pub mod guest_config;
pub mod id;
pub mod image;
pub mod name;
pub mod phase;
pub mod plan;
pub mod secret;
pub mod size;
pub mod template;
mod text;
pub mod vm_status;
