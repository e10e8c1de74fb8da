//! What a connection is told about its own side.

use std::num::NonZeroU16;

use whimbrel_codec::{Limits, QoS};

/// What a [`ServerConnection`](crate::ServerConnection) allows its client and itself.
///
/// What has a place in CONNACK is announced there to MQTT 5 clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// What is decoded at all; the packet size is announced as Maximum Packet Size.
    pub limits: Limits,
    /// Milliseconds from the start of the connection to the answer to CONNECT [U5-033].
    pub handshake_timeout_ms: u64,
    /// QoS 1 and 2 publications that the client may have open: Receive Maximum. MQTT 3.x clients
    /// are not told; at this many publications without their first acknowledgement nothing more of
    /// theirs is read.
    pub receive_maximum: NonZeroU16,
    /// QoS 1 and 2 publications open towards the client, whatever Receive Maximum it announces.
    pub in_flight_max: NonZeroU16,
    /// Topic aliases the client may use; 0 for none. Each keeps a topic in memory.
    pub topic_alias_maximum: u16,
    /// Topic aliases used towards the client, whatever Topic Alias Maximum it announces; 0 for none. Each
    /// keeps a topic in memory.
    pub sent_topic_alias_max: u16,
    /// Bytes of output at which [`deliver`](crate::ServerConnection::deliver) refuses. A message
    /// larger than this passes when the output is empty.
    pub output_bytes_max: usize,
    /// The highest QoS of publications.
    pub maximum_qos: QoS,
    /// Whether clients may publish retained messages.
    pub retain_available: bool,
    /// Whether clients may subscribe with `+` and `#`. Where they may not, MQTT 5 clients that do it all the
    /// same are disconnected with 0xA2; those of MQTT 3.x, who are not told, are for the caller to refuse in
    /// SUBACK [3:MQTT-3.8.3-2]. The same goes for the next two.
    pub wildcard_subscription_available: bool,
    /// Whether clients may give subscriptions an identifier; else 0xA1.
    pub subscription_id_available: bool,
    /// Whether clients may subscribe to `$share/` filters; else 0x9E.
    pub shared_subscription_available: bool,
    /// Whether DISCONNECT and CONNACK say in words what was wrong with a packet, to MQTT 5 clients that did not
    /// ask for no problem information.
    pub reason_strings: bool,
}

/// What a [`ClientConnection`](crate::ClientConnection) allows its server and itself.
///
/// Receive Maximum, Topic Alias Maximum and Maximum Packet Size are what the CONNECT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientConfig {
    /// What is decoded at all; a smaller Maximum Packet Size in CONNECT takes precedence.
    pub limits: Limits,
    /// Milliseconds from CONNECT to CONNACK [U5-035].
    pub connack_timeout_ms: u64,
    /// Milliseconds from PINGREQ to PINGRESP [U5-017].
    pub ping_timeout_ms: u64,
    /// MQTT 3.x: publications of the server without their first acknowledgement at which nothing
    /// more is read. In MQTT 5 the Receive Maximum of CONNECT bounds them.
    pub receive_maximum: NonZeroU16,
    /// QoS 1 and 2 publications open towards the server, whatever Receive Maximum it announces.
    pub in_flight_max: NonZeroU16,
    /// Topic aliases used towards the server, whatever Topic Alias Maximum it announces; 0, the default, for
    /// none. Each keeps a topic in memory.
    pub sent_topic_alias_max: u16,
    /// Bytes of output at which [`publish`](crate::ClientConnection::publish) refuses. A message
    /// larger than this passes when the output is empty.
    pub output_bytes_max: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::DEFAULT,
            handshake_timeout_ms: 10_000,
            receive_maximum: RECEIVE_MAXIMUM,
            in_flight_max: IN_FLIGHT_MAX,
            topic_alias_maximum: 16,
            sent_topic_alias_max: 16,
            output_bytes_max: 256 * 1024,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_id_available: true,
            shared_subscription_available: true,
            reason_strings: false,
        }
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            limits: Limits::DEFAULT,
            connack_timeout_ms: 10_000,
            ping_timeout_ms: 10_000,
            receive_maximum: RECEIVE_MAXIMUM,
            in_flight_max: IN_FLIGHT_MAX,
            sent_topic_alias_max: 0,
            output_bytes_max: 1024 * 1024,
        }
    }
}

const RECEIVE_MAXIMUM: NonZeroU16 = NonZeroU16::new(1_024).expect("not 0");

/// Small windows cap throughput, large ones hold a slow subscriber's messages in memory (D17).
const IN_FLIGHT_MAX: NonZeroU16 = NonZeroU16::new(256).expect("not 0");

/// The largest packet there is: a limit of this size or more is not announced.
pub(crate) const PACKET_SIZE_MAX: u32 = 268_435_460;
