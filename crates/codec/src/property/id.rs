//! The 27 property identifiers, and where each may stand.

use std::fmt;

use crate::PacketType;

/// A property's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PropertyId {
    /// Payload format indicator: PUBLISH, Will.
    PayloadFormat = 0x01,
    /// Message expiry interval: PUBLISH, Will.
    MessageExpiry = 0x02,
    /// Content type: PUBLISH, Will.
    ContentType = 0x03,
    /// Response topic: PUBLISH, Will.
    ResponseTopic = 0x08,
    /// Correlation data: PUBLISH, Will.
    CorrelationData = 0x09,
    /// Subscription identifier: PUBLISH, SUBSCRIBE.
    SubscriptionId = 0x0B,
    /// Session expiry interval: CONNECT, CONNACK, DISCONNECT.
    SessionExpiry = 0x11,
    /// Assigned client identifier: CONNACK.
    AssignedClientId = 0x12,
    /// Server keep alive: CONNACK.
    ServerKeepAlive = 0x13,
    /// Authentication method: CONNECT, CONNACK, AUTH.
    AuthenticationMethod = 0x15,
    /// Authentication data: CONNECT, CONNACK, AUTH.
    AuthenticationData = 0x16,
    /// Request problem information: CONNECT.
    RequestProblemInformation = 0x17,
    /// Will delay interval: Will.
    WillDelay = 0x18,
    /// Request response information: CONNECT.
    RequestResponseInformation = 0x19,
    /// Response information: CONNACK.
    ResponseInformation = 0x1A,
    /// Server reference: CONNACK, DISCONNECT.
    ServerReference = 0x1C,
    /// Reason string: CONNACK, the acknowledgements, DISCONNECT, AUTH.
    ReasonString = 0x1F,
    /// Receive maximum: CONNECT, CONNACK.
    ReceiveMaximum = 0x21,
    /// Topic alias maximum: CONNECT, CONNACK.
    TopicAliasMaximum = 0x22,
    /// Topic alias: PUBLISH.
    TopicAlias = 0x23,
    /// Maximum QoS: CONNACK.
    MaximumQos = 0x24,
    /// Retain available: CONNACK.
    RetainAvailable = 0x25,
    /// User property: every packet with properties, Will.
    UserProperty = 0x26,
    /// Maximum packet size: CONNECT, CONNACK.
    MaximumPacketSize = 0x27,
    /// Wildcard subscription available: CONNACK.
    WildcardSubscriptionAvailable = 0x28,
    /// Subscription identifier available: CONNACK.
    SubscriptionIdAvailable = 0x29,
    /// Shared subscription available: CONNACK.
    SharedSubscriptionAvailable = 0x2A,
}

impl PropertyId {
    /// Every identifier, by number.
    pub const ALL: [PropertyId; 27] = [
        PropertyId::PayloadFormat,
        PropertyId::MessageExpiry,
        PropertyId::ContentType,
        PropertyId::ResponseTopic,
        PropertyId::CorrelationData,
        PropertyId::SubscriptionId,
        PropertyId::SessionExpiry,
        PropertyId::AssignedClientId,
        PropertyId::ServerKeepAlive,
        PropertyId::AuthenticationMethod,
        PropertyId::AuthenticationData,
        PropertyId::RequestProblemInformation,
        PropertyId::WillDelay,
        PropertyId::RequestResponseInformation,
        PropertyId::ResponseInformation,
        PropertyId::ServerReference,
        PropertyId::ReasonString,
        PropertyId::ReceiveMaximum,
        PropertyId::TopicAliasMaximum,
        PropertyId::TopicAlias,
        PropertyId::MaximumQos,
        PropertyId::RetainAvailable,
        PropertyId::UserProperty,
        PropertyId::MaximumPacketSize,
        PropertyId::WildcardSubscriptionAvailable,
        PropertyId::SubscriptionIdAvailable,
        PropertyId::SharedSubscriptionAvailable,
    ];

    /// The identifier with this number. On the wire it is a variable byte integer; all that exist have one byte.
    #[inline]
    pub const fn from_u8(id: u8) -> Option<PropertyId> {
        Some(match id {
            0x01 => PropertyId::PayloadFormat,
            0x02 => PropertyId::MessageExpiry,
            0x03 => PropertyId::ContentType,
            0x08 => PropertyId::ResponseTopic,
            0x09 => PropertyId::CorrelationData,
            0x0B => PropertyId::SubscriptionId,
            0x11 => PropertyId::SessionExpiry,
            0x12 => PropertyId::AssignedClientId,
            0x13 => PropertyId::ServerKeepAlive,
            0x15 => PropertyId::AuthenticationMethod,
            0x16 => PropertyId::AuthenticationData,
            0x17 => PropertyId::RequestProblemInformation,
            0x18 => PropertyId::WillDelay,
            0x19 => PropertyId::RequestResponseInformation,
            0x1A => PropertyId::ResponseInformation,
            0x1C => PropertyId::ServerReference,
            0x1F => PropertyId::ReasonString,
            0x21 => PropertyId::ReceiveMaximum,
            0x22 => PropertyId::TopicAliasMaximum,
            0x23 => PropertyId::TopicAlias,
            0x24 => PropertyId::MaximumQos,
            0x25 => PropertyId::RetainAvailable,
            0x26 => PropertyId::UserProperty,
            0x27 => PropertyId::MaximumPacketSize,
            0x28 => PropertyId::WildcardSubscriptionAvailable,
            0x29 => PropertyId::SubscriptionIdAvailable,
            0x2A => PropertyId::SharedSubscriptionAvailable,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether this property may stand in `place`.
    #[inline]
    pub const fn allowed_in(self, place: PropertyPlace) -> bool {
        place.allowed().contains(self)
    }

    /// Whether this property may stand in `place` more than once.
    #[inline]
    pub const fn repeatable_in(self, place: PropertyPlace) -> bool {
        place.repeatable().contains(self)
    }

    /// How the value is written.
    #[inline]
    pub(super) const fn wire_type(self) -> WireType {
        match self {
            PropertyId::PayloadFormat
            | PropertyId::RequestProblemInformation
            | PropertyId::RequestResponseInformation
            | PropertyId::MaximumQos
            | PropertyId::RetainAvailable
            | PropertyId::WildcardSubscriptionAvailable
            | PropertyId::SubscriptionIdAvailable
            | PropertyId::SharedSubscriptionAvailable => WireType::Byte,
            PropertyId::ServerKeepAlive
            | PropertyId::ReceiveMaximum
            | PropertyId::TopicAliasMaximum
            | PropertyId::TopicAlias => WireType::TwoBytes,
            PropertyId::MessageExpiry
            | PropertyId::SessionExpiry
            | PropertyId::WillDelay
            | PropertyId::MaximumPacketSize => WireType::FourBytes,
            PropertyId::SubscriptionId => WireType::VariableInteger,
            PropertyId::ContentType
            | PropertyId::ResponseTopic
            | PropertyId::CorrelationData
            | PropertyId::AssignedClientId
            | PropertyId::AuthenticationMethod
            | PropertyId::AuthenticationData
            | PropertyId::ResponseInformation
            | PropertyId::ServerReference
            | PropertyId::ReasonString => WireType::Prefixed,
            PropertyId::UserProperty => WireType::PrefixedPair,
        }
    }

    /// The rule on the property's value and on its repetition.
    pub(crate) const fn clause(self) -> &'static str {
        match self {
            PropertyId::PayloadFormat
            | PropertyId::MessageExpiry
            | PropertyId::ContentType
            | PropertyId::ResponseTopic
            | PropertyId::CorrelationData
            | PropertyId::TopicAlias => "U5-045",
            PropertyId::SubscriptionId => "U5-057",
            PropertyId::SessionExpiry => "U5-019",
            PropertyId::AssignedClientId
            | PropertyId::ServerKeepAlive
            | PropertyId::ResponseInformation
            | PropertyId::ServerReference
            | PropertyId::MaximumQos
            | PropertyId::RetainAvailable
            | PropertyId::WildcardSubscriptionAvailable
            | PropertyId::SubscriptionIdAvailable
            | PropertyId::SharedSubscriptionAvailable => "U5-036",
            PropertyId::AuthenticationMethod => "U5-027",
            PropertyId::AuthenticationData => "U5-028",
            PropertyId::RequestProblemInformation => "U5-025",
            PropertyId::WillDelay => "U5-029",
            PropertyId::RequestResponseInformation => "U5-024",
            PropertyId::ReasonString => "U5-056",
            PropertyId::ReceiveMaximum => "U5-020",
            PropertyId::TopicAliasMaximum => "U5-023",
            PropertyId::UserProperty => "U5-004",
            PropertyId::MaximumPacketSize => "U5-021",
        }
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PropertyId::PayloadFormat => "payload format indicator",
            PropertyId::MessageExpiry => "message expiry interval",
            PropertyId::ContentType => "content type",
            PropertyId::ResponseTopic => "response topic",
            PropertyId::CorrelationData => "correlation data",
            PropertyId::SubscriptionId => "subscription identifier",
            PropertyId::SessionExpiry => "session expiry interval",
            PropertyId::AssignedClientId => "assigned client identifier",
            PropertyId::ServerKeepAlive => "server keep alive",
            PropertyId::AuthenticationMethod => "authentication method",
            PropertyId::AuthenticationData => "authentication data",
            PropertyId::RequestProblemInformation => "request problem information",
            PropertyId::WillDelay => "will delay interval",
            PropertyId::RequestResponseInformation => "request response information",
            PropertyId::ResponseInformation => "response information",
            PropertyId::ServerReference => "server reference",
            PropertyId::ReasonString => "reason string",
            PropertyId::ReceiveMaximum => "receive maximum",
            PropertyId::TopicAliasMaximum => "topic alias maximum",
            PropertyId::TopicAlias => "topic alias",
            PropertyId::MaximumQos => "maximum QoS",
            PropertyId::RetainAvailable => "retain available",
            PropertyId::UserProperty => "user property",
            PropertyId::MaximumPacketSize => "maximum packet size",
            PropertyId::WildcardSubscriptionAvailable => "wildcard subscription available",
            PropertyId::SubscriptionIdAvailable => "subscription identifier available",
            PropertyId::SharedSubscriptionAvailable => "shared subscription available",
        })
    }
}

/// Where properties stand: in a packet, or in the payload of CONNECT as those of the will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertyPlace {
    /// The variable header of a packet.
    Packet(PacketType),
    /// The will properties of CONNECT.
    Will,
}

impl PropertyPlace {
    /// The properties that may stand here.
    pub(crate) const fn allowed(self) -> PropertySet {
        use PropertyId as Id;
        const CONNECT: PropertySet = PropertySet::of(&[
            Id::SessionExpiry,
            Id::AuthenticationMethod,
            Id::AuthenticationData,
            Id::RequestProblemInformation,
            Id::RequestResponseInformation,
            Id::ReceiveMaximum,
            Id::TopicAliasMaximum,
            Id::UserProperty,
            Id::MaximumPacketSize,
        ]);
        const WILL: PropertySet = PropertySet::of(&[
            Id::PayloadFormat,
            Id::MessageExpiry,
            Id::ContentType,
            Id::ResponseTopic,
            Id::CorrelationData,
            Id::WillDelay,
            Id::UserProperty,
        ]);
        const CONNACK: PropertySet = PropertySet::of(&[
            Id::SessionExpiry,
            Id::AssignedClientId,
            Id::ServerKeepAlive,
            Id::AuthenticationMethod,
            Id::AuthenticationData,
            Id::ResponseInformation,
            Id::ServerReference,
            Id::ReasonString,
            Id::ReceiveMaximum,
            Id::TopicAliasMaximum,
            Id::MaximumQos,
            Id::RetainAvailable,
            Id::UserProperty,
            Id::MaximumPacketSize,
            Id::WildcardSubscriptionAvailable,
            Id::SubscriptionIdAvailable,
            Id::SharedSubscriptionAvailable,
        ]);
        const PUBLISH: PropertySet = PropertySet::of(&[
            Id::PayloadFormat,
            Id::MessageExpiry,
            Id::ContentType,
            Id::ResponseTopic,
            Id::CorrelationData,
            Id::SubscriptionId,
            Id::TopicAlias,
            Id::UserProperty,
        ]);
        const ACKNOWLEDGEMENT: PropertySet = PropertySet::of(&[Id::ReasonString, Id::UserProperty]);
        const SUBSCRIBE: PropertySet = PropertySet::of(&[Id::SubscriptionId, Id::UserProperty]);
        const UNSUBSCRIBE: PropertySet = PropertySet::of(&[Id::UserProperty]);
        const DISCONNECT: PropertySet = PropertySet::of(&[
            Id::SessionExpiry,
            Id::ServerReference,
            Id::ReasonString,
            Id::UserProperty,
        ]);
        const AUTH: PropertySet = PropertySet::of(&[
            Id::AuthenticationMethod,
            Id::AuthenticationData,
            Id::ReasonString,
            Id::UserProperty,
        ]);
        match self {
            PropertyPlace::Will => WILL,
            PropertyPlace::Packet(packet_type) => match packet_type {
                PacketType::Connect => CONNECT,
                PacketType::ConnAck => CONNACK,
                PacketType::Publish => PUBLISH,
                PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
                | PacketType::SubAck
                | PacketType::UnsubAck => ACKNOWLEDGEMENT,
                PacketType::Subscribe => SUBSCRIBE,
                PacketType::Unsubscribe => UNSUBSCRIBE,
                PacketType::Disconnect => DISCONNECT,
                PacketType::Auth => AUTH,
                PacketType::PingReq | PacketType::PingResp => PropertySet::of(&[]),
            },
        }
    }

    /// The properties that may stand here more than once.
    pub(crate) const fn repeatable(self) -> PropertySet {
        match self {
            // [U5-045]
            PropertyPlace::Packet(PacketType::Publish) => {
                PropertySet::of(&[PropertyId::UserProperty, PropertyId::SubscriptionId])
            }
            _ => PropertySet::of(&[PropertyId::UserProperty]),
        }
    }
}

/// A set of properties: one bit for each identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PropertySet(u64);

impl PropertySet {
    pub(crate) const fn of(ids: &[PropertyId]) -> PropertySet {
        let mut set = PropertySet(0);
        let mut rest = ids;
        while let [id, tail @ ..] = rest {
            set = set.with(*id);
            rest = tail;
        }
        set
    }

    #[inline]
    pub(crate) const fn contains(self, id: PropertyId) -> bool {
        self.0 & (1 << id.as_u8()) != 0
    }

    #[inline]
    pub(crate) const fn with(self, id: PropertyId) -> PropertySet {
        PropertySet(self.0 | (1 << id.as_u8()))
    }
}

/// How a property's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Byte,
    TwoBytes,
    FourBytes,
    VariableInteger,
    /// A string or binary data after a length of two bytes.
    Prefixed,
    /// Two strings.
    PrefixedPair,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_property_or_none() {
        let known: Vec<PropertyId> = (0..=255).filter_map(PropertyId::from_u8).collect();
        assert_eq!(known, PropertyId::ALL);
        for id in PropertyId::ALL {
            assert_eq!(PropertyId::from_u8(id.as_u8()), Some(id));
        }
    }

    #[test]
    fn what_repeats_is_allowed() {
        let packets = PacketType::ALL.map(PropertyPlace::Packet);
        for place in packets.into_iter().chain([PropertyPlace::Will]) {
            for id in PropertyId::ALL {
                let has_properties = PropertyId::UserProperty.allowed_in(place);
                assert!(id.allowed_in(place) || !id.repeatable_in(place) || !has_properties);
            }
        }
    }
}
