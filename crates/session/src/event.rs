//! What handling a packet tells the caller.

use whimbrel_codec::{
    AuthRef, ConnAck, Connect, DisconnectRef, PacketId, PropertiesRef, PublishRef, ReasonCode,
    SubAckRef, SubscribeRef, UnsubAckRef, UnsubscribeRef,
};

use crate::{AckToken, SessionState, TopicRef};

/// What one call of [`ServerConnection::handle_input`](crate::ServerConnection::handle_input) did.
#[derive(Debug)]
pub struct ServerInput<'a, M> {
    /// Bytes of the input that are done with: one packet, or none.
    pub consumed: usize,
    /// What the packet asks of the caller, if anything.
    pub event: Option<ServerEvent<'a, M>>,
    /// Why no packet was looked at. Without it, nothing consumed means that bytes are missing.
    pub hold: Option<Hold>,
}

/// What one call of [`ClientConnection::handle_input`](crate::ClientConnection::handle_input) did.
#[derive(Debug)]
pub struct ClientInput<'a, M> {
    /// Bytes of the input that are done with: one packet, or none.
    pub consumed: usize,
    /// What the packet asks of the caller, if anything.
    pub event: Option<ClientEvent<'a, M>>,
    /// Why no packet was looked at. Without it, nothing consumed means that bytes are missing.
    pub hold: Option<Hold>,
}

/// Why input is not looked at now. The same bytes are to be given again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The handshake waits for the caller: `accept` or `refuse`, or a client's `connect`.
    Handshake,
    /// Too many packets wait for the caller's acknowledgement. That is no silence of the peer: a
    /// server pauses its keep alive with [`pause_input`](crate::ServerConnection::pause_input).
    Acknowledgements,
    /// The peer does not read: the output has grown beyond its limit by answers alone. The keep
    /// alive goes on, so that such a peer does not stay for ever.
    Output,
}

/// What a client wants, or what became of something sent to it.
///
/// Borrows from the input only. Not `non_exhaustive`: a caller that misses one would leave the
/// client without an answer.
#[derive(Debug)]
pub enum ServerEvent<'a, M> {
    /// CONNECT: answer with [`accept`](crate::ServerConnection::accept) or
    /// [`refuse`](crate::ServerConnection::refuse). Nothing more is decoded until then.
    Connect(Box<Connect>),
    /// AUTH: a step of an enhanced authentication. Before CONNACK answer with
    /// [`challenge`](crate::ServerConnection::challenge), [`accept`](crate::ServerConnection::accept) or
    /// [`refuse`](crate::ServerConnection::refuse); nothing more is decoded until then. Afterwards with
    /// `challenge`, [`confirm_authentication`](crate::ServerConnection::confirm_authentication) or
    /// [`disconnect`](crate::ServerConnection::disconnect), while everything else goes on [U5-093]: reason
    /// code 0x19 begins a new authentication.
    Auth(AuthRef<'a>),
    /// A message, seen for the first time.
    Publish(InboundPublish<'a>),
    /// PUBREL for a message that was accepted: acknowledge once "released" is safe.
    Release {
        /// The id of the exchange.
        packet_id: PacketId,
        /// Sends PUBCOMP.
        token: AckToken,
    },
    /// An exchange that `deliver` began is over, with the reason of PUBACK, of PUBCOMP, or of a
    /// PUBREC of 0x80 or above.
    Delivered {
        /// The id of the exchange, free now.
        packet_id: PacketId,
        /// What `deliver` was given.
        item: M,
        /// What the client said.
        reason: ReasonCode,
    },
    /// PUBREC: the client has the QoS 2 message; acknowledge once that is safe. The item stays with
    /// the exchange until `Delivered`.
    Received {
        /// The id of the exchange.
        packet_id: PacketId,
        /// Sends PUBREL.
        token: AckToken,
    },
    /// SUBSCRIBE: answer with [`ack_subscribe`](crate::ServerConnection::ack_subscribe). Filters are
    /// not checked in MQTT 5, where SUBACK says which are invalid; in 3.x they are valid.
    Subscribe {
        /// The packet.
        subscribe: SubscribeRef<'a>,
        /// Sends SUBACK.
        token: AckToken,
    },
    /// UNSUBSCRIBE: answer with [`ack_unsubscribe`](crate::ServerConnection::ack_unsubscribe).
    Unsubscribe {
        /// The packet.
        unsubscribe: UnsubscribeRef<'a>,
        /// Sends UNSUBACK.
        token: AckToken,
    },
    /// A valid DISCONNECT; the connection is closing [MQTT-3.14.4-3]. A Session Expiry Interval in
    /// it is in force already.
    Disconnect(DisconnectRef<'a>),
}

/// What a server says, or what became of something sent to it.
///
/// Borrows from the input only. Not `non_exhaustive`: a caller that misses one would leave the
/// server without an answer.
#[derive(Debug)]
pub enum ClientEvent<'a, M> {
    /// CONNACK, with success or not; without success the connection is closing.
    ConnAck(Box<Connected<M>>),
    /// AUTH. With reason code 0x18 the server asks for the next step: answer with
    /// [`authenticate`](crate::ClientConnection::authenticate). With 0x00 the new authentication that
    /// [`reauthenticate`](crate::ClientConnection::reauthenticate) began is over.
    Auth(AuthRef<'a>),
    /// A message, seen for the first time.
    Publish(InboundPublish<'a>),
    /// PUBREL for a message that was accepted: acknowledge once "released" is safe.
    Release {
        /// The id of the exchange.
        packet_id: PacketId,
        /// Sends PUBCOMP.
        token: AckToken,
    },
    /// An exchange that `publish` began is over, with the reason of PUBACK, of PUBCOMP, or of a
    /// PUBREC of 0x80 or above.
    Delivered {
        /// The id of the exchange, free now.
        packet_id: PacketId,
        /// What `publish` was given.
        item: M,
        /// What the server said.
        reason: ReasonCode,
        /// What it said beside: a reason in words, user properties.
        properties: PropertiesRef<'a>,
    },
    /// PUBREC: the server has the QoS 2 message; acknowledge once that is safe. The item stays with
    /// the exchange until `Delivered`.
    Received {
        /// The id of the exchange.
        packet_id: PacketId,
        /// Sends PUBREL.
        token: AckToken,
    },
    /// SUBACK, with one code for each filter that was asked for.
    SubAck(SubAckRef<'a>),
    /// UNSUBACK, in MQTT 5 with one code for each filter.
    UnsubAck(UnsubAckRef<'a>),
    /// The server ends the connection; it is closing.
    Disconnected(DisconnectRef<'a>),
}

/// A PUBLISH of the peer.
#[derive(Debug)]
pub struct InboundPublish<'a> {
    /// The topic, found through its alias if need be.
    pub topic: TopicRef<'a>,
    /// The packet.
    pub publish: PublishRef<'a>,
    /// Sends PUBACK or PUBREC, once the message is safe; `None` for QoS 0.
    pub token: Option<AckToken>,
}

/// The server's answer to CONNECT.
#[derive(Debug)]
pub struct Connected<M> {
    /// The packet.
    pub connack: ConnAck,
    /// What the client had open and the server has forgotten: the session starts anew
    /// [MQTT-3.2.2-5]. The messages in it may be published again, as new ones.
    pub discarded: Option<SessionState<M>>,
}

/// Why [`handle_timeout`](crate::ServerConnection::handle_timeout) ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutKind {
    /// CONNECT or its answer took too long [U5-033, U5-035].
    Connect,
    /// A new authentication took too long.
    Authentication,
    /// The client was silent for 1.5 times the keep alive [MQTT-3.1.2-22].
    KeepAlive,
    /// PINGRESP did not come [U5-017].
    Ping,
}
