//! The terminal, served over TCP, against a real SSH server that stands in for the VM.

mod access;
mod editor;
mod flow;
mod json;
mod lab;
mod native;
mod restart;
mod vm;
mod websocket;
