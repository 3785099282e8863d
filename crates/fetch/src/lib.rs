//! Gets bytes from where they live and turns them into a file: over HTTP, from S3 and Google Cloud Storage, or
//! from a file of this machine; compressed with zstd, gzip or xz, or not.
//!
//! ```text
//!   Location ─→ remote: a URL and credentials, anew for each attempt
//!                  │ HTTP
//!               transfer: first 1 MiB, then ranges side by side, delivered in order
//!                  │ bounded channel
//!               content:  decompress ─→ write, zeros left as holes ─→ SHA-256     (a thread each)
//! ```
//!
//! Everything goes through once, while it arrives, in memory that does not depend on its size. A connection
//! that breaks or stalls is taken up where it ended; a server that cannot do that is asked for the whole again.
//! Whatever a server claims is checked: lengths, ranges, and that all parts are of the same version.
//!
//! What the bytes *mean* is the caller's business: an [`Observer`] sees the first of them before anything is
//! written, and refuses what it has no use or no room for.

#![forbid(unsafe_code)]

mod compression;
mod content;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod location;
mod remote;
mod retry;
mod settings;
mod transfer;
mod validator;

pub use compression::Compression;
pub use content::{Observer, Start, Unwanted};
pub use error::FetchError;
pub use location::{Location, LocationError};
pub use settings::{Policy, Secrets, SettingsError};
pub use transfer::{Digests, Expected, Fetched, Fetcher, Outcome};
pub use validator::Validator;
