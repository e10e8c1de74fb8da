//! [`Message`]: what arrives.

use std::fmt;

use whimbrel_session::TopicRef;
use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::{TopicName, TopicNameBuf};
use whimbrel_session::codec::{Publish, PublishProperties, PublishRef, QoS};

/// A message as the server delivered it. Cloning shares its memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    publish: Publish,
    /// What the server's alias stands for. Invariant: there where the packet has no topic of its own.
    aliased: Option<TopicNameBuf>,
}

impl Message {
    /// A message that has come, copied out of the input.
    pub(crate) fn new(inbound: PublishRef<'_>, topic: TopicRef<'_>) -> Self {
        let aliased = match topic {
            TopicRef::Borrowed(_) => None,
            TopicRef::Aliased(topic) => Some(topic),
        };
        Self {
            publish: inbound.into_owned(),
            aliased,
        }
    }

    /// The topic, whether or not the server sent an alias in its place.
    pub fn topic(&self) -> &TopicName {
        let own = self.publish.topic();
        own.or(self.aliased.as_deref())
            .expect("a packet without topic has an alias")
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.publish.payload()
    }

    /// The payload, shared.
    pub fn payload_bytes(&self) -> Bytes {
        self.publish.payload_bytes()
    }

    /// The QoS of the delivery: the lower of published and granted [MQTT-3.8.4-8].
    pub fn qos(&self) -> QoS {
        self.publish.qos()
    }

    /// Whether the server had the message stored when the subscription was made, or, with Retain As Published,
    /// whether it was published as a retained one [MQTT-3.3.1-8] [MQTT-3.3.1-13].
    pub fn retain(&self) -> bool {
        self.publish.retain()
    }

    /// Whether the server may have sent the message before [MQTT-3.3.1-1]. `false` says nothing: another subscription
    /// or connection may have had it.
    pub fn dup(&self) -> bool {
        self.publish.delivery().dup()
    }

    /// The properties, read in place; none before MQTT 5.
    pub fn properties(&self) -> PublishProperties<'_> {
        self.publish.properties()
    }

    /// The packet, for instance to be published again.
    pub fn as_publish(&self) -> &Publish {
        &self.publish
    }

    /// What a queue counts for it, in bytes.
    pub(crate) fn cost(&self) -> usize {
        MESSAGE_BYTES
            + self.topic().as_bytes().len()
            + self.publish.payload().len()
            + self.publish.properties().as_bytes().len()
    }
}

impl fmt::Debug for Message {
    /// The payload may be anything and of any size: only its length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic().as_str())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("dup", &self.dup())
            .finish_non_exhaustive()
    }
}

/// What a message takes beside its own bytes.
pub(crate) const MESSAGE_BYTES: usize = 256;
