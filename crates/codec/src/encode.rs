//! What encoders write to, and the forms they share.

use bytes::{Bytes, BytesMut};

use crate::reader::variable_length;
use crate::{EncodeError, Property, ProtocolVersion};

/// What a packet is written to.
///
/// One walk over a packet serves to measure it (into [`Count`]) and to write it, so the two cannot differ.
pub trait Sink {
    /// Appends bytes.
    fn put_slice(&mut self, bytes: &[u8]);

    /// Appends one byte.
    #[inline]
    fn put_u8(&mut self, byte: u8) {
        self.put_slice(&[byte]);
    }

    /// Appends a big-endian number of two bytes.
    #[inline]
    fn put_u16(&mut self, number: u16) {
        self.put_slice(&number.to_be_bytes());
    }

    /// Appends a big-endian number of four bytes.
    #[inline]
    fn put_u32(&mut self, number: u32) {
        self.put_slice(&number.to_be_bytes());
    }

    /// Appends shared bytes. A sink that can may keep a reference instead of a copy.
    #[inline]
    fn put_bytes(&mut self, bytes: &Bytes) {
        self.put_slice(bytes);
    }

    /// Tells the sink that about `additional` bytes follow.
    #[inline]
    fn reserve(&mut self, additional: usize) {
        let _ = additional;
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_u8(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn reserve(&mut self, additional: usize) {
        Vec::reserve(self, additional);
    }
}

impl Sink for BytesMut {
    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn reserve(&mut self, additional: usize) {
        BytesMut::reserve(self, additional);
    }
}

/// A [`Sink`] that only counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    bytes: usize,
}

impl Count {
    /// The bytes counted.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Sink for Count {
    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }
}

/// All of a packet but its fixed header.
pub(crate) trait Body {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError>;
}

/// Writes a packet. On an error nothing is written.
pub(crate) fn put_packet<S: Sink>(
    first_byte: u8,
    body: &impl Body,
    version: ProtocolVersion,
    out: &mut S,
) -> Result<(), EncodeError> {
    let length = body_length(body, version)?;
    out.reserve(packet_length(length));
    out.put_u8(first_byte);
    put_variable(out, length);
    body.encode(version, out)
}

/// The remaining length of a packet with this body.
pub(crate) fn body_length(body: &impl Body, version: ProtocolVersion) -> Result<u32, EncodeError> {
    let mut count = Count::default();
    body.encode(version, &mut count)?;
    remaining_length(count.bytes())
}

/// `length` as a remaining length, which has a maximum.
pub(crate) fn remaining_length(length: usize) -> Result<u32, EncodeError> {
    match u32::try_from(length) {
        Ok(length) if length <= REMAINING_LENGTH_MAX => Ok(length),
        _ => Err(EncodeError::PacketTooLong),
    }
}

/// The length of a packet, fixed header included.
#[inline]
pub(crate) const fn packet_length(remaining_length: u32) -> usize {
    1 + variable_length(remaining_length) + remaining_length as usize
}

/// Writes a variable byte integer of up to 268,435,455 in its shortest form [MQTT-1.5.5-1].
#[inline]
pub(crate) fn put_variable<S: Sink + ?Sized>(out: &mut S, value: u32) {
    debug_assert!(value <= REMAINING_LENGTH_MAX);
    let mut rest = value;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Writes a string.
pub(crate) fn put_text<S: Sink + ?Sized>(out: &mut S, text: &str) -> Result<(), EncodeError> {
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::StringNull);
    }
    put_binary(out, text.as_bytes())
}

/// Writes binary data: bytes after their length.
pub(crate) fn put_binary<S: Sink + ?Sized>(out: &mut S, data: &[u8]) -> Result<(), EncodeError> {
    let Ok(length) = u16::try_from(data.len()) else {
        return Err(EncodeError::FieldTooLong);
    };
    out.put_u16(length);
    out.put_slice(data);
    Ok(())
}

/// Writes a section of properties: its length, which is there when it is empty too [MQTT-2.2.2-1], and the properties.
pub(crate) fn put_properties<'a, S: Sink>(
    out: &mut S,
    properties: impl Iterator<Item = Property<'a>> + Clone,
) -> Result<(), EncodeError> {
    let mut count = Count::default();
    for property in properties.clone() {
        property.encode(&mut count)?;
    }
    put_variable(out, remaining_length(count.bytes())?);
    for property in properties {
        property.encode(out)?;
    }
    Ok(())
}

/// The longest remaining length, and so the longest length of any part of a packet.
pub(crate) const REMAINING_LENGTH_MAX: u32 = 268_435_455;
