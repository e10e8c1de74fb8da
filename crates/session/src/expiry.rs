//! How long a session outlives its connection.

use crate::Tick;

/// Session Expiry Interval: how long a session is kept after its connection closed, in seconds.
///
/// The wire's own encoding: 0 ends the session with the connection, `0xFFFF_FFFF` keeps it for ever
/// [U5-019]. Ordered by how long the session lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionExpiry(u32);

impl SessionExpiry {
    /// The session ends with its connection.
    pub const AT_CLOSE: Self = Self(0);
    /// The session never expires.
    pub const NEVER: Self = Self(u32::MAX);

    /// The interval that the wire gives as `seconds`.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds)
    }

    /// The interval as the wire gives it.
    #[must_use]
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// Whether the session ends with its connection.
    #[must_use]
    pub const fn is_at_close(self) -> bool {
        self.0 == 0
    }

    /// Whether the session never expires.
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == u32::MAX
    }

    /// When a session whose connection closed at `closed` ends; `None` for
    /// [`NEVER`](Self::NEVER) [MQTT-4.1.0-2].
    #[must_use]
    pub fn deadline(self, closed: Tick) -> Option<Tick> {
        (!self.is_never()).then(|| closed.saturating_add(u64::from(self.0) * 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_counted_from_the_close() {
        // [5:MQTT-4.1.0-2]
        let expiry = SessionExpiry::from_secs(30);
        assert_eq!(expiry.deadline(Tick(5_000)), Some(Tick(35_000)));
        assert_eq!(
            SessionExpiry::AT_CLOSE.deadline(Tick(5_000)),
            Some(Tick(5_000))
        );
    }

    #[test]
    fn the_largest_interval_never_ends() {
        // [U5-019]
        assert_eq!(SessionExpiry::NEVER.deadline(Tick(5_000)), None);
        assert!(SessionExpiry::from_secs(u32::MAX - 1) < SessionExpiry::NEVER);
    }
}
