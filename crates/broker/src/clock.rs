//! [`Clock`]: the one place where the broker reads the time.

use std::time::{Duration, Instant, SystemTime};

use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::{Now, UnixMillis};

/// Both clocks of the protocol, counted as the core wants them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The present moment.
    pub(crate) fn now(self) -> Now {
        Now {
            tick: self.tick(),
            wall: wall(),
        }
    }

    /// Milliseconds since the broker started.
    pub(crate) fn tick(self) -> Tick {
        Tick(millis(self.uptime()))
    }

    pub(crate) fn uptime(self) -> Duration {
        self.started.elapsed()
    }

    /// When `tick` is, for tokio's timers; `None` for a moment no clock reaches.
    pub(crate) fn instant(self, tick: Tick) -> Option<tokio::time::Instant> {
        let instant = self.started.checked_add(Duration::from_millis(tick.0))?;
        (tick != Tick::NEVER).then(|| instant.into())
    }
}

/// Wall-clock time; a clock set before 1970 reads as 1970.
fn wall() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixMillis(millis(since_epoch.unwrap_or_default()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
