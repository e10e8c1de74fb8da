//! [`Progress`]: how far a run is.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::shared::Live;

/// How far a run is. `Display` prints one line.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Since the run began.
    pub elapsed: Duration,
    /// Clients in all.
    pub clients: u64,
    /// Clients whose CONNACK has come.
    pub connected: u64,
    /// Clients that lost their connection, or got none.
    pub lost: u64,
    /// Messages sent.
    pub published: u64,
    /// Deliveries that have come.
    pub delivered: u64,
    /// Deliveries a second since the progress before.
    pub delivered_per_sec: f64,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Clients connect.
    Connecting,
    /// Clients with many filters subscribe.
    Subscribing,
    /// Messages are sent that are not measured.
    WarmingUp,
    /// What is measured goes on.
    Measuring,
    /// Retained messages are published, or messages for clients that are away.
    Storing,
    /// These are fetched.
    Fetching,
    /// What is under way may arrive.
    Draining,
    /// Retained messages or sessions are taken off the broker.
    Clearing,
}

impl Progress {
    pub(crate) fn of(live: &Live, stage: Stage, elapsed: Duration, clients: u64) -> Self {
        Self {
            stage,
            elapsed,
            clients,
            connected: live.connected.load(Relaxed),
            lost: live.lost.load(Relaxed) + live.failed.load(Relaxed),
            published: live.sent.load(Relaxed),
            delivered: live.fresh.load(Relaxed),
            delivered_per_sec: 0.0,
        }
    }

    /// With the rate since `before`.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        let seconds = self.elapsed.saturating_sub(before.elapsed).as_secs_f64();
        let delivered = self.delivered.saturating_sub(before.delivered);
        if seconds > 0.0 {
            self.delivered_per_sec = delivered as f64 / seconds;
        }
        self
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Subscribing => "subscribing",
            Self::WarmingUp => "warming up",
            Self::Measuring => "measuring",
            Self::Storing => "storing",
            Self::Fetching => "fetching",
            Self::Draining => "draining",
            Self::Clearing => "clearing",
        })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} s, {}: {}/{} connected",
            self.elapsed.as_secs_f64(),
            self.stage,
            self.connected,
            self.clients
        )?;
        if self.lost > 0 {
            write!(f, ", {} lost", self.lost)?;
        }
        if self.published > 0 {
            write!(
                f,
                ", {} published, {} delivered, {:.0}/s",
                self.published, self.delivered, self.delivered_per_sec
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_fast() {
        let live = Live::default();
        live.connected.store(20, Relaxed);
        live.sent.store(1_000, Relaxed);
        live.fresh.store(500, Relaxed);
        let at = |secs| Progress::of(&live, Stage::Measuring, Duration::from_secs(secs), 20);
        let before = at(1);
        live.fresh.store(900, Relaxed);
        let now = at(3).since(&before);
        assert_eq!(
            now.to_string(),
            "3 s, measuring: 20/20 connected, 1000 published, 900 delivered, 200/s"
        );
        live.lost.store(2, Relaxed);
        assert!(at(3).to_string().contains("2 lost"));
    }
}
