//! What can go wrong, by who is at fault: the peer, our caller, or nobody.

use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{DecodeError, PacketType, ReasonCode};

/// The peer broke the protocol; the connection is closing.
///
/// The packet that the standard allows as an answer, if any, is in the output already: flush, then
/// close [MQTT-4.8.0-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The packet can't be decoded.
    #[error("packet can't be decoded")]
    Decode(#[from] DecodeError),
    /// A client starts with something else than CONNECT [MQTT-3.1.0-1].
    #[error("first packet is {packet_type}, not CONNECT")]
    FirstPacketNotConnect {
        /// What came instead.
        packet_type: PacketType,
    },
    /// A server starts with something else than CONNACK [MQTT-3.2.0-1].
    #[error("first packet is {packet_type}, not CONNACK")]
    FirstPacketNotConnAck {
        /// What came instead.
        packet_type: PacketType,
    },
    /// A second CONNECT came [MQTT-3.1.0-2].
    #[error("second CONNECT on one connection")]
    ConnectTwice,
    /// A packet came that only the other side sends.
    #[error("{packet_type} goes the other way")]
    WrongDirection {
        /// What came.
        packet_type: PacketType,
    },
    /// AUTH came though no authentication method is in use [U5-090].
    #[error("AUTH without an authentication method in use")]
    UnexpectedAuth,
    /// AUTH or CONNACK names another authentication method than CONNECT, or one names none [MQTT-4.12.0-5].
    #[error("authentication method is not the one of CONNECT")]
    AuthenticationMethod,
    /// AUTH has a reason code of the other side, or of another step [MQTT-4.12.0-2] [MQTT-4.12.0-3].
    #[error("AUTH with reason code {reason} out of turn")]
    AuthReason {
        /// The code.
        reason: ReasonCode,
    },
    /// A packet other than AUTH or DISCONNECT came before the client was authenticated [MQTT-3.1.2-30].
    #[error("{packet_type} before the authentication is over")]
    NotAuthenticated {
        /// What came.
        packet_type: PacketType,
    },
    /// More QoS 1 and 2 publications are open than the Receive Maximum allows [U5-053].
    #[error("more publications are open than the receive maximum allows")]
    ReceiveMaximumExceeded,
    /// A topic alias is above the Topic Alias Maximum [U5-050].
    #[error("topic alias is above the maximum")]
    TopicAliasInvalid,
    /// A topic alias stands for a topic that was never given [U5-051].
    #[error("topic alias has no topic")]
    TopicAliasUnknown,
    /// A client's PUBLISH has a Subscription Identifier [MQTT-3.3.4-6].
    #[error("subscription identifier in a PUBLISH of a client")]
    SubscriptionIdFromClient,
    /// A server's PUBLISH has a Subscription Identifier that this client did not give [U5-048].
    #[error("subscription identifier that was not given")]
    SubscriptionIdUnknown,
    /// A PUBLISH is above the Maximum QoS [U5-038].
    #[error("publish above the maximum QoS")]
    QosNotSupported,
    /// A PUBLISH has RETAIN set though Retain Available is 0 [U5-039].
    #[error("retained publish though retain is not available")]
    RetainNotSupported,
    /// A filter has a wildcard though the server said that it takes none [U5-042].
    #[error("wildcard in a filter though wildcard subscriptions are not available")]
    WildcardNotSupported,
    /// A SUBSCRIBE has an identifier though the server said that it takes none [U5-042].
    #[error("subscription identifier though they are not available")]
    SubscriptionIdNotSupported,
    /// A filter is shared though the server said that it takes none such [U5-042].
    #[error("shared filter though shared subscriptions are not available")]
    SharedNotSupported,
    /// An acknowledgement does not fit the phase of its exchange.
    #[error("{packet_type} does not fit the state of its exchange")]
    UnexpectedAck {
        /// What came.
        packet_type: PacketType,
    },
    /// A PUBREL came before its PUBREC was sent [MQTT-4.3.3-4].
    #[error("PUBREL before PUBREC")]
    ReleaseBeforeReceived,
    /// SUBACK or UNSUBACK does not have one code for each filter [MQTT-3.8.4-6] [MQTT-3.11.3-1].
    #[error("{packet_type} with a wrong number of reason codes")]
    ReasonCodeCount {
        /// What came.
        packet_type: PacketType,
    },
    /// No Local is set on a shared subscription [MQTT-3.8.3-4].
    #[error("no local on a shared subscription")]
    NoLocalOnShared,
    /// MQTT 3.x: a topic filter is invalid; version 5 answers in SUBACK instead (E2).
    #[error("topic filter is invalid")]
    TopicFilterInvalid,
    /// DISCONNECT raises the Session Expiry Interval from 0 [U5-082].
    #[error("session expiry interval raised from 0 at disconnect")]
    SessionExpiryRaised,
    /// A server's DISCONNECT has a Session Expiry Interval [MQTT-3.14.2-2].
    #[error("session expiry interval in a DISCONNECT of a server")]
    SessionExpiryFromServer,
    /// DISCONNECT has a reason code of the other side [MQTT-3.14.2-1].
    #[error("DISCONNECT with reason code {reason} of the other side")]
    DisconnectReason {
        /// The code.
        reason: ReasonCode,
    },
    /// CONNACK says Session Present, but this side holds no session [MQTT-3.2.2-4].
    #[error("session present though there is none here")]
    SessionPresent,
    /// Reason String or User Property though the client asked for none [U5-026].
    #[error("problem information in {packet_type} though none was asked for")]
    ProblemInformation {
        /// What came.
        packet_type: PacketType,
    },
}

/// Our own caller asked for what can't be done in this state; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// `accept` or `refuse` without a CONNECT that waits for it.
    #[error("no CONNECT waits for an answer")]
    NoConnectWaiting,
    /// `connect` on a connection that has sent its CONNECT.
    #[error("CONNECT was sent before")]
    ConnectTwice,
    /// The connection is not established, or is closing.
    #[error("not connected")]
    NotConnected,
    /// The token is for another kind of packet than this call acknowledges.
    #[error("token is for a {packet_type}")]
    WrongToken {
        /// What the token is for.
        packet_type: PacketType,
    },
    /// The standard does not let this side use the code in this packet.
    #[error("reason code {reason} can't be sent in a {packet_type}")]
    ReasonNotAllowed {
        /// The code.
        reason: ReasonCode,
        /// The packet.
        packet_type: PacketType,
    },
    /// The packet can't be encoded.
    #[error("packet can't be encoded")]
    Encode(#[from] whimbrel_codec::EncodeError),
    /// The packet is larger than the peer accepts.
    #[error("packet is larger than the peer accepts")]
    TooLarge,
    /// There has to be one reason code for each filter.
    #[error("wrong number of reason codes for a {packet_type}")]
    CodeCount {
        /// The packet.
        packet_type: PacketType,
    },
    /// No step of an enhanced authentication is this side's to take.
    #[error("no authentication step is to be taken")]
    NoAuthenticationStep,
    /// DISCONNECT can't raise the Session Expiry Interval from 0 [U5-082].
    #[error("session expiry interval can't be raised from 0 at disconnect")]
    SessionExpiryRaised,
}

/// A message was not sent; it comes back with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused<M> {
    /// The peer's Receive Maximum or the own in-flight window is used up: try again after the next
    /// `Delivered` or `Completed` [MQTT-4.9.0-2].
    #[error("in-flight window is full")]
    WindowFull(M),
    /// The output buffer is full: try again after some of it was written.
    #[error("output buffer is full")]
    OutputFull(M),
    /// The packet would be above the peer's Maximum Packet Size: drop the message [MQTT-3.1.2-24] [MQTT-3.1.2-25].
    #[error("packet is larger than the peer accepts")]
    TooLarge(M),
    /// The connection is not established, or is closing.
    #[error("not connected")]
    NotConnected(M),
    /// What the session had open is to be resent first, or QoS 2 messages that were prepared are to be sent
    /// first [MQTT-4.6.0-1].
    #[error("open publications are to be resent first")]
    Resending(M),
    /// The server takes no such QoS [MQTT-3.2.2-11].
    #[error("server does not support this QoS")]
    QosNotSupported(M),
    /// The server takes no retained messages [MQTT-3.2.2-14].
    #[error("server does not support retained messages")]
    RetainNotSupported(M),
}

impl ProtocolError {
    /// The code that says what is wrong, as DISCONNECT would carry it.
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::Decode(error) => error.reason_code(),
            Self::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            Self::QosNotSupported => ReasonCode::QosNotSupported,
            Self::RetainNotSupported => ReasonCode::RetainNotSupported,
            Self::WildcardNotSupported => ReasonCode::WildcardSubscriptionsNotSupported,
            Self::SubscriptionIdNotSupported => ReasonCode::SubscriptionIdentifiersNotSupported,
            Self::SharedNotSupported => ReasonCode::SharedSubscriptionsNotSupported,
            Self::TopicFilterInvalid => ReasonCode::TopicFilterInvalid,
            Self::FirstPacketNotConnect { .. }
            | Self::FirstPacketNotConnAck { .. }
            | Self::ConnectTwice
            | Self::WrongDirection { .. }
            | Self::UnexpectedAuth
            | Self::AuthenticationMethod
            | Self::AuthReason { .. }
            | Self::NotAuthenticated { .. }
            | Self::TopicAliasUnknown
            | Self::SubscriptionIdFromClient
            | Self::SubscriptionIdUnknown
            | Self::UnexpectedAck { .. }
            | Self::ReleaseBeforeReceived
            | Self::ReasonCodeCount { .. }
            | Self::NoLocalOnShared
            | Self::SessionExpiryRaised
            | Self::SessionExpiryFromServer
            | Self::DisconnectReason { .. }
            | Self::SessionPresent
            | Self::ProblemInformation { .. } => ReasonCode::ProtocolError,
        }
    }

    /// What is wrong in words, with the clause, as a Reason String says it.
    pub(crate) fn to_reason_string(self) -> ByteStr {
        let clause = self.clause();
        match self {
            Self::Decode(error) => ByteStr::from(format!("{error} [{clause}]")),
            error => ByteStr::from(format!("{error} [{clause}]")),
        }
    }

    /// The rule that was broken, by the id of its statement in the standard.
    pub const fn clause(&self) -> &'static str {
        match self {
            Self::Decode(error) => error.clause(),
            Self::FirstPacketNotConnect { .. } => "MQTT-3.1.0-1",
            Self::FirstPacketNotConnAck { .. } => "MQTT-3.2.0-1",
            Self::ConnectTwice => "MQTT-3.1.0-2",
            Self::WrongDirection { .. } => "MQTT-4.8.0-1",
            Self::UnexpectedAuth => "U5-090",
            Self::AuthenticationMethod => "MQTT-4.12.0-5",
            Self::AuthReason { .. } => "MQTT-4.12.0-3",
            Self::NotAuthenticated { .. } => "MQTT-3.1.2-30",
            Self::ReceiveMaximumExceeded => "U5-053",
            Self::TopicAliasInvalid => "U5-050",
            Self::TopicAliasUnknown => "U5-051",
            Self::SubscriptionIdFromClient => "MQTT-3.3.4-6",
            Self::SubscriptionIdUnknown => "U5-048",
            Self::QosNotSupported => "U5-038",
            Self::RetainNotSupported => "U5-039",
            Self::WildcardNotSupported
            | Self::SubscriptionIdNotSupported
            | Self::SharedNotSupported => "U5-042",
            Self::UnexpectedAck { .. } => "MQTT-2.2.1-5",
            Self::ReleaseBeforeReceived => "MQTT-4.3.3-4",
            Self::ReasonCodeCount { .. } => "MQTT-3.8.4-6",
            Self::NoLocalOnShared => "MQTT-3.8.3-4",
            Self::TopicFilterInvalid => "MQTT-4.7.1-2",
            Self::SessionExpiryRaised => "U5-082",
            Self::SessionExpiryFromServer => "MQTT-3.14.2-2",
            Self::DisconnectReason { .. } => "MQTT-3.14.2-1",
            Self::SessionPresent => "MQTT-3.2.2-4",
            Self::ProblemInformation { .. } => "U5-026",
        }
    }
}

impl<M> Refused<M> {
    /// The message that was not sent.
    pub fn into_item(self) -> M {
        match self {
            Self::WindowFull(item)
            | Self::OutputFull(item)
            | Self::TooLarge(item)
            | Self::NotConnected(item)
            | Self::Resending(item)
            | Self::QosNotSupported(item)
            | Self::RetainNotSupported(item) => item,
        }
    }
}
