//! OCI images: what they are called, and how each form of them becomes one form, the layout.
//!
//! ```text
//!   oci://host/name:tag, docker://name   ─ registry ─┐
//!   docker-archive:FILE                  ─ archive ──┼─→ layout (a folder) ─→ image: configuration, layers
//!   oci-archive:FILE                     ─ archive ──┤
//!   oci:FOLDER                           ────────────┘
//! ```
//!
//! A *layout* is a folder of blobs named by their digests, with an index of the images in it, as the [OCI image
//! specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md) defines it. Whoever
//! imports an image reads a layout and nothing else. Blobs are written to disk as they arrive and are never held
//! in memory; whatever is read of one is compared with its digest and its length.
//!
//! Everything here is a stranger's: documents and archives have limits, paths in them never become paths here.

#![forbid(unsafe_code)]

pub mod archive;
mod blob;
pub mod credentials;
#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
mod layout;
mod reference;
pub mod registry;

pub use blob::VerifiedReader;
pub use image::{Image, Layer};
pub use layout::{Layout, LayoutError};
pub use reference::{ImageReference, ReferenceError};

pub use oci_spec::distribution::Reference;
pub use oci_spec::image::{Config as ImageConfig, Descriptor, Digest, ImageConfiguration};
