//! How long a session lasts, in the notation of the `LabSession` field `timeout`.
//!
//! The field has always been read by Go's `time.ParseDuration`: `2h`, `30m`, `1h30m`, `1.5h`. We read the
//! same, and days (`7d`) besides, which Go does not know; so days are read but never written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::decimal::{Decimal, DecimalError};
use crate::text::serde_as_text;

/// A length of time in whole milliseconds, shown as `2h`, `1h30m`, `1m30s` or `1.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionDuration {
    millis: u64,
}

/// Why a text is no [`SessionDuration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not in the notation.
    #[error("{0:?} is not a duration, like 2h, 90s, 1h30m, 1.5h or 7d")]
    Malformed(String),
    /// A number stands without a unit.
    #[error("{0:?} lacks a unit: write s, m, h or d after each number, as in 90s or 1h30m")]
    NoUnit(String),
    /// Finer than we count.
    #[error("{0:?} is finer than a millisecond, the smallest time that is counted")]
    TooFine(String),
    /// The milliseconds do not fit 64 bits.
    #[error("{0:?} is too long: it must be less than 584 million years")]
    TooLong(String),
}

impl SessionDuration {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        // A `u32` has 32 bits, so the product has at most 42.
        Self { millis: seconds as u64 * 1000 }
    }

    /// The length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// Whether no time passes at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.millis == 0
    }
}

impl From<SessionDuration> for Duration {
    fn from(duration: SessionDuration) -> Self {
        Self::from_millis(duration.millis)
    }
}

/// Numbers each with a unit (`ms`, `s`, `m`, `h`, `d`), in any order, added up; `0` needs no unit.
impl FromStr for SessionDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let malformed = || DurationError::Malformed(text.to_owned());
        let too_long = || DurationError::TooLong(text.to_owned());
        if text == "0" {
            return Ok(Self::from_millis(0));
        }
        if text.is_empty() {
            return Err(malformed());
        }
        let mut millis: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !is_of_a_number(c)).unwrap_or(rest.len());
            let (number, after_number) = rest.split_at(number_end);
            let number = Decimal::parse(number).map_err(|error| match error {
                DecimalError::NotANumber => malformed(),
                DecimalError::TooLarge => too_long(),
            })?;
            let unit_end = after_number.find(is_of_a_number).unwrap_or(after_number.len());
            let (unit, after_unit) = after_number.split_at(unit_end);
            let unit = match unit {
                "" => return Err(DurationError::NoUnit(text.to_owned())),
                "ns" | "us" | "µs" | "μs" => return Err(DurationError::TooFine(text.to_owned())),
                unit => millis_of_unit(unit).ok_or_else(malformed)?,
            };
            let product = number.times(unit).ok_or_else(too_long)?;
            if !product.exact {
                return Err(DurationError::TooFine(text.to_owned()));
            }
            millis = millis.checked_add(product.rounded_up).ok_or_else(too_long)?;
            rest = after_unit;
        }
        Ok(Self { millis })
    }
}

fn is_of_a_number(character: char) -> bool {
    character.is_ascii_digit() || character == '.'
}

fn millis_of_unit(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60 * 1000),
        "h" => Some(60 * 60 * 1000),
        "d" => Some(24 * 60 * 60 * 1000),
        _ => None,
    }
}

impl fmt::Display for SessionDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return formatter.write_str("0s");
        }
        let (seconds, millis) = (self.millis / 1000, self.millis % 1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(formatter, "{hours}h")?;
        }
        if minutes > 0 {
            write!(formatter, "{minutes}m")?;
        }
        if millis > 0 {
            let decimals = format!("{millis:03}");
            return write!(formatter, "{seconds}.{}s", decimals.trim_end_matches('0'));
        }
        if seconds > 0 {
            write!(formatter, "{seconds}s")?;
        }
        Ok(())
    }
}

serde_as_text!(SessionDuration);

/// How long somebody asked a session to last: a duration, or `none` for as long as it is left running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// The session ends only when somebody ends it.
    None,
    /// The session ends so long after its start.
    After(SessionDuration),
}

impl FromStr for TimeLimit {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text == "none" {
            return Ok(Self::None);
        }
        text.parse().map(Self::After)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::After(duration) => duration.fmt(formatter),
        }
    }
}

serde_as_text!(TimeLimit);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn durations_are_read_as_go_reads_them_and_days_besides() {
        for (text, millis, shown) in [
            ("2h", 2 * HOUR, "2h"),
            ("30m", HOUR / 2, "30m"),
            ("1h30m", HOUR * 3 / 2, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("7d", 168 * HOUR, "168h"),
            ("2h45m", 2 * HOUR + 45 * 60_000, "2h45m"),
            ("1.5h", HOUR * 3 / 2, "1h30m"),
            ("1h0m0s", HOUR, "1h"),
            ("1500ms", 1500, "1.5s"),
            ("1h1ms", HOUR + 1, "1h0.001s"),
            ("30m2h", HOUR * 5 / 2, "2h30m"),
            ("0", 0, "0s"),
        ] {
            let duration: SessionDuration = text.parse().unwrap();
            assert_eq!((duration.as_millis(), duration.to_string()), (millis, shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let refusal = |text: &str| text.parse::<SessionDuration>().unwrap_err();
        for text in ["", "h", "-2h", "2 h", "2h ", "two hours", "1..5h", "2H", "2w", "2h-"] {
            assert_eq!(refusal(text), DurationError::Malformed(text.to_owned()));
        }
        assert_eq!(refusal("30"), DurationError::NoUnit("30".into()));
        assert_eq!(refusal("2h30"), DurationError::NoUnit("2h30".into()));
        assert_eq!(refusal("5us"), DurationError::TooFine("5us".into()));
        assert_eq!(refusal("0.0001s"), DurationError::TooFine("0.0001s".into()));
        assert_eq!(refusal("99999999999999999d"), DurationError::TooLong("99999999999999999d".into()));
        assert_eq!(
            refusal("18446744073709551615ms1ms"),
            DurationError::TooLong("18446744073709551615ms1ms".into())
        );
    }

    #[test]
    fn a_time_limit_can_be_none() {
        assert_eq!("none".parse(), Ok(TimeLimit::None));
        assert_eq!("2h".parse(), Ok(TimeLimit::After(SessionDuration::from_secs(7200))));
        assert_eq!(serde_json::to_string(&TimeLimit::None).unwrap(), "\"none\"");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,24}|([0-9.]{0,25}[smhd]{0,2}){0,4}") {
            let _ = (text.parse::<SessionDuration>(), text.parse::<TimeLimit>());
        }

        #[test]
        fn what_is_shown_reads_back(millis in any::<u64>(), thousands in 0u32..3) {
            let unit = 1000u64.pow(thousands);
            let duration = SessionDuration::from_millis(millis / unit * unit);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            let json = serde_json::to_string(&duration).unwrap();
            prop_assert_eq!(serde_json::from_str::<SessionDuration>(&json).unwrap(), duration);
        }

        #[test]
        fn a_whole_number_of_hours_is_that_many_or_refused(hours in any::<u64>()) {
            let expected = hours.checked_mul(HOUR).map(SessionDuration::from_millis);
            prop_assert_eq!(format!("{hours}h").parse::<SessionDuration>().ok(), expected);
        }
    }
}
