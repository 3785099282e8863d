//! The controller on a real API server. There is no kubelet and no garbage collector: the tests play both.
//!
//! The controller is a process of its own, under the role in `deploy/base/rbac.yaml` and no more.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod at_rest;
mod failures;
mod gateway;
mod interruptions;
mod life;
mod proxy;
mod support;
mod traces;
