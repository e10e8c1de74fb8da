//! SUBSCRIBE and SUBACK.

use std::iter::FusedIterator;

use whimbrel_topic::ByteStr;

use super::AckProperties;
use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    ControlCharacters, DecodeErrorKind, EncodeError, Limits, PacketId, PacketType, PropertiesRef,
    Property, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionId,
    SubscriptionOptions, UserProperties,
};

/// A SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscribe {
    /// The packet identifier that the SUBACK will have.
    pub id: PacketId,
    /// What is subscribed to: at least one filter.
    pub filters: Vec<SubscribeFilter>,
    /// The identifier that messages for these subscriptions will carry.
    pub subscription_id: Option<SubscriptionId>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Subscribe {
    pub(super) fn downgrade(&mut self) {
        self.subscription_id = None;
        self.user_properties.clear();
        for filter in &mut self.filters {
            filter.options = SubscriptionOptions::new(filter.options.qos);
        }
    }
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeFilter {
    /// The filter's text, not empty; its syntax is for the server to judge, see [`SubscribeFilterRef`].
    pub filter: ByteStr,
    /// How the messages are to be sent.
    pub options: SubscriptionOptions,
}

/// One filter of a borrowed SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeFilterRef<'a> {
    /// The filter's text: a string of at least one character.
    ///
    /// Its syntax is not checked, as a server answers for each filter alone: see
    /// [`SubscriptionFilter::parse`](whimbrel_topic::SubscriptionFilter::parse).
    pub filter: &'a str,
    /// How the messages are to be sent.
    pub options: SubscriptionOptions,
}

/// A borrowed SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeRef<'a> {
    /// The packet identifier that the SUBACK must have.
    pub id: PacketId,
    /// Subscription identifier and user properties.
    pub properties: PropertiesRef<'a>,
    /// Invariant: validated.
    filters: &'a [u8],
    filter_count: u32,
}

impl<'a> SubscribeRef<'a> {
    /// The filters in their order, read in place.
    pub const fn filters(&self) -> SubscribeFilters<'a> {
        SubscribeFilters {
            bytes: self.filters,
            left: self.filter_count as usize,
        }
    }

    /// The identifier that messages for these subscriptions carry.
    pub fn subscription_id(&self) -> Option<SubscriptionId> {
        self.properties.subscription_id()
    }

    /// Copies the packet.
    pub fn into_owned(self) -> Subscribe {
        let filters = self.filters().map(|filter| SubscribeFilter {
            filter: ByteStr::from(filter.filter),
            options: filter.options,
        });
        Subscribe {
            id: self.id,
            filters: filters.collect(),
            subscription_id: self.subscription_id(),
            user_properties: UserProperties::from(self.properties.user_properties()),
        }
    }

    #[inline(never)]
    pub(super) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<SubscribeRef<'a>, DecodeErrorKind> {
        let packet_type = PacketType::Subscribe;
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
            decode_options(reader.u8()?, version)?;
            filter_count += 1;
        }
        // 3.1.1 [MQTT-3.8.3-3], 5.0 [MQTT-3.8.3-2] [U5-058]
        if filter_count == 0 {
            return Err(DecodeErrorKind::FiltersMissing { packet_type });
        }
        Ok(SubscribeRef {
            id,
            properties,
            filters,
            filter_count,
        })
    }
}

/// An iterator over the filters of a borrowed SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct SubscribeFilters<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilterRef<'a>;

    fn next(&mut self) -> Option<SubscribeFilterRef<'a>> {
        let mut reader = Reader::new(self.bytes, ControlCharacters::Accept);
        let filter = reader.text().ok()?;
        // Bits that a version does not have were 0 when they were validated.
        let options = decode_options(reader.u8().ok()?, ProtocolVersion::V5).ok()?;
        self.bytes = reader.rest();
        self.left -= 1;
        Some(SubscribeFilterRef { filter, options })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SubscribeFilters<'_> {}
impl FusedIterator for SubscribeFilters<'_> {}

/// A SUBACK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubAck {
    /// The packet identifier of the SUBSCRIBE.
    pub id: PacketId,
    /// The outcome for each filter in order: at least one.
    ///
    /// Any failure is 0x80 in 3.1.1. 3.1 has no failures, and is told that QoS 0 was granted; who wants to pretend to a
    /// 3.1 client that it got what it asked for gives that grant here [U31-004].
    pub codes: Vec<ReasonCode>,
    /// What is said for diagnostics.
    pub properties: AckProperties,
}

impl SubAck {
    pub(super) fn downgrade(&mut self, version: ProtocolVersion) {
        self.properties = AckProperties::new();
        for code in &mut self.codes {
            *code = return_code(*code, version);
        }
    }
}

/// A borrowed SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAckRef<'a> {
    /// The packet identifier of the SUBSCRIBE.
    pub id: PacketId,
    /// What is said for diagnostics.
    pub properties: PropertiesRef<'a>,
    /// Invariant: validated.
    codes: &'a [u8],
}

impl<'a> SubAckRef<'a> {
    /// The outcome for each filter in order.
    pub fn codes(&self) -> ReasonCodes<'a> {
        ReasonCodes::new(self.codes)
    }

    /// Copies the packet.
    pub fn into_owned(self) -> SubAck {
        SubAck {
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
    ) -> Result<SubAckRef<'a>, DecodeErrorKind> {
        let packet_type = PacketType::SubAck;
        let id = reader.packet_id()?;
        let properties = super::decode_properties(packet_type, version, reader, limits)?;
        let codes = reader.take_rest();
        let is_valid = |code: u8| match version {
            // [U31-004]
            ProtocolVersion::V31 => code <= 2,
            // [MQTT-3.9.3-2]
            ProtocolVersion::V311 => code <= 2 || code == 0x80,
            ProtocolVersion::V5 => {
                ReasonCode::from_u8(code).is_some_and(|code| code.allowed_in(packet_type))
            }
        };
        validate_codes(packet_type, codes, is_valid)?;
        Ok(SubAckRef {
            id,
            properties,
            codes,
        })
    }
}

/// An iterator over the reason codes of a SUBACK or UNSUBACK.
#[derive(Clone, Debug)]
pub struct ReasonCodes<'a> {
    codes: std::slice::Iter<'a, u8>,
}

impl<'a> ReasonCodes<'a> {
    pub(super) fn new(codes: &'a [u8]) -> ReasonCodes<'a> {
        ReasonCodes {
            codes: codes.iter(),
        }
    }
}

impl Iterator for ReasonCodes<'_> {
    type Item = ReasonCode;

    fn next(&mut self) -> Option<ReasonCode> {
        self.codes
            .next()
            .and_then(|code| ReasonCode::from_u8(*code))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.codes.size_hint()
    }
}

impl ExactSizeIterator for ReasonCodes<'_> {}
impl FusedIterator for ReasonCodes<'_> {}

impl Body for Subscribe {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::FiltersMissing);
        }
        out.put_u16(self.id.get());
        if version.is_v5() {
            let id = self.subscription_id.map(Property::SubscriptionId);
            let properties = id.into_iter().chain(self.user_properties.properties());
            encode::put_properties(out, properties)?;
        }
        for filter in &self.filters {
            super::put_filter(out, &filter.filter)?;
            out.put_u8(if version.is_v5() {
                filter.options.bits()
            } else {
                filter.options.qos.bits()
            });
        }
        Ok(())
    }
}

impl Body for SubAck {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        if self.codes.is_empty() {
            return Err(EncodeError::ReasonCodesMissing);
        }
        out.put_u16(self.id.get());
        if version.is_v5() {
            encode::put_properties(out, self.properties.properties())?;
        }
        for code in &self.codes {
            let code = return_code(*code, version);
            super::check_reason(PacketType::SubAck, code)?;
            out.put_u8(code.as_u8());
        }
        Ok(())
    }
}

/// Checks the reason codes at the end of a packet.
pub(super) fn validate_codes(
    packet_type: PacketType,
    codes: &[u8],
    is_valid: impl Fn(u8) -> bool,
) -> Result<(), DecodeErrorKind> {
    if codes.is_empty() {
        return Err(DecodeErrorKind::ReasonCodesMissing { packet_type });
    }
    match codes.iter().find(|code| !is_valid(**code)) {
        Some(code) => Err(DecodeErrorKind::ReasonCodeInvalid {
            packet_type,
            code: *code,
        }),
        None => Ok(()),
    }
}

fn decode_options(
    byte: u8,
    version: ProtocolVersion,
) -> Result<SubscriptionOptions, DecodeErrorKind> {
    // 3.1.1 [MQTT-3.8.3-4], 5.0 [MQTT-3.8.3-5]
    let reserved = if version.is_v5() { 0xC0 } else { 0xFC };
    if byte & reserved != 0 {
        return Err(DecodeErrorKind::SubscriptionOptionsReserved);
    }
    // [U5-059]
    let qos = QoS::from_bits(byte & 3).ok_or(DecodeErrorKind::SubscriptionQosInvalid)?;
    let retain_handling = RetainHandling::from_bits((byte >> 4) & 3);
    Ok(SubscriptionOptions {
        qos,
        no_local: byte & 4 != 0,
        retain_as_published: byte & 8 != 0,
        retain_handling: retain_handling.ok_or(DecodeErrorKind::RetainHandlingInvalid)?,
    })
}

/// What `code` is in a SUBACK of this version.
fn return_code(code: ReasonCode, version: ProtocolVersion) -> ReasonCode {
    match version {
        ProtocolVersion::V31 if code.is_error() => ReasonCode::GRANTED_QOS_0,
        ProtocolVersion::V311 if code.is_error() => ReasonCode::UnspecifiedError,
        _ => code,
    }
}
