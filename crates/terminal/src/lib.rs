//! The web terminal of one lab session.
//!
//! ```text
//!  browser ── HTTP ──────▶ routes ── access (secret, cookie, origin)
//!          ── WebSocket ─▶ terminal ── dialler ── ssh ──▶ the VM's SSH server
//!                                        │
//!                            vm_watch ◀── the status file of the VM's supervisor
//! ```
//!
//! [`Config`] holds every setting; [`serve`] runs until it is told to stop. A terminal is a WebSocket with an
//! SSH connection of its own into the VM, whose host key is pinned. There is no local shell, and no way to
//! get one.

#![forbid(unsafe_code)]

mod access;
mod activity;
mod byte_queue;
mod config;
mod dialler;
mod editor;
mod lab;
mod metrics;
mod page;
mod protocol;
mod routes;
mod server;
mod ssh;
mod tally;
mod terminal;
mod utf8;
mod vm_watch;

pub use access::{Origin, Secret};
pub use config::{Config, ConfigError, EditorConfig, MIN_TOKEN_LENGTH};
pub use server::{ServeError, serve};
