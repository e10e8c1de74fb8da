//! The properties of an application message, owned.

use bytes::Bytes;
use thiserror::Error;
use whimbrel_topic::TopicName;

use super::publish::copy_without;
use super::{
    PayloadFormat, PropertiesRef, Property, PropertyId, PropertySet, PublishProperties,
    UserPropertyRef,
};
use crate::EncodeError;

/// The properties that belong to an application message, in a PUBLISH or a will: the format, expiry and type of its
/// payload, what an answer needs, and user properties.
///
/// They are kept as they are sent, so that a will becomes a PUBLISH without being parsed again. Cloning shares memory.
///
/// ```
/// use whimbrel_codec::MessageProperties;
///
/// let properties = MessageProperties::builder()
///     .content_type("text/plain")
///     .user_property("unit", "kelvin")
///     .build()?;
/// assert_eq!(properties.as_properties().content_type(), Some("text/plain"));
/// # Ok::<(), whimbrel_codec::PropertyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageProperties {
    /// Invariant: validated as the properties of a PUBLISH, without topic alias and subscription identifiers.
    bytes: Bytes,
}

impl MessageProperties {
    /// No properties.
    pub const fn new() -> MessageProperties {
        MessageProperties {
            bytes: Bytes::new(),
        }
    }

    /// Starts with no properties.
    pub fn builder<'a>() -> MessagePropertiesBuilder<'a> {
        MessagePropertiesBuilder::default()
    }

    /// Copies what belongs to the message out of `properties`.
    pub fn from_publish(properties: PublishProperties<'_>) -> MessageProperties {
        let mut bytes = Vec::with_capacity(properties.as_bytes().len());
        properties.write_forwardable(&mut bytes);
        MessageProperties {
            bytes: Bytes::from(bytes),
        }
    }

    /// Copies what belongs to the message out of a will's properties.
    pub(crate) fn from_will(properties: PropertiesRef<'_>) -> MessageProperties {
        const NOT_OF_MESSAGE: PropertySet = PropertySet::of(&[PropertyId::WillDelay]);
        let mut bytes = Vec::with_capacity(properties.as_bytes().len());
        copy_without(properties.as_bytes(), NOT_OF_MESSAGE, &mut bytes);
        MessageProperties {
            bytes: Bytes::from(bytes),
        }
    }

    /// Whether there are no properties.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties as a PUBLISH has them, to be read in place.
    pub fn as_properties(&self) -> PublishProperties<'_> {
        PublishProperties::from_validated(&self.bytes)
    }
}

/// Builds [`MessageProperties`]. What is set twice has the last value; user properties add up.
#[derive(Clone, Debug, Default)]
pub struct MessagePropertiesBuilder<'a> {
    payload_format: Option<PayloadFormat>,
    message_expiry_secs: Option<u32>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a TopicName>,
    correlation_data: Option<&'a [u8]>,
    user_properties: Vec<UserPropertyRef<'a>>,
}

impl<'a> MessagePropertiesBuilder<'a> {
    /// Says what the payload is.
    #[must_use]
    pub fn payload_format(mut self, format: PayloadFormat) -> Self {
        self.payload_format = Some(format);
        self
    }

    /// Lets the message expire after this many seconds.
    #[must_use]
    pub fn message_expiry_secs(mut self, seconds: u32) -> Self {
        self.message_expiry_secs = Some(seconds);
        self
    }

    /// Says what the payload is, in words of the application.
    #[must_use]
    pub fn content_type(mut self, content_type: &'a str) -> Self {
        self.content_type = Some(content_type);
        self
    }

    /// Asks for a response, published to `name`.
    #[must_use]
    pub fn response_topic(mut self, name: &'a TopicName) -> Self {
        self.response_topic = Some(name);
        self
    }

    /// Gives data that the response will carry.
    #[must_use]
    pub fn correlation_data(mut self, data: &'a [u8]) -> Self {
        self.correlation_data = Some(data);
        self
    }

    /// Adds a user property at the end.
    #[must_use]
    pub fn user_property(mut self, name: &'a str, value: &'a str) -> Self {
        self.user_properties.push(UserPropertyRef { name, value });
        self
    }

    /// Puts the properties together.
    ///
    /// # Errors
    /// When a string or the correlation data cannot be encoded.
    pub fn build(&self) -> Result<MessageProperties, PropertyError> {
        let mut bytes = Vec::new();
        let single = [
            self.payload_format.map(Property::PayloadFormat),
            self.message_expiry_secs.map(Property::MessageExpiry),
            self.content_type.map(Property::ContentType),
            self.response_topic.map(Property::ResponseTopic),
            self.correlation_data.map(Property::CorrelationData),
        ];
        let user = self.user_properties.iter().copied();
        let user = user.map(Property::UserProperty);
        for property in single.into_iter().flatten().chain(user) {
            property.encode(&mut bytes).map_err(|error| match error {
                EncodeError::StringNull => PropertyError::StringNull { id: property.id() },
                _ => PropertyError::TooLong { id: property.id() },
            })?;
        }
        Ok(MessageProperties {
            bytes: Bytes::from(bytes),
        })
    }
}

/// Why a property has no form on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum PropertyError {
    /// A string or binary value is longer than 65,535 bytes.
    #[error("{id} is longer than 65,535 bytes")]
    TooLong {
        /// The property.
        id: PropertyId,
    },
    /// A string holds U+0000 [MQTT-1.5.4-2].
    #[error("{id} holds U+0000")]
    StringNull {
        /// The property.
        id: PropertyId,
    },
}
