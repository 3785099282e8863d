//! Whole labs, driven as a person drives them: the binary, real machines, real processes.
//!
//! Most labs here are made from an image of nothing but busybox, which our guest program turns into a machine as it does
//! any other. Each test has a data folder of its own; the image and the kernel are made once and shared.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod disks;
mod editor;
mod errors;
mod images;
mod interrupts;
mod life;
mod mishaps;
mod network;
mod oci;
#[path = "../program/program.rs"]
mod program;
mod support;
mod survival;
