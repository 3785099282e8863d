//! What a VM boots: a kernel, that kernel's modules, and the initramfs around `dozlab-guest`.
//!
//! ```text
//! Debian's kernel package ─▶ import ─┐
//!                                    ├─▶ KernelStore ─▶ Kernel: vmlinux (ELF), modules.ext4, base initramfs
//! its source, our fragment ─▶ build ─┘                                                        │
//!                                 GuestConfig of one session ─▶ write_initramfs ─▶ initramfs of that session
//! ```
//!
//! A kernel is prepared once and kept under the user's data folder; the guest program is embedded in this crate. The
//! base initramfs holds the guest program and those few modules that stand between it and its disk. All other modules
//! are on a small read-only disk of their own, because the image that is booted has none for our kernel. Neither is
//! compressed: reading a few megabytes more costs nothing, unpacking them on an emulated processor does.

#![forbid(unsafe_code)]

mod bare;
mod build;
mod bzimage;
mod debian;
mod import;
mod initramfs;
mod kernel;
mod modules;
mod overlay_module;
mod store;

pub use build::{BuildError, Built, Fragment, FragmentError, KernelBuilder, Unmet};
pub use bzimage::{PayloadError, extract_elf};
pub use initramfs::{InitramfsError, write_initramfs, write_probe_initramfs};
pub use kernel::{Kernel, KernelError, KernelKind};
pub use store::KernelStore;

/// The guest program, a static x86-64 ELF file.
pub static GUEST_PROGRAM: &[u8] = include_bytes!(env!("DOZLAB_GUEST"));
