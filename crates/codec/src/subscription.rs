//! What a subscription asks for besides its filter.

use std::fmt;
use std::num::NonZeroU32;

use crate::QoS;

/// A subscription identifier: 1 to 268,435,455 [U5-047].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The smallest identifier, 1.
    pub const MIN: SubscriptionId = SubscriptionId(NonZeroU32::MIN);
    /// The largest identifier: what a variable byte integer of four bytes can say.
    pub const MAX: SubscriptionId = match SubscriptionId::new(268_435_455) {
        Some(id) => id,
        None => SubscriptionId::MIN,
    };

    /// The identifier `id`, if it is in range.
    pub const fn new(id: u32) -> Option<SubscriptionId> {
        match NonZeroU32::new(id) {
            Some(id) if id.get() <= 268_435_455 => Some(SubscriptionId(id)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// When a new subscription is sent the retained messages it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE; what the older versions always do.
    #[default]
    Send = 0,
    /// Only when the subscription did not exist before.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl RetainHandling {
    /// Reads the two bits of a subscription options byte; 3 has no meaning [U5-059].
    pub const fn from_bits(bits: u8) -> Option<RetainHandling> {
        match bits {
            0 => Some(RetainHandling::Send),
            1 => Some(RetainHandling::SendIfNew),
            2 => Some(RetainHandling::DoNotSend),
            _ => None,
        }
    }
}

/// The options of one filter in a SUBSCRIBE. All but the QoS are new in 5.0 and have their default before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS that messages are to be delivered with.
    pub qos: QoS,
    /// Whether the subscriber's own messages are left out.
    pub no_local: bool,
    /// Whether forwarded messages keep the RETAIN flag they were published with.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options that all versions have: a QoS, the rest at its default.
    pub const fn new(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// The options byte of 5.0.
    pub(crate) const fn bits(self) -> u8 {
        self.qos.bits()
            | ((self.no_local as u8) << 2)
            | ((self.retain_as_published as u8) << 3)
            | ((self.retain_handling as u8) << 4)
    }
}
