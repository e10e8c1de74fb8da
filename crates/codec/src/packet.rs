//! Packets: borrowed as they are decoded, owned as they are built.

mod ack;
mod authentication;
mod connack;
mod connect;
mod disconnect;
mod plain_publish;
mod publish;
mod subscribe;
mod unsubscribe;

use bytes::Bytes;
use whimbrel_topic::{TopicName, TopicNameError};

pub use self::ack::{Ack, AckProperties, AckRef, AckType, encode_ack};
pub use self::authentication::{Auth, AuthRef, Authentication};
pub use self::connack::{ConnAck, ConnAckProperties, ConnAckRef};
pub use self::connect::{Connect, ConnectProperties, ConnectRef, Will, WillRef};
pub use self::disconnect::{Disconnect, DisconnectRef};
use self::plain_publish::PlainPublish;
pub use self::publish::{Payload, Publish, PublishBuilder, PublishRef};
pub(crate) use self::publish::{PublishParts, publish_first_byte};
pub use self::subscribe::{
    ReasonCodes, SubAck, SubAckRef, Subscribe, SubscribeFilter, SubscribeFilterRef,
    SubscribeFilters, SubscribeRef,
};
pub use self::unsubscribe::{
    UnsubAck, UnsubAckRef, Unsubscribe, UnsubscribeFilters, UnsubscribeRef,
};
use crate::encode::{self, Body, Sink};
use crate::reader::{Reader, check_control_characters};
use crate::{
    DecodeError, DecodeErrorKind, EncodeError, FrameHeader, Limits, PacketType, PropertiesRef,
    PropertyPlace, ProtocolVersion, ReasonCode,
};

/// A packet of any version, owned.
///
/// What a version does not have is left out when the packet is encoded in that version:
/// [`downgraded`](Packet::downgraded) says what arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT.
    Connect(Box<Connect>),
    /// CONNACK.
    ConnAck(Box<ConnAck>),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK.
    PubAck(Ack),
    /// PUBREC.
    PubRec(Ack),
    /// PUBREL.
    PubRel(Ack),
    /// PUBCOMP.
    PubComp(Ack),
    /// SUBSCRIBE.
    Subscribe(Subscribe),
    /// SUBACK.
    SubAck(Box<SubAck>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe),
    /// UNSUBACK.
    UnsubAck(Box<UnsubAck>),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Box<Disconnect>),
    /// AUTH.
    Auth(Box<Auth>),
}

// Packets travel by value through channels and queues.
const _: () = assert!(size_of::<Packet>() <= 80);

impl Packet {
    /// The packet's type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    /// Writes the packet in its shortest form. `version` does not matter to a CONNECT, which has its own.
    ///
    /// # Errors
    /// When the packet has no form in `version`; nothing is written then.
    #[inline]
    pub fn encode<S: Sink>(
        &self,
        version: ProtocolVersion,
        out: &mut S,
    ) -> Result<(), EncodeError> {
        match self {
            Packet::Publish(publish) => publish.encode(version, out),
            _ => self.encode_body(version, out),
        }
    }

    /// Writes a packet; any but a PUBLISH goes through its [`Body`].
    fn encode_body<S: Sink>(
        &self,
        version: ProtocolVersion,
        out: &mut S,
    ) -> Result<(), EncodeError> {
        let first_byte = self.packet_type().first_byte();
        match self {
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::Connect(packet) => encode::put_packet(first_byte, &**packet, version, out),
            Packet::ConnAck(packet) => encode::put_packet(first_byte, &**packet, version, out),
            Packet::PubAck(ack) => {
                encode::put_packet(first_byte, &ack.body(AckType::PubAck), version, out)
            }
            Packet::PubRec(ack) => {
                encode::put_packet(first_byte, &ack.body(AckType::PubRec), version, out)
            }
            Packet::PubRel(ack) => {
                encode::put_packet(first_byte, &ack.body(AckType::PubRel), version, out)
            }
            Packet::PubComp(ack) => {
                encode::put_packet(first_byte, &ack.body(AckType::PubComp), version, out)
            }
            Packet::Subscribe(packet) => encode::put_packet(first_byte, packet, version, out),
            Packet::SubAck(packet) => encode::put_packet(first_byte, &**packet, version, out),
            Packet::Unsubscribe(packet) => encode::put_packet(first_byte, packet, version, out),
            Packet::UnsubAck(packet) => encode::put_packet(first_byte, &**packet, version, out),
            Packet::PingReq | Packet::PingResp => {
                encode::put_packet(first_byte, &EmptyBody, version, out)
            }
            Packet::Disconnect(packet) => encode::put_packet(first_byte, &**packet, version, out),
            Packet::Auth(packet) => encode::put_packet(first_byte, &**packet, version, out),
        }
    }

    /// How many bytes [`encode`](Packet::encode) writes.
    ///
    /// # Errors
    /// When the packet has no form in `version`.
    pub fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if let Packet::Publish(publish) = self {
            return publish.encoded_len(version);
        }
        let mut count = encode::Count::default();
        self.encode(version, &mut count)?;
        Ok(count.bytes())
    }

    /// The packet as a peer of `version` decodes it: without what that version does not have.
    ///
    /// A packet with no form at all in `version` is given back as it is; encoding it is an error.
    #[must_use]
    pub fn downgraded(&self, version: ProtocolVersion) -> Packet {
        let mut packet = self.clone();
        match &mut packet {
            Packet::Connect(connect) => connect.downgrade(),
            Packet::ConnAck(connack) => connack.downgrade(version),
            _ if version.is_v5() => {}
            Packet::Publish(publish) => publish.downgrade(),
            Packet::PubAck(ack)
            | Packet::PubRec(ack)
            | Packet::PubRel(ack)
            | Packet::PubComp(ack) => ack.downgrade(),
            Packet::Subscribe(subscribe) => subscribe.downgrade(),
            Packet::SubAck(suback) => suback.downgrade(version),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.downgrade(),
            Packet::UnsubAck(unsuback) => unsuback.downgrade(),
            Packet::Disconnect(disconnect) => disconnect.downgrade(),
            Packet::PingReq | Packet::PingResp | Packet::Auth(_) => {}
        }
        packet
    }
}

/// A packet of any version, borrowed from the bytes it was decoded from; all of it is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketRef<'a> {
    /// CONNECT.
    Connect(ConnectRef<'a>),
    /// CONNACK.
    ConnAck(ConnAckRef<'a>),
    /// PUBLISH.
    Publish(PublishRef<'a>),
    /// PUBACK.
    PubAck(AckRef<'a>),
    /// PUBREC.
    PubRec(AckRef<'a>),
    /// PUBREL.
    PubRel(AckRef<'a>),
    /// PUBCOMP.
    PubComp(AckRef<'a>),
    /// SUBSCRIBE.
    Subscribe(SubscribeRef<'a>),
    /// SUBACK.
    SubAck(SubAckRef<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(UnsubscribeRef<'a>),
    /// UNSUBACK.
    UnsubAck(UnsubAckRef<'a>),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(DisconnectRef<'a>),
    /// AUTH.
    Auth(AuthRef<'a>),
}

impl PacketRef<'_> {
    /// The packet's type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            PacketRef::Connect(_) => PacketType::Connect,
            PacketRef::ConnAck(_) => PacketType::ConnAck,
            PacketRef::Publish(_) => PacketType::Publish,
            PacketRef::PubAck(_) => PacketType::PubAck,
            PacketRef::PubRec(_) => PacketType::PubRec,
            PacketRef::PubRel(_) => PacketType::PubRel,
            PacketRef::PubComp(_) => PacketType::PubComp,
            PacketRef::Subscribe(_) => PacketType::Subscribe,
            PacketRef::SubAck(_) => PacketType::SubAck,
            PacketRef::Unsubscribe(_) => PacketType::Unsubscribe,
            PacketRef::UnsubAck(_) => PacketType::UnsubAck,
            PacketRef::PingReq => PacketType::PingReq,
            PacketRef::PingResp => PacketType::PingResp,
            PacketRef::Disconnect(_) => PacketType::Disconnect,
            PacketRef::Auth(_) => PacketType::Auth,
        }
    }

    /// Copies the packet.
    ///
    /// Not called `to_owned`: that would hide the method of the same name that every `Clone` type has.
    pub fn into_owned(self) -> Packet {
        match self {
            PacketRef::Connect(packet) => Packet::Connect(Box::new(packet.into_owned())),
            PacketRef::ConnAck(packet) => Packet::ConnAck(Box::new(packet.into_owned())),
            PacketRef::Publish(packet) => Packet::Publish(packet.into_owned()),
            PacketRef::PubAck(packet) => Packet::PubAck(packet.into_owned()),
            PacketRef::PubRec(packet) => Packet::PubRec(packet.into_owned()),
            PacketRef::PubRel(packet) => Packet::PubRel(packet.into_owned()),
            PacketRef::PubComp(packet) => Packet::PubComp(packet.into_owned()),
            PacketRef::Subscribe(packet) => Packet::Subscribe(packet.into_owned()),
            PacketRef::SubAck(packet) => Packet::SubAck(Box::new(packet.into_owned())),
            PacketRef::Unsubscribe(packet) => Packet::Unsubscribe(packet.into_owned()),
            PacketRef::UnsubAck(packet) => Packet::UnsubAck(Box::new(packet.into_owned())),
            PacketRef::PingReq => Packet::PingReq,
            PacketRef::PingResp => Packet::PingResp,
            PacketRef::Disconnect(packet) => Packet::Disconnect(Box::new(packet.into_owned())),
            PacketRef::Auth(packet) => Packet::Auth(Box::new(packet.into_owned())),
        }
    }
}

/// A packet at the front of some input, and how much of the input it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The packet.
    pub packet: PacketRef<'a>,
    /// The packet's length in bytes, fixed header included: where the next packet starts.
    pub length: usize,
}

/// An owned packet that was at the front of some input, and how much of the input it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedPacket {
    /// The packet.
    pub packet: Packet,
    /// The packet's length in bytes, fixed header included: where the next packet starts.
    pub length: usize,
}

/// Decodes the packet at the start of `input`, without allocating; `Ok(None)` when it is not complete yet.
///
/// `version` is what the connection speaks. A CONNECT says itself what it is, so `version` is not looked at for one.
///
/// # Errors
/// When the bytes are no packet of that version, or exceed `limits`. A fixed header that no acceptable packet starts
/// with is refused at once, before the rest of the packet has come.
#[inline]
pub fn decode_ref<'a>(
    input: &'a [u8],
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Option<Decoded<'a>>, DecodeError> {
    // Most packets are PUBLISH, and most of those are plain.
    if matches!(input, [first, ..] if first >> 4 == PacketType::Publish as u8) {
        decode_publish(input, version, limits)
    } else {
        decode_any(input, version, limits)
    }
}

#[inline(never)]
fn decode_publish<'a>(
    input: &'a [u8],
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Option<Decoded<'a>>, DecodeError> {
    match plain_publish::decode(input, version, limits) {
        Some(PlainPublish { publish, length }) => {
            let packet = PacketRef::Publish(publish);
            Ok(Some(Decoded { packet, length }))
        }
        None => decode_any(input, version, limits),
    }
}

#[inline(never)]
fn decode_any<'a>(
    input: &'a [u8],
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Option<Decoded<'a>>, DecodeError> {
    let Some(header) = FrameHeader::peek(input, version, limits)? else {
        return Ok(None);
    };
    let length = header.packet_length();
    let Some(body) = input.get(header.header_length()..length) else {
        return Ok(None);
    };
    let mut reader = Reader::new(body, limits.control_characters);
    let version = match header.packet_type() {
        PacketType::Connect => decode_connect_version(header, &mut reader)?,
        _ => version,
    };
    match decode_body(header, version, &mut reader, limits) {
        Ok(packet) => Ok(Some(Decoded { packet, length })),
        Err(kind) => Err(DecodeError::new(kind, Some(version))),
    }
}

/// Decodes the packet at the start of `input` into one of its own; `Ok(None)` when it is not complete yet.
///
/// A PUBLISH with at least [`PAYLOAD_SHARE_MIN`] bytes of payload shares the memory of `input`; all else is copied, as
/// that is cheaper for what is small and does not keep a large `input` alive.
///
/// # Errors
/// Those of [`decode_ref`].
pub fn decode_owned(
    input: &Bytes,
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Option<DecodedPacket>, DecodeError> {
    if let Some(PlainPublish { publish, length }) = plain_publish::decode(input, version, limits) {
        let packet = own_publish(publish, input);
        return Ok(Some(DecodedPacket { packet, length }));
    }
    let Some(Decoded { packet, length }) = decode_any(input, version, limits)? else {
        return Ok(None);
    };
    let packet = match packet {
        PacketRef::Publish(publish) => own_publish(publish, input),
        packet => packet.into_owned(),
    };
    Ok(Some(DecodedPacket { packet, length }))
}

#[inline]
fn own_publish(publish: PublishRef<'_>, input: &Bytes) -> Packet {
    Packet::Publish(if publish.payload().len() >= PAYLOAD_SHARE_MIN {
        publish.into_shared(input)
    } else {
        publish.into_owned()
    })
}

/// Writes a PINGREQ.
pub fn encode_pingreq(out: &mut impl Sink) {
    out.put_slice(&[PacketType::PingReq.first_byte(), 0]);
}

/// Writes a PINGRESP.
pub fn encode_pingresp(out: &mut impl Sink) {
    out.put_slice(&[PacketType::PingResp.first_byte(), 0]);
}

/// From this size in bytes, [`decode_owned`] shares a payload instead of copying it, and a
/// [`WriteBuf`](crate::WriteBuf) keeps a reference to a shared payload.
pub const PAYLOAD_SHARE_MIN: usize = 4096;

/// The body of a packet that has none.
struct EmptyBody;

impl Body for EmptyBody {
    fn encode<S: Sink>(&self, _: ProtocolVersion, _: &mut S) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// Reads what a CONNECT says of its version.
#[cold]
fn decode_connect_version(
    header: FrameHeader,
    reader: &mut Reader<'_>,
) -> Result<ProtocolVersion, DecodeError> {
    let version = ConnectRef::decode_version(reader);
    let version = version.map_err(|kind| DecodeError::new(kind, None))?;
    let is_minimal = header.check_minimal(version);
    is_minimal.map_err(|kind| DecodeError::new(kind, Some(version)))?;
    Ok(version)
}

/// Reads what follows the fixed header. The decoders of packets that come rarely are marked so, which keeps this one
/// short.
#[inline(always)]
fn decode_body<'a>(
    header: FrameHeader,
    version: ProtocolVersion,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<PacketRef<'a>, DecodeErrorKind> {
    let packet_type = header.packet_type();
    let packet = match packet_type {
        PacketType::Publish => {
            PacketRef::Publish(PublishRef::decode(header.flags(), version, reader, limits)?)
        }
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            let ack = AckRef::decode(packet_type, reader, limits)?;
            match packet_type {
                PacketType::PubAck => PacketRef::PubAck(ack),
                PacketType::PubRec => PacketRef::PubRec(ack),
                PacketType::PubRel => PacketRef::PubRel(ack),
                _ => PacketRef::PubComp(ack),
            }
        }
        PacketType::PingReq => PacketRef::PingReq,
        PacketType::PingResp => PacketRef::PingResp,
        PacketType::ConnAck => PacketRef::ConnAck(ConnAckRef::decode(version, reader, limits)?),
        PacketType::Subscribe => {
            PacketRef::Subscribe(SubscribeRef::decode(version, reader, limits)?)
        }
        PacketType::SubAck => PacketRef::SubAck(SubAckRef::decode(version, reader, limits)?),
        PacketType::Unsubscribe => {
            PacketRef::Unsubscribe(UnsubscribeRef::decode(version, reader, limits)?)
        }
        PacketType::UnsubAck => PacketRef::UnsubAck(UnsubAckRef::decode(version, reader, limits)?),
        PacketType::Disconnect => PacketRef::Disconnect(DisconnectRef::decode(reader, limits)?),
        PacketType::Auth => PacketRef::Auth(AuthRef::decode(reader, limits)?),
        PacketType::Connect => PacketRef::Connect(ConnectRef::decode(version, reader, limits)?),
    };
    reader.finish()?;
    Ok(packet)
}

/// Reads the properties of a packet; before 5.0 there are none.
fn decode_properties<'a>(
    packet_type: PacketType,
    version: ProtocolVersion,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<PropertiesRef<'a>, DecodeErrorKind> {
    if version.is_v5() {
        PropertiesRef::decode(reader, PropertyPlace::Packet(packet_type), limits)
    } else {
        Ok(PropertiesRef::default())
    }
}

/// Reads a reason code of 5.0, which must be one of the packet's.
fn decode_reason(
    packet_type: PacketType,
    reader: &mut Reader<'_>,
) -> Result<ReasonCode, DecodeErrorKind> {
    let code = reader.u8()?;
    match ReasonCode::from_u8(code) {
        Some(reason) if reason.allowed_in(packet_type) => Ok(reason),
        _ => Err(DecodeErrorKind::ReasonCodeInvalid { packet_type, code }),
    }
}

/// Checks the topic name of a PUBLISH or a will.
#[inline(always)]
fn decode_topic<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a TopicName, DecodeErrorKind> {
    check_control_characters(bytes, limits.control_characters)?;
    let name = match TopicName::from_utf8(bytes) {
        Ok(name) => name,
        Err(TopicNameError::NotUtf8) => return Err(DecodeErrorKind::StringNotUtf8),
        Err(TopicNameError::Empty) => return Err(DecodeErrorKind::TopicEmpty),
        Err(TopicNameError::NullCharacter) => return Err(DecodeErrorKind::StringNull),
        // [MQTT-3.3.2-2]
        Err(_) => return Err(DecodeErrorKind::TopicNameInvalid),
    };
    if name.exceeds_levels(limits.topic_levels_max as usize) {
        return Err(DecodeErrorKind::TopicLevels);
    }
    Ok(name)
}

/// Checks a reason code that is about to be sent to a 5.0 peer.
fn check_reason(packet_type: PacketType, reason: ReasonCode) -> Result<(), EncodeError> {
    if reason.allowed_in(packet_type) {
        Ok(())
    } else {
        Err(EncodeError::ReasonNotAllowed {
            packet_type,
            reason,
        })
    }
}

/// Writes the text of a filter.
fn put_filter<S: Sink>(out: &mut S, filter: &str) -> Result<(), EncodeError> {
    if filter.is_empty() {
        return Err(EncodeError::FilterEmpty);
    }
    encode::put_text(out, filter)
}
