//! The three notations a size is written in, each with a constructor of [`ByteSize`] of its own.

use super::{ByteSize, GIB, KIB, MIB, SizeError};
use crate::decimal::{Decimal, DecimalError};

const TIB: u64 = 1 << 40;
const PIB: u64 = 1 << 50;
const EIB: u64 = 1 << 60;

const DISK_SIZE: &str = "a disk size";
const DISK_SIZE_EXAMPLES: &str = "like 4G, 512M or 10K (K, M, G and T are powers of 1024, as for resize2fs) \
                                  or a number of bytes";
const MEMORY: &str = "an amount of memory";
const MEMORY_EXAMPLES: &str = "like 1024 (MiB), 512M or 2Gi (K, M, G and T are powers of 1024)";
const QUANTITY: &str = "a Kubernetes quantity";
const QUANTITY_EXAMPLES: &str = "like 4Gi (powers of 1024), 4G (powers of 1000), 1e9 or a number of bytes";

impl ByteSize {
    /// Reads a disk size (`DISK_SIZE`, `IMAGE_SIZE`): `4G`, `512M`, `10K`, and `4Gi` or `4GiB` for the same.
    /// The units are powers of 1024 in either case of letters, as `resize2fs` means them.
    ///
    /// A bare number is bytes. (To `resize2fs` it would be blocks of a size that depends on the file system;
    /// the older init container took only numbers with a unit.)
    ///
    /// # Errors
    ///
    /// The text is not such a size, not a whole number of bytes, or does not fit 64 bits.
    pub fn from_disk_size(text: &str) -> Result<Self, SizeError> {
        let malformed = || malformed(text, DISK_SIZE, DISK_SIZE_EXAMPLES);
        let (number, suffix) = split_number(text);
        let unit = if suffix.is_empty() { 1 } else { power_of_1024(suffix).ok_or_else(malformed)? };
        exact_bytes(text, number, unit, malformed)
    }

    /// Reads the memory of a VM (`VM_MEMORY`, `MEMORY`): a bare number is MiB, as in `VM_MEMORY=1024`; with a
    /// unit it is read like a disk size, in powers of 1024: `1024M`, `1Gi`, `2G`.
    ///
    /// # Errors
    ///
    /// The text is not such an amount, not a whole number of bytes, or does not fit 64 bits.
    pub fn from_memory(text: &str) -> Result<Self, SizeError> {
        let malformed = || malformed(text, MEMORY, MEMORY_EXAMPLES);
        let (number, suffix) = split_number(text);
        let unit = if suffix.is_empty() { MIB } else { power_of_1024(suffix).ok_or_else(malformed)? };
        exact_bytes(text, number, unit, malformed)
    }

    /// Reads a Kubernetes quantity (`KERNEL_SIZE_LIMIT`, `VM_MEMORY_LIMIT`, a `LabSession`'s resources):
    /// `4Gi` is binary, `4G` decimal, `1e9` has an exponent, a bare number is bytes. A fraction of a byte
    /// (`0.1Gi`) is rounded up, as Kubernetes does.
    ///
    /// # Errors
    ///
    /// The text is not such a quantity, is less than one byte without being zero (`500m`, nearly always a
    /// slip for `500Mi`), or does not fit 64 bits.
    pub fn from_quantity(text: &str) -> Result<Self, SizeError> {
        let malformed = || malformed(text, QUANTITY, QUANTITY_EXAMPLES);
        let too_large = || SizeError::TooLarge { text: text.to_owned() };
        let (number, suffix) = split_number(text);
        let number = Decimal::parse(number).map_err(|error| decimal_error(error, text, malformed))?;
        let (exponent, unit) = quantity_unit(suffix).ok_or_else(malformed)?;
        let number =
            number.times_power_of_ten(exponent).map_err(|error| decimal_error(error, text, malformed))?;
        let product = number.times(unit).ok_or_else(too_large)?;
        if product.rounded_up == 1 && !product.exact {
            return Err(SizeError::LessThanOneByte { text: text.to_owned() });
        }
        Ok(Self(product.rounded_up))
    }
}

fn malformed(text: &str, notation: &'static str, examples: &'static str) -> SizeError {
    SizeError::Malformed { text: text.to_owned(), notation, examples }
}

fn decimal_error(error: DecimalError, text: &str, malformed: impl Fn() -> SizeError) -> SizeError {
    match error {
        DecimalError::NotANumber => malformed(),
        DecimalError::TooLarge => SizeError::TooLarge { text: text.to_owned() },
    }
}

/// `1.5Gi` is `1.5` and `Gi`.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

fn exact_bytes(
    text: &str,
    number: &str,
    unit: u64,
    malformed: impl Fn() -> SizeError,
) -> Result<ByteSize, SizeError> {
    let number = Decimal::parse(number).map_err(|error| decimal_error(error, text, malformed))?;
    let product = number.times(unit).ok_or_else(|| SizeError::TooLarge { text: text.to_owned() })?;
    if !product.exact {
        return Err(SizeError::FractionOfAByte { text: text.to_owned() });
    }
    Ok(ByteSize(product.rounded_up))
}

/// `K`, `Ki` and `KiB` in either case. `KB` is left out: half of its readers take it for 1000 bytes.
fn power_of_1024(suffix: &str) -> Option<u64> {
    match suffix.to_ascii_lowercase().as_str() {
        "k" | "ki" | "kib" => Some(KIB),
        "m" | "mi" | "mib" => Some(MIB),
        "g" | "gi" | "gib" => Some(GIB),
        "t" | "ti" | "tib" => Some(TIB),
        "p" | "pi" | "pib" => Some(PIB),
        "e" | "ei" | "eib" => Some(EIB),
        _ => None,
    }
}

/// The power of ten and the binary unit that a quantity's suffix stands for; here upper and lower case
/// differ. The suffixes `n` and `u` are left out: there is no sense in a billionth of a byte.
fn quantity_unit(suffix: &str) -> Option<(i32, u64)> {
    match suffix {
        "" => Some((0, 1)),
        "Ki" => Some((0, KIB)),
        "Mi" => Some((0, MIB)),
        "Gi" => Some((0, GIB)),
        "Ti" => Some((0, TIB)),
        "Pi" => Some((0, PIB)),
        "Ei" => Some((0, EIB)),
        "m" => Some((-3, 1)),
        "k" => Some((3, 1)),
        "M" => Some((6, 1)),
        "G" => Some((9, 1)),
        "T" => Some((12, 1)),
        "P" => Some((15, 1)),
        "E" => Some((18, 1)),
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok().map(|exponent| (exponent, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn disk_sizes_are_read_as_resize2fs_reads_them() {
        for (text, bytes) in [
            ("4G", 4 * GIB),
            ("4Gi", 4 * GIB),
            ("4GiB", 4 * GIB),
            ("4g", 4 * GIB),
            ("512M", 512 * MIB),
            ("10K", 10 * KIB),
            ("2T", 2 * TIB),
            ("1.5G", 1536 * MIB),
            ("1048576", MIB),
            ("0", 0),
        ] {
            assert_eq!(ByteSize::from_disk_size(text), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn a_bare_amount_of_memory_is_mib() {
        for (text, bytes) in [
            ("1024", GIB),
            ("1024M", GIB),
            ("1024m", GIB),
            ("1Gi", GIB),
            ("2G", 2 * GIB),
            ("524288K", 512 * MIB),
        ] {
            assert_eq!(ByteSize::from_memory(text), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("4Gi", 4 * GIB),
            ("4G", 4_000_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("15e-1", 2),
            ("12k", 12_000),
            ("1.5Gi", 1536 * MIB),
            ("0.1Gi", 107_374_183),
            ("107374182400m", 107_374_183),
            ("1024", 1024),
            ("0m", 0),
        ] {
            // 0.1Gi is 107374182.4 bytes and 107374182400m is what Kubernetes makes of it, both round up.
            assert_eq!(ByteSize::from_quantity(text), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_was_wrong() {
        let refusal = |result: Result<ByteSize, SizeError>| result.unwrap_err().to_string();
        assert!(refusal(ByteSize::from_disk_size("4GB")).contains("like 4G, 512M"));
        assert!(refusal(ByteSize::from_disk_size("0.3K")).contains("no whole number of bytes"));
        assert!(refusal(ByteSize::from_disk_size("16777216T")).contains("too large"));
        assert!(refusal(ByteSize::from_memory("lots")).contains("like 1024 (MiB)"));
        assert!(refusal(ByteSize::from_quantity("500m")).contains("`Mi` for mebibytes"));
        assert!(refusal(ByteSize::from_quantity("16Ei")).contains("too large"));
        assert!(refusal(ByteSize::from_quantity("1e20")).contains("too large"));
        for text in
            ["", "G", "-1G", "+1", "1 G", " 1G", "1G ", "1..5", "0x10", "NaN", "1e3", "1e1e1", "4GI\n"]
        {
            assert!(refusal(ByteSize::from_disk_size(text)).contains("is not a disk size"), "{text:?}");
            assert!(ByteSize::from_memory(text).is_err(), "{text:?}");
        }
        for text in ["", "Gi", "-1", "1 Gi", "1gi", "1K", "1n", "1e", "1eX", "1KiB"] {
            assert!(refusal(ByteSize::from_quantity(text)).contains("is not a Kubernetes"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,24}|[0-9.]{0,50}[eEkKmMgGtTpPi+-]{0,3}[0-9]{0,12}") {
            let _ = ByteSize::from_disk_size(&text);
            let _ = ByteSize::from_memory(&text);
            let _ = ByteSize::from_quantity(&text);
        }

        #[test]
        fn a_whole_number_of_units_is_that_many_or_refused(number in any::<u64>(), unit in 0usize..4) {
            let (suffix, power) = [("K", 10), ("M", 20), ("G", 30), ("T", 40)][unit];
            let expected = number.checked_mul(1 << power).map(ByteSize);
            let text = format!("{number}{suffix}");
            prop_assert_eq!(ByteSize::from_disk_size(&text).ok(), expected);
            prop_assert_eq!(ByteSize::from_memory(&text).ok(), expected);
            prop_assert_eq!(ByteSize::from_quantity(&format!("{text}i")).ok(), expected);
        }

        #[test]
        fn bare_numbers_are_bytes_or_mib(number in any::<u64>()) {
            let text = number.to_string();
            prop_assert_eq!(ByteSize::from_disk_size(&text), Ok(ByteSize(number)));
            prop_assert_eq!(ByteSize::from_quantity(&text), Ok(ByteSize(number)));
            prop_assert_eq!(ByteSize::from_memory(&text).ok(), number.checked_mul(MIB).map(ByteSize));
        }

        #[test]
        fn a_fraction_is_never_rounded_down(thousandths in 1u64..1_000_000_000) {
            let text = format!("{}.{:03}Ki", thousandths / 1000, thousandths % 1000);
            let bytes = u128::from(ByteSize::from_quantity(&text).map_or(1, ByteSize::as_bytes));
            let exact = u128::from(thousandths) * 1024;
            prop_assert!(bytes * 1000 >= exact && bytes * 1000 < exact + 1000);
        }
    }
}
