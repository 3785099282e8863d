//! Names that Linux gives a meaning to: of a host, of a login user, of a network interface.
//!
//! They travel in the guest's configuration, on command lines and in the shell-readable `network-config`
//! file, so each is limited to what all of these take without quoting.

use serde::{Deserialize, Serialize};

use crate::id::SessionId;
use crate::text::{checked_text, displayed_as_is};

/// A name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be {what}: {rule}")]
pub struct NameError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

/// Host name of the VM: one DNS label (RFC 1123), for example `lab-abc123`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

checked_text!(Hostname, NameError);
displayed_as_is!(Hostname);

impl Hostname {
    fn check(text: &str) -> Result<(), NameError> {
        let letters_are_allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let hyphen_outside = text.starts_with('-') || text.ends_with('-');
        if letters_are_allowed && !hyphen_outside && (1..=63).contains(&text.len()) {
            return Ok(());
        }
        Err(NameError {
            text: text.to_owned(),
            what: "the VM's host name",
            rule: "it must be 1 to 63 letters, digits and hyphens, and start and end with a letter or digit",
        })
    }

    /// The host name of a session's VM where nobody asked for another; see [`SessionId::hostname`].
    pub(crate) fn of_session(id: &SessionId) -> Self {
        Self(format!("lab-{id}"))
    }
}

/// The user that a session logs in as, for example `root` or `lab-user`: a name that Debian's `useradd`
/// takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoginUser(String);

checked_text!(LoginUser, NameError);
displayed_as_is!(LoginUser);

impl LoginUser {
    fn check(text: &str) -> Result<(), NameError> {
        let first_is_allowed = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if first_is_allowed && text.bytes().all(allowed) && text.len() <= 32 {
            return Ok(());
        }
        Err(NameError {
            text: text.to_owned(),
            what: "the user to log in as",
            rule: "it must be 1 to 32 lower-case letters, digits, `_` and `-`, and start with a letter or \
                   `_`",
        })
    }
}

/// Name of the tap device, for example `tap0`. Linux allows 15 bytes (`IFNAMSIZ` less the closing zero) and
/// more kinds of characters than we do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TapName(String);

checked_text!(TapName, NameError);
displayed_as_is!(TapName);

impl TapName {
    fn check(text: &str) -> Result<(), NameError> {
        let first_is_allowed = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if first_is_allowed && text.bytes().all(allowed) && text.len() <= 15 {
            return Ok(());
        }
        Err(NameError {
            text: text.to_owned(),
            what: "the name of the tap device",
            rule: "it must be 1 to 15 letters, digits, `-`, `_` and `.`, and start with a letter or digit",
        })
    }
}

/// `tap0`, the name in every lab pod.
impl Default for TapName {
    fn default() -> Self {
        Self(crate::defaults::TAP_NAME.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for name in ["lab-abc123", "VM1", "1"] {
            assert!(name.parse::<Hostname>().is_ok(), "{name}");
        }
        for name in ["root", "lab-user", "_apt"] {
            assert!(name.parse::<LoginUser>().is_ok(), "{name}");
        }
        for name in ["tap0", "dl-0123456789ab"] {
            assert!(name.parse::<TapName>().is_ok(), "{name}");
        }
        assert_eq!(TapName::default().as_str().parse(), Ok(TapName::default()));
    }

    #[test]
    fn names_that_a_shell_or_the_kernel_would_misread_are_refused() {
        for name in ["", "a.b", "-a", "a-", "a b", "ü", &"a".repeat(64)] {
            assert!(name.parse::<Hostname>().is_err(), "{name}");
        }
        for name in ["", "Root", "-o", "a:b", "a$(id)", &"a".repeat(33)] {
            assert!(name.parse::<LoginUser>().is_err(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "tap 0", "tap0;id", "tap-0123456789ab"] {
            assert!(name.parse::<TapName>().is_err(), "{name}");
        }
        let refusal = "tap-0123456789ab".parse::<TapName>().unwrap_err().to_string();
        assert_eq!(
            refusal,
            "\"tap-0123456789ab\" cannot be the name of the tap device: it must be 1 to 15 letters, digits, \
             `-`, `_` and `.`, and start with a letter or digit"
        );
    }

    proptest! {
        #[test]
        fn checking_never_panics(text in ".{0,70}") {
            let _ = (text.parse::<Hostname>(), text.parse::<LoginUser>(), text.parse::<TapName>());
        }
    }
}
