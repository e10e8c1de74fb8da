//! Why bytes are no packet.

use thiserror::Error;

use crate::{PacketType, PropertyId, ProtocolVersion, ReasonCode};

/// Why bytes from a peer are refused. The connection they came from cannot go on.
///
/// ```
/// use whimbrel_codec::{DecodeErrorKind, Limits, ProtocolVersion, ReasonCode, decode_ref};
///
/// let error = decode_ref(b"\x36\x00", ProtocolVersion::V5, &Limits::DEFAULT).unwrap_err();
/// assert_eq!(error.kind(), DecodeErrorKind::PublishQosInvalid);
/// assert_eq!(error.clause(), "MQTT-3.3.1-4");
/// assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} [{}]", self.clause())]
pub struct DecodeError {
    kind: DecodeErrorKind,
    version: Option<ProtocolVersion>,
}

impl DecodeError {
    pub(crate) const fn new(kind: DecodeErrorKind, version: Option<ProtocolVersion>) -> Self {
        DecodeError { kind, version }
    }

    /// Which rule was broken.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// The version that the peer speaks; `None` when a CONNECT failed before it said so.
    ///
    /// A server answers a bad CONNECT in this version's form, or closes without an answer.
    pub const fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// The id of the broken statement in the standard of the peer's version (that of 5.0 where the version is not
    /// known); `"limit"` when the packet exceeds [`Limits`](crate::Limits) of our own.
    pub const fn clause(&self) -> &'static str {
        let clauses = self.kind.clauses();
        match self.version {
            Some(ProtocolVersion::V31 | ProtocolVersion::V311) => clauses.v311,
            Some(ProtocolVersion::V5) | None => clauses.v5,
        }
    }

    /// The reason code to close with, in DISCONNECT or, when a CONNECT failed, in CONNACK.
    ///
    /// Before 5.0 there is no DISCONNECT to send it in, and a CONNACK only when
    /// [`ConnectReturnCode::from_reason`](crate::ConnectReturnCode::from_reason) has a code for it.
    pub const fn reason_code(&self) -> ReasonCode {
        self.kind.reason_code()
    }
}

/// The rule that a refused packet breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    // The fixed header.
    /// The packet type is 0, or 15 before 5.0.
    #[error("packet type {packet_type} is reserved")]
    PacketTypeReserved {
        /// The type's number.
        packet_type: u8,
    },
    /// The flags in the first byte are not those of the packet type.
    #[error("reserved flags of {packet_type} are set")]
    FlagsInvalid {
        /// The packet's type.
        packet_type: PacketType,
    },
    /// A PUBLISH has both QoS bits set.
    #[error("quality of service 3 in a PUBLISH")]
    PublishQosInvalid,
    /// A PUBLISH of QoS 0 has the DUP flag.
    #[error("a PUBLISH of QoS 0 has the DUP flag")]
    DupWithoutQos,
    /// A variable byte integer goes on after its fourth byte.
    #[error("variable byte integer is longer than four bytes")]
    VariableIntegerTooLong,
    /// A variable byte integer is not in its shortest form.
    #[error("variable byte integer is not in its shortest form")]
    VariableIntegerNotMinimal,
    /// The packet is larger than [`Limits::packet_size_max`](crate::Limits::packet_size_max).
    #[error("packet of {size} bytes is too large")]
    PacketTooLarge {
        /// The packet's size in bytes, fixed header included.
        size: u32,
    },
    /// The remaining length is one that the packet type cannot have.
    #[error("remaining length is not that of a {packet_type}")]
    LengthInvalid {
        /// The packet's type.
        packet_type: PacketType,
    },

    // Fields.
    /// A field runs past the end of its packet.
    #[error("packet ends inside a field")]
    Truncated,
    /// The last field is followed by more bytes.
    #[error("packet goes on after its last field")]
    TrailingBytes,
    /// A string is not UTF-8.
    #[error("string is not utf-8")]
    StringNotUtf8,
    /// A string holds U+0000.
    #[error("string holds U+0000")]
    StringNull,
    /// A string holds a control character or a non-character, and the limits say to refuse those.
    #[error("string holds a control character")]
    StringControlCharacter,
    /// The packet identifier is 0.
    #[error("packet identifier is 0")]
    PacketIdZero,
    /// The reason code or return code is not one this packet may carry.
    #[error("code {code:#04x} is not one of a {packet_type}")]
    ReasonCodeInvalid {
        /// The packet's type.
        packet_type: PacketType,
        /// The code's number.
        code: u8,
    },
    /// A SUBACK or UNSUBACK has no code.
    #[error("{packet_type} without a reason code")]
    ReasonCodesMissing {
        /// The packet's type.
        packet_type: PacketType,
    },

    // CONNECT and CONNACK.
    /// The protocol name is neither `MQTT` nor `MQIsdp`.
    #[error("protocol name is not that of MQTT")]
    ProtocolNameUnsupported,
    /// The protocol level is not one that goes with the protocol name.
    #[error("protocol level {level} is not supported")]
    ProtocolLevelUnsupported {
        /// The level that the client asked for.
        level: u8,
    },
    /// The reserved connect flag is set.
    #[error("reserved connect flag is set")]
    ConnectFlagReserved,
    /// The will QoS is 3.
    #[error("quality of service 3 for the will")]
    WillQosInvalid,
    /// There is no will, but the will QoS or will retain flags are set.
    #[error("will flags are set without a will")]
    WillFlagsWithoutWill,
    /// A 3.1.1 client has a password, but no user name.
    #[error("password without a user name")]
    PasswordWithoutUserName,
    /// A client before 5.0 has an empty identifier where it may not.
    #[error("client identifier is empty")]
    ClientIdEmpty,
    /// The acknowledge flags of CONNACK have a reserved bit set.
    #[error("reserved acknowledge flags are set")]
    ConnAckFlagsReserved,

    // Topics and filters.
    /// The topic name is empty, and there is no topic alias.
    #[error("topic name is empty")]
    TopicEmpty,
    /// The topic name holds a wildcard.
    #[error("topic name holds a wildcard")]
    TopicNameInvalid,
    /// The topic name has more levels than [`Limits::topic_levels_max`](crate::Limits::topic_levels_max).
    #[error("topic name has too many levels")]
    TopicLevels,
    /// A SUBSCRIBE or UNSUBSCRIBE has no topic filter.
    #[error("{packet_type} without a topic filter")]
    FiltersMissing {
        /// The packet's type.
        packet_type: PacketType,
    },
    /// A topic filter is empty.
    #[error("topic filter is empty")]
    FilterEmpty,
    /// There are more topic filters than [`Limits::filters_max`](crate::Limits::filters_max).
    #[error("too many topic filters")]
    TooManyFilters,
    /// Reserved bits of a subscription options byte are set.
    #[error("reserved subscription options are set")]
    SubscriptionOptionsReserved,
    /// The QoS in a subscription options byte is 3.
    #[error("quality of service 3 for a subscription")]
    SubscriptionQosInvalid,
    /// The retain handling in a subscription options byte is 3.
    #[error("retain handling 3 for a subscription")]
    RetainHandlingInvalid,

    // Properties.
    /// The property length goes past the end of the packet.
    #[error("property length exceeds the packet")]
    PropertyLengthInvalid,
    /// There is no property with this identifier.
    #[error("property {id:#04x} is unknown")]
    PropertyUnknown {
        /// The identifier's (first) byte.
        id: u8,
    },
    /// The property is not one of this packet's.
    #[error("property {id} is not allowed here")]
    PropertyNotAllowed {
        /// The property.
        id: PropertyId,
    },
    /// The property may stand here once only.
    #[error("property {id} is there twice")]
    PropertyRepeated {
        /// The property.
        id: PropertyId,
    },
    /// The property has a value it may not have.
    #[error("value of property {id} is invalid")]
    PropertyValueInvalid {
        /// The property.
        id: PropertyId,
    },
    /// The topic alias is 0.
    #[error("topic alias is 0")]
    TopicAliasZero,
    /// There is authentication data, or a whole AUTH packet, without an authentication method.
    #[error("authentication method is missing")]
    AuthenticationMethodMissing,
    /// A property section is longer than [`Limits::property_bytes_max`](crate::Limits::property_bytes_max).
    #[error("properties take too many bytes")]
    TooManyPropertyBytes,
    /// There are more user properties than [`Limits::user_properties_max`](crate::Limits::user_properties_max).
    #[error("too many user properties")]
    TooManyUserProperties,
}

/// The id of one rule in each standard.
struct Clauses {
    v311: &'static str,
    v5: &'static str,
}

impl DecodeErrorKind {
    const fn clauses(self) -> Clauses {
        const fn both(v311: &'static str, v5: &'static str) -> Clauses {
            Clauses { v311, v5 }
        }
        const fn only_v5(v5: &'static str) -> Clauses {
            both("MQTT-4.8.0-1", v5)
        }
        const LIMIT: Clauses = both("limit", "limit");
        match self {
            DecodeErrorKind::PacketTypeReserved { .. } => both("U311-002", "U5-005"),
            DecodeErrorKind::FlagsInvalid { packet_type } => match packet_type {
                PacketType::PubRel => both("MQTT-3.6.1-1", "MQTT-3.6.1-1"),
                PacketType::Subscribe => both("MQTT-3.8.1-1", "MQTT-3.8.1-1"),
                PacketType::Unsubscribe => both("MQTT-3.10.1-1", "MQTT-3.10.1-1"),
                PacketType::Disconnect => both("MQTT-3.14.1-1", "MQTT-3.14.1-1"),
                PacketType::Auth => only_v5("MQTT-3.15.1-1"),
                _ => both("MQTT-2.2.2-2", "MQTT-2.1.3-1"),
            },
            DecodeErrorKind::PublishQosInvalid => both("MQTT-3.3.1-4", "MQTT-3.3.1-4"),
            DecodeErrorKind::DupWithoutQos => both("MQTT-3.3.1-2", "MQTT-3.3.1-2"),
            DecodeErrorKind::VariableIntegerTooLong => both("U311-001", "U5-003"),
            DecodeErrorKind::VariableIntegerNotMinimal => only_v5("MQTT-1.5.5-1"),
            DecodeErrorKind::PacketTooLarge { .. } => both("limit", "U5-041"),
            DecodeErrorKind::LengthInvalid { .. }
            | DecodeErrorKind::Truncated
            | DecodeErrorKind::TrailingBytes => both("MQTT-4.8.0-1", "U5-007"),
            DecodeErrorKind::StringNotUtf8 => both("MQTT-1.5.3-1", "MQTT-1.5.4-1"),
            DecodeErrorKind::StringNull => both("MQTT-1.5.3-2", "MQTT-1.5.4-2"),
            DecodeErrorKind::StringControlCharacter => both("limit", "U5-002"),
            DecodeErrorKind::PacketIdZero => both("MQTT-2.3.1-1", "MQTT-2.2.1-3"),
            DecodeErrorKind::ReasonCodeInvalid { packet_type, .. } => match packet_type {
                PacketType::ConnAck => both("U311-007", "MQTT-3.2.2-8"),
                PacketType::PubAck => only_v5("MQTT-3.4.2-1"),
                PacketType::PubRec => only_v5("MQTT-3.5.2-1"),
                PacketType::PubRel => only_v5("MQTT-3.6.2-1"),
                PacketType::PubComp => only_v5("MQTT-3.7.2-1"),
                PacketType::SubAck => both("MQTT-3.9.3-2", "MQTT-3.9.3-2"),
                PacketType::UnsubAck => only_v5("MQTT-3.11.3-2"),
                PacketType::Disconnect => only_v5("MQTT-3.14.2-1"),
                _ => only_v5("MQTT-3.15.2-1"),
            },
            DecodeErrorKind::ReasonCodesMissing { packet_type } => match packet_type {
                PacketType::SubAck => both("MQTT-3.8.4-5", "MQTT-3.8.4-6"),
                _ => only_v5("MQTT-3.11.3-1"),
            },
            DecodeErrorKind::ProtocolNameUnsupported => both("MQTT-3.1.2-1", "MQTT-3.1.2-1"),
            DecodeErrorKind::ProtocolLevelUnsupported { .. } => {
                both("MQTT-3.1.2-2", "MQTT-3.1.2-2")
            }
            DecodeErrorKind::ConnectFlagReserved => both("MQTT-3.1.2-3", "MQTT-3.1.2-3"),
            DecodeErrorKind::WillQosInvalid => both("MQTT-3.1.2-14", "MQTT-3.1.2-12"),
            DecodeErrorKind::WillFlagsWithoutWill => both("MQTT-3.1.2-11", "MQTT-3.1.2-11"),
            DecodeErrorKind::PasswordWithoutUserName => both("MQTT-3.1.2-22", "U5-016"),
            DecodeErrorKind::ClientIdEmpty => both("MQTT-3.1.3-8", "MQTT-3.1.3-6"),
            DecodeErrorKind::ConnAckFlagsReserved => both("U311-006", "MQTT-3.2.2-1"),
            DecodeErrorKind::TopicEmpty => both("MQTT-4.7.3-1", "U5-044"),
            DecodeErrorKind::TopicNameInvalid => both("MQTT-3.3.2-2", "MQTT-3.3.2-2"),
            DecodeErrorKind::FiltersMissing { packet_type } => match packet_type {
                PacketType::Subscribe => both("MQTT-3.8.3-3", "MQTT-3.8.3-2"),
                _ => both("MQTT-3.10.3-2", "MQTT-3.10.3-2"),
            },
            DecodeErrorKind::FilterEmpty => both("MQTT-4.7.3-1", "MQTT-4.7.3-1"),
            DecodeErrorKind::SubscriptionOptionsReserved => both("MQTT-3.8.3-4", "MQTT-3.8.3-5"),
            DecodeErrorKind::SubscriptionQosInvalid => both("MQTT-3.8.3-4", "U5-059"),
            DecodeErrorKind::RetainHandlingInvalid => only_v5("U5-059"),
            DecodeErrorKind::PropertyLengthInvalid => only_v5("U5-010"),
            DecodeErrorKind::PropertyUnknown { .. }
            | DecodeErrorKind::PropertyNotAllowed { .. } => only_v5("U5-011"),
            DecodeErrorKind::PropertyRepeated { id }
            | DecodeErrorKind::PropertyValueInvalid { id } => only_v5(id.clause()),
            DecodeErrorKind::TopicAliasZero => only_v5("MQTT-3.3.2-8"),
            DecodeErrorKind::AuthenticationMethodMissing => only_v5("U5-092"),
            DecodeErrorKind::TopicLevels
            | DecodeErrorKind::TooManyFilters
            | DecodeErrorKind::TooManyPropertyBytes
            | DecodeErrorKind::TooManyUserProperties => LIMIT,
        }
    }

    const fn reason_code(self) -> ReasonCode {
        match self {
            DecodeErrorKind::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            DecodeErrorKind::TopicNameInvalid | DecodeErrorKind::TopicLevels => {
                ReasonCode::TopicNameInvalid
            }
            DecodeErrorKind::FilterEmpty => ReasonCode::TopicFilterInvalid,
            DecodeErrorKind::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            DecodeErrorKind::ProtocolNameUnsupported
            | DecodeErrorKind::ProtocolLevelUnsupported { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            DecodeErrorKind::ClientIdEmpty => ReasonCode::ClientIdentifierNotValid,
            DecodeErrorKind::TooManyFilters
            | DecodeErrorKind::TooManyPropertyBytes
            | DecodeErrorKind::TooManyUserProperties => ReasonCode::QuotaExceeded,
            DecodeErrorKind::PacketIdZero
            | DecodeErrorKind::ReasonCodesMissing { .. }
            | DecodeErrorKind::TopicEmpty
            | DecodeErrorKind::FiltersMissing { .. }
            | DecodeErrorKind::SubscriptionQosInvalid
            | DecodeErrorKind::RetainHandlingInvalid
            | DecodeErrorKind::PropertyRepeated { .. }
            | DecodeErrorKind::PropertyValueInvalid { .. }
            | DecodeErrorKind::AuthenticationMethodMissing => ReasonCode::ProtocolError,
            DecodeErrorKind::PacketTypeReserved { .. }
            | DecodeErrorKind::FlagsInvalid { .. }
            | DecodeErrorKind::PublishQosInvalid
            | DecodeErrorKind::DupWithoutQos
            | DecodeErrorKind::VariableIntegerTooLong
            | DecodeErrorKind::VariableIntegerNotMinimal
            | DecodeErrorKind::LengthInvalid { .. }
            | DecodeErrorKind::Truncated
            | DecodeErrorKind::TrailingBytes
            | DecodeErrorKind::StringNotUtf8
            | DecodeErrorKind::StringNull
            | DecodeErrorKind::StringControlCharacter
            | DecodeErrorKind::ReasonCodeInvalid { .. }
            | DecodeErrorKind::ConnectFlagReserved
            | DecodeErrorKind::WillQosInvalid
            | DecodeErrorKind::WillFlagsWithoutWill
            | DecodeErrorKind::PasswordWithoutUserName
            | DecodeErrorKind::ConnAckFlagsReserved
            | DecodeErrorKind::SubscriptionOptionsReserved
            | DecodeErrorKind::PropertyLengthInvalid
            | DecodeErrorKind::PropertyUnknown { .. }
            | DecodeErrorKind::PropertyNotAllowed { .. } => ReasonCode::MalformedPacket,
        }
    }
}
