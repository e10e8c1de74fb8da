//! Time as an argument: a count of milliseconds that only the caller can make.

/// A moment on a monotonic clock, in milliseconds since a start that the caller chooses.
///
/// The session layer has no clock: every call that depends on time takes the moment as `now`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// A moment that no clock reaches.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment `milliseconds` later; [`NEVER`](Self::NEVER) where that would overflow.
    #[must_use]
    pub const fn saturating_add(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this moment, 0 where `earlier` is the later one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_go_below_zero() {
        assert_eq!(Tick(1_500).since(Tick(1_000)), 500);
        assert_eq!(Tick(1_000).since(Tick(1_500)), 0);
    }

    #[test]
    fn a_sum_that_overflows_is_never() {
        assert_eq!(Tick(5).saturating_add(7), Tick(12));
        assert_eq!(Tick(5).saturating_add(u64::MAX), Tick::NEVER);
    }
}
