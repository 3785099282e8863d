//! Child processes that end with their parent, and that can be found again after a crash.
//!
//! A lab is a handful of processes on somebody's machine, and nothing of it may be left when it ends, however it ends.
//! Four things make that so:
//!
//! * [`bind_to_parent`] asks the kernel to signal a child when its parent dies, so that even `kill -9` of a supervisor
//!   takes its hypervisor along, and puts the child into a process group of its own, so that Ctrl-C on the terminal
//!   reaches the supervisor alone, which then ends its children in order.
//! * [`Identity`] names a process by pid and start time. It goes into state files; a pid that was given to somebody
//!   else meanwhile is never mistaken for ours, and never signalled.
//! * [`Tool`] runs a program from a Debian package to its end, and turns "not found" into the package to install and a
//!   failure into the program's own last words.
//! * [`Workspace`] is a temporary folder that a sweep can tell from one whose owner was killed.

#![deny(unsafe_code)]

mod child;
mod identity;
mod tool;
mod workspace;

pub use child::{BoundChild, bind_to_parent};
pub use identity::Identity;
pub use rustix::process::Signal;
pub use tool::{Tool, ToolError, last_lines};
pub use workspace::Workspace;
