//! The serial form of a session.

use bytes::Bytes;
use whimbrel_session::codec::topic::TopicNameBuf;
use whimbrel_session::codec::{
    Limits, MessageProperties, ProtocolVersion, PublishProperties, QoS, Will,
};

use super::reader::Reader;
use super::{QOS, RETAIN, RecordError, VERSION, flag, put_bytes};
use crate::UnixMillis;
use crate::holders::put_varint;
use crate::record::SessionRecord;

/// ```text
/// session = version, queue, protocol level (byte), expiry, flags (byte: 1 disconnected, 2 will),
///           [disconnected at], client id, [will]
/// will    = flags (byte: bits 0-1 QoS, bit 2 RETAIN), delay, topic, properties, payload
/// ```
impl SessionRecord {
    /// Appends the serial form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, self.session.get());
        out.push(self.version.level());
        put_varint(out, u64::from(self.expiry_secs));
        let disconnected = flag(self.disconnected_at.is_some(), DISCONNECTED);
        out.push(disconnected | flag(self.will.is_some(), WILL));
        if let Some(UnixMillis(at)) = self.disconnected_at {
            put_varint(out, at);
        }
        put_bytes(out, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            out.push(will.qos.bits() | flag(will.retain, RETAIN));
            put_varint(out, u64::from(will.delay_secs));
            put_bytes(out, will.topic.as_bytes());
            put_bytes(out, will.properties.as_properties().as_bytes());
            put_bytes(out, &will.payload);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes)?;
        let session = reader.queue()?;
        let at = reader.at();
        let version = match reader.byte()? {
            3 => ProtocolVersion::V31,
            4 => ProtocolVersion::V311,
            5 => ProtocolVersion::V5,
            _ => return Err(reader.malformed_since(at)),
        };
        let expiry_secs = reader.number()?;
        let at = reader.at();
        let flags = reader.byte()?;
        if flags & !(DISCONNECTED | WILL) != 0 {
            return Err(reader.malformed_since(at));
        }
        let disconnected_at = if flags & DISCONNECTED == 0 {
            None
        } else {
            Some(UnixMillis(reader.varint()?))
        };
        let client_id = reader.text()?;
        let will = if flags & WILL == 0 {
            None
        } else {
            Some(will(&mut reader)?)
        };
        reader.finish()?;
        Ok(Self {
            session,
            client_id,
            version,
            expiry_secs,
            disconnected_at,
            will,
        })
    }
}

fn will(reader: &mut Reader<'_>) -> Result<Will, RecordError> {
    let at = reader.at();
    let flags = reader.byte()?;
    let qos = QoS::from_bits(flags & QOS)
        .filter(|_| flags & !(QOS | RETAIN) == 0)
        .ok_or_else(|| reader.malformed_since(at))?;
    let delay_secs = reader.number()?;
    let at = reader.at();
    let topic = TopicNameBuf::new(reader.text()?).map_err(|_| reader.malformed_since(at))?;
    let at = reader.at();
    let properties = message_properties(reader.bytes()?).ok_or(reader.malformed_since(at))?;
    let payload = Bytes::copy_from_slice(reader.bytes()?);
    Ok(Will {
        topic,
        payload,
        qos,
        retain: flags & RETAIN != 0,
        delay_secs,
        properties,
    })
}

/// What belongs to a message and nothing else.
fn message_properties(bytes: &[u8]) -> Option<MessageProperties> {
    let properties = PublishProperties::parse(bytes, &Limits::PROTOCOL).ok()?;
    let of_message = MessageProperties::from_publish(properties);
    (of_message.as_properties().as_bytes() == bytes).then_some(of_message)
}

const DISCONNECTED: u8 = 1;
const WILL: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whimbrel_session::codec::PayloadFormat;

    use super::*;
    use crate::record::QueueId;

    fn properties() -> impl Strategy<Value = MessageProperties> {
        let user = prop::collection::vec(("[a-zß]{0,5}", "\\PC{0,5}"), 0..3);
        let data = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
        let single = (any::<bool>(), prop::option::of(any::<u32>()), data);
        (single, user).prop_map(|((format, expiry, data), user)| {
            let mut builder = MessageProperties::builder();
            if format {
                builder = builder.payload_format(PayloadFormat::Utf8);
            }
            if let Some(expiry) = expiry {
                builder = builder.message_expiry_secs(expiry);
            }
            if let Some(data) = &data {
                builder = builder.correlation_data(data);
            }
            for (name, value) in &user {
                builder = builder.user_property(name, value);
            }
            builder.build().expect("short strings")
        })
    }

    fn some_will() -> impl Strategy<Value = Will> {
        let payload = prop::collection::vec(any::<u8>(), 0..20);
        let numbers = (0_u8..3, any::<bool>(), any::<u32>());
        ("[a-z/ü]{1,9}", payload, numbers, properties()).prop_map(
            |(topic, payload, (qos, retain, delay_secs), properties)| Will {
                topic: TopicNameBuf::new(topic.into()).expect("no wildcard"),
                payload: payload.into(),
                qos: QoS::from_bits(qos).expect("a QoS"),
                retain,
                delay_secs,
                properties,
            },
        )
    }

    fn session() -> impl Strategy<Value = SessionRecord> {
        let version = prop::sample::select(vec![
            ProtocolVersion::V31,
            ProtocolVersion::V311,
            ProtocolVersion::V5,
        ]);
        let times = (any::<u32>(), prop::option::of(any::<u64>()));
        let will = prop::option::of(some_will());
        (1..=u64::MAX, "\\PC{0,23}", version, times, will).prop_map(
            |(session, client_id, version, (expiry_secs, at), will)| SessionRecord {
                session: QueueId::new(session).expect("not 0"),
                client_id: client_id.into(),
                version,
                expiry_secs,
                disconnected_at: at.map(UnixMillis),
                will,
            },
        )
    }

    proptest! {
        #[test]
        fn a_session_reads_back_as_it_was_written(record in session()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for end in 0..bytes.len() {
                prop_assert!(SessionRecord::decode(&bytes[..end]).is_err());
            }
            prop_assert_eq!(SessionRecord::decode(&bytes), Ok(record));
            bytes.push(0);
            prop_assert!(SessionRecord::decode(&bytes).is_err());
        }

        #[test]
        fn what_decodes_encodes_to_something_that_decodes_to_the_same(
            record in session(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(decoded) = SessionRecord::decode(&bytes) {
                let mut again = Vec::new();
                decoded.encode(&mut again);
                prop_assert_eq!(SessionRecord::decode(&again), Ok(decoded));
            }
        }
    }

    #[test]
    fn a_will_with_a_topic_alias_is_no_will() {
        let mut bytes = vec![VERSION, 1, 5, 0, WILL, 0, 0, 0, 1, b't'];
        put_bytes(&mut bytes, &[0x23, 0, 1]);
        put_bytes(&mut bytes, b"");
        assert_eq!(
            SessionRecord::decode(&bytes),
            Err(RecordError::Malformed { at: 10 })
        );
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(
            SessionRecord::decode(&[9]),
            Err(RecordError::Version { version: 9 })
        );
    }
}
