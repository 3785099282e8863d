//! The lab pod on Kubernetes: what a session is called there, and what it is made of.
//!
//! ```text
//! LabSession ── request ──▶ LabRequest ── Plan::resolve ──▶ Plan ─┐
//!                               └────────────────────▶ PodOptions ┴─▶ Manifests: Secrets, claims, NetworkPolicy,
//!                                                                                Service, Ingress or
//!                                                                                HTTPRoute, Pod
//! ```
//!
//! [`LabSession`] is the custom resource by which somebody asks for a session. [`LabSession::request`] reads it into
//! a [`LabRequest`]: the numbers that [`Plan::resolve`](dozlab_session::plan::Plan::resolve) works out as it does for a
//! lab on one machine, and what only a pod has. [`Manifests`] are the objects that the two come to.
//!
//! Nothing here talks to an API server, and nothing is worked out that a plan has worked out already.

#![forbid(unsafe_code)]

pub mod http_route;
pub mod images;
mod ingress;
pub mod lab_session;
mod manifests;
mod network_policy;
mod options;
pub mod pod;
mod public_route;
mod secrets;
mod service;
mod yaml;

pub use http_route::{Gateway, GatewayError, HTTPRoute};
pub use images::Images;
pub use lab_session::{LabSession, LabSessionSpec, LabSessionStatus};
pub use manifests::Manifests;
pub use network_policy::POLICY_LABEL;
pub use options::{DiskPolicy, ImageCache, LabRequest, NoNodeFolder, Parts, PodOptions, SecurityProfile};
pub use public_route::{Entrance, PublicRoute, PublicUrl, PublicUrlError};
pub use secrets::{SecretKey, SecretNames, SessionSecrets};
pub use yaml::YamlError;
