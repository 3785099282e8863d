//! The custom resource `LabSession` (`dozlab.io/v1`): a session as somebody asks for it on Kubernetes, and how it is.
//!
//! Every field of the existing resource is here with its name, type and default, so that existing objects and clients
//! go on working; what is new stands beside it and can be left out. Amounts and times are text: an object that holds a
//! wrong one can still be read, and gets a status that says so. Defaults that depend on something else are left to the
//! plan, and with them room for a template that says what an object leaves open.

mod request;
mod spec;
mod status;
#[cfg(test)]
mod tests;

pub use request::{LabSessionError, LabSessionProblem};
pub use spec::{Config, CustomImages, LabSession, LabSessionSpec, Password, Resources};
pub use status::{ConditionType, Endpoints, LabSessionStatus, PodRetry, Usage};

/// The API group.
pub const GROUP: &str = "dozlab.io";
/// The version of the API.
pub const VERSION: &str = "v1";
/// The finalizer by which the controller sees an object out.
pub const FINALIZER: &str = "labsession.dozlab.io/finalizer";
