//! UNSUBSCRIBE and UNSUBACK.

use std::iter::FusedIterator;

use whimbrel_topic::ByteStr;

use super::AckProperties;
use super::subscribe::{ReasonCodes, validate_codes};
use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    ControlCharacters, DecodeErrorKind, EncodeError, Limits, PacketId, PacketType, PropertiesRef,
    ProtocolVersion, ReasonCode, UserProperties,
};

/// An UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unsubscribe {
    /// The packet identifier that the UNSUBACK will have.
    pub id: PacketId,
    /// The texts of the filters: at least one, none empty.
    pub filters: Vec<ByteStr>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Unsubscribe {
    pub(super) fn downgrade(&mut self) {
        self.user_properties.clear();
    }
}

/// A borrowed UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubscribeRef<'a> {
    /// The packet identifier that the UNSUBACK must have.
    pub id: PacketId,
    /// User properties.
    pub properties: PropertiesRef<'a>,
    /// Invariant: validated.
    filters: &'a [u8],
    filter_count: u32,
}

impl<'a> UnsubscribeRef<'a> {
    /// The texts of the filters in their order, read in place. As in SUBSCRIBE, their syntax is not checked.
    pub const fn filters(&self) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters {
            bytes: self.filters,
            left: self.filter_count as usize,
        }
    }

    /// Copies the packet.
    pub fn into_owned(self) -> Unsubscribe {
        Unsubscribe {
            id: self.id,
            filters: self.filters().map(ByteStr::from).collect(),
            user_properties: UserProperties::from(self.properties.user_properties()),
        }
    }

    #[inline(never)]
    pub(super) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<UnsubscribeRef<'a>, DecodeErrorKind> {
        let packet_type = PacketType::Unsubscribe;
        let id = reader.packet_id()?;
        let properties = super::decode_properties(packet_type, version, reader, limits)?;
        let filters = reader.rest();
        let mut filter_count = 0;
        while !reader.is_empty() {
            if filter_count == limits.filters_max {
                return Err(DecodeErrorKind::TooManyFilters);
            }
            if reader.text()?.is_empty() {
                return Err(DecodeErrorKind::FilterEmpty);
            }
            filter_count += 1;
        }
        // [MQTT-3.10.3-2] [U5-065]
        if filter_count == 0 {
            return Err(DecodeErrorKind::FiltersMissing { packet_type });
        }
        Ok(UnsubscribeRef {
            id,
            properties,
            filters,
            filter_count,
        })
    }
}

/// An iterator over the filters of a borrowed UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub struct UnsubscribeFilters<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut reader = Reader::new(self.bytes, ControlCharacters::Accept);
        let filter = reader.text().ok()?;
        self.bytes = reader.rest();
        self.left -= 1;
        Some(filter)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for UnsubscribeFilters<'_> {}
impl FusedIterator for UnsubscribeFilters<'_> {}

/// An UNSUBACK. Before 5.0 it is a packet identifier only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnsubAck {
    /// The packet identifier of the UNSUBSCRIBE.
    pub id: PacketId,
    /// The outcome for each filter in order: at least one in 5.0, none before.
    pub codes: Vec<ReasonCode>,
    /// What is said for diagnostics.
    pub properties: AckProperties,
}

impl UnsubAck {
    pub(super) fn downgrade(&mut self) {
        self.codes = Vec::new();
        self.properties = AckProperties::new();
    }
}

/// A borrowed UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAckRef<'a> {
    /// The packet identifier of the UNSUBSCRIBE.
    pub id: PacketId,
    /// What is said for diagnostics.
    pub properties: PropertiesRef<'a>,
    /// Invariant: validated.
    codes: &'a [u8],
}

impl<'a> UnsubAckRef<'a> {
    /// The outcome for each filter in order; none before 5.0.
    pub fn codes(&self) -> ReasonCodes<'a> {
        ReasonCodes::new(self.codes)
    }

    /// Copies the packet.
    pub fn into_owned(self) -> UnsubAck {
        UnsubAck {
            id: self.id,
            codes: self.codes().collect(),
            properties: AckProperties::from(self.properties),
        }
    }

    #[inline(never)]
    pub(super) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<UnsubAckRef<'a>, DecodeErrorKind> {
        let packet_type = PacketType::UnsubAck;
        let id = reader.packet_id()?;
        let properties = super::decode_properties(packet_type, version, reader, limits)?;
        let codes = reader.take_rest();
        if version.is_v5() {
            // [MQTT-3.11.3-2]
            validate_codes(packet_type, codes, |code| {
                ReasonCode::from_u8(code).is_some_and(|code| code.allowed_in(packet_type))
            })?;
        }
        Ok(UnsubAckRef {
            id,
            properties,
            codes,
        })
    }
}

impl Body for Unsubscribe {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::FiltersMissing);
        }
        out.put_u16(self.id.get());
        if version.is_v5() {
            encode::put_properties(out, self.user_properties.properties())?;
        }
        for filter in &self.filters {
            super::put_filter(out, filter)?;
        }
        Ok(())
    }
}

impl Body for UnsubAck {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        out.put_u16(self.id.get());
        if !version.is_v5() {
            return Ok(());
        }
        if self.codes.is_empty() {
            return Err(EncodeError::ReasonCodesMissing);
        }
        encode::put_properties(out, self.properties.properties())?;
        for code in &self.codes {
            super::check_reason(PacketType::UnsubAck, *code)?;
            out.put_u8(code.as_u8());
        }
        Ok(())
    }
}
