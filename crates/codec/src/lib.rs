//! MQTT packets on the wire: 3.1, 3.1.1 and 5.0 in one model.
//!
//! # What it is
//!
//! A decoder that gives borrowed, fully validated packets without allocating, an encoder, and the two buffers a fast
//! broker needs: [`WriteBuf`] for what a connection has still to send, and [`FanOut`] to write one message to many
//! connections. It knows no sockets, no time and no state: what a session makes of the packets is told elsewhere.
//!
//! # Why another one
//!
//! One model serves all versions, so that code above it is written once: the version is an argument of decoding and
//! encoding and no packet has it, but for CONNECT. It is strict: each refusal is a value that names the clause of the
//! standard and the reason code to close with. And it is bounded: a packet that is too large is refused from its first
//! five bytes.
//!
//! ```
//! use whimbrel_codec::{Ack, Limits, Packet, PacketRef, ProtocolVersion, decode_ref};
//!
//! let input = b"\x32\x0a\x00\x03a/b\x00\x07hey";
//! let version = ProtocolVersion::V311;
//! let decoded = decode_ref(input, version, &Limits::DEFAULT)?.expect("a complete packet");
//! let PacketRef::Publish(publish) = decoded.packet else { panic!("not a PUBLISH") };
//! assert_eq!(publish.topic().unwrap().as_str(), "a/b");
//! let mut output = Vec::new();
//! Packet::PubAck(Ack::success(publish.packet_id().unwrap())).encode(version, &mut output)?;
//! assert_eq!(output, b"\x40\x02\x00\x07");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! * `decode(encode(p, v), v) == p.downgraded(v)`: what a version lacks is left out, the rest arrives.
//! * However the input is cut, the packets are the same; an incomplete packet is `Ok(None)`, never an error, unless its
//!   fixed header is one that no packet may have.
//! * What [`Packet::encode`] writes is the shortest form, and comes back byte by byte when it is decoded and encoded.
//! * No input makes it panic, allocate beyond [`Limits`], or read past the packet.
//! * Nothing is written when encoding fails.
//!
//! Left to the layer above: who may send which packet and property, whether a topic filter is well formed
//! ([`topic::SubscriptionFilter`]), and all rules that need more than the packet itself. DISCONNECT takes the reason
//! codes of both directions.
//!
//! Where the standards leave room: before 5.0 a remaining length may be longer than need be. In 3.1 the reserved
//! connect flag, will flags without a will, a password without a user name and the first byte of CONNACK are not looked
//! at, and PUBREL, SUBSCRIBE and UNSUBSCRIBE may have the DUP flag; a field that is announced but missing is an error
//! there too. An AUTH without a body is an error, as it lacks the method.
//!
//! # Design
//!
//! * [`Publish`] keeps topic and body apart, and properties and payload together as on the wire, so that a large
//!   received PUBLISH shares its frame and the topic needs no second check.
//! * PUBLISH properties are validated once and then read in place ([`PublishProperties`]); the properties of rarer
//!   packets are structs when owned, whose defaults are what absence means.
//! * A will has the properties of the PUBLISH it will be ([`MessageProperties`]).
//!
//! # Features
//!
//! None is on by default, and each only adds code.
//!
//! * `tokio-util`: `Codec`, for `tokio_util::codec::Framed`.
//! * `arbitrary`: [`Packet`] implements `arbitrary::Arbitrary`, for fuzzing and property tests.
//!
//! The minimum Rust version is 1.90; raising it is a minor release.

#[cfg(feature = "arbitrary")]
mod arbitrary;
mod decode_error;
mod encode;
mod encode_error;
mod fan_out;
mod frame;
#[cfg(feature = "tokio-util")]
mod framed;
mod limits;
mod packet;
mod packet_type;
mod property;
mod qos;
mod reader;
mod reason_code;
mod subscription;
mod version;
mod write_buf;

pub use bytes;
pub use whimbrel_topic as topic;

pub use decode_error::{DecodeError, DecodeErrorKind};
pub use encode::{Count, Sink};
pub use encode_error::EncodeError;
pub use fan_out::{FanOut, FanOutBuffer, FanOutTarget, PublishSource, TopicForm};
pub use frame::FrameHeader;
#[cfg(feature = "tokio-util")]
pub use framed::{Codec, CodecError};
pub use limits::{ControlCharacters, Limits};
pub use packet::{
    Ack, AckProperties, AckRef, AckType, Auth, AuthRef, Authentication, ConnAck, ConnAckProperties,
    ConnAckRef, Connect, ConnectProperties, ConnectRef, Decoded, DecodedPacket, Disconnect,
    DisconnectRef, PAYLOAD_SHARE_MIN, Packet, PacketRef, Payload, Publish, PublishBuilder,
    PublishRef, ReasonCodes, SubAck, SubAckRef, Subscribe, SubscribeFilter, SubscribeFilterRef,
    SubscribeFilters, SubscribeRef, UnsubAck, UnsubAckRef, Unsubscribe, UnsubscribeFilters,
    UnsubscribeRef, Will, WillRef, decode_owned, decode_ref, encode_ack, encode_pingreq,
    encode_pingresp,
};
pub use packet_type::PacketType;
pub use property::{
    MessageProperties, MessagePropertiesBuilder, PayloadFormat, Properties, PropertiesRef,
    Property, PropertyError, PropertyId, PropertyPlace, PublishProperties, SubscriptionIds,
    UserProperties, UserProperty, UserPropertyRef, UserPropertyRefs,
};
pub use qos::{Delivery, PacketId, QoS};
pub use reason_code::{ConnectReturnCode, ReasonCode};
pub use subscription::{RetainHandling, SubscriptionId, SubscriptionOptions};
pub use version::ProtocolVersion;
pub use write_buf::WriteBuf;
