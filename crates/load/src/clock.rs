//! [`Clock`]: time since the run began, in the two units that are needed.

use std::time::{Duration, Instant};

use whimbrel_session::Tick;

/// Counts from one moment that all threads of a run share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Nanoseconds since the start: 584 years of them have room.
    pub(crate) fn nanos(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment as the session layer counts it.
    pub(crate) fn tick(&self) -> Tick {
        tick(self.nanos())
    }

    /// When the system's clock shows this tick.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        let since = Duration::from_millis(tick.0.min(FAR_MILLIS));
        self.start + since
    }
}

/// Stops this thread, which has no clients, for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "only threads without a runtime wait like this: the director and the pacer"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// A moment of [`Clock::nanos`] as the session layer counts it.
pub(crate) fn tick(nanos: u64) -> Tick {
    Tick(nanos / 1_000_000)
}

/// A duration in nanoseconds, the longest there is where it has more.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ten years: stands in for moments that an [`Instant`] might not hold.
const FAR_MILLIS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;
