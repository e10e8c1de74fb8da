//! The laws of the crate's contract, over arbitrary packets.

use arbitrary::{Arbitrary, Unstructured};
use proptest::collection::vec;
use proptest::prelude::*;
use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::{
    DecodeErrorKind, Decoded, DecodedPacket, EncodeError, FrameHeader, Limits, Packet, PacketType,
    ProtocolVersion, decode_owned, decode_ref,
};

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_as_the_downgraded_packet(packet in packet(), version in version()) {
        // [U5-007]
        let Some(bytes) = encoded(&packet, version) else { return Ok(()) };
        let decoded = decode(&bytes, version);
        prop_assert_eq!(decoded.length, bytes.len());
        prop_assert_eq!(decoded.packet, packet.downgraded(version));
        prop_assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    }

    #[test]
    fn minimal_encodings_come_back_byte_by_byte(packet in packet(), version in version()) {
        // [5:MQTT-1.5.5-1]
        let Some(bytes) = encoded(&packet, version) else { return Ok(()) };
        let again = encoded(&decode(&bytes, version).packet, version);
        prop_assert_eq!(again, Some(bytes));
    }

    #[test]
    fn downgrading_twice_is_downgrading_once(packet in packet(), version in version()) {
        let once = packet.downgraded(version);
        prop_assert_eq!(once.downgraded(version), once);
    }

    #[test]
    fn packets_are_the_same_however_the_input_is_cut(
        packets in vec(packet(), 1..6),
        version in version(),
        cuts in vec(1_usize..40, 1..20),
    ) {
        // [3:MQTT-6.0.0-2] [5:MQTT-6.0.0-2]
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for packet in &packets {
            if packet.encode(version, &mut bytes).is_ok() {
                expected.push(packet.downgraded(version));
            }
        }
        let mut received = Vec::new();
        let mut buffer = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at(rest.len().min(*cut));
            buffer.extend_from_slice(chunk);
            rest = tail;
            while let Some(decoded) = decode_ref(&buffer, version, &Limits::DEFAULT).unwrap() {
                received.push(decoded.packet.into_owned());
                let length = decoded.length;
                buffer.drain(..length);
            }
        }
        prop_assert_eq!(received, expected);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_prefix_of_a_packet_is_an_error(packet in packet(), version in version()) {
        let Some(bytes) = encoded(&packet, version) else { return Ok(()) };
        for end in 0..bytes.len() {
            prop_assert_eq!(decode_ref(&bytes[..end], version, &Limits::DEFAULT), Ok(None));
        }
    }

    #[test]
    fn what_follows_a_packet_is_not_looked_at(
        packet in packet(),
        version in version(),
        rest in vec(any::<u8>(), 0..20),
    ) {
        let Some(bytes) = encoded(&packet, version) else { return Ok(()) };
        let together = [&bytes[..], &rest].concat();
        prop_assert_eq!(decode(&together, version), decode(&bytes, version));
    }

    #[test]
    fn a_packet_over_the_size_limit_is_refused_from_its_header(
        packet in packet(),
        version in version(),
    ) {
        let Some(bytes) = encoded(&packet, version) else { return Ok(()) };
        let size = u32::try_from(bytes.len()).unwrap();
        let mut limits = Limits::DEFAULT;
        limits.packet_size_max = size;
        prop_assert!(decode_ref(&bytes, version, &limits).is_ok());
        limits.packet_size_max = size - 1;
        let header = FrameHeader::peek(&bytes, version, &Limits::DEFAULT).unwrap().unwrap();
        prop_assert_eq!(header.packet_length(), bytes.len());
        prop_assert_eq!(header.packet_type(), packet.packet_type());
        let error = decode_ref(&bytes[..header.header_length()], version, &limits).unwrap_err();
        prop_assert_eq!(error.kind(), DecodeErrorKind::PacketTooLarge { size });
    }

    #[test]
    fn random_bytes_are_refused_or_are_a_packet(
        bytes in vec(any::<u8>(), 0..80),
        first in any::<u8>(),
        version in version(),
    ) {
        // With a remaining length that fits, so that more than the header is looked at.
        let mut framed = vec![first, u8::try_from(bytes.len()).unwrap()];
        framed.extend_from_slice(&bytes);
        assert_sound(&bytes, version)?;
        assert_sound(&framed, version)?;
    }

    #[test]
    fn damaged_packets_are_refused_or_are_a_packet(
        packet in packet(),
        version in version(),
        damages in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let Some(mut bytes) = encoded(&packet, version) else { return Ok(()) };
        for (index, byte) in damages {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        assert_sound(&bytes, version)?;
    }

    #[test]
    fn owned_decoding_is_borrowed_decoding_and_a_copy(packet in packet(), version in version()) {
        let Some(bytes) = encoded(&packet, version) else { return Ok(()) };
        let input = Bytes::from(bytes);
        let owned = decode_owned(&input, version, &Limits::DEFAULT).unwrap().unwrap();
        prop_assert_eq!(owned, decode(&input, version));
    }
}

/// Whatever `bytes` are: what is taken for a packet lies inside them, and can be sent on.
fn assert_sound(bytes: &[u8], version: ProtocolVersion) -> Result<(), TestCaseError> {
    let Ok(Some(Decoded { packet, length })) = decode_ref(bytes, version, &Limits::DEFAULT) else {
        return Ok(());
    };
    prop_assert!(length <= bytes.len());
    prop_assert_eq!(
        decode_ref(&bytes[..length - 1], version, &Limits::DEFAULT),
        Ok(None)
    );
    let packet = packet.into_owned();
    let Some(again) = encoded(&packet, version) else {
        return Err(TestCaseError::fail("a received packet cannot be sent"));
    };
    prop_assert_eq!(decode(&again, version).packet, packet);
    Ok(())
}

fn decode(bytes: &[u8], version: ProtocolVersion) -> DecodedPacket {
    let decoded = decode_ref(bytes, version, &Limits::DEFAULT);
    let decoded = decoded.expect("valid").expect("complete");
    DecodedPacket {
        packet: decoded.packet.into_owned(),
        length: decoded.length,
    }
}

/// The packet's bytes, unless the version has no such packet.
fn encoded(packet: &Packet, version: ProtocolVersion) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match packet.encode(version, &mut bytes) {
        Ok(()) => Some(bytes),
        Err(error) => {
            assert!(bytes.is_empty(), "written in spite of an error");
            assert_ne!(version, ProtocolVersion::V5, "{error}");
            match packet.packet_type() {
                PacketType::Auth => assert_eq!(
                    error,
                    EncodeError::NotInVersion {
                        packet_type: PacketType::Auth,
                        version,
                    }
                ),
                PacketType::Publish => assert_eq!(error, EncodeError::TopicMissing),
                packet_type => panic!("{packet_type}: {error}"),
            }
            None
        }
    }
}

fn packet() -> impl Strategy<Value = Packet> {
    // The seed's bytes decide; when they end, the rest of the packet is at its smallest.
    vec(any::<u8>(), 0..300).prop_map(|seed| {
        Packet::arbitrary(&mut Unstructured::new(&seed)).unwrap_or(Packet::PingReq)
    })
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![
        Just(ProtocolVersion::V31),
        Just(ProtocolVersion::V311),
        Just(ProtocolVersion::V5),
    ]
}
