//! Tells how bytes are compressed, by their first ones, and decompresses them.

use std::fmt;
use std::io::{self, Read};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstandard,
    /// The xz file format.
    Xz,
}

/// Bytes by which all of them can be told apart.
pub(crate) const MAGIC_LENGTH: usize = 6;

/// The largest window that a zstd frame may ask for, as a power of two: 128 MiB, as the `zstd` program has it
/// without `--long`. Levels up to 19 use 8 MiB at most.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The most memory that an xz stream may ask for; `xz -9` takes 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

impl Compression {
    /// What the first bytes say.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            return Self::Gzip;
        }
        // A skippable frame may come first, with any low half-byte.
        let is_skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
        if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable {
            return Self::Zstandard;
        }
        if start.starts_with(b"\xfd7zXZ\0") {
            return Self::Xz;
        }
        Self::None
    }

    /// The bytes that `compressed` stands for.
    pub(crate) fn decoder<'a>(
        self,
        compressed: impl Read + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(compressed),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(compressed)),
            Self::Zstandard => {
                let mut decoder = zstd::Decoder::new(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                        .map_err(io::Error::from)?;
                Box::new(liblzma::read::XzDecoder::new_stream(io::BufReader::new(compressed), stream))
            }
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstandard => "zstd",
            Self::Xz => "xz",
        })
    }
}
