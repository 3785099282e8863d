//! What a VM boots: a kernel, that kernel's modules, and the initramfs around `dozlab-guest`.
//!
//! ```text
//! Debian's kernel package ──▶ KernelStore ──▶ Kernel: vmlinux (ELF), modules.ext4, base initramfs
//!                                                                                        │
//!                           GuestConfig of one session ──▶ Initramfs::write ──▶ initramfs of that session
//! ```
//!
//! A kernel is prepared once and kept under the user's data folder; the guest program is embedded in this crate. The
//! base initramfs holds the guest program and those few modules that stand between it and its disk. All other modules
//! are on a small read-only disk of their own, because the image that is booted has none for our kernel. Neither is
//! compressed: reading a few megabytes more costs nothing, unpacking them on an emulated processor does.

#![forbid(unsafe_code)]

mod bzimage;
mod debian;
mod initramfs;
mod kernel;
mod modules;

pub use bzimage::{PayloadError, extract_elf};
pub use initramfs::{InitramfsError, write_initramfs, write_probe_initramfs};
pub use kernel::{Kernel, KernelError, KernelStore};

/// The guest program, a static x86-64 ELF file.
pub static GUEST_PROGRAM: &[u8] = include_bytes!(env!("DOZLAB_GUEST"));
