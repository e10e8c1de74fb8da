//! [`BrokerConfig`]: what a broker is told once.

use std::time::Duration;

use whimbrel_broker_core::CoreConfig;

/// Configuration of a broker, hooks and listeners apart.
///
/// ```
/// use whimbrel_broker::BrokerConfig;
///
/// let mut config = BrokerConfig::default();
/// config.connections_max = 10_000;
/// config.core.limits.queue_messages_max = 1_000;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// Shards, limits and timeouts of the protocol. Default: a shard per core, packets of up to 2 MiB,
    /// and what [`CoreConfig::default`] says.
    ///
    /// `seed`, `placement_seed` and `incarnation` of 0 stand for values of the broker's choice. `journal` is
    /// ignored: there is one if [`Builder::journal`](crate::Builder::journal) was called, and then `incarnation`
    /// is its.
    pub core: CoreConfig,
    /// What acknowledgements wait for, if there is a journal. Default [`Durability::Sync`].
    pub durability: Durability,
    /// Connections at a time; further ones are refused with 0x89, in MQTT 3.x with "server
    /// unavailable". Default 100,000.
    pub connections_max: usize,
    /// Connections at a time that have not finished CONNECT; further ones wait in the listener's
    /// backlog. Default 16,384.
    pub handshakes_max: usize,
    /// The longest keep alive in seconds that MQTT 5 clients get; longer or none is replaced by it.
    /// Default `None`: clients get what they ask for.
    pub keep_alive_secs_max: Option<u16>,
    /// MQTT 5 clients that ask for response information are told a topic of their own below this one: the prefix,
    /// a `/` and their client id. Default `None`: they are told nothing, unless an authenticator does.
    pub response_topic_prefix: Option<String>,
    /// Lets listeners beyond loopback open without an authenticator. Default false.
    pub allow_anonymous: bool,
    /// How often `$SYS/#` is published; `None` for never. Default 10 s.
    pub system_interval: Option<Duration>,
    /// How long a connection that is being closed has to take what is left for it. Default 5 s.
    pub close_timeout: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        let mut core = CoreConfig::default();
        core.shards = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(whimbrel_broker_core::SHARDS_MAX);
        core.connection.limits.packet_size_max = 2 << 20;
        // The core refuses such topics one by one, which leaves the connection open.
        core.connection.limits.topic_levels_max = u32::MAX;
        Self {
            core,
            durability: Durability::Sync,
            connections_max: 100_000,
            handshakes_max: 16_384,
            keep_alive_secs_max: None,
            response_topic_prefix: None,
            allow_anonymous: false,
            system_interval: Some(Duration::from_secs(10)),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// What an acknowledgement waits for, and so what may be lost of what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// For the disk to have it. Nothing is lost when the process ends, or the machine.
    #[default]
    Sync,
    /// For the operating system to have it. Nothing is lost when the process ends, however that comes; the last
    /// seconds may be lost when the machine loses power.
    Os,
    /// For nothing but its turn to be written: what is being written when the process is killed may be lost, one batch of
    /// at most one byte window of each shard. In all else as `Os`.
    None,
}
