//! Image sources, the content-addressed image store, and a session's disk.
//!
//! An *image* is an ext4 file that is distributed and never changes; a *disk* is what one session writes.
//! Data goes one way through this crate:
//!
//! ```text
//!   ext4 file ┐
//!   folder    ├─ import ─→ store: blobs/sha256/DIGEST.ext4 ─→ disk: clone, check, grow ─→ a session's disk
//!   tar       ┤            images/NAME.json
//!   URL       ┤ fetched while it is decompressed, checked and written
//!   image.toml ┘ build
//! ```
//!
//! Nothing is mounted and nothing needs root: file systems are made, read and changed by e2fsprogs (`mke2fs
//! -d`, `debugfs`, `e2fsck`, `resize2fs`) as ordinary files. Whatever takes long is `async` and may be
//! cancelled by dropping its future: the programs it runs are killed and its temporary files go.

#![forbid(unsafe_code)]

pub mod build;
mod cancel;
pub mod disk;
mod e2fsprogs;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod import;
pub mod init_rootfs;
mod inspect;
mod progress;
mod receive;
mod space;
pub mod store;
mod superblock;

pub use e2fsprogs::FsckFailure;
pub use progress::{NoProgress, Progress, Stage, Unit, Update};
pub use receive::ReceiveError;
pub use space::NoSpace;
pub use store::{ImageRecord, Store};
