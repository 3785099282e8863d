//! The controller of lab sessions on Kubernetes: it makes of each `LabSession` object a pod and what belongs
//! to it, keeps the object's status true, and ends the session in time.
//!
//! ```text
//!  API server ── watches ──▶ world: small views ─┐
//!                              │ turns: who next  ├─▶ reconcile ─▶ decide (pure) ─▶ carry_out ─▶ API server
//!  the session's terminal ◀── how long unused? ──┘                                    │
//!                                                     memory: until the watches show it
//! ```
//!
//! [`run()`] is all of it; `dozlab controller` calls it. [`decide`] is where the behaviour is; nothing else decides anything.

#![forbid(unsafe_code)]

mod carry_out;
pub mod decide;
mod definition;
#[cfg(debug_assertions)]
mod failpoint;
mod http;
pub mod lease;
mod memory;
mod metrics;
mod parts;
pub mod pod_view;
mod policies;
mod reconcile;
mod run;
mod settings;
mod sweep;
mod terminal;
mod traces;
mod turns;
mod world;
mod writes;

pub use definition::definition;
pub use http::ListenError;
pub use run::{ControllerError, run};
pub use settings::Settings;
pub use traces::{Collector, CollectorError, ExportError};
