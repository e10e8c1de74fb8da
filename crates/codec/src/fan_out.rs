//! One message to many connections: encoded once, patched for each.

use std::num::NonZeroU16;

use whimbrel_topic::TopicName;

use crate::encode::Sink;
use crate::packet::{PublishParts, publish_first_byte};
use crate::reader::variable_length;
use crate::{
    Delivery, EncodeError, PAYLOAD_SHARE_MIN, Payload, PropertyId, ProtocolVersion,
    PublishProperties, SubscriptionId,
};

/// A message that is about to be sent to subscribers.
#[derive(Clone, Copy, Debug)]
pub struct PublishSource<'a> {
    /// The topic.
    pub topic: &'a TopicName,
    /// The properties as the publisher sent them; its topic alias, its expiry and subscription identifiers among them
    /// are not forwarded.
    pub properties: PublishProperties<'a>,
    /// The payload.
    pub payload: Payload<'a>,
    /// The seconds left until the message expires [MQTT-3.3.2-6]: what subscribers are told.
    pub message_expiry_secs: Option<u32>,
}

/// What differs between the subscribers of one message.
#[derive(Clone, Copy, Debug)]
pub struct FanOutTarget<'a> {
    /// What the subscriber's connection speaks.
    pub version: ProtocolVersion,
    /// QoS, packet identifier and DUP flag.
    pub delivery: Delivery,
    /// The RETAIN flag.
    pub retain: bool,
    /// The identifiers of the matching subscriptions. Before 5.0 they are not sent.
    pub subscription_ids: &'a [SubscriptionId],
    /// How the topic is named. Before 5.0 always by itself.
    pub topic: TopicForm,
}

impl FanOutTarget<'_> {
    /// A first or repeated delivery with nothing special to it.
    pub const fn new(version: ProtocolVersion, delivery: Delivery) -> FanOutTarget<'static> {
        FanOutTarget {
            version,
            delivery,
            retain: false,
            subscription_ids: &[],
            topic: TopicForm::Name,
        }
    }

    /// Whether the packet is the one that all such targets get, but for its identifier and DUP flag.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.version.is_v5()
            || (self.subscription_ids.is_empty() && matches!(self.topic, TopicForm::Name))
    }
}

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicForm {
    /// By its name.
    #[default]
    Name,
    /// By its name, which this alias stands for from now on.
    NameAndAlias(NonZeroU16),
    /// By an alias that was set earlier on the same connection.
    Alias(NonZeroU16),
}

/// Writes one message to many connections.
///
/// The first packet of each kind (version, QoS, RETAIN) is written part by part; from the second on it is copied from an
/// image, in which packet identifier and DUP flag are set. Packets with subscription identifiers or a topic alias are
/// written part by part always. A payload of [`PAYLOAD_SHARE_MIN`] bytes or more is no part of the image.
///
/// ```
/// use whimbrel_codec::topic::TopicName;
/// use whimbrel_codec::{
///     Delivery, FanOut, FanOutBuffer, FanOutTarget, Payload, ProtocolVersion, PublishProperties,
///     PublishSource, WriteBuf,
/// };
///
/// let mut buffer = FanOutBuffer::new();
/// let mut fan_out = FanOut::new(
///     PublishSource {
///         topic: TopicName::new("a/b")?,
///         properties: PublishProperties::EMPTY,
///         payload: Payload::Borrowed(b"hello"),
///         message_expiry_secs: None,
///     },
///     &mut buffer,
/// );
/// let mut connections = [WriteBuf::new(), WriteBuf::new()];
/// let target = FanOutTarget::new(ProtocolVersion::V311, Delivery::AtMostOnce);
/// for connection in &mut connections {
///     fan_out.write(&target, connection)?;
/// }
/// assert_eq!(connections[1].chunk(), b"\x30\x0a\x00\x03a/bhello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FanOut<'a> {
    source: PublishSource<'a>,
    buffer: &'a mut FanOutBuffer,
}

impl<'a> FanOut<'a> {
    /// Gets ready to send `source`; the images are made in `buffer`.
    pub fn new(source: PublishSource<'a>, buffer: &'a mut FanOutBuffer) -> FanOut<'a> {
        buffer.prepare(&source);
        FanOut { source, buffer }
    }

    /// The message.
    pub const fn source(&self) -> &PublishSource<'a> {
        &self.source
    }

    /// The length in bytes of the packet for `target`, fixed header included: what a client's Maximum Packet Size
    /// counts.
    ///
    /// # Errors
    /// When the packet would be longer than the protocol can say.
    #[inline]
    pub fn encoded_len(&self, target: &FanOutTarget<'_>) -> Result<usize, EncodeError> {
        let parts = parts(&self.source, &self.buffer.properties, target);
        Ok(parts.layout(target.version)?.packet_length())
    }

    /// Writes the packet for `target`.
    ///
    /// # Errors
    /// When the packet would be longer than the protocol can say; nothing is written then.
    #[inline]
    pub fn write<S: Sink>(
        &mut self,
        target: &FanOutTarget<'_>,
        out: &mut S,
    ) -> Result<(), EncodeError> {
        let buffer = &mut *self.buffer;
        if target.is_plain() {
            let slot = slot(target);
            if buffer.built & (1 << slot) != 0 {
                buffer.write_image(slot, &self.source, target, out);
                return Ok(());
            }
            if buffer.used & (1 << slot) != 0 {
                buffer.build_image(slot, &self.source, target)?;
                buffer.write_image(slot, &self.source, target, out);
                return Ok(());
            }
            buffer.used |= 1 << slot;
        }
        parts(&self.source, &buffer.properties, target).encode(target.version, out)
    }
}

/// The memory of a [`FanOut`], to be used for one message after the other.
#[derive(Debug, Default)]
pub struct FanOutBuffer {
    /// The properties that all 5.0 subscribers get.
    properties: Vec<u8>,
    /// The images, one behind the other.
    images: Vec<u8>,
    /// Where they are. Valid where `built` says so.
    slots: [Image; SLOTS],
    /// A bit for each slot that was written once.
    used: u16,
    /// A bit for each slot that has an image.
    built: u16,
}

/// Where in the images one of them is.
#[derive(Clone, Copy, Debug, Default)]
struct Image {
    start: usize,
    end: usize,
    /// The place of the packet identifier after `start`, where the QoS has one.
    packet_id: usize,
    has_payload: bool,
}

impl FanOutBuffer {
    /// A buffer without memory.
    pub fn new() -> FanOutBuffer {
        FanOutBuffer::default()
    }

    fn prepare(&mut self, source: &PublishSource<'_>) {
        self.properties.clear();
        self.properties.shrink_to(KEPT_BYTES_MAX);
        self.images.clear();
        self.images.shrink_to(KEPT_BYTES_MAX);
        self.used = 0;
        self.built = 0;
        source.properties.write_forwarded(&mut self.properties);
        if let Some(seconds) = source.message_expiry_secs {
            self.properties.put_u8(PropertyId::MessageExpiry.as_u8());
            self.properties.put_u32(seconds);
        }
    }

    #[cold]
    fn build_image(
        &mut self,
        slot: usize,
        source: &PublishSource<'_>,
        target: &FanOutTarget<'_>,
    ) -> Result<(), EncodeError> {
        let parts = parts(source, &self.properties, target);
        let layout = parts.layout(target.version)?;
        let start = self.images.len();
        parts.encode_head(target.version, layout, &mut self.images);
        let payload = source.payload.as_slice();
        let has_payload = payload.len() < PAYLOAD_SHARE_MIN;
        if has_payload {
            self.images.put_slice(payload);
        }
        self.slots[slot] = Image {
            start,
            end: self.images.len(),
            packet_id: 1 + variable_length(layout.remaining_length) + 2 + parts.topic.len(),
            has_payload,
        };
        self.built |= 1 << slot;
        Ok(())
    }

    #[inline]
    fn write_image<S: Sink>(
        &mut self,
        slot: usize,
        source: &PublishSource<'_>,
        target: &FanOutTarget<'_>,
        out: &mut S,
    ) {
        let image = self.slots[slot];
        let bytes = &mut self.images[image.start..image.end];
        bytes[0] = publish_first_byte(target.delivery, target.retain);
        if let Some(id) = target.delivery.packet_id() {
            bytes[image.packet_id..][..2].copy_from_slice(&id.get().to_be_bytes());
        }
        out.put_slice(bytes);
        if !image.has_payload {
            source.payload.put(out);
        }
    }
}

#[inline]
fn parts<'b>(
    source: &PublishSource<'b>,
    properties: &'b [u8],
    target: &FanOutTarget<'b>,
) -> PublishParts<'b> {
    let name = source.topic.as_bytes();
    let (topic, topic_alias) = match target.topic {
        TopicForm::NameAndAlias(alias) if target.version.is_v5() => (name, Some(alias)),
        TopicForm::Alias(alias) if target.version.is_v5() => (&[][..], Some(alias)),
        _ => (name, None),
    };
    PublishParts {
        topic,
        delivery: target.delivery,
        retain: target.retain,
        topic_alias,
        properties,
        subscription_ids: target.subscription_ids,
        payload: source.payload,
    }
}

/// The kind of packet that `target` gets, as a number below [`SLOTS`].
#[inline]
fn slot(target: &FanOutTarget<'_>) -> usize {
    let version = usize::from(target.version.is_v5());
    let qos = usize::from(target.delivery.qos().bits());
    (version * 3 + qos) * 2 + usize::from(target.retain)
}

/// Kinds of packets: before 5.0 and since, three QoS, with RETAIN and without.
const SLOTS: usize = 12;
/// The memory in bytes that a buffer keeps from one message to the next.
const KEPT_BYTES_MAX: usize = 64 * 1024;
