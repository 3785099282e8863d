//! The lab pod on Kubernetes: what a session is called there, and what it is made of.
//!
//! [`LabSession`] is the custom resource by which somebody asks for a session. [`LabSession::request`] reads it into
//! a [`LabRequest`]: the numbers that [`Plan::resolve`](dozlab_session::plan::Plan::resolve) works out as it does for a
//! lab on one machine, and what only a pod has.
//!
//! Nothing here talks to an API server, and nothing is worked out that a plan has worked out already.

#![forbid(unsafe_code)]

pub mod images;
pub mod lab_session;
mod options;

pub use images::Images;
pub use lab_session::{LabSession, LabSessionSpec, LabSessionStatus};
pub use options::{DiskPolicy, LabRequest, Parts, PodOptions, SecurityProfile};
