//! The fixed header.

use crate::decode_error::{DecodeError, DecodeErrorKind};
use crate::reader::VariableInteger;
use crate::{Limits, PacketType, ProtocolVersion};

/// The fixed header of a packet: its type, flags and length.
///
/// It can be read while the rest of the packet is still on its way, so that a packet that is too large, or that cannot
/// be one, is refused before it is buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    packet_type: PacketType,
    flags: u8,
    /// 2 to 5.
    header_length: u8,
    is_minimal: bool,
    remaining_length: u32,
}

impl FrameHeader {
    /// Reads the fixed header at the start of `input`; `Ok(None)` when it is not complete yet.
    ///
    /// Before 5.0 a remaining length in a longer form than need be (`80 00` for 0) is accepted, as nothing forbids it.
    ///
    /// # Errors
    /// When no packet that starts like this is acceptable, whatever follows.
    #[inline]
    pub fn peek(
        input: &[u8],
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Option<FrameHeader>, DecodeError> {
        match FrameHeader::read(input, version, limits) {
            Ok(header) => Ok(header),
            Err(kind) => {
                let is_connect = matches!(input, [first, ..] if first >> 4 == 1);
                Err(DecodeError::new(kind, (!is_connect).then_some(version)))
            }
        }
    }

    #[inline(always)]
    pub(crate) fn read(
        input: &[u8],
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Option<FrameHeader>, DecodeErrorKind> {
        let Some((first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let packet_type = check_first_byte(*first, version)?;
        let Some(integer) = VariableInteger::read(rest)? else {
            return Ok(None);
        };
        let header = FrameHeader {
            packet_type,
            flags: first & 0x0F,
            // At most 5.
            header_length: integer.length as u8 + 1,
            is_minimal: integer.is_minimal,
            remaining_length: integer.value,
        };
        if packet_type != PacketType::Connect {
            header.check_minimal(version)?;
        }
        header.check_length(version, limits)?;
        Ok(Some(header))
    }

    /// The packet's type.
    #[inline]
    pub const fn packet_type(&self) -> PacketType {
        self.packet_type
    }

    /// The four flag bits of the first byte.
    #[inline]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// The length of the fixed header in bytes: 2 to 5.
    #[inline]
    pub const fn header_length(&self) -> usize {
        self.header_length as usize
    }

    /// The length of the whole packet in bytes, fixed header included [U5-007].
    #[inline]
    pub const fn packet_length(&self) -> usize {
        self.header_length() + self.remaining_length as usize
    }

    /// The remaining length is in its shortest form, where `version` demands that [MQTT-1.5.5-1].
    pub(crate) fn check_minimal(&self, version: ProtocolVersion) -> Result<(), DecodeErrorKind> {
        if version.is_v5() && !self.is_minimal {
            return Err(DecodeErrorKind::VariableIntegerNotMinimal);
        }
        Ok(())
    }

    #[inline(always)]
    fn check_length(
        &self,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<(), DecodeErrorKind> {
        // At most 268,435,460.
        let size = self.remaining_length + u32::from(self.header_length);
        if size > limits.packet_size_max {
            return Err(DecodeErrorKind::PacketTooLarge { size });
        }
        let fixed = match self.packet_type {
            PacketType::PingReq | PacketType::PingResp => 0,
            PacketType::Disconnect if !version.is_v5() => 0,
            PacketType::ConnAck
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::UnsubAck
                if !version.is_v5() =>
            {
                2
            }
            _ => return Ok(()),
        };
        if self.remaining_length == fixed {
            Ok(())
        } else {
            Err(DecodeErrorKind::LengthInvalid {
                packet_type: self.packet_type,
            })
        }
    }
}

/// Checks type and flags.
#[inline(always)]
fn check_first_byte(first: u8, version: ProtocolVersion) -> Result<PacketType, DecodeErrorKind> {
    let Some(packet_type) = PacketType::from_first_byte(first) else {
        return Err(DecodeErrorKind::PacketTypeReserved { packet_type: 0 });
    };
    match packet_type {
        PacketType::Publish => match first & 0b1110 {
            // [MQTT-3.3.1-2]
            0b1000 => Err(DecodeErrorKind::DupWithoutQos),
            // [MQTT-3.3.1-4]
            0b0110 | 0b1110 => Err(DecodeErrorKind::PublishQosInvalid),
            _ => Ok(packet_type),
        },
        PacketType::Auth if !version.is_v5() => {
            Err(DecodeErrorKind::PacketTypeReserved { packet_type: 15 })
        }
        _ if first == packet_type.first_byte() => Ok(packet_type),
        // In 3.1 these have QoS 1, and the DUP flag when they are sent again [U31-005].
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe
            if version == ProtocolVersion::V31 && first & 0x0F == 0b1010 =>
        {
            Ok(packet_type)
        }
        _ => Err(DecodeErrorKind::FlagsInvalid { packet_type }),
    }
}
