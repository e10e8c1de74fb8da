//! The command line.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use whimbrel_broker::codec::QoS;
use whimbrel_broker::{Address, BrokerConfig, Durability, QueueFull};

use crate::bench::BenchArguments;
use crate::client::{PublishArguments, RequestArguments, SubscribeArguments};
use crate::completions::{CompletionsArguments, ManArguments};
use crate::conformance::ConformanceArguments;
use crate::store::StoreArguments;
use crate::values::{Bytes, Expiry, Filter, PacketSize, Probes, Topic};

/// An MQTT 3.1, 3.1.1 and 5.0 broker, and clients.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker until SIGINT or SIGTERM
    Serve(Box<ServeArguments>),
    /// Publish messages, as mosquitto_pub does
    Pub(Box<PublishArguments>),
    /// Subscribe and show what comes, as mosquitto_sub does
    Sub(Box<SubscribeArguments>),
    /// Publish a request and show the response, as mosquitto_rr does
    Rr(Box<RequestArguments>),
    /// Test a broker, any broker, against the statements of the MQTT standards
    Conformance(ConformanceArguments),
    /// Load a broker, any broker, measure it, and check every message
    Bench(Box<BenchArguments>),
    /// Look at, copy or rescue what a stopped broker has kept
    Store(StoreArguments),
    /// Print the script with which a shell completes the command line
    Completions(CompletionsArguments),
    /// Print the man page, or write those of all commands
    Man(ManArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Where to listen; may be repeated
    #[arg(long, value_name = "ADDRESS", default_value = "tcp://127.0.0.1:1883")]
    pub(crate) listen: Vec<Address>,

    /// Let everybody in on listeners that other machines can reach
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// Threads that share the clients [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) shards: Option<u8>,

    /// How much to log on standard error
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log: LogLevel,

    /// Seconds between updates of $SYS/#, 0 for none
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    pub(crate) sys_interval: u32,

    #[command(flatten, next_help_heading = "What is kept")]
    pub(crate) storage: StorageArguments,

    #[command(flatten, next_help_heading = "Limits of connections")]
    pub(crate) connection: ConnectionArguments,

    #[command(flatten, next_help_heading = "Limits of sessions and messages")]
    pub(crate) session: SessionArguments,

    #[command(flatten, next_help_heading = "What clients may do and are told")]
    pub(crate) features: FeatureArguments,

    #[command(flatten, next_help_heading = "TCP")]
    pub(crate) tcp: TcpArguments,
}

#[derive(Args, Debug)]
pub(crate) struct StorageArguments {
    /// Keep what is acknowledged in this folder; made where it is not
    #[arg(long, value_name = "DIR", default_value = "./whimbrel-data")]
    pub(crate) data_dir: PathBuf,

    /// Keep all state in memory: it is lost when the broker stops
    #[arg(long, conflicts_with_all = ["data_dir", "durability"])]
    pub(crate) in_memory: bool,

    /// What an acknowledgement waits for, and so what may be lost of what was acknowledged
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = DurabilityLevel::Sync)]
    pub(crate) durability: DurabilityLevel,

    /// Bytes on their way to the disk, for each shard, before its publishers have to wait
    #[arg(long, value_name = "BYTES", default_value = "4M")]
    pub(crate) journal_window: Bytes,

    /// Messages of a persistent session's queue that are kept in memory too; the others are read back in time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) queue_window_messages: usize,

    /// Bytes of a persistent session's queue that are kept in memory too
    #[arg(long, value_name = "BYTES", default_value = "1M")]
    pub(crate) queue_window_bytes: Bytes,
}

#[derive(Args, Debug)]
pub(crate) struct ConnectionArguments {
    /// Connections at a time; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) connections: usize,

    /// Seconds a connection has to finish CONNECT
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connect_timeout: u32,

    /// Largest packet a client may send, up to 268435460 bytes
    #[arg(long, value_name = "BYTES", default_value = "2M")]
    pub(crate) packet_size: PacketSize,

    /// QoS 1 and 2 messages a client may have unacknowledged by the broker
    #[arg(long, value_name = "N", default_value_t = RECEIVE_MAXIMUM)]
    pub(crate) receive_maximum: NonZeroU16,

    /// QoS 1 and 2 messages the broker has unacknowledged by a client
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT)]
    pub(crate) in_flight: NonZeroU16,

    /// Topic aliases a client may use, and that are used towards a client that takes them
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) max_topic_alias: u16,

    /// Longest keep alive for MQTT 5 clients [default: what they ask for]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_keep_alive: Option<u16>,
}

#[derive(Args, Debug)]
pub(crate) struct FeatureArguments {
    /// Refuse filters for nothing but topics of this one with 0x80, not wider ones; may be repeated
    #[arg(long, value_name = "FILTER")]
    pub(crate) deny_subscribe: Vec<Filter>,

    /// Highest QoS that is served: MQTT 5 clients are told, subscriptions are granted no more
    #[arg(long, value_name = "QOS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) max_qos: u8,

    /// Retain no messages
    #[arg(long)]
    pub(crate) no_retained: bool,

    /// Take no wildcards in filters
    #[arg(long)]
    pub(crate) no_wildcard_subscriptions: bool,

    /// Take no $share/ filters
    #[arg(long)]
    pub(crate) no_shared_subscriptions: bool,

    /// Take no subscription identifiers
    #[arg(long)]
    pub(crate) no_subscription_identifiers: bool,

    /// Refuse payloads that are said to be UTF-8 and are not, with 0x99
    #[arg(long)]
    pub(crate) check_payload_format: bool,

    /// Tell MQTT 5 clients in words what was wrong with a packet
    #[arg(long)]
    pub(crate) reason_strings: bool,

    /// Tell MQTT 5 clients that ask for it a response topic of their own: TOPIC, a slash and their client id
    #[arg(long, value_name = "TOPIC")]
    pub(crate) response_information: Option<Topic>,
}

#[derive(Args, Debug)]
pub(crate) struct SessionArguments {
    /// Messages queued for one persistent session
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub(crate) queue_messages: usize,

    /// Bytes queued for one persistent session
    #[arg(long, value_name = "BYTES", default_value = "64G")]
    pub(crate) queue_bytes: Bytes,

    /// Messages queued for one session that ends with its connection
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) clean_queue_messages: usize,

    /// Bytes queued for one session that ends with its connection
    #[arg(long, value_name = "BYTES", default_value = "64M")]
    pub(crate) clean_queue_bytes: Bytes,

    /// Bytes queued in memory for all sessions together; what is on the disk is not counted
    #[arg(long, value_name = "BYTES", default_value = "1G")]
    pub(crate) queue_total_bytes: Bytes,

    /// What happens when the queue of a persistent session is full
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = QueuePolicy::DropOldest)]
    pub(crate) queue_full: QueuePolicy,

    /// Subscriptions of one session
    #[arg(long, value_name = "N", default_value_t = 250_000)]
    pub(crate) subscriptions: usize,

    /// Levels of a topic or filter
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub(crate) topic_levels: usize,

    /// Retained messages
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) retained_messages: usize,

    /// Bytes of retained messages
    #[arg(long, value_name = "BYTES", default_value = "1G")]
    pub(crate) retained_bytes: Bytes,

    /// Seconds after which an offline MQTT 3.x session without "clean session" ends, or never
    #[arg(long, value_name = "SECS", default_value = "never")]
    pub(crate) v3_session_expiry: Expiry,

    /// Longest session expiry interval for MQTT 5 clients in seconds, or never
    #[arg(long, value_name = "SECS", default_value = "never")]
    pub(crate) session_expiry_max: Expiry,
}

#[derive(Args, Debug)]
pub(crate) struct TcpArguments {
    /// Probes of silent connections: idle seconds, interval and count, or off
    #[arg(long, value_name = "IDLE,INTERVAL,COUNT", default_value = "60,15,4")]
    pub(crate) tcp_keepalive: Probes,

    /// Seconds sent data may stay unacknowledged, 0 for the system's own limit
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    pub(crate) tcp_user_timeout: u32,

    /// Connections that may wait to be accepted
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    pub(crate) backlog: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityLevel {
    /// For the disk: nothing is lost, whatever ends the process or the machine
    Sync,
    /// For the operating system: nothing is lost when the process is killed; when the machine loses power the last
    /// seconds may be, and the store may need whimbrel store salvage
    Os,
    /// For nothing: the last moments may be lost when the process is killed; the rest as os
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueuePolicy {
    /// Drop the oldest message of that session
    DropOldest,
    /// Refuse the publisher: MQTT 5 is told 0x97, MQTT 3.x gets no acknowledgement
    Refuse,
}

impl ServeArguments {
    /// The broker's configuration.
    pub(crate) fn broker_config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::default();
        config.allow_anonymous = self.allow_anonymous;
        config.connections_max = self.connection.connections;
        config.keep_alive_secs_max = self.connection.max_keep_alive;
        let prefix = self.features.response_information.as_ref();
        config.response_topic_prefix = prefix.map(|Topic(name)| name.as_str().to_owned());
        config.system_interval = (self.sys_interval > 0)
            .then(|| std::time::Duration::from_secs(self.sys_interval.into()));

        config.durability = match self.storage.durability {
            DurabilityLevel::Sync => Durability::Sync,
            DurabilityLevel::Os => Durability::Os,
            DurabilityLevel::None => Durability::None,
        };

        let core = &mut config.core;
        if let Some(shards) = self.shards {
            core.shards = usize::from(shards);
        }
        core.queue_full = match self.session.queue_full {
            QueuePolicy::DropOldest => QueueFull::DropOldest,
            QueuePolicy::Refuse => QueueFull::Refuse,
        };
        core.v3_session_expiry_secs = self.session.v3_session_expiry.0;
        core.session_expiry_secs_max = self.session.session_expiry_max.0;
        core.payload_format_checked = self.features.check_payload_format;

        let connection = &mut core.connection;
        connection.limits.packet_size_max = self.connection.packet_size.0;
        connection.handshake_timeout_ms = u64::from(self.connection.connect_timeout) * 1_000;
        connection.receive_maximum = self.connection.receive_maximum;
        connection.in_flight_max = self.connection.in_flight;
        connection.topic_alias_maximum = self.connection.max_topic_alias;
        connection.sent_topic_alias_max = self.connection.max_topic_alias;
        connection.maximum_qos = match self.features.max_qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        connection.retain_available = !self.features.no_retained;
        connection.wildcard_subscription_available = !self.features.no_wildcard_subscriptions;
        connection.shared_subscription_available = !self.features.no_shared_subscriptions;
        connection.subscription_id_available = !self.features.no_subscription_identifiers;
        connection.reason_strings = self.features.reason_strings;

        let limits = &mut core.limits;
        limits.subscriptions_per_session_max = self.session.subscriptions;
        limits.queue_messages_max = self.session.queue_messages;
        limits.queue_bytes_max = self.session.queue_bytes.as_limit();
        limits.clean_queue_messages_max = self.session.clean_queue_messages;
        limits.clean_queue_bytes_max = self.session.clean_queue_bytes.as_limit();
        limits.queue_bytes_total_max = self.session.queue_total_bytes.as_limit();
        limits.queue_window_messages = self.storage.queue_window_messages;
        limits.queue_window_bytes = self.storage.queue_window_bytes.as_limit();
        limits.journal_window_bytes = self.storage.journal_window.as_limit();
        limits.topic_levels_max = self.session.topic_levels;
        limits.retained_messages_max = self.session.retained_messages;
        limits.retained_bytes_max = self.session.retained_bytes.as_limit();
        config
    }
}

const RECEIVE_MAXIMUM: NonZeroU16 = NonZeroU16::new(1_024).expect("not 0");
const IN_FLIGHT: NonZeroU16 = NonZeroU16::new(256).expect("not 0");

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let cli = Cli::try_parse_from(["whimbrel", "serve"]).expect("valid");
        let Command::Serve(arguments) = cli.command else {
            panic!("serve was asked for")
        };
        let config = format!("{:?}", arguments.broker_config());
        assert_eq!(config, format!("{:?}", BrokerConfig::default()));
    }
}
