//! The record image of a message, checked.

use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{Limits, PublishProperties};

use super::RecordError;
use crate::Message;
use crate::message::{HEADER, LAYOUT_VERSION, QOS_BITS, RETAIN_BIT};

impl Message {
    /// The record image, as a journal writes it.
    #[must_use]
    pub fn as_image(&self) -> &[u8] {
        &self.0
    }

    /// A copy of a record image, with all that the accessors rely on checked.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where it is none.
    pub fn from_image(image: &[u8]) -> Result<Self, RecordError> {
        check(image)?;
        Ok(Self(image.into()))
    }
}

fn check(image: &[u8]) -> Result<(), RecordError> {
    let truncated = RecordError::Truncated { at: image.len() };
    let (header, rest) = image.split_first_chunk::<HEADER>().ok_or(truncated)?;
    if header[0] != LAYOUT_VERSION {
        return Err(RecordError::Version { version: header[0] });
    }
    let flags = header[1];
    if flags & !(QOS_BITS | RETAIN_BIT) != 0 || flags & QOS_BITS == QOS_BITS {
        return Err(RecordError::Malformed { at: 1 });
    }
    if header[22..24] != [0, 0] {
        return Err(RecordError::Malformed { at: 22 });
    }
    let topic_length = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let properties_length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let (topic, rest) = rest.split_at_checked(topic_length).ok_or(truncated)?;
    let topic = std::str::from_utf8(topic).ok().map(TopicName::new);
    if !matches!(topic, Some(Ok(_))) {
        return Err(RecordError::Malformed { at: HEADER });
    }
    let properties = usize::try_from(properties_length)
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or(truncated)?;
    if PublishProperties::parse(properties, &Limits::PROTOCOL).is_err() {
        return Err(RecordError::Malformed {
            at: HEADER + topic_length,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whimbrel_session::codec::QoS;

    use super::*;
    use crate::{MessageParts, MsgId, UnixMillis};

    fn message() -> Message {
        Message::new(&MessageParts {
            id: MsgId {
                node: 1,
                incarnation: 2,
                sequence: 3,
            },
            topic: TopicName::new("a/β").expect("valid"),
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at: UnixMillis(4),
            properties: PublishProperties::parse(&[1, 1], &Limits::PROTOCOL).expect("valid"),
            payload: b"payload",
        })
    }

    /// Uses every accessor: none may panic on an image that was accepted.
    fn read_all(message: &Message) -> usize {
        let parts = message.parts();
        let properties = parts.properties.iter().count();
        properties + parts.topic.as_str().len() + message.payload().len()
    }

    #[test]
    fn an_image_is_taken_back() {
        assert_eq!(Message::from_image(message().as_image()), Ok(message()));
    }

    #[test]
    fn what_the_accessors_rely_on_is_checked() {
        let broken = |at: usize, byte: u8| {
            let mut image = message().as_image().to_vec();
            image[at] = byte;
            Message::from_image(&image)
        };
        assert_eq!(broken(0, 2), Err(RecordError::Version { version: 2 }));
        assert_eq!(broken(1, 3), Err(RecordError::Malformed { at: 1 }));
        assert_eq!(broken(1, 8), Err(RecordError::Malformed { at: 1 }));
        assert_eq!(broken(2, 0), Err(RecordError::Malformed { at: 32 }));
        assert_eq!(broken(3, 1), Err(RecordError::Truncated { at: 45 }));
        assert_eq!(broken(7, 1), Err(RecordError::Truncated { at: 45 }));
        assert_eq!(broken(23, 1), Err(RecordError::Malformed { at: 22 }));
        assert_eq!(broken(32, b'#'), Err(RecordError::Malformed { at: 32 }));
        assert_eq!(broken(35, 0xff), Err(RecordError::Malformed { at: 32 }));
        assert_eq!(broken(36, 0xff), Err(RecordError::Malformed { at: 36 }));
    }

    proptest! {
        #[test]
        fn any_image_is_refused_or_can_be_read(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            length in 0_usize..45,
        ) {
            let mut image = message().as_image().to_vec();
            for (at, byte) in changes {
                let at = at.index(image.len());
                image[at] = byte;
            }
            image.truncate(length + 1);
            let size = image.len();
            if let Ok(message) = Message::from_image(&image) {
                prop_assert!(read_all(&message) < size);
            }
        }
    }
}
