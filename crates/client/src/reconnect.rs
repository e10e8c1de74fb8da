//! When the next attempt is made.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How a client comes back after its connection was lost or could not be made.
///
/// The wait before an attempt is drawn at random between half of a bound and the bound, and the bound doubles from
/// attempt to attempt: many clients of one server that went away do not come back at one moment. It begins anew once a
/// connection has lasted longer than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The bound before the second attempt. Default 250 ms.
    pub delay_min: Duration,
    /// What the bound grows to. Default 30 s.
    pub delay_max: Duration,
    /// Attempts in a row that may fail before the client is closed; `None`, the default, for any number.
    pub attempts_max: Option<u32>,
    /// Whether even a refusal that another attempt will hardly mend, such as a wrong password, is met with another
    /// attempt. Default no: the client is closed with the reason.
    pub retry_refused: bool,
}

impl Reconnect {
    /// Not at all: the first failure closes the client.
    pub const fn never() -> Self {
        Self {
            delay_min: Duration::ZERO,
            delay_max: Duration::ZERO,
            attempts_max: Some(1),
            retry_refused: false,
        }
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(250),
            delay_max: Duration::from_secs(30),
            attempts_max: None,
            retry_refused: false,
        }
    }
}

/// Where a client stands between its attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    reconnect: Reconnect,
    bound: Duration,
    failures: u32,
    random: RandomState,
}

impl Backoff {
    pub(crate) fn new(reconnect: Reconnect) -> Self {
        Self {
            reconnect,
            bound: reconnect.delay_min,
            failures: 0,
            random: RandomState::new(),
        }
    }

    /// A connection has ended that the server had accepted, after this time.
    pub(crate) fn note_connected(&mut self, lasted: Duration) {
        self.failures = 0;
        if lasted > self.bound {
            self.bound = self.reconnect.delay_min;
        }
    }

    /// Attempts that have failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next attempt; `None` if there is to be none.
    pub(crate) fn next_delay(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self
            .reconnect
            .attempts_max
            .is_some_and(|max| self.failures >= max)
        {
            return None;
        }
        let bound = self.bound;
        self.bound = (bound * 2).min(self.reconnect.delay_max);
        // Seeded anew by the system for each client: enough to spread them.
        let random = self.random.hash_one(self.failures);
        let half = bound / 2;
        let nanoseconds = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        Some(half + Duration::from_nanos(random % nanoseconds.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(attempts_max: Option<u32>) -> Backoff {
        Backoff::new(Reconnect {
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(1),
            attempts_max,
            retry_refused: false,
        })
    }

    #[test]
    fn waits_double_up_to_their_bound_and_are_spread_over_its_upper_half() {
        let mut backoff = backoff(None);
        for bound_ms in [100, 200, 400, 800, 1_000, 1_000] {
            let bound = Duration::from_millis(bound_ms);
            let delay = backoff.next_delay().expect("any number of attempts");
            assert!(
                delay >= bound / 2 && delay < bound,
                "{delay:?} of {bound:?}"
            );
        }
    }

    #[test]
    fn a_connection_that_lasted_begins_anew_and_one_that_did_not_does_not() {
        let mut backoff = backoff(None);
        for _ in 0..3 {
            backoff.next_delay();
        }
        backoff.note_connected(Duration::from_millis(700));
        assert!(backoff.next_delay().expect("another") >= Duration::from_millis(400));
        backoff.note_connected(Duration::from_secs(2));
        assert!(backoff.next_delay().expect("another") < Duration::from_millis(100));
    }

    #[test]
    fn the_attempts_end() {
        let mut backoff = backoff(Some(2));
        assert!(backoff.next_delay().is_some());
        assert!(backoff.next_delay().is_none());
        assert!(Backoff::new(Reconnect::never()).next_delay().is_none());
    }
}
