//! [`decode`]: the PUBLISH that most are, with nothing wrong and nothing special.

use whimbrel_topic::TopicName;

use super::PublishRef;
use crate::property::PropertiesRef;
use crate::{
    ControlCharacters, Delivery, Limits, PacketId, PacketType, PropertyPlace, ProtocolVersion,
};

/// What [`decode`] found.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainPublish<'a> {
    /// The packet.
    pub(super) publish: PublishRef<'a>,
    /// Its length in bytes.
    pub(super) length: usize,
}

/// Decodes the PUBLISH at the front of `input`, if it is whole and valid, its topic is ASCII, and no length of it takes
/// more than two bytes, or that of its properties more than one.
///
/// Of anything else nothing is said: it goes through the decoder that knows all packets and all errors, and whose
/// results these are, too. That errors need not be told apart here is what makes it fast: it stays in registers.
#[inline(always)]
pub(super) fn decode<'a>(
    input: &'a [u8],
    version: ProtocolVersion,
    limits: &Limits,
) -> Option<PlainPublish<'a>> {
    let (first, rest) = input.split_first()?;
    // DUP needs a QoS, and there is no QoS 3: see the errors of the fixed header.
    let qos_and_dup = first & 0b1110;
    if first >> 4 != PacketType::Publish as u8 || PLAIN_FLAGS & (1 << qos_and_dup) == 0 {
        return None;
    }
    let (packet, length) = match rest {
        [length @ 0..0x80, rest @ ..] => {
            let length = usize::from(*length);
            (rest.get(..length)?, 2 + length)
        }
        [low, high @ 1..0x80, rest @ ..] => {
            let length = usize::from(low & 0x7F) | usize::from(*high) << 7;
            (rest.get(..length)?, 3 + length)
        }
        _ => return None,
    };
    if length > limits.packet_size_max as usize
        || limits.control_characters != ControlCharacters::Accept
    {
        return None;
    }
    let (topic_length, rest) = packet.split_first_chunk::<2>()?;
    let topic_length = usize::from(u16::from_be_bytes(*topic_length));
    let (topic, mut body) = rest.split_at_checked(topic_length)?;
    let mut delivery = Delivery::AtMostOnce;
    if qos_and_dup != 0 {
        let (id, rest) = body.split_first_chunk::<2>()?;
        let id = PacketId::new(u16::from_be_bytes(*id))?;
        let dup = first & 0b1000 != 0;
        body = rest;
        delivery = if first & 0b0010 != 0 {
            Delivery::AtLeastOnce { id, dup }
        } else {
            Delivery::ExactlyOnce { id, dup }
        };
    }
    let mut properties_length = 0;
    if version.is_v5() {
        let [length @ 0..0x80, rest @ ..] = body else {
            return None;
        };
        properties_length = u32::from(*length);
        body = rest;
    }
    if properties_length != 0 {
        let place = PropertyPlace::Packet(PacketType::Publish);
        PropertiesRef::check_front(body, properties_length, place, limits).ok()?;
    }
    let topic = TopicName::from_ascii(topic)?;
    if topic.exceeds_levels(limits.topic_levels_max as usize) {
        return None;
    }
    let retain = first & 1 != 0;
    let publish = PublishRef::from_checked(topic, body, properties_length, delivery, retain);
    Some(PlainPublish { publish, length })
}

/// A bit for each value of the flags, without RETAIN, that a PUBLISH may have.
const PLAIN_FLAGS: u16 = 1 << 0b0000 | 1 << 0b0010 | 1 << 0b0100 | 1 << 0b1010 | 1 << 0b1100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Decoded, PacketRef, decode_any};

    /// What is decoded here is what the decoder of all packets makes of it; returns whether it was.
    fn is_plain(input: &[u8], version: ProtocolVersion, limits: &Limits) -> bool {
        let Some(PlainPublish { publish, length }) = decode(input, version, limits) else {
            return false;
        };
        let packet = PacketRef::Publish(publish);
        let reference = decode_any(input, version, limits);
        assert_eq!(
            reference,
            Ok(Some(Decoded { packet, length })),
            "{input:x?}"
        );
        true
    }

    const VERSIONS: [ProtocolVersion; 3] = [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ];

    /// Packets that are near to valid ones: each byte of some has every value, and each is cut everywhere.
    #[test]
    fn plain_publishes_are_what_the_full_decoder_says() {
        let packets: [&[u8]; 6] = [
            b"\x30\x05\x00\x03a/bpayload of the next",
            b"\x32\x0a\x00\x03a/b\x00\x07hey",
            b"\x3d\x0b\x00\x03a/b\x00\x07\x00hey",
            b"\x34\x10\x00\x03a/b\x00\x07\x05\x02\x00\x00\x01\x2chey",
            b"\x32\x0d\x00\x00\x00\x07\x03\x23\x00\x01hey--",
            b"\x32\x8a\x00\x00\x03a/b\x00\x07hey",
        ];
        let mut plain = 0;
        for version in VERSIONS {
            for packet in packets {
                for place in 0..packet.len() {
                    let mut packet = packet.to_vec();
                    is_plain(&packet[..place], version, &Limits::DEFAULT);
                    for value in 0..=u8::MAX {
                        packet[place] = value;
                        plain += usize::from(is_plain(&packet, version, &Limits::DEFAULT));
                    }
                }
            }
        }
        // The test would be idle if none were.
        assert!(plain > 10_000, "{plain}");
    }

    #[test]
    fn lengths_of_two_bytes_are_plain() {
        for length in [125, 126, 127, 128, 129, 16_000, 16_383] {
            let mut packet = vec![0x30];
            crate::encode::put_variable(&mut packet, length);
            packet.extend_from_slice(b"\x00\x03a/b");
            packet.resize(packet.len() + length as usize - 5, b'x');
            assert!(is_plain(&packet, ProtocolVersion::V311, &Limits::DEFAULT));
        }
    }

    #[test]
    fn every_limit_is_kept() {
        let packet = b"\x30\x05\x00\x03a/b";
        let version = ProtocolVersion::V311;
        assert!(is_plain(packet, version, &Limits::DEFAULT));
        let mut limits = Limits::DEFAULT;
        limits.packet_size_max = 7;
        assert!(is_plain(packet, version, &limits));
        limits.packet_size_max = 6;
        assert!(!is_plain(packet, version, &limits));
        let mut limits = Limits::DEFAULT;
        limits.topic_levels_max = 2;
        assert!(is_plain(packet, version, &limits));
        limits.topic_levels_max = 1;
        assert!(!is_plain(packet, version, &limits));
        let mut limits = Limits::DEFAULT;
        limits.control_characters = ControlCharacters::Refuse;
        assert!(!is_plain(packet, version, &limits));
    }
}
