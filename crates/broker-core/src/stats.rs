//! Counters: what happened, and every message that was dropped, by cause.

/// Why a message did not reach a session. Each drop is counted under one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropCause {
    /// The queue of a session that ends with its connection was full: a slow reader.
    SlowReader,
    /// The queue of a persistent session was full.
    QueueFull,
    /// The bytes allowed for all queues together were used up.
    QueueTotal,
    /// A `QoS` 0 message for an offline session.
    Offline,
    /// The Message Expiry Interval had passed [MQTT-3.3.2-5].
    Expired,
    /// The packet was larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
    TooLarge,
    /// A shared subscription had no member that could take it.
    NoMember,
    /// The client rejected it with an acknowledgement of 0x80 or above [MQTT-4.8.2-6].
    Rejected,
    /// The session ended before the message was delivered.
    SessionEnded,
    /// The disk was full: a message of `QoS` 0 was not retained, or one was not queued behind the part on the disk of a
    /// queue that ends with its connection.
    DiskFull,
}

impl DropCause {
    /// Every cause, in the order of [`ShardStats::dropped`].
    pub const ALL: [Self; 10] = [
        Self::SlowReader,
        Self::QueueFull,
        Self::QueueTotal,
        Self::Offline,
        Self::Expired,
        Self::TooLarge,
        Self::NoMember,
        Self::Rejected,
        Self::SessionEnded,
        Self::DiskFull,
    ];

    /// The cause's name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::QueueFull => "queue_full",
            Self::QueueTotal => "queue_total",
            Self::Offline => "offline",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::NoMember => "no_member",
            Self::Rejected => "rejected",
            Self::SessionEnded => "session_ended",
            Self::DiskFull => "disk_full",
        }
    }
}

/// Counters of one shard since its start, and gauges of what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Connections accepted (CONNACK 0).
    pub connects: u64,
    /// Connections whose session another connection took over.
    pub takeovers: u64,
    /// Connections closed because keep alive ran out: half-open links.
    pub keep_alive_closes: u64,
    /// Connections closed for a malformed packet or a protocol error.
    pub protocol_error_closes: u64,
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// Payload bytes of PUBLISH packets received.
    pub publish_bytes_received: u64,
    /// PUBLISH packets refused by a hook, a limit or a rule.
    pub publishes_refused: u64,
    /// PUBLISH packets written for subscribers, resends included.
    pub publishes_sent: u64,
    /// Payload bytes of PUBLISH packets written.
    pub publish_bytes_sent: u64,
    /// Packets received, of all kinds.
    pub packets_received: u64,
    /// Packets sent, of all kinds; counted when output is flushed.
    pub packets_sent: u64,
    /// Messages not delivered, by [`DropCause`] in the order of [`DropCause::ALL`].
    pub dropped: [u64; DropCause::ALL.len()],
    /// Sessions now, connected or not.
    pub sessions: u64,
    /// Connections now.
    pub connections: u64,
    /// Subscriptions now, shared ones included.
    pub subscriptions: u64,
    /// Messages in session and group queues now.
    pub queued_messages: u64,
    /// Bytes in session and group queues now.
    pub queued_bytes: u64,
    /// Those of them that are not in memory, and are read back when they are needed.
    pub queued_disk_bytes: u64,
}

impl ShardStats {
    /// Messages dropped for `cause`.
    #[must_use]
    pub fn dropped_by(&self, cause: DropCause) -> u64 {
        self.dropped[cause as usize]
    }

    /// Messages dropped for any cause.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Adds another shard's figures.
    pub fn merge(&mut self, other: &Self) {
        self.connects += other.connects;
        self.takeovers += other.takeovers;
        self.keep_alive_closes += other.keep_alive_closes;
        self.protocol_error_closes += other.protocol_error_closes;
        self.publishes_received += other.publishes_received;
        self.publish_bytes_received += other.publish_bytes_received;
        self.publishes_refused += other.publishes_refused;
        self.publishes_sent += other.publishes_sent;
        self.publish_bytes_sent += other.publish_bytes_sent;
        self.packets_received += other.packets_received;
        self.packets_sent += other.packets_sent;
        for (sum, other) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += other;
        }
        self.sessions += other.sessions;
        self.connections += other.connections;
        self.subscriptions += other.subscriptions;
        self.queued_messages += other.queued_messages;
        self.queued_bytes += other.queued_bytes;
        self.queued_disk_bytes += other.queued_disk_bytes;
    }

    pub(crate) fn count_drop(&mut self, cause: DropCause) {
        self.count_drops(cause, 1);
    }

    pub(crate) fn count_drops(&mut self, cause: DropCause, count: usize) {
        self.dropped[cause as usize] += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_counts_in_its_own_place() {
        let mut stats = ShardStats::default();
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            stats.count_drops(cause, index + 1);
        }
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(
                stats.dropped_by(cause),
                index as u64 + 1,
                "{}",
                cause.name()
            );
        }
        assert_eq!(stats.dropped_total(), 55);
    }
}
