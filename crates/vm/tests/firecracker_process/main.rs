//! Firecracker as a process under supervision. Its part is played by a stand-in (`tests/support/stand_in.rs`)
//! that takes the same command line, answers like the recording of a real one, and ends with the same codes;
//! where `FIRECRACKER_BIN` names a real one, that one is configured too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lab;
mod launching;
mod real_binary;
mod supervising;
