//! What is known of each message.

use std::collections::BTreeMap;

use whimbrel_broker_core::session::codec::QoS;

use super::Order;
use super::wall::Wall;

/// A message from its publisher's call on.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) publisher: u16,
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expiry_secs: Option<u32>,
    pub(super) payload_length: usize,
    pub(super) is_will: bool,
    /// A hook refuses it.
    pub(super) is_denied: bool,
    /// Each time the broker took it.
    pub(super) ingress: Vec<Ingress>,
    /// The broker answers for it since then: it was acknowledged, or is a will.
    pub(super) promised: bool,
    /// When it was the retained message of its topic: from, until.
    pub(super) retained: Vec<Span>,
    /// Journal positions of its records, by shard.
    pub(super) enqueued: BTreeMap<usize, u64>,
    /// And the session it came in.
    pub(super) inbound_stored: Option<(Position, usize)>,
    pub(super) inbound_released: Option<Position>,
    pub(super) retained_stored: Option<Position>,
    /// Sessions that it was sent to for a shared subscription, and nothing else.
    pub(super) group_copies: BTreeMap<GroupKey, Vec<usize>>,
}

/// The broker took a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingress {
    pub(super) order: Order,
    pub(super) at_ms: u64,
    /// By the wall clock.
    pub(super) wall_ms: i64,
    pub(super) session: usize,
}

/// A while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Order,
    pub(super) until: Option<Order>,
}

/// A record in a shard's journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) shard: usize,
    pub(super) record: u64,
}

/// A shared subscription: share name and filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) share: String,
    pub(super) filter: String,
}

impl Message {
    pub(super) fn first_ingress(&self) -> Option<Order> {
        self.ingress.first().map(|ingress| ingress.order)
    }

    /// When the last of its copies expires, by the wall clock.
    pub(super) fn expires_ms(&self) -> Option<i64> {
        let expiry_ms = i64::from(self.expiry_secs?) * 1000;
        self.ingress
            .iter()
            .map(|ingress| ingress.wall_ms + expiry_ms)
            .max()
    }

    /// When the one expires that was taken last and is retained, by the wall clock.
    pub(super) fn retained_expires_ms(&self) -> Option<i64> {
        let expiry_ms = i64::from(self.expiry_secs?) * 1000;
        self.ingress
            .last()
            .map(|ingress| ingress.wall_ms + expiry_ms)
    }

    /// When the first of its copies expires, by the wall clock.
    pub(super) fn first_expires_ms(&self) -> Option<i64> {
        let expiry_ms = i64::from(self.expiry_secs?) * 1000;
        self.ingress
            .iter()
            .map(|ingress| ingress.wall_ms + expiry_ms)
            .min()
    }

    /// Whether any of its copies may have expired by `now_ms`.
    pub(super) fn may_have_expired(&self, wall: &Wall, now_ms: u64) -> bool {
        let Some(expiry_secs) = self.expiry_secs else {
            return false;
        };
        let expiry_ms = i64::from(expiry_secs) * 1000;
        self.ingress
            .iter()
            .any(|ingress| ingress.wall_ms + expiry_ms <= wall.most(ingress.at_ms, now_ms))
    }

    /// The journals that had its records are gone.
    pub(super) fn forget_records(&mut self) {
        self.enqueued.clear();
        self.inbound_stored = None;
        self.inbound_released = None;
        self.retained_stored = None;
    }

    /// Whether it was retained at some moment since `order`.
    pub(super) fn was_retained_since(&self, order: Order) -> bool {
        self.retained
            .iter()
            .any(|span| span.until.is_none_or(|until| until >= order))
    }
}
