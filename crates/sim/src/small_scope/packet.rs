//! Packets on a link: their bytes, and what an observer reads in them.

use std::fmt;

use whimbrel_broker_core::session::codec::{
    AckType, Limits, PacketId, PacketRef, ProtocolVersion, QoS, ReasonCode, decode_ref,
};

/// One whole packet on a link.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) says: Says,
}

/// What a packet says, as far as the rules of an exploration are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Connect,
    ConnAck {
        session_present: bool,
    },
    Publish {
        /// 0 for `QoS` 0.
        id: u16,
        qos: QoS,
        dup: bool,
        message: u8,
    },
    Answer {
        kind: AckType,
        id: u16,
        reason: ReasonCode,
    },
    Other,
}

/// Cuts what a side has written into packets.
///
/// # Panics
///
/// When it is not a whole number of valid packets: a defect of who wrote it.
pub(crate) fn split(mut bytes: &[u8], version: ProtocolVersion) -> Vec<Packet> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let decoded = decode_ref(bytes, version, &Limits::PROTOCOL)
            .expect("what was written is valid")
            .expect("whole packets are written");
        let (packet, rest) = bytes.split_at(decoded.length);
        packets.push(Packet {
            says: says(&decoded.packet),
            bytes: packet.to_vec(),
        });
        bytes = rest;
    }
    packets
}

fn says(packet: &PacketRef<'_>) -> Says {
    let (kind, ack) = match packet {
        PacketRef::Connect(_) => return Says::Connect,
        PacketRef::ConnAck(connack) => {
            return Says::ConnAck {
                session_present: connack.session_present,
            };
        }
        PacketRef::Publish(publish) => {
            return Says::Publish {
                id: publish.packet_id().map_or(0, PacketId::get),
                qos: publish.qos(),
                dup: publish.delivery() == publish.delivery().repeated()
                    && publish.qos() != QoS::AtMostOnce,
                message: message_of(publish.payload()),
            };
        }
        PacketRef::PubAck(ack) => (AckType::PubAck, ack),
        PacketRef::PubRec(ack) => (AckType::PubRec, ack),
        PacketRef::PubRel(ack) => (AckType::PubRel, ack),
        PacketRef::PubComp(ack) => (AckType::PubComp, ack),
        _ => return Says::Other,
    };
    Says::Answer {
        kind,
        id: ack.id.get(),
        reason: ack.reason,
    }
}

/// The payload of a message: its number.
pub(crate) fn payload_of(message: u8) -> [u8; 1] {
    [message]
}

/// The message with this payload.
pub(crate) fn message_of(payload: &[u8]) -> u8 {
    payload.first().copied().unwrap_or(u8::MAX)
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.says {
            Says::Connect => f.write_str("CONNECT"),
            Says::ConnAck { session_present } => {
                write!(f, "CONNACK session present {}", u8::from(session_present))
            }
            Says::Publish {
                id,
                qos,
                dup,
                message,
            } => {
                let dup = if dup { " DUP" } else { "" };
                write!(
                    f,
                    "PUBLISH of message {message}, QoS {}, id {id}{dup}",
                    qos.bits()
                )
            }
            Says::Answer { kind, id, reason } => {
                let name = match kind {
                    AckType::PubAck => "PUBACK",
                    AckType::PubRec => "PUBREC",
                    AckType::PubRel => "PUBREL",
                    AckType::PubComp => "PUBCOMP",
                };
                write!(f, "{name} id {id}")?;
                if reason.is_error() {
                    write!(f, " {reason:?}")?;
                }
                Ok(())
            }
            Says::Other => write!(
                f,
                "packet of type {}",
                self.bytes.first().map_or(0, |byte| byte >> 4)
            ),
        }
    }
}
