//! Reason strings and user properties give way to the peer's Maximum Packet Size.

use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{EncodeError, Packet, ProtocolVersion, UserProperties, WriteBuf};

/// What of an answer explains, and can be left out.
struct Diagnostics<'a> {
    reason_string: &'a mut Option<ByteStr>,
    user_properties: &'a mut UserProperties,
}

/// Whether a packet was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fit {
    Written,
    /// Too large even without diagnostics; nothing was written.
    TooLarge,
}

/// Writes `packet` within `packet_size_max` bytes, leaving out user properties, then the reason
/// string, where they would exceed it.
///
/// [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
/// [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3]
/// [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
/// [MQTT-3.15.2-2] [MQTT-3.15.2-3]
pub(crate) fn encode_within(
    packet: &mut Packet,
    version: ProtocolVersion,
    packet_size_max: usize,
    output: &mut WriteBuf,
) -> Result<Fit, EncodeError> {
    if packet.encoded_len(version)? > packet_size_max
        && let Some(diagnostics) = diagnostics(packet)
    {
        diagnostics.user_properties.clear();
    }
    if packet.encoded_len(version)? > packet_size_max {
        strip(packet);
    }
    if packet.encoded_len(version)? > packet_size_max {
        return Ok(Fit::TooLarge);
    }
    packet.encode(version, output)?;
    Ok(Fit::Written)
}

/// Leaves out all diagnostics, because the client asked for none [MQTT-3.1.2-29].
pub(crate) fn strip(packet: &mut Packet) {
    if let Some(diagnostics) = diagnostics(packet) {
        *diagnostics.reason_string = None;
        diagnostics.user_properties.clear();
    }
}

fn diagnostics(packet: &mut Packet) -> Option<Diagnostics<'_>> {
    let properties = match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            &mut ack.properties
        }
        Packet::SubAck(ack) => &mut ack.properties,
        Packet::UnsubAck(ack) => &mut ack.properties,
        Packet::Auth(auth) => &mut auth.properties,
        Packet::ConnAck(connack) => {
            return Some(Diagnostics {
                reason_string: &mut connack.properties.reason_string,
                user_properties: &mut connack.properties.user_properties,
            });
        }
        Packet::Disconnect(disconnect) => {
            return Some(Diagnostics {
                reason_string: &mut disconnect.reason_string,
                user_properties: &mut disconnect.user_properties,
            });
        }
        _ => return None,
    };
    Some(Diagnostics {
        reason_string: &mut properties.reason_string,
        user_properties: &mut properties.user_properties,
    })
}
