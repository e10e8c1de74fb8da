//! [`Message`]: an application message as one shared, versioned record image.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{PublishProperties, QoS};

use crate::{MsgId, UnixMillis};

/// An application message, as rings, queues and the retained tree hold it: one allocation, shared by
/// all of them, in the layout that a journal writes.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 1 | layout version, 1 |
/// | 1 | 1 | bits 0–1 `QoS`, bit 2 RETAIN |
/// | 2 | 2 | topic length |
/// | 4 | 4 | length of the MQTT 5 property image |
/// | 8 | 8 | sequence of the [`MsgId`] |
/// | 16 | 4 | incarnation of the [`MsgId`] |
/// | 20 | 2 | node of the [`MsgId`] |
/// | 22 | 2 | 0 |
/// | 24 | 8 | expiry, Unix milliseconds; all ones: never |
/// | 32 | | topic, properties, payload |
///
/// Integers are little-endian. The property image is the publisher's, without topic alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub(crate) Arc<[u8]>);

/// What a [`Message`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a> {
    /// Identity, given at ingress.
    pub id: MsgId,
    /// Topic the message was published to.
    pub topic: &'a TopicName,
    /// `QoS` it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN 1.
    pub retain: bool,
    /// When it expires; [`UnixMillis::NEVER`] if it does not.
    pub expires_at: UnixMillis,
    /// Its MQTT 5 properties; empty for a publisher of an older version.
    pub properties: PublishProperties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

impl Message {
    /// Builds the record image: one allocation.
    #[must_use]
    pub fn new(parts: &MessageParts<'_>) -> Self {
        let topic = parts.topic.as_str().as_bytes();
        let properties = parts.properties.as_bytes();
        let size = HEADER + topic.len() + properties.len() + parts.payload.len();
        // Made in place: from a `Vec` it would be copied.
        let mut image: Arc<[u8]> = std::iter::repeat_n(0, size).collect();
        if let Some(bytes) = Arc::get_mut(&mut image) {
            let mut header = [0; HEADER];
            header[0] = LAYOUT_VERSION;
            header[1] = parts.qos as u8 | if parts.retain { RETAIN_BIT } else { 0 };
            // A topic name has at most 65,535 bytes [MQTT-4.7.3-3], and properties fit in a packet.
            let topic_length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
            let properties_length = u32::try_from(properties.len()).unwrap_or(u32::MAX);
            header[2..4].copy_from_slice(&topic_length.to_le_bytes());
            header[4..8].copy_from_slice(&properties_length.to_le_bytes());
            header[8..16].copy_from_slice(&parts.id.sequence.to_le_bytes());
            header[16..20].copy_from_slice(&parts.id.incarnation.to_le_bytes());
            header[20..22].copy_from_slice(&parts.id.node.to_le_bytes());
            header[24..32].copy_from_slice(&parts.expires_at.0.to_le_bytes());
            let mut rest = bytes;
            for part in [&header, topic, properties, parts.payload] {
                let (place, behind) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = behind;
            }
        }
        Self(image)
    }

    /// What it was built from.
    #[must_use]
    pub fn parts(&self) -> MessageParts<'_> {
        MessageParts {
            id: self.id(),
            topic: self.topic(),
            qos: self.qos(),
            retain: self.retain(),
            expires_at: self.expires_at(),
            properties: self.properties(),
            payload: self.payload_bytes(),
        }
    }

    /// The message's identity.
    #[must_use]
    pub fn id(&self) -> MsgId {
        MsgId {
            sequence: u64::from_le_bytes(self.field(8)),
            incarnation: u32::from_le_bytes(self.field(16)),
            node: u16::from_le_bytes(self.field(20)),
        }
    }

    /// The topic it was published to.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        let bytes = &self.0[HEADER..HEADER + self.topic_length()];
        // The image was built from a `TopicName`.
        TopicName::from_utf8(bytes).expect("a message image holds a valid topic name")
    }

    /// The `QoS` it was published with.
    #[must_use]
    pub fn qos(&self) -> QoS {
        match self.0[1] & QOS_BITS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Whether it was published with RETAIN 1.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.0[1] & RETAIN_BIT != 0
    }

    /// When it expires.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        UnixMillis(u64::from_le_bytes(self.field(24)))
    }

    /// Whether its expiry has passed.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at() <= now
    }

    /// The publisher's MQTT 5 properties.
    #[must_use]
    pub fn properties(&self) -> PublishProperties<'_> {
        let start = HEADER + self.topic_length();
        PublishProperties::from_validated(&self.0[start..start + self.properties_length()])
    }

    /// The payload, sharing this message's memory: an allocation of a few words.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        Bytes::from_owner(Payload(self.clone()))
    }

    /// The payload.
    #[must_use]
    pub fn payload_bytes(&self) -> &[u8] {
        &self.0[self.payload_start()..]
    }

    /// Whether the payload is empty: a retained one deletes [MQTT-3.3.1-6].
    #[must_use]
    pub fn payload_is_empty(&self) -> bool {
        self.payload_start() == self.0.len()
    }

    /// Bytes of the image: what limits count.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    fn payload_start(&self) -> usize {
        HEADER + self.topic_length() + self.properties_length()
    }

    fn topic_length(&self) -> usize {
        usize::from(u16::from_le_bytes(self.field(2)))
    }

    fn properties_length(&self) -> usize {
        u32::from_le_bytes(self.field(4)) as usize
    }

    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[offset..offset + N]);
        field
    }
}

/// Keeps a message for its payload.
struct Payload(Message);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.payload_bytes()
    }
}

// Each place in a queue and each leaf of the retained tree has one.
const _: () = assert!(size_of::<Message>() <= 16);

pub(crate) const LAYOUT_VERSION: u8 = 1;
pub(crate) const HEADER: usize = 32;
pub(crate) const QOS_BITS: u8 = 0b11;
pub(crate) const RETAIN_BIT: u8 = 0b100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_what_it_was_built_from() {
        let parts = MessageParts {
            id: MsgId {
                node: 7,
                incarnation: 9,
                sequence: 1 << 60,
            },
            topic: TopicName::new("a/β").expect("valid"),
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at: UnixMillis(123),
            properties: PublishProperties::EMPTY,
            payload: b"payload",
        };
        let message = Message::new(&parts);
        assert_eq!(message.id(), parts.id);
        assert_eq!(message.topic(), parts.topic);
        assert_eq!(message.qos(), QoS::ExactlyOnce);
        assert!(message.retain());
        assert_eq!(message.expires_at(), UnixMillis(123));
        assert!(message.properties().is_empty());
        assert_eq!(&message.payload()[..], b"payload");
        assert!(!message.payload_is_empty());
        assert!(message.is_expired(UnixMillis(123)) && !message.is_expired(UnixMillis(122)));
    }
}
