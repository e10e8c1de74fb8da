//! [`CoreConfig`]: what the core is told once, with the bounds of everything it holds.

use whimbrel_session::ServerConfig;

use crate::ids::SHARDS_MAX;

/// Configuration of every shard of one broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CoreConfig {
    /// How many shards share the sessions, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// Seeds the placement of sessions. Stable for one broker; random in production, because
    /// clients pick the ids that are hashed.
    pub placement_seed: u64,
    /// Seeds the hash maps, assigned client ids and the choice among group members.
    pub seed: u64,
    /// This node's number in [`MsgId`](crate::MsgId).
    pub node: u16,
    /// The start count of this node in [`MsgId`](crate::MsgId).
    pub incarnation: u32,
    /// Whether records are handed to a journal and acknowledgements wait for their commit.
    /// Without one every record counts as stored at once: state lives in memory only.
    pub journal: bool,
    /// What each network connection is allowed.
    pub connection: ServerConfig,
    /// The bounds of sessions, queues and retained messages.
    pub limits: CoreLimits,
    /// What happens when the queue of a persistent session is full.
    pub queue_full: QueueFull,
    /// Session Expiry Interval of MQTT 3.x sessions with clean session 0, in seconds;
    /// `u32::MAX` keeps them for ever (ambiguity B1).
    pub v3_session_expiry_secs: u32,
    /// Longest Session Expiry Interval granted, in seconds; `u32::MAX` grants any. A lower one is
    /// reported in CONNACK (ambiguity B5).
    pub session_expiry_secs_max: u32,
    /// Whether `QoS` 0 messages are queued for offline sessions (ambiguity B6).
    pub queue_qos0_offline: bool,
    /// Whether payloads that their publisher says are UTF-8 are looked at. Those that are not are refused with
    /// 0x99; of `QoS` 0, where nobody can be told, they are dropped and counted [U5-046].
    pub payload_format_checked: bool,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            placement_seed: 0,
            seed: 0,
            node: 0,
            incarnation: 0,
            journal: false,
            connection: ServerConfig::default(),
            limits: CoreLimits::default(),
            queue_full: QueueFull::DropOldest,
            v3_session_expiry_secs: u32::MAX,
            session_expiry_secs_max: u32::MAX,
            queue_qos0_offline: false,
            payload_format_checked: false,
        }
    }
}

impl CoreConfig {
    /// Checks the fields that bound each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field and the values it may have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.shards == 0 || self.shards > SHARDS_MAX {
            return Err(ConfigError::Shards);
        }
        Ok(())
    }
}

/// A [`CoreConfig`] that can't be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The number of shards is 0 or above [`SHARDS_MAX`].
    #[error("shards has to be 1 to 64")]
    Shards,
}

/// What happens to a new message when the queue of a persistent session is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueFull {
    /// The oldest queued message of that session is dropped and counted.
    #[default]
    DropOldest,
    /// The publisher is refused: 0x97 in MQTT 5, the acknowledgement is withheld in 3.x.
    Refuse,
}

/// Bounds of what the core holds. Byte figures count message images and their entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreLimits {
    /// Subscriptions of one session, shared ones included.
    pub subscriptions_per_session_max: usize,
    /// Messages queued for one persistent session. Large, because what is dropped here was acknowledged: in memory it is
    /// [`queue_bytes_total_max`](Self::queue_bytes_total_max) that bounds queues, on a disk the disk.
    pub queue_messages_max: usize,
    /// Bytes queued for one persistent session.
    pub queue_bytes_max: usize,
    /// Messages queued for one session that ends with its connection.
    pub clean_queue_messages_max: usize,
    /// Bytes queued for one session that ends with its connection.
    pub clean_queue_bytes_max: usize,
    /// Bytes queued in memory in all sessions together, over all shards (an equal share each).
    pub queue_bytes_total_max: usize,
    /// Messages of one session's queue that are kept in memory, where a journal has them too; what is behind them is
    /// read back when it is needed.
    pub queue_window_messages: usize,
    /// Bytes of one session's queue that are kept in memory, where a journal has them too.
    pub queue_window_bytes: usize,
    /// Bytes of records that are not committed, of one shard, before its publishers have to wait.
    pub journal_window_bytes: usize,
    /// Levels of a topic name or filter.
    pub topic_levels_max: usize,
    /// Retained messages of the broker.
    pub retained_messages_max: usize,
    /// Bytes of retained messages of the broker.
    pub retained_bytes_max: usize,
    /// Bytes under way from one shard to another before the senders' publishers have to wait.
    pub shard_window_bytes: usize,
    /// Messages a member of a shared subscription may hold unfinished.
    pub group_credit: u32,
    /// Topics whose matches each shard remembers.
    pub match_cache_topics: usize,
    /// Deliveries of one step of a wide fan-out, a retained scan or a queue's drain.
    pub step_budget: usize,
}

impl Default for CoreLimits {
    fn default() -> Self {
        Self {
            subscriptions_per_session_max: 250_000,
            queue_messages_max: 10_000_000,
            queue_bytes_max: QUEUE_BYTES_MAX,
            clean_queue_messages_max: 100_000,
            clean_queue_bytes_max: 64 << 20,
            queue_bytes_total_max: 1 << 30,
            queue_window_messages: 1_000,
            queue_window_bytes: 1 << 20,
            journal_window_bytes: 4 << 20,
            topic_levels_max: 1_024,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            shard_window_bytes: 1 << 20,
            group_credit: 256,
            match_cache_topics: 16_384,
            step_budget: 4_096,
        }
    }
}

/// 64 GiB where memory can be addressed so far.
const QUEUE_BYTES_MAX: usize = if usize::BITS > 36 {
    (usize::MAX >> (usize::BITS - 36)) + 1
} else {
    usize::MAX
};
