//! The real QEMU with Debian's kernel and our guest: the probe, single boots, the supervisor, and the egress
//! filter as a guest meets it that is out to reach the host.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod egress;
mod lab;
mod machine;
mod probe;
mod supervised;
