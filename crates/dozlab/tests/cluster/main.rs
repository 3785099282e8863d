//! Labs on a cluster as a person has them: the binary, on a real API server, with `dozlab controller` at work. There is
//! no node: pods become ready when a test says so, and a kubelet that only has logs and ports is played.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod doctor;
mod errors;
mod kubelet;
#[path = "../../../controller/tests/api/patience.rs"]
mod patience;
#[path = "../../../controller/tests/api/pods.rs"]
mod pods;
#[path = "../program/program.rs"]
mod program;
mod reach;
#[path = "../../../controller/tests/api/server.rs"]
#[allow(dead_code, reason = "the controller's tests use the rest")]
mod server;
mod support;
mod verbs;
