//! The properties of a PUBLISH, read in place.

use std::iter::FusedIterator;
use std::num::NonZeroU16;

use whimbrel_topic::TopicName;

use super::section::{find, next_of, skip, trusted, validate};
use super::{
    PayloadFormat, Properties, Property, PropertyId, PropertyPlace, PropertySet, UserPropertyRefs,
};
use crate::encode::Sink;
use crate::{DecodeErrorKind, Limits, PacketType, SubscriptionId};

/// The properties of a PUBLISH: validated once, when it is decoded, then read by scanning in place.
///
/// A property that is asked for costs a scan of the few bytes before it; no property costs memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    bytes: &'a [u8],
}

impl<'a> PublishProperties<'a> {
    /// No properties.
    pub const EMPTY: PublishProperties<'static> = PublishProperties { bytes: &[] };

    /// Validates `bytes`, the properties of a PUBLISH without the length in front.
    ///
    /// # Errors
    /// The rule that they break, or the limit that they exceed.
    pub fn parse(
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<PublishProperties<'a>, DecodeErrorKind> {
        if u32::try_from(bytes.len()).map_or(true, |length| length > limits.property_bytes_max) {
            return Err(DecodeErrorKind::TooManyPropertyBytes);
        }
        validate(bytes, PLACE, limits)?;
        Ok(PublishProperties { bytes })
    }

    /// Takes `bytes` that came out of [`as_bytes`](PublishProperties::as_bytes), for instance through a queue or a
    /// disk that vouches for them, without validating them again.
    ///
    /// Reading other bytes is safe but gives nonsense, and encoding them gives a malformed packet.
    pub fn from_validated(bytes: &'a [u8]) -> PublishProperties<'a> {
        debug_assert_eq!(validate(bytes, PLACE, &Limits::PROTOCOL), Ok(()));
        PublishProperties { bytes }
    }

    /// The properties of a decoded PUBLISH.
    #[inline]
    pub(crate) const fn from_decoded(bytes: &'a [u8]) -> PublishProperties<'a> {
        PublishProperties { bytes }
    }

    /// Whether there are no properties.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties as on the wire, without the length in front.
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The properties in their order.
    pub const fn iter(&self) -> Properties<'a> {
        Properties::new(self.bytes)
    }

    /// What the payload is; bytes unless the publisher says otherwise.
    pub fn payload_format(&self) -> PayloadFormat {
        match find(self.bytes, PropertyId::PayloadFormat) {
            Some(Property::PayloadFormat(format)) => format,
            _ => PayloadFormat::Bytes,
        }
    }

    /// Seconds until the message expires; never when there are none.
    pub fn message_expiry_secs(&self) -> Option<u32> {
        match find(self.bytes, PropertyId::MessageExpiry)? {
            Property::MessageExpiry(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// The alias of the topic. It holds for one connection and is never forwarded.
    pub fn topic_alias(&self) -> Option<NonZeroU16> {
        match find(self.bytes, PropertyId::TopicAlias)? {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        }
    }

    /// Where a response is to be published.
    pub fn response_topic(&self) -> Option<&'a TopicName> {
        match find(self.bytes, PropertyId::ResponseTopic)? {
            Property::ResponseTopic(name) => Some(name),
            _ => None,
        }
    }

    /// What tells the requester which request is answered.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        match find(self.bytes, PropertyId::CorrelationData)? {
            Property::CorrelationData(data) => Some(data),
            _ => None,
        }
    }

    /// What the payload is, in words of the application.
    pub fn content_type(&self) -> Option<&'a str> {
        match find(self.bytes, PropertyId::ContentType)? {
            Property::ContentType(text) => Some(text),
            _ => None,
        }
    }

    /// The identifiers of the subscriptions that the message is sent for. A client must send none [MQTT-3.3.4-6].
    pub const fn subscription_ids(&self) -> SubscriptionIds<'a> {
        SubscriptionIds { bytes: self.bytes }
    }

    /// The user properties in their order.
    pub const fn user_properties(&self) -> UserPropertyRefs<'a> {
        UserPropertyRefs::new(self.bytes)
    }

    /// Writes what belongs to the message and is forwarded with it unchanged: all but the topic alias and the
    /// subscription identifiers, which belong to one connection.
    ///
    /// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    pub fn write_forwardable(&self, out: &mut impl Sink) {
        copy_without(self.bytes, NOT_FORWARDED, out);
    }

    /// Writes what a server forwards besides the expiry, which it counts down [MQTT-3.3.2-6].
    pub(crate) fn write_forwarded(&self, out: &mut impl Sink) {
        let left_out = NOT_FORWARDED.with(PropertyId::MessageExpiry);
        copy_without(self.bytes, left_out, out);
    }
}

impl<'a> IntoIterator for PublishProperties<'a> {
    type Item = Property<'a>;
    type IntoIter = Properties<'a>;

    fn into_iter(self) -> Properties<'a> {
        self.iter()
    }
}

/// An iterator over the subscription identifiers of a PUBLISH.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionIds<'a> {
    bytes: &'a [u8],
}

impl Iterator for SubscriptionIds<'_> {
    type Item = SubscriptionId;

    fn next(&mut self) -> Option<SubscriptionId> {
        match next_of(&mut self.bytes, PropertyId::SubscriptionId)? {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        }
    }
}

impl FusedIterator for SubscriptionIds<'_> {}

/// Writes a validated section without the properties of `left_out`: what stays together is written in one piece.
pub(super) fn copy_without(bytes: &[u8], left_out: PropertySet, out: &mut impl Sink) {
    let mut run = bytes;
    let mut reader = trusted(bytes);
    loop {
        let before = reader.rest();
        let Ok(byte) = reader.u8() else { break };
        let Some(id) = PropertyId::from_u8(byte) else {
            break;
        };
        if skip(id, &mut reader).is_none() {
            break;
        }
        if left_out.contains(id) {
            let (kept, _) = run.split_at(run.len() - before.len());
            if !kept.is_empty() {
                out.put_slice(kept);
            }
            run = reader.rest();
        }
    }
    if !run.is_empty() {
        out.put_slice(run);
    }
}

const PLACE: PropertyPlace = PropertyPlace::Packet(PacketType::Publish);
const NOT_FORWARDED: PropertySet =
    PropertySet::of(&[PropertyId::TopicAlias, PropertyId::SubscriptionId]);
