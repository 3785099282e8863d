//! Where a session is in its life: the `phase` in the status of a `LabSession`.
//!
//! ```text
//! Pending → Creating ⇄ Running
//!    │         ⇅  ↘      │
//!    └──────→ Failed ←───┘          every one of these four → Terminating → Terminated
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a session is in its life. The words are those of the `LabSession` resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Asked for; nothing has been made. Also what an empty phase means: nobody has looked at the session
    /// yet.
    #[default]
    #[serde(alias = "")]
    Pending,
    /// Its parts are being made, for the first time or again.
    Creating,
    /// A prompt can be had.
    Running,
    /// It cannot be used; it may be tried again.
    Failed,
    /// Its parts are being taken down.
    Terminating,
    /// Nothing of it is left. The last phase.
    Terminated,
}

impl Phase {
    /// All phases, in the order of a life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Creating, Self::Running, Self::Failed, Self::Terminating, Self::Terminated];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Creating => "Creating",
            Self::Running => "Running",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }

    /// Whether a session in this phase may be in the other one next. A session that runs goes back to
    /// `Creating` when its VM is lost and made again, and so does a failed one that is tried again.
    #[must_use]
    pub fn can_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Creating | Self::Failed | Self::Terminating),
            Self::Creating => matches!(next, Self::Running | Self::Failed | Self::Terminating),
            Self::Running => matches!(next, Self::Creating | Self::Failed | Self::Terminating),
            Self::Failed => matches!(next, Self::Creating | Self::Terminating),
            Self::Terminating => next == Self::Terminated,
            Self::Terminated => false,
        }
    }

    /// The other phase, if a session in this one may be in it next. Staying is no transition.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn become_next(self, next: Self) -> Result<Self, PhaseTransitionError> {
        if self.can_become(next) { Ok(next) } else { Err(PhaseTransitionError { from: self, to: next }) }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The word was none of the phases'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a phase of a session: it must be Pending, Creating, Running, Failed, Terminating or \
     Terminated"
)]
pub struct UnknownPhase(String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(word: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == word)
            .ok_or_else(|| UnknownPhase(word.to_owned()))
    }
}

/// A session cannot be in the one phase right after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session that is {from} cannot become {to}")]
pub struct PhaseTransitionError {
    /// The phase that the session is in.
    pub from: Phase,
    /// The phase that it was to be in.
    pub to: Phase,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_resource() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{phase}\""));
            assert_eq!(phase.as_str().parse(), Ok(phase));
        }
        assert_eq!(serde_json::from_str::<Phase>("\"\"").unwrap(), Phase::default());
        assert!("running".parse::<Phase>().is_err());
    }

    #[test]
    fn an_ordinary_life_is_allowed() {
        for pair in [
            [Phase::Pending, Phase::Creating],
            [Phase::Creating, Phase::Running],
            [Phase::Running, Phase::Terminating],
            [Phase::Terminating, Phase::Terminated],
        ] {
            assert_eq!(pair[0].become_next(pair[1]), Ok(pair[1]));
        }
    }

    #[test]
    fn a_lost_or_failed_session_can_be_made_again() {
        assert!(Phase::Running.can_become(Phase::Creating));
        assert!(Phase::Failed.can_become(Phase::Creating));
    }

    #[test]
    fn the_end_is_always_near_and_final() {
        for phase in Phase::ALL {
            assert!(!phase.can_become(phase), "{phase} stays");
            assert!(!Phase::Terminated.can_become(phase));
            assert_eq!(Phase::Terminating.can_become(phase), phase == Phase::Terminated);
            let ends = phase.can_become(Phase::Terminating);
            assert_eq!(ends, !matches!(phase, Phase::Terminating | Phase::Terminated), "{phase}");
        }
        assert_eq!(
            Phase::Terminated.become_next(Phase::Running).unwrap_err().to_string(),
            "a session that is Terminated cannot become Running"
        );
    }
}
