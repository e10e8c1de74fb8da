//! What exceeds the limits is refused; what meets them exactly is not.

use whimbrel_codec::{
    ControlCharacters, DecodeErrorKind, FrameHeader, Limits, ProtocolVersion, ReasonCode,
    decode_ref,
};

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

// U5-041
#[test]
fn a_packet_that_is_too_large_is_refused_before_it_is_buffered() {
    let limits = limits(|limits| limits.packet_size_max = 200);
    // 197 bytes after three of fixed header.
    assert_eq!(decode_ref(b"\x30\xc5\x01", V5, &limits), Ok(None));
    let error = decode_ref(b"\x30\xc6\x01", V5, &limits).unwrap_err();
    let kind = DecodeErrorKind::PacketTooLarge { size: 201 };
    assert_eq!(error.kind(), kind);
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    assert_eq!(
        error.to_string(),
        "packet of 201 bytes is too large [U5-041]"
    );
    // Also a CONNECT, whose version is not known then.
    let error = FrameHeader::peek(b"\x10\xc6\x01", V5, &limits).unwrap_err();
    assert_eq!((error.kind(), error.version()), (kind, None));
    // The longest packet of the protocol is awaited where there is no limit.
    let longest = FrameHeader::peek(b"\x30\xff\xff\xff\x7f", V5, &Limits::PROTOCOL);
    assert_eq!(longest.unwrap().unwrap().packet_length(), 268_435_460);
}

#[test]
fn more_filters_than_the_limit_are_refused() {
    let filters = |count: usize, filter: &[u8]| [b"\x00\x01", &filter.repeat(count)[..]].concat();
    let limits = limits(|limits| limits.filters_max = 3);
    for (first, filter) in [(0x82, &b"\x00\x01a\x00"[..]), (0xA2, b"\x00\x01a")] {
        assert_eq!(decode(first, &filters(3, filter), V311, &limits), Ok(()));
        let error = DecodeErrorKind::TooManyFilters;
        assert_eq!(
            decode(first, &filters(4, filter), V311, &limits),
            Err(error)
        );
    }
}

#[test]
fn more_topic_levels_than_the_limit_are_refused() {
    let limits = limits(|limits| limits.topic_levels_max = 3);
    let publish = |topic| decode(0x30, &string(topic), V311, &limits);
    assert_eq!(publish("a/b/c"), Ok(()));
    assert_eq!(publish("///"), Err(DecodeErrorKind::TopicLevels));
    let connect = |topic| {
        let start = b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01c";
        let body = [&start[..], &string(topic), b"\x00\x00"].concat();
        decode(0x10, &body, V311, &limits)
    };
    assert_eq!(connect("a/b/c"), Ok(()));
    assert_eq!(connect("a/b/c/d"), Err(DecodeErrorKind::TopicLevels));
    // A filter is the server's to judge.
    let subscribe = [b"\x00\x01", &string("a/b/c/d")[..], b"\x00"].concat();
    assert_eq!(decode(0x82, &subscribe, V311, &limits), Ok(()));
}

// U5-002
#[test]
fn control_characters_are_refused_in_every_string_if_the_limits_say_so() {
    let accept = Limits::DEFAULT;
    let refuse = limits(|limits| limits.control_characters = ControlCharacters::Refuse);
    let text = string("a\u{7}");
    let packets = [
        (
            0x10,
            [b"\x00\x04MQTT\x05\x02\x00\x00\x00", &text[..]].concat(),
        ),
        (
            0x10,
            [b"\x00\x04MQTT\x05\x82\x00\x00\x00\x00\x00", &text[..]].concat(),
        ),
        (0x30, [&text[..], b"\x00"].concat()),
        (0x30, [b"\x00\x01a\x05\x03", &text[..]].concat()),
        (
            0x30,
            [b"\x00\x01a\x08\x26", &text[..], b"\x00\x01v"].concat(),
        ),
        (0x82, [b"\x00\x01\x00", &text[..], b"\x00"].concat()),
        (0xA2, [b"\x00\x01\x00", &text[..]].concat()),
        (0xE0, [b"\x00\x05\x1f", &text[..]].concat()),
    ];
    for (first, body) in packets {
        assert_eq!(decode(first, &body, V5, &accept), Ok(()), "{first:#x}");
        let error = DecodeErrorKind::StringControlCharacter;
        assert_eq!(decode(first, &body, V5, &refuse), Err(error), "{first:#x}");
    }
    // Payloads and other binary data are not strings.
    let publish = b"\x00\x01a\x05\x09\x00\x02\x07\x07\x07";
    assert_eq!(decode(0x30, publish, V5, &refuse), Ok(()));
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::DEFAULT;
    change(&mut limits);
    limits
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn decode(
    first: u8,
    body: &[u8],
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<(), DecodeErrorKind> {
    let packet = [&[first, u8::try_from(body.len()).unwrap()], body].concat();
    let decoded = decode_ref(&packet, version, limits).map_err(|error| error.kind())?;
    assert_eq!(decoded.map(|decoded| decoded.length), Some(packet.len()));
    Ok(())
}
