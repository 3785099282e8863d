//! Types that are text in files, flags and messages, and checked values in memory.
//!
//! The two macros here write the conversions that such types have in common, so that there is one way in
//! (`FromStr`, which checks) and one way out (`Display`), and JSON takes the same two.

use std::fmt;

/// Serde by `Display` and `FromStr`: the value is a JSON string, and reading it checks it.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Ways in and out of a newtype around a checked `String`; the type itself says what is allowed in `fn
/// check(&str)`.
macro_rules! checked_text {
    ($name:ident, $error:ty) => {
        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                Self::check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(checked: $name) -> String {
                checked.0
            }
        }
    };
}

/// `Display` for a [`checked_text`] that may be shown as it is.
macro_rules! displayed_as_is {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

/// Shows each item on a line of its own, without a newline after the last.
pub(crate) fn write_lines(formatter: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            formatter.write_str("\n")?;
        }
        item.fmt(formatter)?;
    }
    Ok(())
}

pub(crate) use {checked_text, displayed_as_is, serde_as_text};
