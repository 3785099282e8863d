//! The terminal, served over TCP, against a real SSH server that stands in for the VM.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

mod access;
mod editor;
mod flow;
mod json;
mod lab;
mod native;
mod restart;
mod vm;
mod websocket;
