//! Who a session is and whose it is.
//!
//! Both ids end up in names and labels of Kubernetes objects, in folder names and in URLs, so they are
//! checked once, on the way in, and every name that is made of them is made here.

use serde::{Deserialize, Serialize};

use crate::name::Hostname;
use crate::text::{checked_text, displayed_as_is};

/// The longest session id. A DNS label has at most 63 characters (RFC 1123), `lab-session-<id>-secrets` takes
/// 20 of them, and the three that are left over stay free for a suffix.
pub const MAX_SESSION_ID_LENGTH: usize = 40;

/// The longest user id: the longest value of a Kubernetes label.
pub const MAX_USER_ID_LENGTH: usize = 63;

/// Identifies one session: a DNS label of at most [`MAX_SESSION_ID_LENGTH`] characters, for example `abc123`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// Why a text is no [`SessionId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionIdError {
    /// There was no text.
    #[error("the session id is empty: {SESSION_ID_RULE}")]
    Empty,
    /// The text has too many characters.
    #[error("the session id {text:?} has {length} characters: {SESSION_ID_RULE}")]
    TooLong {
        /// The text that was given.
        text: String,
        /// How many characters it has.
        length: usize,
    },
    /// A character is not allowed anywhere in an id.
    #[error("the session id {text:?} contains {character:?}: {SESSION_ID_RULE}")]
    Character {
        /// The text that was given.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// A hyphen stands where a letter or digit must.
    #[error("the session id {text:?} starts or ends with a hyphen: {SESSION_ID_RULE}")]
    OuterHyphen {
        /// The text that was given.
        text: String,
    },
}

const SESSION_ID_RULE: &str = "it must be 1 to 40 lower-case letters (a-z), digits and hyphens, and start \
                               and end with a letter or digit";

checked_text!(SessionId, SessionIdError);
displayed_as_is!(SessionId);

impl SessionId {
    fn check(text: &str) -> Result<(), SessionIdError> {
        if text.is_empty() {
            return Err(SessionIdError::Empty);
        }
        let forbidden = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-');
        if let Some(character) = text.chars().find(forbidden) {
            return Err(SessionIdError::Character { text: text.to_owned(), character });
        }
        if text.len() > MAX_SESSION_ID_LENGTH {
            return Err(SessionIdError::TooLong { text: text.to_owned(), length: text.len() });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(SessionIdError::OuterHyphen { text: text.to_owned() });
        }
        Ok(())
    }

    /// Name of the session's pod, `lab-session-<id>`, as in the static lab pod manifest.
    #[must_use]
    pub fn pod_name(&self) -> String {
        format!("lab-session-{self}")
    }

    /// Name of the session's service, `lab-service-<id>`, as in the static lab pod manifest.
    #[must_use]
    pub fn service_name(&self) -> String {
        format!("lab-service-{self}")
    }

    /// Name of the secret that holds the editor's password, `lab-session-<id>-secrets`, as in the static lab
    /// pod manifest.
    #[must_use]
    pub fn secrets_name(&self) -> String {
        format!("lab-session-{self}-secrets")
    }

    /// Host name of the VM where nobody asked for another: `lab-<id>`. It tells a learner with two sessions
    /// which prompt is whose, starts with a letter whatever the id starts with, and stays below Linux's 64
    /// bytes.
    #[must_use]
    pub fn hostname(&self) -> Hostname {
        Hostname::of_session(self)
    }
}

/// Identifies the person whose session it is: the value of a Kubernetes label, for example `user-456`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

/// Why a text is no [`UserId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// There was no text.
    #[error("the user id is empty: {USER_ID_RULE}")]
    Empty,
    /// The text has too many characters.
    #[error("the user id {text:?} has {length} characters: {USER_ID_RULE}")]
    TooLong {
        /// The text that was given.
        text: String,
        /// How many characters it has.
        length: usize,
    },
    /// A character is not allowed anywhere in an id.
    #[error("the user id {text:?} contains {character:?}: {USER_ID_RULE}")]
    Character {
        /// The text that was given.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Punctuation stands where a letter or digit must.
    #[error("the user id {text:?} starts or ends with punctuation: {USER_ID_RULE}")]
    OuterPunctuation {
        /// The text that was given.
        text: String,
    },
}

const USER_ID_RULE: &str = "as the value of a Kubernetes label it must be 1 to 63 letters (a-z, A-Z), \
                            digits, `-`, `_` and `.`, and start and end with a letter or digit";

checked_text!(UserId, UserIdError);
displayed_as_is!(UserId);

impl UserId {
    fn check(text: &str) -> Result<(), UserIdError> {
        if text.is_empty() {
            return Err(UserIdError::Empty);
        }
        let forbidden = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if let Some(character) = text.chars().find(forbidden) {
            return Err(UserIdError::Character { text: text.to_owned(), character });
        }
        if text.len() > MAX_USER_ID_LENGTH {
            return Err(UserIdError::TooLong { text: text.to_owned(), length: text.len() });
        }
        if [text.chars().next(), text.chars().last()].iter().flatten().any(|c| !c.is_ascii_alphanumeric()) {
            return Err(UserIdError::OuterPunctuation { text: text.to_owned() });
        }
        Ok(())
    }

    /// The user of a session that nobody said the user of: `local`, because that happens on a person's own
    /// machine only; a `LabSession` object must name its user.
    #[must_use]
    pub fn local() -> Self {
        Self("local".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_names_are_those_of_the_lab_pod() {
        let id: SessionId = "abc123".parse().unwrap();
        assert_eq!(id.pod_name(), "lab-session-abc123");
        assert_eq!(id.service_name(), "lab-service-abc123");
        assert_eq!(id.secrets_name(), "lab-session-abc123-secrets");
        assert_eq!(id.hostname().as_str(), "lab-abc123");
    }

    #[test]
    fn a_uuid_is_a_session_id() {
        assert!("0190163d-8694-739b-aea5-966c26f8ad91".parse::<SessionId>().is_ok());
    }

    #[test]
    fn a_refused_session_id_is_told_what_was_wrong_and_what_is_allowed() {
        for (text, wrong) in [
            ("", "is empty"),
            ("Abc", "contains 'A'"),
            ("a_b", "contains '_'"),
            ("a\nb", "contains '\\n'"),
            ("-a", "starts or ends with a hyphen"),
            ("a-", "starts or ends with a hyphen"),
            ("../etc", "contains '.'"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "has 41 characters"),
        ] {
            let message = text.parse::<SessionId>().unwrap_err().to_string();
            assert!(message.contains(wrong) && message.contains("lower-case letters"), "{message}");
        }
    }

    #[test]
    fn a_refused_user_id_is_told_what_was_wrong_and_what_is_allowed() {
        for (text, wrong) in [
            ("", "is empty"),
            ("a b", "contains ' '"),
            ("me@example.org", "contains '@'"),
            (".a", "starts or ends with punctuation"),
            ("a_", "starts or ends with punctuation"),
            (&"u".repeat(64), "has 64 characters"),
        ] {
            let message = text.parse::<UserId>().unwrap_err().to_string();
            assert!(message.contains(wrong) && message.contains("Kubernetes label"), "{message}");
        }
        assert!("User_4.5-6".parse::<UserId>().is_ok());
        assert_eq!(UserId::local().as_str().parse(), Ok(UserId::local()));
    }

    #[test]
    fn reading_an_id_from_json_checks_it() {
        assert_eq!(serde_json::from_str::<SessionId>("\"a-1\"").unwrap().as_str(), "a-1");
        let refusal = serde_json::from_str::<SessionId>("\"../a\"").unwrap_err().to_string();
        assert!(refusal.contains("contains '.'"), "{refusal}");
    }

    proptest! {
        #[test]
        fn every_session_id_makes_names_that_are_dns_labels(text in "[a-z0-9-]{0,45}|.{0,10}") {
            let Ok(id) = text.parse::<SessionId>() else { return Ok(()) };
            prop_assert_eq!(id.to_string(), text);
            for name in [id.pod_name(), id.service_name(), id.secrets_name(), id.hostname().to_string()] {
                prop_assert!(name.len() <= 63 && name.starts_with("lab-") && !name.ends_with('-'));
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
            prop_assert!(id.hostname().as_str().parse::<Hostname>().is_ok());
        }

        #[test]
        fn a_user_id_is_accepted_as_it_is_or_not_at_all(text in ".{0,70}") {
            if let Ok(id) = text.parse::<UserId>() {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }
}
