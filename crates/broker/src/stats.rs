//! [`BrokerStats`]: what the broker has done and holds.

use std::cell::Cell;
use std::time::Duration;

use whimbrel_broker_core::{JournalFigures, ShardStats};

/// Counters since the start, and gauges of now, of the whole broker.
///
/// Each shard's figures are of one moment; those of different shards are some microseconds apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Connections, sessions, subscriptions, messages, and drops by cause, summed over the shards.
    pub shards: ShardStats,
    /// Bytes received from sockets.
    pub bytes_received: u64,
    /// Bytes written to sockets.
    pub bytes_sent: u64,
    /// Connections closed because CONNECT did not come within the CONNECT timeout.
    pub handshake_timeouts: u64,
    /// The most connections there were at a time.
    pub connections_high: u64,
    /// Retained messages now.
    pub retained_messages: u64,
    /// Bytes of retained messages now.
    pub retained_bytes: u64,
    /// What the journal has done and how it is; `None` without one.
    pub journal: Option<JournalStats>,
    /// Time since the start.
    pub uptime: Duration,
}

/// What the journal has done and how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// Commits, records and bytes since the start.
    pub figures: JournalFigures,
    /// Whether messages are refused now because the disk has no room for them.
    pub is_full: bool,
}

impl BrokerStats {
    /// Connections closed because the other end was not there any more: it sent no CONNECT in time,
    /// or fell silent for longer than its keep alive allows.
    #[must_use]
    pub fn half_open_closes(&self) -> u64 {
        self.shards.keep_alive_closes + self.handshake_timeouts
    }
}

/// The figures of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadStats {
    pub(crate) shard: ShardStats,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) handshake_timeouts: u64,
}

impl ThreadStats {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.shard.merge(&other.shard);
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.handshake_timeouts += other.handshake_timeouts;
    }
}

/// What a thread counts besides its shard.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    bytes_received: Cell<u64>,
    bytes_sent: Cell<u64>,
    handshake_timeouts: Cell<u64>,
}

impl Traffic {
    pub(crate) fn count_received(&self, bytes: usize) {
        self.bytes_received
            .set(self.bytes_received.get() + bytes as u64);
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.bytes_sent.set(self.bytes_sent.get() + bytes as u64);
    }

    pub(crate) fn count_handshake_timeout(&self) {
        self.handshake_timeouts
            .set(self.handshake_timeouts.get() + 1);
    }

    pub(crate) fn stats(&self, shard: ShardStats) -> ThreadStats {
        ThreadStats {
            shard,
            bytes_received: self.bytes_received.get(),
            bytes_sent: self.bytes_sent.get(),
            handshake_timeouts: self.handshake_timeouts.get(),
        }
    }
}
