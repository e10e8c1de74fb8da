//! PUBACK, PUBREC, PUBREL and PUBCOMP.

use whimbrel_topic::ByteStr;

use crate::encode::{self, Body, Sink};
use crate::reader::Reader;
use crate::{
    DecodeErrorKind, EncodeError, Limits, PacketId, PacketType, PropertiesRef, Property,
    PropertyPlace, ProtocolVersion, ReasonCode, UserProperties,
};

/// A PUBACK, PUBREC, PUBREL or PUBCOMP. Before 5.0 it is a packet identifier only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The identifier of the exchange.
    pub id: PacketId,
    /// The outcome.
    pub reason: ReasonCode,
    /// What is said for diagnostics.
    pub properties: AckProperties,
}

impl Ack {
    /// An acknowledgement without properties.
    pub const fn new(id: PacketId, reason: ReasonCode) -> Ack {
        Ack {
            id,
            reason,
            properties: AckProperties::new(),
        }
    }

    /// A positive acknowledgement without properties.
    pub const fn success(id: PacketId) -> Ack {
        Ack::new(id, ReasonCode::Success)
    }

    pub(super) fn downgrade(&mut self) {
        *self = Ack::success(self.id);
    }

    pub(super) fn body(&self, ack_type: AckType) -> impl Body + '_ {
        AckBody {
            ack: self,
            ack_type,
        }
    }
}

/// What an acknowledgement says for diagnostics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AckProperties {
    /// The reason in words.
    pub reason_string: Option<ByteStr>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl AckProperties {
    /// No properties.
    pub const fn new() -> AckProperties {
        AckProperties {
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    pub(super) fn properties(&self) -> impl Iterator<Item = Property<'_>> + Clone {
        let reason_string = self.reason_string.as_deref().map(Property::ReasonString);
        let user_properties = self.user_properties.properties();
        reason_string.into_iter().chain(user_properties)
    }
}

impl From<PropertiesRef<'_>> for AckProperties {
    fn from(properties: PropertiesRef<'_>) -> AckProperties {
        AckProperties {
            reason_string: properties.reason_string().map(ByteStr::from),
            user_properties: UserProperties::from(properties.user_properties()),
        }
    }
}

/// A borrowed PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRef<'a> {
    /// The identifier of the exchange.
    pub id: PacketId,
    /// The outcome; success before 5.0.
    pub reason: ReasonCode,
    /// What is said for diagnostics.
    pub properties: PropertiesRef<'a>,
}

impl<'a> AckRef<'a> {
    /// Copies the packet.
    pub fn into_owned(self) -> Ack {
        Ack {
            id: self.id,
            reason: self.reason,
            properties: AckProperties::from(self.properties),
        }
    }

    #[inline]
    pub(super) fn decode(
        packet_type: PacketType,
        reader: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<AckRef<'a>, DecodeErrorKind> {
        let mut ack = AckRef {
            id: reader.packet_id()?,
            reason: ReasonCode::Success,
            properties: PropertiesRef::default(),
        };
        // Of 5.0; in the older versions nothing is left. [U5-055]
        if !reader.is_empty() {
            ack.reason = super::decode_reason(packet_type, reader)?;
        }
        if !reader.is_empty() {
            let place = PropertyPlace::Packet(packet_type);
            ack.properties = PropertiesRef::decode(reader, place, limits)?;
        }
        Ok(ack)
    }
}

/// Which acknowledgement of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckType {
    /// PUBACK: a QoS 1 message was taken.
    PubAck,
    /// PUBREC: a QoS 2 message was taken.
    PubRec,
    /// PUBREL: the sender of a QoS 2 message forgets it.
    PubRel,
    /// PUBCOMP: the receiver of a QoS 2 message forgets its identifier.
    PubComp,
}

impl From<AckType> for PacketType {
    fn from(ack_type: AckType) -> PacketType {
        match ack_type {
            AckType::PubAck => PacketType::PubAck,
            AckType::PubRec => PacketType::PubRec,
            AckType::PubRel => PacketType::PubRel,
            AckType::PubComp => PacketType::PubComp,
        }
    }
}

/// Writes an acknowledgement without properties in its shortest form: what a connection sends most of the time, without
/// a [`Packet`](crate::Packet).
///
/// # Errors
/// When `reason` is not one of this packet's (in 5.0; it is not sent before). Nothing is written then.
#[inline]
pub fn encode_ack(
    out: &mut impl Sink,
    ack_type: AckType,
    id: PacketId,
    reason: ReasonCode,
    version: ProtocolVersion,
) -> Result<(), EncodeError> {
    let packet_type = PacketType::from(ack_type);
    let first = packet_type.first_byte();
    let [high, low] = id.get().to_be_bytes();
    if reason == ReasonCode::Success || !version.is_v5() {
        out.put_slice(&[first, 2, high, low]);
        return Ok(());
    }
    super::check_reason(packet_type, reason)?;
    out.put_slice(&[first, 3, high, low, reason.as_u8()]);
    Ok(())
}

struct AckBody<'a> {
    ack: &'a Ack,
    ack_type: AckType,
}

impl Body for AckBody<'_> {
    fn encode<S: Sink>(&self, version: ProtocolVersion, out: &mut S) -> Result<(), EncodeError> {
        let ack = self.ack;
        out.put_u16(ack.id.get());
        if !version.is_v5() {
            return Ok(());
        }
        super::check_reason(PacketType::from(self.ack_type), ack.reason)?;
        let has_properties = !ack.properties.is_empty();
        if has_properties || ack.reason != ReasonCode::Success {
            out.put_u8(ack.reason.as_u8());
        }
        if has_properties {
            encode::put_properties(out, ack.properties.properties())?;
        }
        Ok(())
    }
}
