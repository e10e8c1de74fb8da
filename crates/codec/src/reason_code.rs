//! Reason codes of 5.0 and return codes of 3.1 and 3.1.1.

use std::fmt;

use crate::{PacketType, QoS};

/// A reason code of MQTT 5.0: the outcome of an operation. From 0x80 up it is a failure.
///
/// The older versions' codes are mapped to these when a packet is decoded, and back when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonCode {
    /// 0x00: success; in DISCONNECT a normal disconnection, in SUBACK the grant of QoS 0.
    Success = 0x00,
    /// 0x01: the subscription is accepted at QoS 1.
    GrantedQos1 = 0x01,
    /// 0x02: the subscription is accepted at QoS 2.
    GrantedQos2 = 0x02,
    /// 0x04: the client disconnects and wants its will published.
    DisconnectWithWill = 0x04,
    /// 0x10: the message was accepted, but nobody subscribes to it.
    NoMatchingSubscribers = 0x10,
    /// 0x11: there was no such subscription to remove.
    NoSubscriptionExisted = 0x11,
    /// 0x18: the authentication goes on with another step.
    ContinueAuthentication = 0x18,
    /// 0x19: the client starts to authenticate again.
    ReAuthenticate = 0x19,
    /// 0x80: an error the sender does not name, or for which there is no code.
    UnspecifiedError = 0x80,
    /// 0x81: a packet could not be parsed.
    MalformedPacket = 0x81,
    /// 0x82: a packet was out of place, or broke a rule of its contents.
    ProtocolError = 0x82,
    /// 0x83: the packet is valid but this receiver does not take it.
    ImplementationSpecificError = 0x83,
    /// 0x84: the server does not speak this version.
    UnsupportedProtocolVersion = 0x84,
    /// 0x85: the server does not allow this client identifier.
    ClientIdentifierNotValid = 0x85,
    /// 0x86: the server does not accept this user name or password.
    BadUserNameOrPassword = 0x86,
    /// 0x87: the sender may not do this.
    NotAuthorized = 0x87,
    /// 0x88: the server is not available.
    ServerUnavailable = 0x88,
    /// 0x89: the server is busy; try again later.
    ServerBusy = 0x89,
    /// 0x8A: this client was banned by an administrator.
    Banned = 0x8A,
    /// 0x8B: the server shuts down.
    ServerShuttingDown = 0x8B,
    /// 0x8C: the authentication method is not supported, or not the current one.
    BadAuthenticationMethod = 0x8C,
    /// 0x8D: nothing came for 1.5 times the keep alive.
    KeepAliveTimeout = 0x8D,
    /// 0x8E: another connection uses the same client identifier.
    SessionTakenOver = 0x8E,
    /// 0x8F: the topic filter is well formed but not accepted.
    TopicFilterInvalid = 0x8F,
    /// 0x90: the topic name is well formed but not accepted.
    TopicNameInvalid = 0x90,
    /// 0x91: the packet identifier is in use already.
    PacketIdentifierInUse = 0x91,
    /// 0x92: the packet identifier is not known.
    PacketIdentifierNotFound = 0x92,
    /// 0x93: more messages are under way than the receive maximum allows.
    ReceiveMaximumExceeded = 0x93,
    /// 0x94: the topic alias is 0 or above the maximum.
    TopicAliasInvalid = 0x94,
    /// 0x95: the packet is larger than the receiver takes.
    PacketTooLarge = 0x95,
    /// 0x96: messages come too fast.
    MessageRateTooHigh = 0x96,
    /// 0x97: a limit of the implementation or an administrator is exceeded.
    QuotaExceeded = 0x97,
    /// 0x98: closed by an administrator.
    AdministrativeAction = 0x98,
    /// 0x99: the payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99,
    /// 0x9A: the server keeps no retained messages.
    RetainNotSupported = 0x9A,
    /// 0x9B: the QoS is above what was announced.
    QosNotSupported = 0x9B,
    /// 0x9C: use another server for now.
    UseAnotherServer = 0x9C,
    /// 0x9D: use another server from now on.
    ServerMoved = 0x9D,
    /// 0x9E: the server has no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E,
    /// 0x9F: connections come too fast.
    ConnectionRateExceeded = 0x9F,
    /// 0xA0: the longest time a connection may last is over.
    MaximumConnectTime = 0xA0,
    /// 0xA1: the server takes no subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// 0xA2: the server takes no wildcards in filters.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// 0x00 as DISCONNECT names it.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::Success;
    /// 0x00 as SUBACK names it.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::Success;

    /// Every code, by number.
    pub const ALL: [ReasonCode; 43] = [
        ReasonCode::Success,
        ReasonCode::GrantedQos1,
        ReasonCode::GrantedQos2,
        ReasonCode::DisconnectWithWill,
        ReasonCode::NoMatchingSubscribers,
        ReasonCode::NoSubscriptionExisted,
        ReasonCode::ContinueAuthentication,
        ReasonCode::ReAuthenticate,
        ReasonCode::UnspecifiedError,
        ReasonCode::MalformedPacket,
        ReasonCode::ProtocolError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::UnsupportedProtocolVersion,
        ReasonCode::ClientIdentifierNotValid,
        ReasonCode::BadUserNameOrPassword,
        ReasonCode::NotAuthorized,
        ReasonCode::ServerUnavailable,
        ReasonCode::ServerBusy,
        ReasonCode::Banned,
        ReasonCode::ServerShuttingDown,
        ReasonCode::BadAuthenticationMethod,
        ReasonCode::KeepAliveTimeout,
        ReasonCode::SessionTakenOver,
        ReasonCode::TopicFilterInvalid,
        ReasonCode::TopicNameInvalid,
        ReasonCode::PacketIdentifierInUse,
        ReasonCode::PacketIdentifierNotFound,
        ReasonCode::ReceiveMaximumExceeded,
        ReasonCode::TopicAliasInvalid,
        ReasonCode::PacketTooLarge,
        ReasonCode::MessageRateTooHigh,
        ReasonCode::QuotaExceeded,
        ReasonCode::AdministrativeAction,
        ReasonCode::PayloadFormatInvalid,
        ReasonCode::RetainNotSupported,
        ReasonCode::QosNotSupported,
        ReasonCode::UseAnotherServer,
        ReasonCode::ServerMoved,
        ReasonCode::SharedSubscriptionsNotSupported,
        ReasonCode::ConnectionRateExceeded,
        ReasonCode::MaximumConnectTime,
        ReasonCode::SubscriptionIdentifiersNotSupported,
        ReasonCode::WildcardSubscriptionsNotSupported,
    ];

    /// The code with this number; `None` where 5.0 has none.
    #[inline]
    pub const fn from_u8(code: u8) -> Option<ReasonCode> {
        Some(match code {
            0x00 => ReasonCode::Success,
            0x01 => ReasonCode::GrantedQos1,
            0x02 => ReasonCode::GrantedQos2,
            0x04 => ReasonCode::DisconnectWithWill,
            0x10 => ReasonCode::NoMatchingSubscribers,
            0x11 => ReasonCode::NoSubscriptionExisted,
            0x18 => ReasonCode::ContinueAuthentication,
            0x19 => ReasonCode::ReAuthenticate,
            0x80 => ReasonCode::UnspecifiedError,
            0x81 => ReasonCode::MalformedPacket,
            0x82 => ReasonCode::ProtocolError,
            0x83 => ReasonCode::ImplementationSpecificError,
            0x84 => ReasonCode::UnsupportedProtocolVersion,
            0x85 => ReasonCode::ClientIdentifierNotValid,
            0x86 => ReasonCode::BadUserNameOrPassword,
            0x87 => ReasonCode::NotAuthorized,
            0x88 => ReasonCode::ServerUnavailable,
            0x89 => ReasonCode::ServerBusy,
            0x8A => ReasonCode::Banned,
            0x8B => ReasonCode::ServerShuttingDown,
            0x8C => ReasonCode::BadAuthenticationMethod,
            0x8D => ReasonCode::KeepAliveTimeout,
            0x8E => ReasonCode::SessionTakenOver,
            0x8F => ReasonCode::TopicFilterInvalid,
            0x90 => ReasonCode::TopicNameInvalid,
            0x91 => ReasonCode::PacketIdentifierInUse,
            0x92 => ReasonCode::PacketIdentifierNotFound,
            0x93 => ReasonCode::ReceiveMaximumExceeded,
            0x94 => ReasonCode::TopicAliasInvalid,
            0x95 => ReasonCode::PacketTooLarge,
            0x96 => ReasonCode::MessageRateTooHigh,
            0x97 => ReasonCode::QuotaExceeded,
            0x98 => ReasonCode::AdministrativeAction,
            0x99 => ReasonCode::PayloadFormatInvalid,
            0x9A => ReasonCode::RetainNotSupported,
            0x9B => ReasonCode::QosNotSupported,
            0x9C => ReasonCode::UseAnotherServer,
            0x9D => ReasonCode::ServerMoved,
            0x9E => ReasonCode::SharedSubscriptionsNotSupported,
            0x9F => ReasonCode::ConnectionRateExceeded,
            0xA0 => ReasonCode::MaximumConnectTime,
            0xA1 => ReasonCode::SubscriptionIdentifiersNotSupported,
            0xA2 => ReasonCode::WildcardSubscriptionsNotSupported,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether this is a failure: 0x80 and above.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The code that grants a subscription at `qos`.
    pub const fn granted(qos: QoS) -> ReasonCode {
        match qos {
            QoS::AtMostOnce => ReasonCode::GRANTED_QOS_0,
            QoS::AtLeastOnce => ReasonCode::GrantedQos1,
            QoS::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }

    /// Whether the standard lists this code for packets of this type.
    ///
    /// DISCONNECT takes what either side may send, and 0x8C, which one of the standard's two tables lists.
    /// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2]
    /// [MQTT-3.14.2-1] [MQTT-3.15.2-1]
    #[inline]
    pub const fn allowed_in(self, packet_type: PacketType) -> bool {
        self.packet_types() & (1 << packet_type as u16) != 0
    }

    /// The packets that may carry this code: a bit for each packet type.
    const fn packet_types(self) -> u16 {
        const CA: u16 = 1 << PacketType::ConnAck as u16;
        const PA: u16 = 1 << PacketType::PubAck as u16;
        const PR: u16 = 1 << PacketType::PubRec as u16;
        const PL: u16 = 1 << PacketType::PubRel as u16;
        const PC: u16 = 1 << PacketType::PubComp as u16;
        const SA: u16 = 1 << PacketType::SubAck as u16;
        const UA: u16 = 1 << PacketType::UnsubAck as u16;
        const DC: u16 = 1 << PacketType::Disconnect as u16;
        const AU: u16 = 1 << PacketType::Auth as u16;
        match self {
            ReasonCode::Success => CA | PA | PR | PL | PC | SA | UA | DC | AU,
            ReasonCode::GrantedQos1 | ReasonCode::GrantedQos2 => SA,
            ReasonCode::DisconnectWithWill
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::SessionTakenOver
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::AdministrativeAction
            | ReasonCode::MaximumConnectTime => DC,
            ReasonCode::NoMatchingSubscribers => PA | PR,
            ReasonCode::NoSubscriptionExisted => UA,
            ReasonCode::ContinueAuthentication | ReasonCode::ReAuthenticate => AU,
            ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized => CA | PA | PR | SA | UA | DC,
            ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ServerBusy
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::PacketTooLarge
            | ReasonCode::RetainNotSupported
            | ReasonCode::QosNotSupported
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded => CA | DC,
            ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::ServerUnavailable
            | ReasonCode::Banned => CA,
            ReasonCode::TopicFilterInvalid => SA | UA | DC,
            ReasonCode::TopicNameInvalid | ReasonCode::PayloadFormatInvalid => CA | PA | PR | DC,
            ReasonCode::PacketIdentifierInUse => PA | PR | SA | UA,
            ReasonCode::PacketIdentifierNotFound => PL | PC,
            ReasonCode::QuotaExceeded => CA | PA | PR | SA | DC,
            ReasonCode::SharedSubscriptionsNotSupported
            | ReasonCode::SubscriptionIdentifiersNotSupported
            | ReasonCode::WildcardSubscriptionsNotSupported => SA | DC,
        }
    }
}

impl fmt::Display for ReasonCode {
    /// The number and the name, as in `0x87 NotAuthorized`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {self:?}", self.as_u8())
    }
}

/// A CONNACK return code of MQTT 3.1 and 3.1.1. The other 250 numbers are reserved [U311-007].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// 0: accepted.
    Accepted = 0,
    /// 1: the server does not speak this protocol level.
    UnacceptableProtocolVersion = 1,
    /// 2: the client identifier is not allowed.
    IdentifierRejected = 2,
    /// 3: the server is not available.
    ServerUnavailable = 3,
    /// 4: the user name or password is malformed.
    BadUserNameOrPassword = 4,
    /// 5: the client may not connect.
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    /// The code with this number, unless it is reserved.
    pub const fn from_u8(code: u8) -> Option<ConnectReturnCode> {
        Some(match code {
            0 => ConnectReturnCode::Accepted,
            1 => ConnectReturnCode::UnacceptableProtocolVersion,
            2 => ConnectReturnCode::IdentifierRejected,
            3 => ConnectReturnCode::ServerUnavailable,
            4 => ConnectReturnCode::BadUserNameOrPassword,
            5 => ConnectReturnCode::NotAuthorized,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The code that says what `reason` says. `None` when none fits: a server then closes without a CONNACK
    /// [MQTT-3.2.2-6].
    pub const fn from_reason(reason: ReasonCode) -> Option<ConnectReturnCode> {
        Some(match reason {
            ReasonCode::Success => ConnectReturnCode::Accepted,
            ReasonCode::UnsupportedProtocolVersion => {
                ConnectReturnCode::UnacceptableProtocolVersion
            }
            ReasonCode::ClientIdentifierNotValid => ConnectReturnCode::IdentifierRejected,
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::QuotaExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded => ConnectReturnCode::ServerUnavailable,
            ReasonCode::BadUserNameOrPassword => ConnectReturnCode::BadUserNameOrPassword,
            ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => ConnectReturnCode::NotAuthorized,
            _ => return None,
        })
    }

    /// The reason code that says the same.
    pub const fn reason(self) -> ReasonCode {
        match self {
            ConnectReturnCode::Accepted => ReasonCode::Success,
            ConnectReturnCode::UnacceptableProtocolVersion => {
                ReasonCode::UnsupportedProtocolVersion
            }
            ConnectReturnCode::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
            ConnectReturnCode::ServerUnavailable => ReasonCode::ServerUnavailable,
            ConnectReturnCode::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            ConnectReturnCode::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_code_or_none() {
        let known: Vec<ReasonCode> = (0..=255).filter_map(ReasonCode::from_u8).collect();
        assert_eq!(known, ReasonCode::ALL);
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(code.as_u8()), Some(code));
            assert_eq!(code.is_error(), code.as_u8() >= 0x80);
        }
    }

    #[test]
    fn the_columns_of_the_standard_have_their_lengths() {
        let count = |packet_type| {
            let codes = ReasonCode::ALL.into_iter();
            codes.filter(|code| code.allowed_in(packet_type)).count()
        };
        let table = [
            (PacketType::ConnAck, 22),
            (PacketType::PubAck, 9),
            (PacketType::PubRec, 9),
            (PacketType::PubRel, 2),
            (PacketType::PubComp, 2),
            (PacketType::SubAck, 12),
            (PacketType::UnsubAck, 7),
            // The standard's 29, and 0x8C.
            (PacketType::Disconnect, 30),
            (PacketType::Auth, 3),
            (PacketType::Connect, 0),
            (PacketType::Publish, 0),
            (PacketType::PingReq, 0),
        ];
        for (packet_type, codes) in table {
            assert_eq!(count(packet_type), codes, "{packet_type}");
        }
    }

    #[test]
    fn return_codes_map_to_reasons_and_back() {
        for number in 0..=255 {
            if let Some(code) = ConnectReturnCode::from_u8(number) {
                assert_eq!(code.as_u8(), number);
                assert_eq!(ConnectReturnCode::from_reason(code.reason()), Some(code));
                assert!(code.reason().allowed_in(PacketType::ConnAck));
            } else {
                assert!(number > 5, "U311-007");
            }
        }
        // [3:MQTT-3.2.2-6]: no code says "malformed packet".
        assert_eq!(
            ConnectReturnCode::from_reason(ReasonCode::MalformedPacket),
            None
        );
    }
}
