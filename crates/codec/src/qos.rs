//! Quality of service, packet identifiers, and the one value that holds both.

use std::fmt;
use std::num::NonZeroU16;

/// Quality of service, from weakest to strongest promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: delivered once or not at all.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: delivered at least once.
    AtLeastOnce = 1,
    /// QoS 2: delivered exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// Reads the two QoS bits of a packet; 3 is no QoS [MQTT-3.3.1-4].
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }

    /// The two QoS bits, in the lowest place.
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// A packet identifier: never 0 [MQTT-2.3.1-1] [MQTT-2.2.1-3].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The smallest identifier, 1.
    pub const MIN: PacketId = PacketId(NonZeroU16::MIN);
    /// The largest identifier, 65,535.
    pub const MAX: PacketId = PacketId(NonZeroU16::MAX);

    /// The identifier `id`, unless that is 0.
    #[inline]
    pub const fn new(id: u16) -> Option<PacketId> {
        match NonZeroU16::new(id) {
            Some(id) => Some(PacketId(id)),
            None => None,
        }
    }

    /// The number on the wire.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(id: NonZeroU16) -> PacketId {
        PacketId(id)
    }
}

impl From<PacketId> for NonZeroU16 {
    fn from(id: PacketId) -> NonZeroU16 {
        id.0
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How one PUBLISH is delivered: its QoS with what that QoS needs, so that no QoS 0 packet has an identifier
/// [MQTT-2.2.1-2] or the DUP flag [MQTT-3.3.1-2], and no other lacks one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0.
    #[default]
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// The exchange's packet identifier.
        id: PacketId,
        /// The DUP flag: the packet may have been sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// The exchange's packet identifier.
        id: PacketId,
        /// The DUP flag: the packet may have been sent before.
        dup: bool,
    },
}

impl Delivery {
    /// The first sending with `qos`, under `id`; QoS 0 does not use the identifier.
    pub const fn first(qos: QoS, id: PacketId) -> Delivery {
        match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup: false },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup: false },
        }
    }

    /// The same delivery sent again: with the DUP flag, unless it is QoS 0.
    #[must_use]
    pub const fn repeated(self) -> Delivery {
        match self {
            Delivery::AtMostOnce => Delivery::AtMostOnce,
            Delivery::AtLeastOnce { id, .. } => Delivery::AtLeastOnce { id, dup: true },
            Delivery::ExactlyOnce { id, .. } => Delivery::ExactlyOnce { id, dup: true },
        }
    }

    /// The quality of service.
    #[inline]
    pub const fn qos(self) -> QoS {
        match self {
            Delivery::AtMostOnce => QoS::AtMostOnce,
            Delivery::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Delivery::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }

    /// The packet identifier of QoS 1 and 2.
    #[inline]
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { id, .. } | Delivery::ExactlyOnce { id, .. } => Some(id),
        }
    }

    /// The DUP flag.
    #[inline]
    pub const fn dup(self) -> bool {
        match self {
            Delivery::AtMostOnce => false,
            Delivery::AtLeastOnce { dup, .. } | Delivery::ExactlyOnce { dup, .. } => dup,
        }
    }

    /// The DUP and QoS bits of the fixed header.
    #[inline]
    pub(crate) const fn flags(self) -> u8 {
        match self {
            Delivery::AtMostOnce => 0,
            Delivery::AtLeastOnce { dup, .. } => 0b0010 | ((dup as u8) << 3),
            Delivery::ExactlyOnce { dup, .. } => 0b0100 | ((dup as u8) << 3),
        }
    }
}
