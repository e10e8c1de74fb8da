//! Properties of 5.0: each one's wire form, and sections of them.

mod id;
mod message;
mod publish;
mod section;
mod user;

use std::num::{NonZeroU16, NonZeroU32};

use whimbrel_topic::TopicName;

pub(crate) use self::id::PropertySet;
pub use self::id::{PropertyId, PropertyPlace};
pub use self::message::{MessageProperties, MessagePropertiesBuilder, PropertyError};
pub use self::publish::{PublishProperties, SubscriptionIds};
pub use self::section::{Properties, PropertiesRef, UserPropertyRefs};
pub use self::user::{UserProperties, UserProperty, UserPropertyRef};
use crate::encode::{self, Sink};
use crate::reader::Reader;
use crate::{DecodeErrorKind, EncodeError, QoS, SubscriptionId};

/// One property with its value.
///
/// This is the only place that knows how each property is written: decoding, reading in place and encoding all pass
/// through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// Whether the payload is text.
    PayloadFormat(PayloadFormat),
    /// Seconds until the message expires.
    MessageExpiry(u32),
    /// What the payload is, in words of the application.
    ContentType(&'a str),
    /// Where a response is to be published.
    ResponseTopic(&'a TopicName),
    /// What tells the requester which request is answered.
    CorrelationData(&'a [u8]),
    /// The identifier of a subscription.
    SubscriptionId(SubscriptionId),
    /// Seconds that the session outlives its connection; `u32::MAX` is for ever.
    SessionExpiry(u32),
    /// The client identifier that the server chose.
    AssignedClientId(&'a str),
    /// The keep alive in seconds that the server wants.
    ServerKeepAlive(u16),
    /// The name of the authentication method.
    AuthenticationMethod(&'a str),
    /// Data of the authentication method.
    AuthenticationData(&'a [u8]),
    /// Whether reason strings and user properties are wanted on all packets.
    RequestProblemInformation(bool),
    /// Seconds between the loss of the connection and the will.
    WillDelay(u32),
    /// Whether response information is wanted in CONNACK.
    RequestResponseInformation(bool),
    /// What response topics are made from.
    ResponseInformation(&'a str),
    /// Another server to use.
    ServerReference(&'a str),
    /// The reason in words, for diagnostics.
    ReasonString(&'a str),
    /// How many QoS 1 and 2 messages the sender takes at a time.
    ReceiveMaximum(NonZeroU16),
    /// The highest topic alias the sender takes.
    TopicAliasMaximum(u16),
    /// The alias of the topic.
    TopicAlias(NonZeroU16),
    /// The highest QoS the server takes: 0 or 1.
    MaximumQos(QoS),
    /// Whether the server keeps retained messages.
    RetainAvailable(bool),
    /// A name and a value of the application.
    UserProperty(UserPropertyRef<'a>),
    /// The largest packet in bytes that the sender takes.
    MaximumPacketSize(NonZeroU32),
    /// Whether the server takes wildcards in filters.
    WildcardSubscriptionAvailable(bool),
    /// Whether the server takes subscription identifiers.
    SubscriptionIdAvailable(bool),
    /// Whether the server takes shared subscriptions.
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// The property's identifier.
    pub const fn id(&self) -> PropertyId {
        match self {
            Property::PayloadFormat(_) => PropertyId::PayloadFormat,
            Property::MessageExpiry(_) => PropertyId::MessageExpiry,
            Property::ContentType(_) => PropertyId::ContentType,
            Property::ResponseTopic(_) => PropertyId::ResponseTopic,
            Property::CorrelationData(_) => PropertyId::CorrelationData,
            Property::SubscriptionId(_) => PropertyId::SubscriptionId,
            Property::SessionExpiry(_) => PropertyId::SessionExpiry,
            Property::AssignedClientId(_) => PropertyId::AssignedClientId,
            Property::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Property::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Property::AuthenticationData(_) => PropertyId::AuthenticationData,
            Property::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Property::WillDelay(_) => PropertyId::WillDelay,
            Property::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Property::ResponseInformation(_) => PropertyId::ResponseInformation,
            Property::ServerReference(_) => PropertyId::ServerReference,
            Property::ReasonString(_) => PropertyId::ReasonString,
            Property::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Property::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Property::TopicAlias(_) => PropertyId::TopicAlias,
            Property::MaximumQos(_) => PropertyId::MaximumQos,
            Property::RetainAvailable(_) => PropertyId::RetainAvailable,
            Property::UserProperty(_) => PropertyId::UserProperty,
            Property::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Property::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Property::SubscriptionIdAvailable(_) => PropertyId::SubscriptionIdAvailable,
            Property::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Reads the value of the property `id`, which stood before it.
    #[inline]
    pub(crate) fn read(
        id: PropertyId,
        reader: &mut Reader<'a>,
    ) -> Result<Property<'a>, DecodeErrorKind> {
        let invalid = DecodeErrorKind::PropertyValueInvalid { id };
        let flag = |reader: &mut Reader<'a>| match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(invalid),
        };
        Ok(match id {
            PropertyId::PayloadFormat => Property::PayloadFormat(if flag(reader)? {
                PayloadFormat::Utf8
            } else {
                PayloadFormat::Bytes
            }),
            PropertyId::MessageExpiry => Property::MessageExpiry(reader.u32()?),
            PropertyId::ContentType => Property::ContentType(reader.text()?),
            // [MQTT-3.3.2-13] [MQTT-3.3.2-14]
            PropertyId::ResponseTopic => {
                let name = TopicName::new(reader.text()?);
                Property::ResponseTopic(name.map_err(|_| invalid)?)
            }
            PropertyId::CorrelationData => Property::CorrelationData(reader.binary()?),
            PropertyId::SubscriptionId => {
                let id = SubscriptionId::new(reader.variable()?);
                Property::SubscriptionId(id.ok_or(invalid)?)
            }
            PropertyId::SessionExpiry => Property::SessionExpiry(reader.u32()?),
            PropertyId::AssignedClientId => Property::AssignedClientId(reader.text()?),
            PropertyId::ServerKeepAlive => Property::ServerKeepAlive(reader.u16()?),
            PropertyId::AuthenticationMethod => Property::AuthenticationMethod(reader.text()?),
            PropertyId::AuthenticationData => Property::AuthenticationData(reader.binary()?),
            PropertyId::RequestProblemInformation => {
                Property::RequestProblemInformation(flag(reader)?)
            }
            PropertyId::WillDelay => Property::WillDelay(reader.u32()?),
            PropertyId::RequestResponseInformation => {
                Property::RequestResponseInformation(flag(reader)?)
            }
            PropertyId::ResponseInformation => Property::ResponseInformation(reader.text()?),
            PropertyId::ServerReference => Property::ServerReference(reader.text()?),
            PropertyId::ReasonString => Property::ReasonString(reader.text()?),
            PropertyId::ReceiveMaximum => {
                let maximum = NonZeroU16::new(reader.u16()?);
                Property::ReceiveMaximum(maximum.ok_or(invalid)?)
            }
            PropertyId::TopicAliasMaximum => Property::TopicAliasMaximum(reader.u16()?),
            PropertyId::TopicAlias => {
                let alias = NonZeroU16::new(reader.u16()?);
                Property::TopicAlias(alias.ok_or(DecodeErrorKind::TopicAliasZero)?)
            }
            PropertyId::MaximumQos => Property::MaximumQos(if flag(reader)? {
                QoS::AtLeastOnce
            } else {
                QoS::AtMostOnce
            }),
            PropertyId::RetainAvailable => Property::RetainAvailable(flag(reader)?),
            PropertyId::UserProperty => Property::UserProperty(UserPropertyRef {
                name: reader.text()?,
                value: reader.text()?,
            }),
            PropertyId::MaximumPacketSize => {
                let maximum = NonZeroU32::new(reader.u32()?);
                Property::MaximumPacketSize(maximum.ok_or(invalid)?)
            }
            PropertyId::WildcardSubscriptionAvailable => {
                Property::WildcardSubscriptionAvailable(flag(reader)?)
            }
            PropertyId::SubscriptionIdAvailable => Property::SubscriptionIdAvailable(flag(reader)?),
            PropertyId::SharedSubscriptionAvailable => {
                Property::SharedSubscriptionAvailable(flag(reader)?)
            }
        })
    }

    /// Writes the identifier and the value.
    pub(crate) fn encode<S: Sink + ?Sized>(&self, out: &mut S) -> Result<(), EncodeError> {
        out.put_u8(self.id().as_u8());
        match *self {
            Property::PayloadFormat(format) => out.put_u8(format as u8),
            Property::MaximumQos(qos) => out.put_u8(qos.bits()),
            Property::RequestProblemInformation(flag)
            | Property::RequestResponseInformation(flag)
            | Property::RetainAvailable(flag)
            | Property::WildcardSubscriptionAvailable(flag)
            | Property::SubscriptionIdAvailable(flag)
            | Property::SharedSubscriptionAvailable(flag) => out.put_u8(u8::from(flag)),
            Property::ServerKeepAlive(number) | Property::TopicAliasMaximum(number) => {
                out.put_u16(number);
            }
            Property::ReceiveMaximum(number) | Property::TopicAlias(number) => {
                out.put_u16(number.get());
            }
            Property::MessageExpiry(number)
            | Property::SessionExpiry(number)
            | Property::WillDelay(number) => out.put_u32(number),
            Property::MaximumPacketSize(number) => out.put_u32(number.get()),
            Property::SubscriptionId(id) => encode::put_variable(out, id.get()),
            Property::ResponseTopic(name) => encode::put_binary(out, name.as_bytes())?,
            Property::ContentType(text)
            | Property::AssignedClientId(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => encode::put_text(out, text)?,
            Property::CorrelationData(data) | Property::AuthenticationData(data) => {
                encode::put_binary(out, data)?;
            }
            Property::UserProperty(property) => {
                encode::put_text(out, property.name)?;
                encode::put_text(out, property.value)?;
            }
        }
        Ok(())
    }
}

/// What a payload is, as the payload format indicator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormat {
    /// Bytes of any kind; also what an absent indicator means.
    #[default]
    Bytes = 0,
    /// UTF-8 text. The codec does not check the payload [U5-046].
    Utf8 = 1,
}
