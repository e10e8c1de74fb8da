//! Time as an argument: the core has no clock.

use whimbrel_session::Tick;

/// A moment on both clocks the protocol needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for keep alive and every interval measured while the process runs.
    pub tick: Tick,
    /// Wall-clock time, for what has to survive a restart: message and session expiry.
    pub wall: UnixMillis,
}

/// Wall-clock milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// A moment no clock reaches.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment `seconds` later.
    #[must_use]
    pub fn plus_secs(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(u64::from(seconds) * 1000))
    }

    /// Whole seconds from `now` until this moment, rounded up; `None` once it is here.
    ///
    /// Rounding up keeps a forwarded Message Expiry Interval from becoming 0 while the message is
    /// still valid [MQTT-3.3.2-6].
    #[must_use]
    pub fn seconds_from(self, now: Self) -> Option<u32> {
        let left = self.0.checked_sub(now.0).filter(|&left| left > 0)?;
        Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_seconds_round_up_and_end_at_the_moment_itself() {
        let end = UnixMillis(10_000);
        assert_eq!(end.seconds_from(UnixMillis(0)), Some(10));
        assert_eq!(end.seconds_from(UnixMillis(9_001)), Some(1));
        assert_eq!(end.seconds_from(UnixMillis(10_000)), None);
        assert_eq!(end.seconds_from(UnixMillis(10_001)), None);
    }
}
