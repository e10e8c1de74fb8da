//! The codecs that are compared, each used as its documentation shows.

use bytes::{Buf, Bytes, BytesMut};
use mqtt_proto::PollHeader;
use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::{PacketBuildResult, PacketBuilder, PacketData};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, v3_1_1, v5_0};
use ntex_codec::{Decoder, Encoder};
use whimbrel_benches::Frame;
use whimbrel_broker_core::session::codec::{
    Decoded, Limits, Packet, PacketRef, ProtocolVersion, decode_owned, decode_ref,
};

/// One codec, decoding what is ready in memory and encoding into memory that is there.
pub(crate) trait Library<'f> {
    /// How figures are called.
    const NAME: &'static str;
    /// What packets are decoded from: several of the same, one behind the other.
    type Input;
    /// A decoded packet.
    type Packet;
    /// What packets are encoded into.
    type Output;

    /// Whether the library has this version at all.
    fn speaks(version: ProtocolVersion) -> bool;
    fn input(bytes: &'f [u8], frame: &Frame) -> Self::Input;
    /// Takes the next packet; `None` where there is none, or none that the library accepts.
    fn decode(input: &mut Self::Input, version: ProtocolVersion) -> Option<Self::Packet>;
    fn output(capacity: usize) -> Self::Output;
    fn clear(output: &mut Self::Output);
    fn encode(packet: &Self::Packet, version: ProtocolVersion, output: &mut Self::Output);
    fn written(output: &Self::Output) -> Vec<u8>;
}

/// Whimbrel, borrowing from the input; what is encoded is an owned packet.
pub(crate) struct Borrowed;

impl<'f> Library<'f> for Borrowed {
    const NAME: &'static str = "whimbrel_borrowed";
    type Input = &'f [u8];
    type Packet = PacketRef<'f>;
    type Output = BytesMut;

    fn speaks(_: ProtocolVersion) -> bool {
        true
    }

    fn input(bytes: &'f [u8], _: &Frame) -> &'f [u8] {
        bytes
    }

    fn decode(input: &mut &'f [u8], version: ProtocolVersion) -> Option<PacketRef<'f>> {
        let Decoded { packet, length } = decode_ref(input, version, &Limits::DEFAULT).ok()??;
        *input = input.get(length..)?;
        Some(packet)
    }

    fn output(capacity: usize) -> BytesMut {
        BytesMut::with_capacity(capacity)
    }

    fn clear(output: &mut BytesMut) {
        output.clear();
    }

    fn encode(packet: &PacketRef<'f>, version: ProtocolVersion, output: &mut BytesMut) {
        let encoded = packet.into_owned().encode(version, output);
        encoded.expect("it was decoded in this version");
    }

    fn written(output: &BytesMut) -> Vec<u8> {
        output.to_vec()
    }
}

/// Whimbrel, with packets of their own.
pub(crate) struct Owned;

impl Library<'_> for Owned {
    const NAME: &'static str = "whimbrel_owned";
    type Input = Bytes;
    type Packet = Packet;
    type Output = BytesMut;

    fn speaks(_: ProtocolVersion) -> bool {
        true
    }

    fn input(bytes: &[u8], _: &Frame) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    fn decode(input: &mut Bytes, version: ProtocolVersion) -> Option<Packet> {
        let decoded = decode_owned(input, version, &Limits::DEFAULT).ok()??;
        input.advance(decoded.length);
        Some(decoded.packet)
    }

    fn output(capacity: usize) -> BytesMut {
        BytesMut::with_capacity(capacity)
    }

    fn clear(output: &mut BytesMut) {
        output.clear();
    }

    fn encode(packet: &Packet, version: ProtocolVersion, output: &mut BytesMut) {
        let encoded = packet.encode(version, output);
        encoded.expect("it was decoded in this version");
    }

    fn written(output: &BytesMut) -> Vec<u8> {
        output.to_vec()
    }
}

/// The codec of the rumqttc client for 3.1.1.
pub(crate) struct Rumqttc4;

impl Library<'_> for Rumqttc4 {
    const NAME: &'static str = "rumqttc";
    type Input = BytesMut;
    type Packet = rumqttc::mqttbytes::v4::Packet;
    type Output = BytesMut;

    fn speaks(version: ProtocolVersion) -> bool {
        version == ProtocolVersion::V311
    }

    fn input(bytes: &[u8], _: &Frame) -> BytesMut {
        BytesMut::from(bytes)
    }

    fn decode(input: &mut BytesMut, _: ProtocolVersion) -> Option<Self::Packet> {
        Self::Packet::read(input, PACKET_BYTES_MAX).ok()
    }

    fn output(capacity: usize) -> BytesMut {
        BytesMut::with_capacity(capacity)
    }

    fn clear(output: &mut BytesMut) {
        output.clear();
    }

    fn encode(packet: &Self::Packet, _: ProtocolVersion, output: &mut BytesMut) {
        let written = packet.write(output, PACKET_BYTES_MAX);
        written.expect("it was decoded");
    }

    fn written(output: &BytesMut) -> Vec<u8> {
        output.to_vec()
    }
}

/// The codec of the rumqttc client for 5.0.
pub(crate) struct Rumqttc5;

impl Library<'_> for Rumqttc5 {
    const NAME: &'static str = "rumqttc";
    type Input = BytesMut;
    type Packet = rumqttc::v5::mqttbytes::v5::Packet;
    type Output = BytesMut;

    fn speaks(version: ProtocolVersion) -> bool {
        version.is_v5()
    }

    fn input(bytes: &[u8], _: &Frame) -> BytesMut {
        BytesMut::from(bytes)
    }

    fn decode(input: &mut BytesMut, _: ProtocolVersion) -> Option<Self::Packet> {
        Self::Packet::read(input, Some(PACKET_BYTES_MAX as u32)).ok()
    }

    fn output(capacity: usize) -> BytesMut {
        BytesMut::with_capacity(capacity)
    }

    fn clear(output: &mut BytesMut) {
        output.clear();
    }

    fn encode(packet: &Self::Packet, _: ProtocolVersion, output: &mut BytesMut) {
        let written = packet.write(output, Some(PACKET_BYTES_MAX as u32));
        written.expect("it was decoded");
    }

    fn written(output: &BytesMut) -> Vec<u8> {
        output.to_vec()
    }
}

/// mqttrs: 3.1.1 only, borrowing.
pub(crate) struct Mqttrs;

/// mqttrs does not say how long a packet was: whoever uses it keeps count.
pub(crate) struct EqualFrames<'f> {
    rest: &'f [u8],
    length: usize,
}

/// mqttrs encodes into a slice.
pub(crate) struct Slice {
    bytes: Vec<u8>,
    written: usize,
}

impl<'f> Library<'f> for Mqttrs {
    const NAME: &'static str = "mqttrs";
    type Input = EqualFrames<'f>;
    type Packet = mqttrs::Packet<'f>;
    type Output = Slice;

    fn speaks(version: ProtocolVersion) -> bool {
        version == ProtocolVersion::V311
    }

    fn input(rest: &'f [u8], frame: &Frame) -> EqualFrames<'f> {
        EqualFrames {
            rest,
            length: frame.bytes.len(),
        }
    }

    fn decode(input: &mut EqualFrames<'f>, _: ProtocolVersion) -> Option<mqttrs::Packet<'f>> {
        let packet = mqttrs::decode_slice(input.rest).ok()??;
        input.rest = input.rest.get(input.length..)?;
        Some(packet)
    }

    fn output(capacity: usize) -> Slice {
        Slice {
            bytes: vec![0; capacity],
            written: 0,
        }
    }

    fn clear(output: &mut Slice) {
        output.written = 0;
    }

    fn encode(packet: &mqttrs::Packet<'f>, _: ProtocolVersion, output: &mut Slice) {
        let written = mqttrs::encode_slice(packet, &mut output.bytes[output.written..]);
        output.written += written.expect("it was decoded");
    }

    fn written(output: &Slice) -> Vec<u8> {
        output.bytes[..output.written].to_vec()
    }
}

/// mqtt-protocol-core: both versions, owned. It encodes each packet into memory of its own.
pub(crate) struct ProtocolCore;

pub(crate) struct Stream<'f> {
    builder: PacketBuilder,
    bytes: mqtt::common::Cursor<&'f [u8]>,
}

impl<'f> Library<'f> for ProtocolCore {
    const NAME: &'static str = "mqtt_protocol_core";
    type Input = Stream<'f>;
    type Packet = mqtt::packet::Packet;
    type Output = Vec<u8>;

    fn speaks(version: ProtocolVersion) -> bool {
        version != ProtocolVersion::V31
    }

    fn input(bytes: &'f [u8], _: &Frame) -> Stream<'f> {
        Stream {
            builder: PacketBuilder::new(),
            bytes: mqtt::common::Cursor::new(bytes),
        }
    }

    /// The parsers that its connection calls, for the packets that are compared.
    fn decode(input: &mut Stream<'f>, version: ProtocolVersion) -> Option<mqtt::packet::Packet> {
        let PacketBuildResult::Complete(raw) = input.builder.feed(&mut input.bytes) else {
            return None;
        };
        if let PacketData::Publish(body) = &raw.data {
            let (flags, body) = (raw.flags(), body.clone());
            return if version.is_v5() {
                Some(v5_0::Publish::parse(flags, body).ok()?.0.into())
            } else {
                Some(v3_1_1::Publish::parse(flags, body).ok()?.0.into())
            };
        }
        Some(match (raw.packet_type(), version.is_v5()) {
            (1, false) => raw.parse_exact(v3_1_1::Connect::parse).ok()?.into(),
            (4, false) => raw.parse_exact(v3_1_1::Puback::parse).ok()?.into(),
            (8, false) => raw.parse_exact(v3_1_1::Subscribe::parse).ok()?.into(),
            (9, false) => raw.parse_exact(v3_1_1::Suback::parse).ok()?.into(),
            (12, false) => raw.parse_exact(v3_1_1::Pingreq::parse).ok()?.into(),
            (1, true) => raw.parse_exact(v5_0::Connect::parse).ok()?.into(),
            (4, true) => raw.parse_exact(v5_0::Puback::parse).ok()?.into(),
            (8, true) => raw.parse_exact(v5_0::Subscribe::parse).ok()?.into(),
            (9, true) => raw.parse_exact(v5_0::Suback::parse).ok()?.into(),
            (12, true) => raw.parse_exact(v5_0::Pingreq::parse).ok()?.into(),
            _ => return None,
        })
    }

    fn output(_: usize) -> Vec<u8> {
        Vec::new()
    }

    fn clear(output: &mut Vec<u8>) {
        output.clear();
    }

    fn encode(packet: &mqtt::packet::Packet, _: ProtocolVersion, output: &mut Vec<u8>) {
        *output = packet.to_continuous_buffer();
    }

    fn written(output: &Vec<u8>) -> Vec<u8> {
        output.clone()
    }
}

/// mqtt-proto: both versions, owned. Like mqtt-protocol-core it encodes each packet into memory of its own. It has no
/// call that decodes from memory and says how long the packet was: its parts are put together as its reader does.
pub(crate) struct Proto4;

impl<'f> Library<'f> for Proto4 {
    const NAME: &'static str = "mqtt_proto";
    type Input = &'f [u8];
    type Packet = mqtt_proto::v3::Packet;
    type Output = Option<mqtt_proto::VarBytes>;

    fn speaks(version: ProtocolVersion) -> bool {
        version == ProtocolVersion::V311
    }

    fn input(bytes: &'f [u8], _: &Frame) -> &'f [u8] {
        bytes
    }

    fn decode(input: &mut &'f [u8], _: ProtocolVersion) -> Option<Self::Packet> {
        let header = mqtt_proto::v3::Header::decode(input).ok()?;
        proto_body(header, input)
    }

    fn output(_: usize) -> Self::Output {
        None
    }

    fn clear(output: &mut Self::Output) {
        *output = None;
    }

    fn encode(packet: &Self::Packet, _: ProtocolVersion, output: &mut Self::Output) {
        *output = Some(packet.encode().expect("it was decoded"));
    }

    fn written(output: &Self::Output) -> Vec<u8> {
        output
            .as_ref()
            .map_or(Vec::new(), |bytes| bytes.as_ref().to_vec())
    }
}

/// mqtt-proto for 5.0, of which the same is true.
pub(crate) struct Proto5;

impl<'f> Library<'f> for Proto5 {
    const NAME: &'static str = "mqtt_proto";
    type Input = &'f [u8];
    type Packet = mqtt_proto::v5::Packet;
    type Output = Option<mqtt_proto::VarBytes>;

    fn speaks(version: ProtocolVersion) -> bool {
        version.is_v5()
    }

    fn input(bytes: &'f [u8], _: &Frame) -> &'f [u8] {
        bytes
    }

    fn decode(input: &mut &'f [u8], _: ProtocolVersion) -> Option<Self::Packet> {
        let header = mqtt_proto::v5::Header::decode(input).ok()?;
        proto_body(header, input)
    }

    fn output(_: usize) -> Self::Output {
        None
    }

    fn clear(output: &mut Self::Output) {
        *output = None;
    }

    fn encode(packet: &Self::Packet, _: ProtocolVersion, output: &mut Self::Output) {
        *output = Some(packet.encode().expect("it was decoded"));
    }

    fn written(output: &Self::Output) -> Vec<u8> {
        output
            .as_ref()
            .map_or(Vec::new(), |bytes| bytes.as_ref().to_vec())
    }
}

fn proto_body<H: PollHeader>(header: H, input: &mut &[u8]) -> Option<H::Packet> {
    // The header's own total length is that of the header, where it was decoded from memory.
    let length = mqtt_proto::total_len(header.remaining_len()).ok()?;
    let (frame, rest) = input.split_at_checked(length)?;
    *input = rest;
    let body = frame.get(length - header.remaining_len()..)?;
    match header.build_empty_packet() {
        Some(packet) => Some(packet),
        None => header.decode_buffer(body, &mut 0).ok(),
    }
}

/// The codec of the ntex-mqtt server for 3.1.1. Its packets share the memory of the input, and what is encoded is given
/// to it: a clone here, which shares memory too.
pub(crate) struct Ntex4;

impl Library<'_> for Ntex4 {
    const NAME: &'static str = "ntex_mqtt";
    type Input = (ntex_mqtt::v3::codec::Codec, ntex_bytes::BytesMut);
    type Packet = ntex_mqtt::v3::codec::Encoded;
    type Output = ntex_bytes::BytePages;

    fn speaks(version: ProtocolVersion) -> bool {
        version == ProtocolVersion::V311
    }

    fn input(bytes: &[u8], _: &Frame) -> Self::Input {
        (ntex_mqtt::v3::codec::Codec::new(), with_room(bytes))
    }

    fn decode((codec, input): &mut Self::Input, _: ProtocolVersion) -> Option<Self::Packet> {
        use ntex_mqtt::v3::codec::{Decoded, Encoded};
        match codec.decode(input).ok()?? {
            Decoded::Packet(packet, _) => Some(Encoded::Packet(packet)),
            Decoded::Publish(publish, payload, _) => Some(Encoded::Publish(publish, Some(payload))),
            Decoded::PayloadChunk(..) => None,
        }
    }

    fn output(_: usize) -> Self::Output {
        ntex_bytes::BytePages::new(ntex_bytes::BytePageSize::Size32)
    }

    fn clear(output: &mut Self::Output) {
        output.clear();
    }

    fn encode(packet: &Self::Packet, _: ProtocolVersion, output: &mut Self::Output) {
        let codec = ntex_mqtt::v3::codec::Codec::new();
        let encoded = codec.encodev(packet.clone(), output);
        encoded.expect("it was decoded");
    }

    fn written(output: &Self::Output) -> Vec<u8> {
        output.iter().collect::<Vec<_>>().concat()
    }
}

/// The codec of the ntex-mqtt server for 5.0, of which the same is true.
pub(crate) struct Ntex5;

impl Library<'_> for Ntex5 {
    const NAME: &'static str = "ntex_mqtt";
    type Input = (ntex_mqtt::v5::codec::Codec, ntex_bytes::BytesMut);
    type Packet = ntex_mqtt::v5::codec::Encoded;
    type Output = ntex_bytes::BytePages;

    fn speaks(version: ProtocolVersion) -> bool {
        version.is_v5()
    }

    fn input(bytes: &[u8], _: &Frame) -> Self::Input {
        (ntex_mqtt::v5::codec::Codec::new(), with_room(bytes))
    }

    fn decode((codec, input): &mut Self::Input, _: ProtocolVersion) -> Option<Self::Packet> {
        use ntex_mqtt::v5::codec::{Decoded, Encoded};
        match codec.decode(input).ok()?? {
            Decoded::Packet(packet, _) => Some(Encoded::Packet(packet)),
            Decoded::Publish(publish, payload, _) => Some(Encoded::Publish(publish, Some(payload))),
            Decoded::PayloadChunk(..) => None,
        }
    }

    fn output(_: usize) -> Self::Output {
        ntex_bytes::BytePages::new(ntex_bytes::BytePageSize::Size32)
    }

    fn clear(output: &mut Self::Output) {
        output.clear();
    }

    fn encode(packet: &Self::Packet, _: ProtocolVersion, output: &mut Self::Output) {
        let codec = ntex_mqtt::v5::codec::Codec::new();
        let encoded = codec.encodev(packet.clone(), output);
        encoded.expect("it was decoded");
    }

    fn written(output: &Self::Output) -> Vec<u8> {
        output.iter().collect::<Vec<_>>().concat()
    }
}

/// The codec of ntex-mqtt reserves room behind each packet: a buffer without any would be copied each time.
fn with_room(bytes: &[u8]) -> ntex_bytes::BytesMut {
    let mut input = ntex_bytes::BytesMut::with_capacity(bytes.len() + 1_024);
    input.extend_from_slice(bytes);
    input
}

/// Larger than any packet here.
const PACKET_BYTES_MAX: usize = 1 << 20;
