//! When a session ends by itself: after its time, or after nobody has used it for a while.
//!
//! There is no clock here. Whoever keeps one (the controller, the local supervisor) asks [`Deadlines::due`]
//! with the time, does what is due, and learns when to ask again.

use serde::{Deserialize, Serialize};

use crate::duration::SessionDuration;

/// When a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deadlines {
    /// How long after its start the session ends; never, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<SessionDuration>,
    /// How long the session may be idle before it is stopped; for ever, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_stop: Option<SessionDuration>,
    /// How long before its end the session says so; at most a quarter of the deadline that ends it, so that a
    /// session of ten minutes is not spent on warnings.
    pub warn_before: SessionDuration,
}

/// What happened in a session so far; times are in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When the session started.
    pub started_ms: u64,
    /// When somebody last used it; its start, where nobody has.
    pub last_active_ms: u64,
}

/// What a session's clock calls for; times are in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Due {
    /// Nothing.
    Nothing {
        /// When something can be due at the earliest; never, where there is none.
        next_check_ms: Option<u64>,
    },
    /// Tell the learner that the session is about to end.
    Warn {
        /// When it ends, which is also when to look again.
        ends_ms: u64,
        /// Why it ends.
        cause: EndCause,
    },
    /// End the session: its time is over.
    Expired,
    /// Stop the session: nobody uses it.
    Idle,
}

/// Why a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndCause {
    /// Its time is over.
    Timeout,
    /// Nobody uses it; using it puts the end off.
    Idle,
}

impl Deadlines {
    /// When a session that started then has had its time; never, where there is no timeout.
    #[must_use]
    pub fn expires_ms(&self, started_ms: u64) -> Option<u64> {
        self.timeout.map(|timeout| started_ms.saturating_add(timeout.as_millis()))
    }

    /// What is due at a time. Where the session is over for both reasons, its time being over is the one that
    /// counts.
    #[must_use]
    pub fn due(&self, activity: Activity, now_ms: u64) -> Due {
        let expiry = self.timeout.map(|timeout| self.end(activity.started_ms, timeout, EndCause::Timeout));
        let last_active_ms = activity.last_active_ms.max(activity.started_ms);
        let idle_end = self.idle_stop.map(|idle_stop| self.end(last_active_ms, idle_stop, EndCause::Idle));

        if expiry.is_some_and(|end| now_ms >= end.ends_ms) {
            return Due::Expired;
        }
        if idle_end.is_some_and(|end| now_ms >= end.ends_ms) {
            return Due::Idle;
        }
        let ends = || [expiry, idle_end].into_iter().flatten();
        let next_warned_of = ends().filter(|end| now_ms >= end.warn_ms).min_by_key(|end| end.ends_ms);
        if let Some(end) = next_warned_of {
            return Due::Warn { ends_ms: end.ends_ms, cause: end.cause };
        }
        Due::Nothing { next_check_ms: ends().map(|end| end.warn_ms).min() }
    }

    fn end(&self, from_ms: u64, deadline: SessionDuration, cause: EndCause) -> End {
        let ends_ms = from_ms.saturating_add(deadline.as_millis());
        let warn_before_ms = self.warn_before.as_millis().min(deadline.as_millis() / 4);
        End { ends_ms, warn_ms: ends_ms.saturating_sub(warn_before_ms), cause }
    }
}

/// One way in which a session is going to end.
#[derive(Clone, Copy)]
struct End {
    ends_ms: u64,
    warn_ms: u64,
    cause: EndCause,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;
    const START: u64 = 1_000_000 * MINUTE;

    fn deadlines(timeout_minutes: Option<u64>, idle_minutes: Option<u64>) -> Deadlines {
        let minutes = |count| SessionDuration::from_millis(count * MINUTE);
        Deadlines {
            timeout: timeout_minutes.map(minutes),
            idle_stop: idle_minutes.map(minutes),
            warn_before: minutes(5),
        }
    }

    fn due(deadlines: Deadlines, last_active: u64, now: u64) -> Due {
        let activity = Activity { started_ms: START, last_active_ms: START + last_active * MINUTE };
        deadlines.due(activity, START + now * MINUTE)
    }

    fn at(minute: u64) -> u64 {
        START + minute * MINUTE
    }

    #[test]
    fn a_session_of_two_hours_is_warned_of_and_expires() {
        let two_hours = deadlines(Some(120), None);
        assert_eq!(two_hours.expires_ms(START), Some(at(120)));
        assert_eq!(due(two_hours, 0, 0), Due::Nothing { next_check_ms: Some(at(115)) });
        assert_eq!(due(two_hours, 0, 115), Due::Warn { ends_ms: at(120), cause: EndCause::Timeout });
        assert_eq!(due(two_hours, 119, 120), Due::Expired);
    }

    #[test]
    fn using_an_idle_session_puts_its_end_off() {
        let half_an_hour = deadlines(None, Some(30));
        assert_eq!(due(half_an_hour, 0, 26), Due::Warn { ends_ms: at(30), cause: EndCause::Idle });
        assert_eq!(due(half_an_hour, 26, 26), Due::Nothing { next_check_ms: Some(at(51)) });
        assert_eq!(due(half_an_hour, 26, 56), Due::Idle);
    }

    #[test]
    fn the_end_that_comes_first_is_warned_of() {
        let both = deadlines(Some(60), Some(30));
        assert_eq!(due(both, 28, 57), Due::Warn { ends_ms: at(58), cause: EndCause::Idle });
        assert_eq!(due(both, 50, 57), Due::Warn { ends_ms: at(60), cause: EndCause::Timeout });
        assert_eq!(due(both, 0, 90), Due::Expired);
    }

    #[test]
    fn a_short_session_is_not_spent_on_warnings() {
        let eight_minutes = deadlines(Some(8), None);
        assert_eq!(due(eight_minutes, 0, 0), Due::Nothing { next_check_ms: Some(at(6)) });
    }

    #[test]
    fn without_deadlines_nothing_is_ever_due() {
        assert_eq!(due(deadlines(None, None), 0, 999_999), Due::Nothing { next_check_ms: None });
    }

    #[test]
    fn a_clock_that_went_back_ends_nothing() {
        let activity = Activity { started_ms: START, last_active_ms: START };
        let due = deadlines(Some(120), Some(30)).due(activity, 0);
        assert_eq!(due, Due::Nothing { next_check_ms: Some(at(25)) });
    }

    #[test]
    fn what_is_due_is_plain_json() {
        let warning = Due::Warn { ends_ms: 5, cause: EndCause::Idle };
        assert_eq!(serde_json::to_string(&warning).unwrap(), r#"{"warn":{"endsMs":5,"cause":"idle"}}"#);
    }

    proptest! {
        #[test]
        fn looking_again_when_told_to_finds_something_due(
            timeout in proptest::option::of(1u64..u64::MAX),
            idle_stop in proptest::option::of(1u64..u64::MAX),
            started_ms in any::<u64>(),
            last_active_ms in any::<u64>(),
            now in any::<u64>(),
        ) {
            let deadlines = Deadlines {
                timeout: timeout.map(SessionDuration::from_millis),
                idle_stop: idle_stop.map(SessionDuration::from_millis),
                warn_before: SessionDuration::from_millis(5 * MINUTE),
            };
            let activity = Activity { started_ms, last_active_ms };
            match deadlines.due(activity, now) {
                Due::Nothing { next_check_ms: Some(next) } => {
                    prop_assert!(next > now);
                    let then_nothing = matches!(deadlines.due(activity, next), Due::Nothing { .. });
                    prop_assert!(!then_nothing);
                }
                Due::Nothing { next_check_ms: None } => {
                    prop_assert!(timeout.is_none() && idle_stop.is_none());
                }
                Due::Warn { ends_ms, cause } => {
                    prop_assert!(ends_ms > now);
                    let expected = if cause == EndCause::Idle { Due::Idle } else { Due::Expired };
                    let then = deadlines.due(activity, ends_ms);
                    prop_assert!(then == expected || then == Due::Expired);
                }
                Due::Expired => prop_assert!(timeout.is_some()),
                Due::Idle => prop_assert!(idle_stop.is_some()),
            }
        }
    }
}
