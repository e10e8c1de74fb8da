//! [`RawPublish`]: a PUBLISH whose every field can be wrong.

use whimbrel_codec::PropertyId;

use crate::context::Context;
use crate::wire;

/// A PUBLISH put together byte by byte. It starts as a valid one of QoS 0.
#[derive(Clone, Debug)]
pub(crate) struct RawPublish {
    first_byte: u8,
    topic: Vec<u8>,
    id: Option<u16>,
    /// The properties without their length; `None` before 5.0, which has none.
    properties: Option<Vec<u8>>,
    payload: Vec<u8>,
}

impl RawPublish {
    /// On this topic, with payload "raw".
    pub(crate) fn new(context: &Context, topic: impl Into<Vec<u8>>) -> RawPublish {
        RawPublish {
            first_byte: 0x30,
            topic: topic.into(),
            id: None,
            properties: context.is_v5().then(Vec::new),
            payload: b"raw".to_vec(),
        }
    }

    /// With these flags: DUP 8, QoS 2 and 4, RETAIN 1.
    pub(crate) fn flags(mut self, flags: u8) -> RawPublish {
        self.first_byte = 0x30 | flags;
        self
    }

    /// With this packet identifier.
    pub(crate) fn id(mut self, id: u16) -> RawPublish {
        self.id = Some(id);
        self
    }

    /// With one more property, whose value is these bytes.
    pub(crate) fn property(mut self, id: PropertyId, value: impl AsRef<[u8]>) -> RawPublish {
        let property = wire::property(id.as_u8(), value);
        self.properties.get_or_insert_default().extend(property);
        self
    }

    /// With a topic alias.
    pub(crate) fn alias(self, alias: u16) -> RawPublish {
        self.property(PropertyId::TopicAlias, alias.to_be_bytes())
    }

    /// With this payload.
    pub(crate) fn payload(mut self, payload: impl Into<Vec<u8>>) -> RawPublish {
        self.payload = payload.into();
        self
    }

    /// The bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let id = self.id.map_or_else(Vec::new, |id| id.to_be_bytes().into());
        let properties = match &self.properties {
            Some(properties) => wire::properties(&[properties]),
            None => Vec::new(),
        };
        let topic = wire::field(&self.topic);
        wire::packet(self.first_byte, &[&topic, &id, &properties, &self.payload])
    }
}
