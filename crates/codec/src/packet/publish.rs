//! PUBLISH.

use std::num::NonZeroU16;

use bytes::Bytes;
use whimbrel_topic::{TopicName, TopicNameBuf};

use crate::encode::{self, Sink};
use crate::reader::{Reader, variable_length};
use crate::{
    DecodeErrorKind, Delivery, EncodeError, Limits, MessageProperties, PAYLOAD_SHARE_MIN, PacketId,
    PacketType, PropertiesRef, PropertyId, PropertyPlace, ProtocolVersion, PublishProperties, QoS,
    SubscriptionId,
};

/// A PUBLISH.
///
/// Topic and properties are valid, and the topic is there unless a topic alias stands for it: another one cannot be
/// built.
///
/// ```
/// use whimbrel_codec::topic::TopicName;
/// use whimbrel_codec::{MessageProperties, Publish};
///
/// let topic = TopicName::new("sensors/kitchen/temperature")?;
/// let properties = MessageProperties::builder().content_type("text/plain").build()?;
/// let publish = Publish::builder(topic).properties(&properties).payload("21.5").retain(true).build();
/// assert_eq!(publish.payload(), b"21.5");
/// assert_eq!(publish.properties().content_type(), Some("text/plain"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Publish {
    /// Invariant: `None` only with a topic alias among the properties.
    topic: Option<TopicNameBuf>,
    /// The properties, validated, and behind them the payload: together, as on the wire, so that a received packet can
    /// share its frame.
    body: Bytes,
    /// Invariant: within `body`.
    properties_length: u32,
    delivery: Delivery,
    retain: bool,
}

impl Publish {
    /// Starts a PUBLISH to `topic`: QoS 0, not retained, without payload and properties.
    pub fn builder(topic: impl Into<TopicNameBuf>) -> PublishBuilder {
        PublishBuilder {
            topic: Some(topic.into()),
            ..PublishBuilder::default()
        }
    }

    /// Starts a PUBLISH to the topic that `alias` was set to earlier on the same connection.
    pub fn alias_builder(alias: NonZeroU16) -> PublishBuilder {
        PublishBuilder {
            topic_alias: Some(alias),
            ..PublishBuilder::default()
        }
    }

    /// The topic; `None` when it is left to the topic alias among the properties.
    pub fn topic(&self) -> Option<&TopicName> {
        self.topic.as_deref()
    }

    /// QoS, packet identifier and DUP flag.
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The quality of service.
    pub const fn qos(&self) -> QoS {
        self.delivery.qos()
    }

    /// The packet identifier of QoS 1 and 2.
    pub const fn packet_id(&self) -> Option<PacketId> {
        self.delivery.packet_id()
    }

    /// The RETAIN flag.
    pub const fn retain(&self) -> bool {
        self.retain
    }

    /// The properties, read in place.
    pub fn properties(&self) -> PublishProperties<'_> {
        self.as_publish_ref().properties()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.as_publish_ref().payload()
    }

    /// The payload, shared.
    pub fn payload_bytes(&self) -> Bytes {
        self.body.slice(self.properties_length as usize..)
    }

    /// The same message delivered in another way.
    #[must_use]
    pub fn with_delivery(mut self, delivery: Delivery) -> Publish {
        self.delivery = delivery;
        self
    }

    /// The borrowed form.
    pub fn as_publish_ref(&self) -> PublishRef<'_> {
        PublishRef {
            topic: self.topic.as_deref(),
            body: &self.body,
            properties_length: self.properties_length,
            delivery: self.delivery,
            retain: self.retain,
        }
    }

    pub(super) fn downgrade(&mut self) {
        self.body = self.payload_bytes();
        self.properties_length = 0;
    }

    pub(super) fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        self.check_topic(version)?;
        let layout = self.as_publish_ref().parts().layout(version)?;
        Ok(layout.packet_length())
    }

    #[inline]
    pub(super) fn encode<S: Sink>(
        &self,
        version: ProtocolVersion,
        out: &mut S,
    ) -> Result<(), EncodeError> {
        if self.body.len() >= PAYLOAD_SHARE_MIN {
            return self.encode_large(version, out);
        }
        self.check_topic(version)?;
        self.as_publish_ref().parts().encode(version, out)
    }

    /// Lets the sink share the payload, if it wants to.
    #[inline(never)]
    fn encode_large<S: Sink>(
        &self,
        version: ProtocolVersion,
        out: &mut S,
    ) -> Result<(), EncodeError> {
        self.check_topic(version)?;
        let payload = self.payload_bytes();
        let mut parts = self.as_publish_ref().parts();
        parts.payload = Payload::Shared(&payload);
        parts.encode(version, out)
    }

    #[inline]
    fn check_topic(&self, version: ProtocolVersion) -> Result<(), EncodeError> {
        if self.topic.is_none() && !version.is_v5() {
            return Err(EncodeError::TopicMissing);
        }
        Ok(())
    }
}

/// Builds a [`Publish`].
#[derive(Clone, Debug, Default)]
pub struct PublishBuilder {
    topic: Option<TopicNameBuf>,
    topic_alias: Option<NonZeroU16>,
    properties: MessageProperties,
    subscription_ids: Vec<SubscriptionId>,
    payload: Bytes,
    delivery: Delivery,
    retain: bool,
}

impl PublishBuilder {
    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets QoS, packet identifier and DUP flag.
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Sets the RETAIN flag.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets the message's properties.
    #[must_use]
    pub fn properties(mut self, properties: &MessageProperties) -> Self {
        self.properties = properties.clone();
        self
    }

    /// Sets the topic alias.
    #[must_use]
    pub fn topic_alias(mut self, alias: NonZeroU16) -> Self {
        self.topic_alias = Some(alias);
        self
    }

    /// Adds the identifier of a subscription that the message is sent for; servers alone do that.
    #[must_use]
    pub fn subscription_id(mut self, id: SubscriptionId) -> Self {
        self.subscription_ids.push(id);
        self
    }

    /// Puts the packet together. With properties the payload is copied behind them; without it is kept as it is.
    pub fn build(self) -> Publish {
        let mut properties = Vec::new();
        if let Some(alias) = self.topic_alias {
            put_topic_alias(&mut properties, alias);
        }
        properties.put_slice(self.properties.as_properties().as_bytes());
        put_subscription_ids(&mut properties, &self.subscription_ids);
        // A packet of 4 GiB cannot be encoded, but is no reason to panic.
        let properties_length = u32::try_from(properties.len()).unwrap_or(u32::MAX);
        let body = if properties.is_empty() {
            self.payload
        } else {
            properties.put_slice(&self.payload);
            Bytes::from(properties)
        };
        Publish {
            topic: self.topic,
            body,
            properties_length,
            delivery: self.delivery,
            retain: self.retain,
        }
    }
}

/// A borrowed PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRef<'a> {
    /// Invariant: `None` only with a topic alias among the properties.
    topic: Option<&'a TopicName>,
    /// The properties, validated, and behind them the payload.
    body: &'a [u8],
    /// Invariant: within `body`.
    properties_length: u32,
    delivery: Delivery,
    retain: bool,
}

impl<'a> PublishRef<'a> {
    /// Puts together what was checked: a topic, and a body whose first `properties_length` bytes are properties.
    #[inline(always)]
    pub(super) const fn from_checked(
        topic: &'a TopicName,
        body: &'a [u8],
        properties_length: u32,
        delivery: Delivery,
        retain: bool,
    ) -> PublishRef<'a> {
        PublishRef {
            topic: Some(topic),
            body,
            properties_length,
            delivery,
            retain,
        }
    }

    /// The topic; `None` when it is left to the topic alias among the properties.
    #[inline]
    pub const fn topic(&self) -> Option<&'a TopicName> {
        self.topic
    }

    /// QoS, packet identifier and DUP flag.
    #[inline]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The quality of service.
    #[inline]
    pub const fn qos(&self) -> QoS {
        self.delivery.qos()
    }

    /// The packet identifier of QoS 1 and 2.
    #[inline]
    pub const fn packet_id(&self) -> Option<PacketId> {
        self.delivery.packet_id()
    }

    /// The RETAIN flag.
    #[inline]
    pub const fn retain(&self) -> bool {
        self.retain
    }

    /// The properties, read in place.
    #[inline]
    pub fn properties(&self) -> PublishProperties<'a> {
        let properties = self.body.get(..self.properties_length as usize);
        PublishProperties::from_decoded(properties.unwrap_or_default())
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let payload = self.body.get(self.properties_length as usize..);
        payload.unwrap_or_default()
    }

    /// Copies the packet.
    pub fn into_owned(self) -> Publish {
        Publish {
            topic: self.topic.map(TopicNameBuf::from),
            body: Bytes::copy_from_slice(self.body),
            properties_length: self.properties_length,
            delivery: self.delivery,
            retain: self.retain,
        }
    }

    /// Shares the memory of the packet, which lies in `owner`: nothing is copied, and `owner` lives as long as the
    /// packet.
    ///
    /// # Panics
    /// When the packet was not decoded from `owner`.
    pub fn into_shared(self, owner: &Bytes) -> Publish {
        let topic = self.topic;
        Publish {
            topic: topic.map(|topic| TopicNameBuf::from_part_of(owner, topic)),
            body: owner.slice_ref(self.body),
            properties_length: self.properties_length,
            delivery: self.delivery,
            retain: self.retain,
        }
    }

    /// Reads the variable header and payload; `flags` were checked with the fixed header.
    #[inline]
    pub(super) fn decode(
        flags: u8,
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<PublishRef<'a>, DecodeErrorKind> {
        // [MQTT-3.3.2-1]
        let topic = reader.binary()?;
        let dup = flags & 0b1000 != 0;
        // [MQTT-2.2.1-2], 3.1.1 [MQTT-2.3.1-5]
        let delivery = match (flags >> 1) & 3 {
            0 => Delivery::AtMostOnce,
            qos => {
                let id = reader.packet_id()?;
                match qos {
                    1 => Delivery::AtLeastOnce { id, dup },
                    2 => Delivery::ExactlyOnce { id, dup },
                    _ => return Err(DecodeErrorKind::PublishQosInvalid),
                }
            }
        };
        let properties_length = if version.is_v5() {
            reader.variable()?
        } else {
            0
        };
        let body = reader.take_rest();
        if properties_length != 0 {
            let place = PropertyPlace::Packet(PacketType::Publish);
            PropertiesRef::check_front(body, properties_length, place, limits)?;
        }
        let mut publish = PublishRef {
            topic: None,
            body,
            properties_length,
            delivery,
            retain: flags & 1 != 0,
        };
        if !topic.is_empty() {
            publish.topic = Some(super::decode_topic(topic, limits)?);
        } else if publish.properties().topic_alias().is_none() {
            // [U5-044]
            return Err(DecodeErrorKind::TopicEmpty);
        }
        Ok(publish)
    }

    /// What is written for this packet.
    #[inline]
    fn parts(&self) -> PublishParts<'a> {
        PublishParts {
            topic: self.topic.map_or(&[], TopicName::as_bytes),
            delivery: self.delivery,
            retain: self.retain,
            topic_alias: None,
            properties: self.properties().as_bytes(),
            subscription_ids: &[],
            payload: Payload::Borrowed(self.payload()),
        }
    }
}

/// A payload to be written.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Borrowed: it is copied wherever it is written.
    Borrowed(&'a [u8]),
    /// Shared: where it is large, a [`WriteBuf`](crate::WriteBuf) keeps a reference instead of a copy.
    Shared(&'a Bytes),
}

impl<'a> Payload<'a> {
    /// The payload's bytes.
    #[inline]
    pub fn as_slice(&self) -> &'a [u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
        }
    }

    #[inline]
    pub(crate) fn put<S: Sink>(&self, out: &mut S) {
        match self {
            Payload::Borrowed(bytes) => out.put_slice(bytes),
            Payload::Shared(bytes) => out.put_bytes(bytes),
        }
    }
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Payload::Borrowed(&[])
    }
}

/// The parts of a PUBLISH, valid each, before they are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishParts<'a> {
    /// Empty only with a topic alias.
    pub(crate) topic: &'a [u8],
    pub(crate) delivery: Delivery,
    pub(crate) retain: bool,
    /// A topic alias besides `properties`.
    pub(crate) topic_alias: Option<NonZeroU16>,
    pub(crate) properties: &'a [u8],
    /// Subscription identifiers besides `properties`.
    pub(crate) subscription_ids: &'a [SubscriptionId],
    pub(crate) payload: Payload<'a>,
}

// Always inlined, as then most of the parts are known to be empty.
impl PublishParts<'_> {
    /// Measures the packet.
    #[inline(always)]
    pub(crate) fn layout(&self, version: ProtocolVersion) -> Result<PublishLayout, EncodeError> {
        let mut remaining = 2 + self.topic.len() + self.payload.as_slice().len();
        if self.delivery.packet_id().is_some() {
            remaining += 2;
        }
        let mut properties = 0;
        if version.is_v5() {
            properties = self.properties.len();
            if self.topic_alias.is_some() {
                properties += TOPIC_ALIAS_LENGTH;
            }
            for id in self.subscription_ids {
                properties += 1 + variable_length(id.get());
            }
            // Too long a section makes the packet too long, whatever the length of its length.
            remaining += variable_length(properties as u32) + properties;
        }
        let remaining_length = encode::remaining_length(remaining)?;
        Ok(PublishLayout {
            // Less than the remaining length.
            properties_length: properties as u32,
            remaining_length,
        })
    }

    /// Writes the packet. On an error nothing is written.
    #[inline(always)]
    pub(crate) fn encode<S: Sink>(
        &self,
        version: ProtocolVersion,
        out: &mut S,
    ) -> Result<(), EncodeError> {
        let layout = self.layout(version)?;
        out.reserve(layout.packet_length());
        self.encode_head(version, layout, out);
        self.payload.put(out);
        Ok(())
    }

    /// Writes all but the payload.
    #[inline(always)]
    pub(crate) fn encode_head<S: Sink>(
        &self,
        version: ProtocolVersion,
        layout: PublishLayout,
        out: &mut S,
    ) {
        let first = publish_first_byte(self.delivery, self.retain);
        // A topic is at most 65,535 bytes long.
        let [high, low] = (self.topic.len() as u16).to_be_bytes();
        // In one piece, whose length the compiler knows.
        match layout.remaining_length {
            length @ 0..=0x7F => out.put_slice(&[first, length as u8, high, low]),
            length @ 0x80..=0x3FFF => {
                let length = [length as u8 | 0x80, (length >> 7) as u8];
                out.put_slice(&[first, length[0], length[1], high, low]);
            }
            length => {
                out.put_u8(first);
                encode::put_variable(out, length);
                out.put_slice(&[high, low]);
            }
        }
        out.put_slice(self.topic);
        if let Some(id) = self.delivery.packet_id() {
            out.put_u16(id.get());
        }
        if !version.is_v5() {
            return;
        }
        encode::put_variable(out, layout.properties_length);
        if layout.properties_length == 0 {
            return;
        }
        if let Some(alias) = self.topic_alias {
            put_topic_alias(out, alias);
        }
        out.put_slice(self.properties);
        put_subscription_ids(out, self.subscription_ids);
    }
}

/// The lengths in a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishLayout {
    pub(crate) properties_length: u32,
    pub(crate) remaining_length: u32,
}

impl PublishLayout {
    /// The length of the packet, fixed header included.
    #[inline]
    pub(crate) const fn packet_length(self) -> usize {
        encode::packet_length(self.remaining_length)
    }
}

/// The first byte of a PUBLISH.
#[inline]
pub(crate) const fn publish_first_byte(delivery: Delivery, retain: bool) -> u8 {
    PacketType::Publish.first_byte() | delivery.flags() | retain as u8
}

fn put_topic_alias<S: Sink>(out: &mut S, alias: NonZeroU16) {
    out.put_u8(PropertyId::TopicAlias.as_u8());
    out.put_u16(alias.get());
}

fn put_subscription_ids<S: Sink>(out: &mut S, ids: &[SubscriptionId]) {
    for id in ids {
        out.put_u8(PropertyId::SubscriptionId.as_u8());
        encode::put_variable(out, id.get());
    }
}

/// Bytes of a topic alias with its identifier.
const TOPIC_ALIAS_LENGTH: usize = 3;
