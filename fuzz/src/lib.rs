//! What several fuzz targets share.

use whimbrel_codec::{
    ControlCharacters, DecodeError, Limits, Packet, PacketRef, ProtocolVersion, decode_owned,
    decode_ref,
};

/// Limits small enough for a fuzzer to meet them.
pub fn small_limits() -> Limits {
    let mut limits = Limits::DEFAULT;
    limits.packet_size_max = 4096;
    limits.property_bytes_max = 256;
    limits.user_properties_max = 4;
    limits.filters_max = 8;
    limits.topic_levels_max = 16;
    limits
}

/// Decodes packet after packet as a connection does, which takes the version from a CONNECT, and checks each.
pub fn decode_all(input: &[u8], version: ProtocolVersion, limits: &Limits) -> Received {
    let mut received = Received {
        packets: Vec::new(),
        error: None,
        rest: 0,
    };
    let mut version = version;
    let mut rest = input;
    loop {
        match decode_ref(rest, version, limits) {
            Ok(Some(decoded)) => {
                assert!(decoded.length <= limits.packet_size_max as usize);
                let (frame, tail) = rest.split_at(decoded.length);
                check_packet(decoded.packet, frame, version, limits);
                if let PacketRef::Connect(connect) = decoded.packet {
                    version = connect.version;
                }
                received.packets.push(decoded.packet.into_owned());
                rest = tail;
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.clause().is_empty() && error.reason_code().is_error());
                received.error = Some(error);
                break;
            }
        }
    }
    received.rest = rest.len();
    received
}

/// What came of some input.
#[derive(Debug, PartialEq)]
pub struct Received {
    /// The packets.
    pub packets: Vec<Packet>,
    /// What is no packet.
    pub error: Option<DecodeError>,
    /// Bytes that were not used.
    pub rest: usize,
}

/// A decoded packet keeps the crate's contract.
fn check_packet(packet: PacketRef<'_>, frame: &[u8], version: ProtocolVersion, limits: &Limits) {
    let owned = packet.into_owned();
    let shared = decode_owned(&frame.to_vec().into(), version, limits);
    assert_eq!(shared.unwrap().unwrap().packet, owned);
    if let PacketRef::Publish(publish) = packet {
        let properties = publish.properties();
        assert!(properties.as_bytes().len() <= limits.property_bytes_max as usize);
        let user_properties = properties.user_properties().count();
        assert!(user_properties <= limits.user_properties_max as usize);
        assert!(publish.topic().is_some() || properties.topic_alias().is_some());
        let all = properties.iter().count();
        let ids = properties.subscription_ids().count();
        // Each of the others is there once at most: five of the message, and the alias.
        assert!(all <= user_properties + ids + 6);
    }
    if let PacketRef::Subscribe(subscribe) = packet {
        assert!(subscribe.filters().len() <= limits.filters_max as usize);
        assert_eq!(subscribe.filters().count(), subscribe.filters().len());
    }
    check_round_trip(&owned, version, limits);
}

/// What is encoded is decoded as the downgraded packet, and encoded to the same bytes again.
pub fn check_round_trip(packet: &Packet, version: ProtocolVersion, limits: &Limits) {
    let mut bytes = Vec::new();
    if packet.encode(version, &mut bytes).is_err() {
        assert!(bytes.is_empty() && !version.is_v5());
        return;
    }
    assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    if bytes.len() > limits.packet_size_max as usize {
        return;
    }
    let decoded = decode_ref(&bytes, version, limits)
        .expect("valid")
        .expect("complete");
    assert_eq!(decoded.length, bytes.len());
    let decoded = decoded.packet.into_owned();
    assert_eq!(decoded, packet.downgraded(version));
    let mut again = Vec::new();
    decoded.encode(version, &mut again).expect("it was decoded");
    assert_eq!(again, bytes);
}

/// The same limits, but control characters are refused.
pub fn without_control_characters(limits: &Limits) -> Limits {
    let mut limits = *limits;
    limits.control_characters = ControlCharacters::Refuse;
    limits
}
