//! [`Record`]: what happens to a session, and how it is written.

use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::{TopicName, TopicNameBuf};
use whimbrel_session::codec::{
    Limits, MessageProperties, PacketId, PropertyId, PublishProperties, QoS,
};

use super::ledger::{Place, Step};

/// One step of a session, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A message was accepted.
    Accepted(Accepted),
    /// A message gets its packet id. To be written before its PUBLISH leaves, and not when it is sent again.
    Sent {
        /// The message.
        sequence: u64,
        /// The id of its exchange.
        packet_id: PacketId,
    },
    /// The server has taken a QoS 2 message: its PUBREC came, or it is not sent again because it has expired. To be
    /// written before PUBREL leaves. The message's body is forgotten.
    Received {
        /// The id of its exchange.
        packet_id: PacketId,
    },
    /// A message is done with: its last acknowledgement came, or it was refused, or it expired unsent.
    Done {
        /// The message.
        sequence: u64,
    },
    /// A QoS 2 message of the server was taken. To be written before PUBREC leaves. A repeat changes nothing.
    Held {
        /// The id that the server gave it.
        packet_id: PacketId,
    },
    /// The server has released a QoS 2 message. To be written before PUBCOMP leaves. A repeat changes nothing.
    Released {
        /// The id that the server gave it.
        packet_id: PacketId,
    },
    /// The server has no session: its ids mean nothing any more. Messages that it has not taken count as not sent, those
    /// that it has taken as done with.
    SessionBegan,
}

/// A message that was accepted and has to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place among all messages: they are sent in this order.
    pub sequence: u64,
    /// QoS 1 or 2: others are not kept.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// When it expires, in milliseconds since 1970 (Unix time): its expiry interval counts on while no process runs.
    pub expires_at_unix_ms: Option<u64>,
    /// Where it goes.
    pub topic: TopicNameBuf,
    /// Its properties, as the application gave them.
    pub properties: MessageProperties,
    /// Its payload.
    pub payload: Bytes,
}

/// A record as it stands in the file.
///
/// ```text
/// record   = type (1), fields
/// Accepted = 1, sequence (8), flags (1: bits 0-1 QoS, bit 2 RETAIN, bit 3 expires), [expires at (8)],
///            topic length (2), topic, properties length (4), properties, payload length (4), payload
/// Sent     = 2, sequence (8), packet id (2)
/// Received = 3, packet id (2)
/// Done     = 4, sequence (8)
/// Held     = 5, packet id (2)
/// Released = 6, packet id (2)
/// SessionBegan = 7
/// Taken    = 8, sequence (8), packet id (2), rank (8)
/// Next     = 9, sequence (8), packet id (2)
/// ```
///
/// Numbers are little-endian. `Taken` and `Next` are written by compaction only: an exchange whose body is forgotten,
/// with the place of its PUBREC among all, and the numbers to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Accepted(AcceptedLine<'a>),
    Sent {
        sequence: u64,
        packet_id: PacketId,
    },
    Received {
        packet_id: PacketId,
    },
    Done {
        sequence: u64,
    },
    Held {
        packet_id: PacketId,
    },
    Released {
        packet_id: PacketId,
    },
    SessionBegan,
    Taken {
        sequence: u64,
        packet_id: PacketId,
        rank: u64,
    },
    Next {
        sequence: u64,
        packet_id: PacketId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptedLine<'a> {
    pub(super) sequence: u64,
    pub(super) qos: QoS,
    retain: bool,
    expires_at_unix_ms: Option<u64>,
    topic: &'a TopicName,
    /// Invariant: validated as the properties of a message.
    properties: PublishProperties<'a>,
    payload: &'a [u8],
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Record {
    /// The record as it stands in the file.
    pub(super) fn line(&self) -> Line<'_> {
        match *self {
            Self::Accepted(ref accepted) => Line::Accepted(accepted.line()),
            Self::Sent {
                sequence,
                packet_id,
            } => Line::Sent {
                sequence,
                packet_id,
            },
            Self::Received { packet_id } => Line::Received { packet_id },
            Self::Done { sequence } => Line::Done { sequence },
            Self::Held { packet_id } => Line::Held { packet_id },
            Self::Released { packet_id } => Line::Released { packet_id },
            Self::SessionBegan => Line::SessionBegan,
        }
    }
}

impl Accepted {
    /// Its record's length in the file, in bytes.
    pub(super) fn encoded_bytes(&self) -> u64 {
        let expiry = if self.expires_at_unix_ms.is_some() {
            8
        } else {
            0
        };
        let properties = self.properties.as_properties().as_bytes().len();
        let variable = self.topic.as_bytes().len() + properties + self.payload.len();
        1 + 8 + 1 + expiry + 2 + 4 + 4 + variable as u64
    }

    fn line(&self) -> AcceptedLine<'_> {
        AcceptedLine {
            sequence: self.sequence,
            qos: self.qos,
            retain: self.retain,
            expires_at_unix_ms: self.expires_at_unix_ms,
            topic: &self.topic,
            properties: self.properties.as_properties(),
            payload: &self.payload,
        }
    }
}

impl AcceptedLine<'_> {
    /// Copies the message, so that the file's bytes can go.
    pub(super) fn to_accepted(self) -> Accepted {
        Accepted {
            sequence: self.sequence,
            qos: self.qos,
            retain: self.retain,
            expires_at_unix_ms: self.expires_at_unix_ms,
            topic: TopicNameBuf::from(self.topic),
            properties: MessageProperties::from_publish(self.properties),
            payload: Bytes::copy_from_slice(self.payload),
        }
    }
}

impl<'a> Line<'a> {
    /// Appends the record to `out`.
    ///
    /// Lengths fit: a topic name has at most 65,535 bytes, and the caller bounds the record as a whole.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Accepted(accepted) => {
                let flags = accepted.qos.bits()
                    | if accepted.retain { RETAIN } else { 0 }
                    | accepted.expires_at_unix_ms.map_or(0, |_| EXPIRES);
                put_numbered(out, ACCEPTED, accepted.sequence);
                out.push(flags);
                if let Some(at) = accepted.expires_at_unix_ms {
                    out.extend(at.to_le_bytes());
                }
                let topic = accepted.topic.as_bytes();
                out.extend(u16::try_from(topic.len()).unwrap_or(u16::MAX).to_le_bytes());
                out.extend(topic);
                put_long(out, accepted.properties.as_bytes());
                put_long(out, accepted.payload);
            }
            Self::Sent {
                sequence,
                packet_id,
            } => {
                put_numbered(out, SENT, sequence);
                put_id(out, packet_id);
            }
            Self::Received { packet_id } => put_identified(out, RECEIVED, packet_id),
            Self::Done { sequence } => put_numbered(out, DONE, sequence),
            Self::Held { packet_id } => put_identified(out, HELD, packet_id),
            Self::Released { packet_id } => put_identified(out, RELEASED, packet_id),
            Self::SessionBegan => out.push(SESSION_BEGAN),
            Self::Taken {
                sequence,
                packet_id,
                rank,
            } => {
                put_numbered(out, TAKEN, sequence);
                put_id(out, packet_id);
                out.extend(rank.to_le_bytes());
            }
            Self::Next {
                sequence,
                packet_id,
            } => {
                put_numbered(out, NEXT, sequence);
                put_id(out, packet_id);
            }
        }
    }

    /// Takes the first record off `bytes`.
    pub(super) fn decode(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
        let [kind] = take_array(bytes)?;
        Ok(match kind {
            ACCEPTED => Self::Accepted(decode_accepted(bytes)?),
            SENT => Self::Sent {
                sequence: take_u64(bytes)?,
                packet_id: take_id(bytes)?,
            },
            RECEIVED => Self::Received {
                packet_id: take_id(bytes)?,
            },
            DONE => Self::Done {
                sequence: take_u64(bytes)?,
            },
            HELD => Self::Held {
                packet_id: take_id(bytes)?,
            },
            RELEASED => Self::Released {
                packet_id: take_id(bytes)?,
            },
            SESSION_BEGAN => Self::SessionBegan,
            TAKEN => Self::Taken {
                sequence: take_u64(bytes)?,
                packet_id: take_id(bytes)?,
                rank: take_u64(bytes)?,
            },
            NEXT => Self::Next {
                sequence: take_u64(bytes)?,
                packet_id: take_id(bytes)?,
            },
            _ => return Err(Malformed),
        })
    }

    /// What it does to the session, when it stands at `place`.
    pub(super) fn step(&self, place: Place) -> Step {
        match *self {
            Self::Accepted(accepted) => Step::Accepted {
                sequence: accepted.sequence,
                qos: accepted.qos,
                place,
            },
            Self::Sent {
                sequence,
                packet_id,
            } => Step::Sent {
                sequence,
                packet_id,
            },
            Self::Received { packet_id } => Step::Received { packet_id },
            Self::Done { sequence } => Step::Done { sequence },
            Self::Held { packet_id } => Step::Held { packet_id },
            Self::Released { packet_id } => Step::Released { packet_id },
            Self::SessionBegan => Step::SessionBegan,
            Self::Taken {
                sequence,
                packet_id,
                rank,
            } => Step::Taken {
                sequence,
                packet_id,
                rank,
            },
            Self::Next {
                sequence,
                packet_id,
            } => Step::Next {
                sequence,
                packet_id,
            },
        }
    }
}

fn decode_accepted<'a>(bytes: &mut &'a [u8]) -> Result<AcceptedLine<'a>, Malformed> {
    let sequence = take_u64(bytes)?;
    let [flags] = take_array(bytes)?;
    if flags & !(QOS | RETAIN | EXPIRES) != 0 {
        return Err(Malformed);
    }
    let qos = QoS::from_bits(flags & QOS).ok_or(Malformed)?;
    let expires_at_unix_ms = if flags & EXPIRES == 0 {
        None
    } else {
        Some(take_u64(bytes)?)
    };
    let topic_bytes = usize::from(u16::from_le_bytes(take_array(bytes)?));
    let topic = str::from_utf8(take(bytes, topic_bytes)?).map_err(|_| Malformed)?;
    let topic = TopicName::new(topic).map_err(|_| Malformed)?;
    let properties = take_long(bytes)?;
    let properties =
        PublishProperties::parse(properties, &Limits::PROTOCOL).map_err(|_| Malformed)?;
    // Those belong to a connection, and are no part of a message.
    let is_of_connection = properties.iter().any(|property| {
        matches!(
            property.id(),
            PropertyId::TopicAlias | PropertyId::SubscriptionId
        )
    });
    if is_of_connection {
        return Err(Malformed);
    }
    Ok(AcceptedLine {
        sequence,
        qos,
        retain: flags & RETAIN != 0,
        expires_at_unix_ms,
        topic,
        properties,
        payload: take_long(bytes)?,
    })
}

fn put_numbered(out: &mut Vec<u8>, kind: u8, sequence: u64) {
    out.push(kind);
    out.extend(sequence.to_le_bytes());
}

fn put_identified(out: &mut Vec<u8>, kind: u8, packet_id: PacketId) {
    out.push(kind);
    put_id(out, packet_id);
}

fn put_id(out: &mut Vec<u8>, packet_id: PacketId) {
    out.extend(packet_id.get().to_le_bytes());
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*taken)
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    take_array(bytes).map(u64::from_le_bytes)
}

fn take_id(bytes: &mut &[u8]) -> Result<PacketId, Malformed> {
    let id = u16::from_le_bytes(take_array(bytes)?);
    PacketId::new(id).ok_or(Malformed)
}

fn take_long<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = u32::from_le_bytes(take_array(bytes)?);
    take(bytes, usize::try_from(length).map_err(|_| Malformed)?)
}

const ACCEPTED: u8 = 1;
const SENT: u8 = 2;
const RECEIVED: u8 = 3;
const DONE: u8 = 4;
const HELD: u8 = 5;
const RELEASED: u8 = 6;
const SESSION_BEGAN: u8 = 7;
const TAKEN: u8 = 8;
const NEXT: u8 = 9;

const QOS: u8 = 0b0011;
const RETAIN: u8 = 0b0100;
const EXPIRES: u8 = 0b1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> Accepted {
        let properties = MessageProperties::builder()
            .content_type("text/plain")
            .user_property("unit", "kelvin")
            .build();
        Accepted {
            sequence: 7,
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at_unix_ms: Some(1_700_000_000_000),
            topic: TopicNameBuf::try_from("a/b").expect("a topic"),
            properties: properties.expect("short texts"),
            payload: Bytes::from_static(b"21.5"),
        }
    }

    #[test]
    fn an_accepted_message_is_read_as_it_was_written() {
        let message = accepted();
        let mut bytes = Vec::new();
        Record::Accepted(message.clone()).line().encode(&mut bytes);
        assert_eq!(bytes.len() as u64, message.encoded_bytes());
        let mut rest = &bytes[..];
        let Ok(Line::Accepted(line)) = Line::decode(&mut rest) else {
            panic!("{bytes:?}");
        };
        assert!(rest.is_empty());
        assert_eq!(line.to_accepted(), message);
    }

    #[test]
    fn every_other_record_is_read_as_it_was_written() {
        let (sequence, packet_id) = (u64::MAX, PacketId::MAX);
        let lines = [
            Line::Sent {
                sequence,
                packet_id,
            },
            Line::Received { packet_id },
            Line::Done { sequence },
            Line::Held { packet_id },
            Line::Released { packet_id },
            Line::SessionBegan,
            Line::Taken {
                sequence,
                packet_id,
                rank: 3,
            },
            Line::Next {
                sequence,
                packet_id,
            },
        ];
        let mut bytes = Vec::new();
        for line in &lines {
            line.encode(&mut bytes);
        }
        let mut rest = &bytes[..];
        for line in lines {
            assert_eq!(Line::decode(&mut rest), Ok(line));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_record_that_is_cut_is_none() {
        let mut bytes = Vec::new();
        Line::Accepted(accepted().line()).encode(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(Line::decode(&mut &bytes[..length]), Err(Malformed));
        }
    }

    #[test]
    fn what_no_message_can_have_is_no_record() {
        let mut valid = Vec::new();
        let bare = Accepted {
            properties: MessageProperties::new(),
            expires_at_unix_ms: None,
            ..accepted()
        };
        Line::Accepted(bare.line()).encode(&mut valid);
        assert!(Line::decode(&mut &valid[..]).is_ok());
        // QoS 3, a flag that is not defined, a wildcard in the topic, bytes that are no UTF-8, a kind that is not defined.
        for (at, byte) in [(9, 3), (9, 0x11), (12, b'#'), (12, 0xff), (0, 10)] {
            let mut changed = valid.clone();
            changed[at] = byte;
            assert_eq!(Line::decode(&mut &changed[..]), Err(Malformed), "at {at}");
        }
        // A topic alias.
        let mut aliased = valid[..15].to_vec();
        aliased.extend([3, 0, 0, 0, 0x23, 0, 1, 0, 0, 0, 0]);
        assert_eq!(Line::decode(&mut &aliased[..]), Err(Malformed));
    }

    #[test]
    fn packet_id_0_is_no_record() {
        // [5:MQTT-2.2.1-3]
        assert_eq!(Line::decode(&mut &[HELD, 0, 0][..]), Err(Malformed));
    }
}
