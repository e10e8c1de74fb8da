//! CONNECT and the will in it.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use whimbrel_topic::{ByteStr, TopicName, TopicNameBuf};

use super::Authentication;
use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    ControlCharacters, DecodeErrorKind, EncodeError, Limits, MessageProperties, PacketType,
    PropertiesRef, Property, PropertyPlace, ProtocolVersion, QoS, UserProperties,
};

/// A CONNECT: the first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version the client speaks. It is on the wire, and it alone decides how this packet is encoded.
    pub version: ProtocolVersion,
    /// The client identifier. Empty, the server is asked to choose one; 3.1 does not know that, 3.1.1 only with
    /// `clean_start`.
    pub client_id: ByteStr,
    /// Whether an old session is to be dropped (Clean Start; Clean Session before 5.0).
    pub clean_start: bool,
    /// The longest pause between two packets of the client, in seconds; 0 switches the check off.
    pub keep_alive_secs: u16,
    /// What is published when the connection is lost.
    pub will: Option<Will>,
    /// The user name.
    pub user_name: Option<ByteStr>,
    /// The password. In 3.1.1 only with a user name.
    pub password: Option<Bytes>,
    /// What 5.0 adds.
    pub properties: ConnectProperties,
}

impl Connect {
    /// A CONNECT with a clean start, a keep alive of 60 seconds, and nothing else.
    pub fn new(version: ProtocolVersion, client_id: impl Into<ByteStr>) -> Connect {
        Connect {
            version,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive_secs: 60,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    pub(super) fn downgrade(&mut self) {
        if self.version.is_v5() {
            return;
        }
        self.properties = ConnectProperties::default();
        if let Some(will) = &mut self.will {
            will.delay_secs = 0;
            will.properties = MessageProperties::new();
        }
    }
}

/// The message that a server publishes when a connection is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: TopicNameBuf,
    /// The payload: at most 65,535 bytes.
    pub payload: Bytes,
    /// The QoS it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Seconds between the loss of the connection and the publication.
    pub delay_secs: u32,
    /// The message's properties, in the form a PUBLISH has them.
    pub properties: MessageProperties,
}

/// The properties of a CONNECT. The default is what their absence means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds that the session outlives the connection: 0 is none, `u32::MAX` is for ever.
    pub session_expiry_secs: u32,
    /// How many QoS 1 and 2 messages the client takes at a time.
    pub receive_maximum: NonZeroU16,
    /// The largest packet in bytes that the client takes; without, there is no limit but the protocol's.
    pub packet_size_max: Option<NonZeroU32>,
    /// The highest topic alias the client takes.
    pub topic_alias_max: u16,
    /// Whether the client wants response information in CONNACK.
    pub request_response_information: bool,
    /// Whether the client wants reason strings and user properties on all packets.
    pub request_problem_information: bool,
    /// The start of an enhanced authentication.
    pub authentication: Option<Authentication>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl ConnectProperties {
    fn properties(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        let default_receive_maximum = self.receive_maximum == NonZeroU16::MAX;
        let authentication = self.authentication.as_ref();
        [
            (self.session_expiry_secs != 0)
                .then_some(Property::SessionExpiry(self.session_expiry_secs)),
            authentication.map(Authentication::method_property),
            authentication.and_then(Authentication::data_property),
            (!self.request_problem_information)
                .then_some(Property::RequestProblemInformation(false)),
            self.request_response_information
                .then_some(Property::RequestResponseInformation(true)),
            (!default_receive_maximum).then_some(Property::ReceiveMaximum(self.receive_maximum)),
            (self.topic_alias_max != 0)
                .then_some(Property::TopicAliasMaximum(self.topic_alias_max)),
            self.packet_size_max.map(Property::MaximumPacketSize),
        ]
        .into_iter()
        .flatten()
        .chain(self.user_properties.properties())
    }
}

impl Default for ConnectProperties {
    fn default() -> ConnectProperties {
        ConnectProperties {
            session_expiry_secs: 0,
            receive_maximum: NonZeroU16::MAX,
            packet_size_max: None,
            topic_alias_max: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication: None,
            user_properties: UserProperties::new(),
        }
    }
}

impl From<PropertiesRef<'_>> for ConnectProperties {
    fn from(section: PropertiesRef<'_>) -> ConnectProperties {
        let mut properties = ConnectProperties {
            authentication: Authentication::from_section(section),
            user_properties: UserProperties::from(section.user_properties()),
            ..ConnectProperties::default()
        };
        for property in section {
            match property {
                Property::SessionExpiry(seconds) => properties.session_expiry_secs = seconds,
                Property::ReceiveMaximum(maximum) => properties.receive_maximum = maximum,
                Property::MaximumPacketSize(bytes) => properties.packet_size_max = Some(bytes),
                Property::TopicAliasMaximum(maximum) => properties.topic_alias_max = maximum,
                Property::RequestResponseInformation(wanted) => {
                    properties.request_response_information = wanted;
                }
                Property::RequestProblemInformation(wanted) => {
                    properties.request_problem_information = wanted;
                }
                _ => {}
            }
        }
        properties
    }
}

/// A borrowed CONNECT.
///
/// What stands in its payload is read in place, as this value travels with every other kind of
/// [`PacketRef`](crate::PacketRef) and should be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRef<'a> {
    /// The version the client speaks.
    pub version: ProtocolVersion,
    /// The longest pause between two packets of the client, in seconds; 0 switches the check off.
    pub keep_alive_secs: u16,
    /// What 5.0 adds.
    pub properties: PropertiesRef<'a>,
    flags: ConnectFlags,
    /// Invariant: validated.
    payload: &'a [u8],
}

impl<'a> ConnectRef<'a> {
    /// Whether an old session is to be dropped.
    pub const fn clean_start(&self) -> bool {
        self.flags.clean_start
    }

    /// The client identifier.
    pub fn client_id(&self) -> &'a str {
        self.read_payload().client_id
    }

    /// What is published when the connection is lost.
    pub fn will(&self) -> Option<WillRef<'a>> {
        self.read_payload().will
    }

    /// The user name.
    pub fn user_name(&self) -> Option<&'a str> {
        self.read_payload().user_name
    }

    /// The password.
    pub fn password(&self) -> Option<&'a [u8]> {
        self.read_payload().password
    }

    /// Copies the packet.
    pub fn into_owned(self) -> Connect {
        let payload = self.read_payload();
        Connect {
            version: self.version,
            client_id: ByteStr::from(payload.client_id),
            clean_start: self.flags.clean_start,
            keep_alive_secs: self.keep_alive_secs,
            will: payload.will.map(WillRef::into_owned),
            user_name: payload.user_name.map(ByteStr::from),
            password: payload.password.map(Bytes::copy_from_slice),
            properties: ConnectProperties::from(self.properties),
        }
    }

    fn read_payload(&self) -> ConnectPayload<'a> {
        let mut reader = Reader::new(self.payload, ControlCharacters::Accept);
        let payload =
            ConnectPayload::decode(self.flags, self.version, &mut reader, &Limits::PROTOCOL);
        // It was validated under tighter limits.
        payload.unwrap_or_default()
    }

    /// Reads protocol name and level.
    pub(super) fn decode_version(
        reader: &mut Reader<'a>,
    ) -> Result<ProtocolVersion, DecodeErrorKind> {
        // [MQTT-3.1.2-1]
        let supported: &[ProtocolVersion] = match reader.binary()? {
            b"MQTT" => &[ProtocolVersion::V311, ProtocolVersion::V5],
            b"MQIsdp" => &[ProtocolVersion::V31],
            _ => return Err(DecodeErrorKind::ProtocolNameUnsupported),
        };
        let level = reader.u8()?;
        let mut versions = supported.iter().copied();
        // [MQTT-3.1.2-2]
        versions
            .find(|version| version.level() == level)
            .ok_or(DecodeErrorKind::ProtocolLevelUnsupported { level })
    }

    /// Reads what follows the protocol level.
    #[cold]
    pub(super) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<ConnectRef<'a>, DecodeErrorKind> {
        let flags = ConnectFlags::decode(reader.u8()?, version)?;
        let keep_alive_secs = reader.u16()?;
        let properties = super::decode_properties(PacketType::Connect, version, reader, limits)?;
        let connect = ConnectRef {
            version,
            keep_alive_secs,
            properties,
            flags,
            payload: reader.rest(),
        };
        let payload = ConnectPayload::decode(flags, version, reader, limits)?;
        if payload.client_id.is_empty() && !allows_empty_client_id(version, flags.clean_start) {
            return Err(DecodeErrorKind::ClientIdEmpty);
        }
        Ok(connect)
    }
}

/// The payload of a CONNECT.
#[derive(Clone, Copy, Default)]
struct ConnectPayload<'a> {
    client_id: &'a str,
    will: Option<WillRef<'a>>,
    user_name: Option<&'a str>,
    password: Option<&'a [u8]>,
}

impl<'a> ConnectPayload<'a> {
    /// [MQTT-3.1.3-1] [MQTT-3.1.3-3]
    fn decode(
        flags: ConnectFlags,
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<ConnectPayload<'a>, DecodeErrorKind> {
        let client_id = reader.text()?;
        let will = match flags.will {
            Some(will) => Some(WillRef::decode(will, version, reader, limits)?),
            None => None,
        };
        Ok(ConnectPayload {
            client_id,
            will,
            user_name: flags.user_name.then(|| reader.text()).transpose()?,
            password: flags.password.then(|| reader.binary()).transpose()?,
        })
    }
}

/// A borrowed will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillRef<'a> {
    /// Where it is published.
    pub topic: &'a TopicName,
    /// The payload.
    pub payload: &'a [u8],
    /// The QoS it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// The will properties, the delay among them.
    pub properties: PropertiesRef<'a>,
}

impl<'a> WillRef<'a> {
    /// Copies the will.
    pub fn into_owned(self) -> Will {
        let delay = self.properties.iter().find_map(|property| match property {
            Property::WillDelay(seconds) => Some(seconds),
            _ => None,
        });
        Will {
            topic: self.topic.to_owned(),
            payload: Bytes::copy_from_slice(self.payload),
            qos: self.qos,
            retain: self.retain,
            delay_secs: delay.unwrap_or(0),
            properties: MessageProperties::from_will(self.properties),
        }
    }

    fn decode(
        flags: WillFlags,
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<WillRef<'a>, DecodeErrorKind> {
        let properties = if version.is_v5() {
            PropertiesRef::decode(reader, PropertyPlace::Will, limits)?
        } else {
            PropertiesRef::default()
        };
        let topic = reader.binary()?;
        Ok(WillRef {
            topic: super::decode_topic(topic, limits)?,
            payload: reader.binary()?,
            qos: flags.qos,
            retain: flags.retain,
            properties,
        })
    }
}

/// The connect flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConnectFlags {
    clean_start: bool,
    will: Option<WillFlags>,
    user_name: bool,
    password: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WillFlags {
    qos: QoS,
    retain: bool,
}

impl ConnectFlags {
    fn decode(byte: u8, version: ProtocolVersion) -> Result<ConnectFlags, DecodeErrorKind> {
        // Clients of 3.1 are known to be careless, and nothing there forbids it.
        let is_lenient = version == ProtocolVersion::V31;
        let is_set = |bit: u8| byte & bit != 0;
        // [MQTT-3.1.2-3]
        if is_set(RESERVED) && !is_lenient {
            return Err(DecodeErrorKind::ConnectFlagReserved);
        }
        let qos = QoS::from_bits((byte & WILL_QOS) >> WILL_QOS_SHIFT);
        // 3.1.1 [MQTT-3.1.2-14], 5.0 [MQTT-3.1.2-12]
        let qos = qos.ok_or(DecodeErrorKind::WillQosInvalid)?;
        let retain = is_set(WILL_RETAIN);
        let will = is_set(WILL).then_some(WillFlags { qos, retain });
        // [MQTT-3.1.2-11] 3.1.1 [MQTT-3.1.2-13] [MQTT-3.1.2-15], 5.0 [MQTT-3.1.2-13]
        if will.is_none() && (qos != QoS::AtMostOnce || retain) && !is_lenient {
            return Err(DecodeErrorKind::WillFlagsWithoutWill);
        }
        let flags = ConnectFlags {
            clean_start: is_set(CLEAN_START),
            will,
            user_name: is_set(USER_NAME),
            password: is_set(PASSWORD),
        };
        // 3.1.1 [MQTT-3.1.2-22]; 5.0 allows it [U5-016].
        if flags.password && !flags.user_name && version == ProtocolVersion::V311 {
            return Err(DecodeErrorKind::PasswordWithoutUserName);
        }
        Ok(flags)
    }

    fn bits(self) -> u8 {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let will = self.will.map_or(0, |will| {
            WILL | (will.qos.bits() << WILL_QOS_SHIFT) | bit(will.retain, WILL_RETAIN)
        });
        will | bit(self.clean_start, CLEAN_START)
            | bit(self.user_name, USER_NAME)
            | bit(self.password, PASSWORD)
    }
}

impl Body for Connect {
    fn encode<S: Sink>(&self, _: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        let version = self.version;
        // 3.1.1 [MQTT-3.1.2-22]
        if self.password.is_some() && self.user_name.is_none() && version == ProtocolVersion::V311 {
            return Err(EncodeError::PasswordWithoutUserName);
        }
        if self.client_id.is_empty() && !allows_empty_client_id(version, self.clean_start) {
            return Err(EncodeError::ClientIdEmpty);
        }
        let flags = ConnectFlags {
            clean_start: self.clean_start,
            will: self.will.as_ref().map(|will| WillFlags {
                qos: will.qos,
                retain: will.retain,
            }),
            user_name: self.user_name.is_some(),
            password: self.password.is_some(),
        };
        encode::put_text(out, version.name())?;
        out.put_u8(version.level());
        out.put_u8(flags.bits());
        out.put_u16(self.keep_alive_secs);
        if version.is_v5() {
            encode::put_properties(out, self.properties.properties())?;
        }
        encode::put_text(out, &self.client_id)?;
        if let Some(will) = &self.will {
            if version.is_v5() {
                let delay = (will.delay_secs != 0).then_some(Property::WillDelay(will.delay_secs));
                let message = will.properties.as_properties();
                encode::put_properties(out, delay.into_iter().chain(message))?;
            }
            encode::put_binary(out, will.topic.as_bytes())?;
            encode::put_binary(out, &will.payload)?;
        }
        if let Some(user_name) = &self.user_name {
            encode::put_text(out, user_name)?;
        }
        if let Some(password) = &self.password {
            encode::put_binary(out, password)?;
        }
        Ok(())
    }
}

/// 3.1 has no empty client identifiers, 3.1.1 has them with a clean session [MQTT-3.1.3-7] [MQTT-3.1.3-8], and in 5.0
/// the server chooses.
fn allows_empty_client_id(version: ProtocolVersion, clean_start: bool) -> bool {
    match version {
        ProtocolVersion::V31 => false,
        ProtocolVersion::V311 => clean_start,
        ProtocolVersion::V5 => true,
    }
}

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL_QOS_SHIFT: u8 = 3;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;
