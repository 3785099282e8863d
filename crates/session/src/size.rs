//! Amounts of bytes, read in each of the notations that the system's users write.
//!
//! `4G` is 4 · 2³⁰ bytes to `resize2fs` and 4 · 10⁹ bytes to Kubernetes, and a bare `1024` is bytes to one
//! and MiB to another. A [`ByteSize`] therefore has no `FromStr`: whoever reads a size says which notation it
//! is in, once, and from there on it is a number of bytes.

mod notation;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// An amount of bytes.
///
/// Shown, and stored as JSON, in the Kubernetes notation with the largest binary unit that is exact: `4Gi`,
/// `1536Mi`, `1000` (bytes). [`ByteSize::from_quantity`] reads that back to the same amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is no [`ByteSize`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text is not in the notation.
    #[error("{text:?} is not {notation}, {examples}")]
    Malformed {
        /// The text that was given.
        text: String,
        /// What it was read as.
        notation: &'static str,
        /// What such texts look like.
        examples: &'static str,
    },
    /// The text is in the notation, but does not come to a whole number of bytes.
    #[error("{text:?} is no whole number of bytes: write it in a smaller unit")]
    FractionOfAByte {
        /// The text that was given.
        text: String,
    },
    /// The amount does not fit 64 bits.
    #[error("{text:?} is too large: the largest size that can be counted is one byte less than 16Ei")]
    TooLarge {
        /// The text that was given.
        text: String,
    },
    /// A Kubernetes quantity such as `500m`, which is half a byte.
    #[error("{text:?} is less than one byte (`m` stands for thousandths): write `Mi` for mebibytes")]
    LessThanOneByte {
        /// The text that was given.
        text: String,
    },
}

impl ByteSize {
    /// No bytes at all.
    pub const ZERO: Self = Self(0);

    /// So many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many MiB (2²⁰ bytes).
    #[must_use]
    pub const fn from_mib(mib: u32) -> Self {
        // A `u32` has 32 bits, so the product has at most 52.
        Self(mib as u64 * MIB)
    }

    /// So many GiB (2³⁰ bytes).
    #[must_use]
    pub const fn from_gib(gib: u32) -> Self {
        // A `u32` has 32 bits, so the product has at most 62.
        Self(gib as u64 * GIB)
    }

    /// The amount in bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The amount in MiB, rounded up: whoever asks for a size in MiB gets at least what was meant. Exact for
    /// every memory and disk size of a plan, see [`ByteSize::rounded_up_to_mib`].
    #[must_use]
    pub const fn as_mib(self) -> u64 {
        self.0.div_ceil(MIB)
    }

    /// The next whole number of MiB; `None` where that passes 64 bits.
    #[must_use]
    pub const fn rounded_up_to_mib(self) -> Option<Self> {
        match self.as_mib().checked_mul(MIB) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The sum; `None` where it passes 64 bits.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The difference; `None` where it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The multiple; `None` where it passes 64 bits.
    #[must_use]
    pub const fn checked_mul(self, factor: u64) -> Option<Self> {
        match self.0.checked_mul(factor) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 6] =
            [(1 << 60, "Ei"), (1 << 50, "Pi"), (1 << 40, "Ti"), (GIB, "Gi"), (MIB, "Mi"), (KIB, "Ki")];
        let largest_exact = UNITS.into_iter().find(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match largest_exact {
            Some((unit, suffix)) => write!(formatter, "{}{suffix}", self.0 / unit),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_quantity(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_size_is_shown_in_its_largest_exact_unit() {
        for (bytes, shown) in [
            (0, "0"),
            (1, "1"),
            (1000, "1000"),
            (1024, "1Ki"),
            (1536 * MIB, "1536Mi"),
            (4 * GIB, "4Gi"),
            (1 << 60, "1Ei"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
    }

    #[test]
    fn mib_are_rounded_up() {
        assert_eq!(ByteSize(0).as_mib(), 0);
        assert_eq!(ByteSize(1).as_mib(), 1);
        assert_eq!(ByteSize(MIB).as_mib(), 1);
        assert_eq!(ByteSize(MIB + 1).as_mib(), 2);
        assert_eq!(ByteSize(MIB + 1).rounded_up_to_mib(), Some(ByteSize(2 * MIB)));
        assert_eq!(ByteSize(u64::MAX).rounded_up_to_mib(), None);
    }

    #[test]
    fn arithmetic_refuses_to_wrap() {
        assert_eq!(ByteSize(u64::MAX).checked_add(ByteSize(1)), None);
        assert_eq!(ByteSize(1).checked_sub(ByteSize(2)), None);
        assert_eq!(ByteSize(u64::MAX).checked_mul(2), None);
        assert_eq!(ByteSize(3).checked_mul(2), Some(ByteSize(6)));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in any::<u64>(), zero_bits in 0u32..60) {
            let size = ByteSize(bytes >> zero_bits << zero_bits);
            prop_assert_eq!(ByteSize::from_quantity(&size.to_string()), Ok(size));
            prop_assert_eq!(ByteSize::from_disk_size(&size.to_string()), Ok(size));
            let json = serde_json::to_string(&size).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteSize>(&json).unwrap(), size);
        }
    }
}
