//! [`Codec`]: packets over `tokio_util::codec::Framed`.

use std::io;

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio_util::codec::{Decoder, Encoder};

use crate::{
    DecodeError, Decoded, EncodeError, FrameHeader, Limits, PAYLOAD_SHARE_MIN, Packet, PacketRef,
    ProtocolVersion, decode_owned, decode_ref,
};

/// A `tokio_util` codec of packets, for either side of a connection.
///
/// The version is that of the CONNECT: a server learns it by decoding one, a client by encoding one. Until then the
/// codec goes by the version it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    version: ProtocolVersion,
    limits: Limits,
}

impl Codec {
    /// A codec of `version` until a CONNECT passes, with these limits on what it decodes.
    pub const fn new(version: ProtocolVersion, limits: Limits) -> Codec {
        Codec { version, limits }
    }

    /// The version that is spoken.
    pub const fn version(&self) -> ProtocolVersion {
        self.version
    }
}

impl Decoder for Codec {
    type Item = Packet;
    type Error = CodecError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, CodecError> {
        let Some(Decoded { packet, length }) = decode_ref(input, self.version, &self.limits)?
        else {
            if let Some(header) = FrameHeader::peek(input, self.version, &self.limits)? {
                let missing = header.packet_length() - input.len();
                // What was announced but has not come gets memory step by step.
                input.reserve(missing.min(RESERVED_BYTES_MAX));
            }
            return Ok(None);
        };
        let is_large = matches!(packet, PacketRef::Publish(publish)
            if publish.payload().len() >= PAYLOAD_SHARE_MIN);
        if is_large {
            // To be shared, the frame has to be split off first; the second look at it costs little beside a copy.
            let frame = input.split_to(length).freeze();
            let decoded = decode_owned(&frame, self.version, &self.limits)?;
            return Ok(decoded.map(|decoded| decoded.packet));
        }
        let packet = packet.into_owned();
        if let Packet::Connect(connect) = &packet {
            self.version = connect.version;
        }
        input.advance(length);
        Ok(Some(packet))
    }
}

impl Encoder<Packet> for Codec {
    type Error = CodecError;

    fn encode(&mut self, packet: Packet, output: &mut BytesMut) -> Result<(), CodecError> {
        Encoder::encode(self, &packet, output)
    }
}

impl Encoder<&Packet> for Codec {
    type Error = CodecError;

    fn encode(&mut self, packet: &Packet, output: &mut BytesMut) -> Result<(), CodecError> {
        packet.encode(self.version, output)?;
        if let Packet::Connect(connect) = packet {
            self.version = connect.version;
        }
        Ok(())
    }
}

/// Why packets cannot go on over a [`Codec`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The peer sent what is no packet.
    #[error("peer sent an invalid packet")]
    Decode(#[from] DecodeError),
    /// The packet to be sent has no form in the connection's version.
    #[error("packet cannot be encoded")]
    Encode(#[from] EncodeError),
    /// The byte stream failed.
    #[error("byte stream failed")]
    Io(#[from] io::Error),
}

/// The most memory in bytes that is set aside for what has not come yet.
const RESERVED_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use whimbrel_topic::TopicName;

    use super::*;
    use crate::{Ack, Connect, DecodeErrorKind, PacketId, Publish};

    fn codec() -> Codec {
        Codec::new(ProtocolVersion::V5, Limits::DEFAULT)
    }

    #[test]
    fn the_version_is_that_of_the_connect_on_both_sides() {
        let connect = Connect::new(ProtocolVersion::V311, "c");
        let connect = Packet::Connect(Box::new(connect));
        let mut client = codec();
        let mut output = BytesMut::new();
        client.encode(&connect, &mut output).unwrap();
        assert_eq!(client.version(), ProtocolVersion::V311);

        let mut server = codec();
        assert_eq!(server.decode(&mut output).unwrap(), Some(connect));
        assert_eq!(server.version(), ProtocolVersion::V311);
        assert!(output.is_empty());
    }

    #[test]
    fn packets_come_out_whole_however_they_arrive() {
        let large = Bytes::from(vec![1; 10_000]);
        let topic = TopicName::new("a").unwrap();
        let packets = [
            Packet::PingReq,
            Packet::Publish(Publish::builder(topic).payload(large).build()),
            Packet::PubAck(Ack::success(PacketId::MIN)),
        ];
        let mut sender = codec();
        let mut output = BytesMut::new();
        for packet in &packets {
            sender.encode(packet, &mut output).unwrap();
        }
        let mut receiver = codec();
        let mut input = BytesMut::new();
        let mut received = Vec::new();
        for chunk in output.chunks(7) {
            input.extend_from_slice(chunk);
            while let Some(packet) = receiver.decode(&mut input).unwrap() {
                received.push(packet);
            }
        }
        assert_eq!(received, packets);
    }

    #[test]
    fn some_room_is_made_for_a_packet_whose_header_has_come() {
        let mut input = BytesMut::from(&b"\x30\xf0\x10"[..]);
        assert!(codec().decode(&mut input).unwrap().is_none());
        assert!(input.capacity() >= 2163);

        let mut input = BytesMut::from(&b"\x30\xf0\xff\x3f"[..]);
        assert!(codec().decode(&mut input).unwrap().is_none());
        assert!((RESERVED_BYTES_MAX..2 * RESERVED_BYTES_MAX).contains(&input.capacity()));

        let mut input = BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..]);
        let error = codec().decode(&mut input).unwrap_err();
        let CodecError::Decode(error) = error else {
            panic!("{error}");
        };
        let size = 268_435_460;
        assert_eq!(error.kind(), DecodeErrorKind::PacketTooLarge { size });
    }
}
