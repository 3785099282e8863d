//! Decimal numbers as people write them (`1.5`), kept exact until a unit makes a whole number of them.
//!
//! Sizes, CPU shares and durations all are "a decimal number and a unit". Binary floating point would turn
//! `0.1` into something else and lose bytes of large sizes, so the digits are kept as an integer and a count
//! of decimal places.

/// Digits after the point that are taken, trailing zeros aside. With three more for a unit of a thousandth it
/// is 18, and then a product that passes 128 bits passes 64 bits after the division as well: "too large" is
/// never said of a number that would have fitted.
const MAX_DECIMAL_PLACES: u32 = 15;

/// A non-negative decimal number, `digits / 10^places`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal {
    digits: u128,
    places: u32,
}

/// Why a text is no [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecimalError {
    /// Not digits with at most one point among them.
    NotANumber,
    /// More than 128 bits.
    TooLarge,
}

/// A decimal number times a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    /// The product, rounded up to a whole number.
    pub(crate) rounded_up: u64,
    /// Whether nothing had to be rounded.
    pub(crate) exact: bool,
}

impl Decimal {
    /// Reads `12`, `1.5`, `.5` or `5.`; no sign, no exponent, no spaces.
    pub(crate) fn parse(text: &str) -> Result<Self, DecimalError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let fraction_counts = fraction.trim_end_matches('0');
        let only_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if !only_digits || (whole.is_empty() && fraction.is_empty()) {
            return Err(DecimalError::NotANumber);
        }
        let places = u32::try_from(fraction_counts.len()).map_err(|_| DecimalError::NotANumber)?;
        if places > MAX_DECIMAL_PLACES {
            return Err(DecimalError::NotANumber);
        }
        let mut digits: u128 = 0;
        for byte in whole.bytes().chain(fraction_counts.bytes()) {
            let digit = u128::from(byte - b'0');
            digits =
                digits.checked_mul(10).and_then(|d| d.checked_add(digit)).ok_or(DecimalError::TooLarge)?;
        }
        Ok(Self { digits, places })
    }

    /// This number times `10^exponent`.
    pub(crate) fn times_power_of_ten(self, exponent: i32) -> Result<Self, DecimalError> {
        if self.digits == 0 {
            return Ok(self);
        }
        if exponent < 0 {
            let places = self.places.saturating_add(exponent.unsigned_abs());
            if places > MAX_DECIMAL_PLACES + 3 {
                return Err(DecimalError::NotANumber);
            }
            return Ok(Self { digits: self.digits, places });
        }
        let power = 10u128.checked_pow(exponent.unsigned_abs()).ok_or(DecimalError::TooLarge)?;
        Ok(Self {
            digits: self.digits.checked_mul(power).ok_or(DecimalError::TooLarge)?,
            places: self.places,
        })
    }

    /// This number times a unit; `None` where that passes 64 bits.
    pub(crate) fn times(self, unit: u64) -> Option<Product> {
        let product = self.digits.checked_mul(u128::from(unit))?;
        let divisor = 10u128.pow(self.places);
        let rounded_up = u64::try_from(product.div_ceil(divisor)).ok()?;
        Some(Product { rounded_up, exact: product.is_multiple_of(divisor) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, unit: u64) -> Option<(u64, bool)> {
        Decimal::parse(text).unwrap().times(unit).map(|product| (product.rounded_up, product.exact))
    }

    #[test]
    fn products_are_exact_or_say_that_they_are_not() {
        assert_eq!(times("1.5", 1024), Some((1536, true)));
        assert_eq!(times(".5", 2), Some((1, true)));
        assert_eq!(times("5.", 2), Some((10, true)));
        assert_eq!(times("0.1", 1 << 30), Some((107_374_183, false)));
        assert_eq!(times("1.500000000000000000000000", 2), Some((3, true)));
        assert_eq!(times("18446744073709551615", 1), Some((u64::MAX, true)));
        assert_eq!(times("18446744073709551616", 1), None);
        assert_eq!(times("18446744073709551615.1", 1), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", ".", "1.2.3", "-1", "+1", "1e3", " 1", "1 ", "١", "0.1234567890123456"] {
            assert_eq!(Decimal::parse(text).unwrap_err(), DecimalError::NotANumber, "{text:?}");
        }
        assert_eq!(Decimal::parse(&"9".repeat(40)).unwrap_err(), DecimalError::TooLarge);
    }

    #[test]
    fn powers_of_ten_move_the_point() {
        let shifted = |text: &str, by| Decimal::parse(text)?.times_power_of_ten(by).map(|d| d.times(1));
        assert_eq!(shifted("1.5", 3), Ok(Some(Product { rounded_up: 1500, exact: true })));
        assert_eq!(shifted("1500", -3), Ok(Some(Product { rounded_up: 2, exact: false })));
        assert_eq!(shifted("0", 99), Ok(Some(Product { rounded_up: 0, exact: true })));
        assert_eq!(shifted("1", 99), Err(DecimalError::TooLarge));
        assert_eq!(shifted("1", i32::MIN), Err(DecimalError::NotANumber));
    }
}
