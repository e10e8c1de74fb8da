//! CONNACK.

use std::num::{NonZeroU16, NonZeroU32};

use whimbrel_topic::ByteStr;

use super::Authentication;
use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    ConnectReturnCode, DecodeErrorKind, EncodeError, Limits, PacketType, PropertiesRef, Property,
    PropertyPlace, ProtocolVersion, QoS, ReasonCode, UserProperties,
};

/// A CONNACK: a server's answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server has a session of this client. Not sent in 3.1 [U31-003]; a server sets it with success only.
    pub session_present: bool,
    /// The outcome. Before 5.0 it is sent as the [`ConnectReturnCode`] nearest to it, which is "server unavailable"
    /// where none fits; a server should rather close without a CONNACK then [MQTT-3.2.2-6].
    pub reason: ReasonCode,
    /// What 5.0 adds.
    pub properties: ConnAckProperties,
}

impl ConnAck {
    /// A CONNACK without properties, for no session.
    pub fn new(reason: ReasonCode) -> ConnAck {
        ConnAck {
            session_present: false,
            reason,
            properties: ConnAckProperties::default(),
        }
    }

    pub(super) fn downgrade(&mut self, version: ProtocolVersion) {
        if version.is_v5() {
            return;
        }
        self.session_present &= version == ProtocolVersion::V311;
        self.reason = return_code(self.reason).reason();
        self.properties = ConnAckProperties::default();
    }
}

/// The properties of a CONNACK. The default is what their absence means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// The session expiry in seconds that the server uses instead of the client's.
    pub session_expiry_secs: Option<u32>,
    /// How many QoS 1 and 2 messages the server takes at a time.
    pub receive_maximum: NonZeroU16,
    /// The highest QoS the server takes. Sent when it is not QoS 2.
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// The largest packet in bytes that the server takes; without, there is no limit but the protocol's.
    pub packet_size_max: Option<NonZeroU32>,
    /// The client identifier that the server chose.
    pub assigned_client_id: Option<ByteStr>,
    /// The highest topic alias the server takes.
    pub topic_alias_max: u16,
    /// The reason in words.
    pub reason_string: Option<ByteStr>,
    /// Whether the server takes wildcards in filters.
    pub wildcard_subscription_available: bool,
    /// Whether the server takes subscription identifiers.
    pub subscription_id_available: bool,
    /// Whether the server takes shared subscriptions.
    pub shared_subscription_available: bool,
    /// The keep alive in seconds that the client is to use instead of its own.
    pub server_keep_alive_secs: Option<u16>,
    /// What response topics are made from.
    pub response_information: Option<ByteStr>,
    /// Another server to use.
    pub server_reference: Option<ByteStr>,
    /// The end of an enhanced authentication.
    pub authentication: Option<Authentication>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl ConnAckProperties {
    fn properties(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        let authentication = self.authentication.as_ref();
        let default_receive_maximum = self.receive_maximum == NonZeroU16::MAX;
        let unless = |available: bool, property| (!available).then_some(property);
        [
            self.session_expiry_secs.map(Property::SessionExpiry),
            self.assigned_client_id
                .as_deref()
                .map(Property::AssignedClientId),
            self.server_keep_alive_secs.map(Property::ServerKeepAlive),
            authentication.map(Authentication::method_property),
            authentication.and_then(Authentication::data_property),
            self.response_information
                .as_deref()
                .map(Property::ResponseInformation),
            self.server_reference
                .as_deref()
                .map(Property::ServerReference),
            self.reason_string.as_deref().map(Property::ReasonString),
            unless(
                default_receive_maximum,
                Property::ReceiveMaximum(self.receive_maximum),
            ),
            unless(
                self.topic_alias_max == 0,
                Property::TopicAliasMaximum(self.topic_alias_max),
            ),
            unless(
                self.maximum_qos == QoS::ExactlyOnce,
                Property::MaximumQos(self.maximum_qos),
            ),
            unless(self.retain_available, Property::RetainAvailable(false)),
            self.packet_size_max.map(Property::MaximumPacketSize),
            unless(
                self.wildcard_subscription_available,
                Property::WildcardSubscriptionAvailable(false),
            ),
            unless(
                self.subscription_id_available,
                Property::SubscriptionIdAvailable(false),
            ),
            unless(
                self.shared_subscription_available,
                Property::SharedSubscriptionAvailable(false),
            ),
        ]
        .into_iter()
        .flatten()
        .chain(self.user_properties.properties())
    }
}

impl Default for ConnAckProperties {
    fn default() -> ConnAckProperties {
        ConnAckProperties {
            session_expiry_secs: None,
            receive_maximum: NonZeroU16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            packet_size_max: None,
            assigned_client_id: None,
            topic_alias_max: 0,
            reason_string: None,
            wildcard_subscription_available: true,
            subscription_id_available: true,
            shared_subscription_available: true,
            server_keep_alive_secs: None,
            response_information: None,
            server_reference: None,
            authentication: None,
            user_properties: UserProperties::new(),
        }
    }
}

impl From<PropertiesRef<'_>> for ConnAckProperties {
    fn from(section: PropertiesRef<'_>) -> ConnAckProperties {
        let mut properties = ConnAckProperties {
            authentication: Authentication::from_section(section),
            user_properties: UserProperties::from(section.user_properties()),
            ..ConnAckProperties::default()
        };
        for property in section {
            match property {
                Property::SessionExpiry(seconds) => properties.session_expiry_secs = Some(seconds),
                Property::ReceiveMaximum(maximum) => properties.receive_maximum = maximum,
                Property::MaximumQos(qos) => properties.maximum_qos = qos,
                Property::RetainAvailable(available) => properties.retain_available = available,
                Property::MaximumPacketSize(bytes) => properties.packet_size_max = Some(bytes),
                Property::AssignedClientId(id) => {
                    properties.assigned_client_id = Some(ByteStr::from(id));
                }
                Property::TopicAliasMaximum(maximum) => properties.topic_alias_max = maximum,
                Property::ReasonString(text) => {
                    properties.reason_string = Some(ByteStr::from(text));
                }
                Property::WildcardSubscriptionAvailable(available) => {
                    properties.wildcard_subscription_available = available;
                }
                Property::SubscriptionIdAvailable(available) => {
                    properties.subscription_id_available = available;
                }
                Property::SharedSubscriptionAvailable(available) => {
                    properties.shared_subscription_available = available;
                }
                Property::ServerKeepAlive(seconds) => {
                    properties.server_keep_alive_secs = Some(seconds);
                }
                Property::ResponseInformation(text) => {
                    properties.response_information = Some(ByteStr::from(text));
                }
                Property::ServerReference(text) => {
                    properties.server_reference = Some(ByteStr::from(text));
                }
                _ => {}
            }
        }
        properties
    }
}

/// A borrowed CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAckRef<'a> {
    /// Whether the server has a session of this client.
    pub session_present: bool,
    /// The outcome.
    pub reason: ReasonCode,
    /// What 5.0 adds.
    pub properties: PropertiesRef<'a>,
}

impl<'a> ConnAckRef<'a> {
    /// Copies the packet.
    pub fn into_owned(self) -> ConnAck {
        ConnAck {
            session_present: self.session_present,
            reason: self.reason,
            properties: ConnAckProperties::from(self.properties),
        }
    }

    #[cold]
    pub(super) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<ConnAckRef<'a>, DecodeErrorKind> {
        let packet_type = PacketType::ConnAck;
        let session_present = match (version, reader.u8()?) {
            // The byte is reserved, and nothing is said of its value [U31-003].
            (ProtocolVersion::V31, _) | (_, 0) => false,
            (_, 1) => true,
            // [U311-006], 5.0 [MQTT-3.2.2-1]
            _ => return Err(DecodeErrorKind::ConnAckFlagsReserved),
        };
        if version.is_v5() {
            let reason = super::decode_reason(packet_type, reader)?;
            let place = PropertyPlace::Packet(packet_type);
            let properties = PropertiesRef::decode(reader, place, limits)?;
            return Ok(ConnAckRef {
                session_present,
                reason,
                properties,
            });
        }
        let code = reader.u8()?;
        let Some(return_code) = ConnectReturnCode::from_u8(code) else {
            return Err(DecodeErrorKind::ReasonCodeInvalid { packet_type, code });
        };
        Ok(ConnAckRef {
            session_present,
            reason: return_code.reason(),
            properties: PropertiesRef::default(),
        })
    }
}

impl Body for ConnAck {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        let has_flag = version != ProtocolVersion::V31;
        out.put_u8(u8::from(self.session_present && has_flag));
        if !version.is_v5() {
            out.put_u8(return_code(self.reason).as_u8());
            return Ok(());
        }
        super::check_reason(PacketType::ConnAck, self.reason)?;
        out.put_u8(self.reason.as_u8());
        encode::put_properties(out, self.properties.properties())
    }
}

fn return_code(reason: ReasonCode) -> ConnectReturnCode {
    ConnectReturnCode::from_reason(reason).unwrap_or(ConnectReturnCode::ServerUnavailable)
}
