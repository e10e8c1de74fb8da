//! What is known of each message.

use std::collections::BTreeMap;

use whimbrel_broker_core::session::codec::QoS;
use whimbrel_broker_core::{MsgId, QueueId};

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
    /// Its record for each queue.
    pub(super) enqueued: BTreeMap<QueueId, Position>,
    pub(super) inbound_stored: Option<InboundRecord>,
    pub(super) inbound_released: Option<Position>,
    /// The journal has had it as the retained message of its topic.
    pub(super) is_retained_stored: bool,
    /// Sessions that it was sent to for a shared subscription, and nothing else.
    pub(super) group_copies: BTreeMap<GroupKey, Vec<GroupCopy>>,
}

/// The broker took a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingress {
    pub(super) order: Order,
    pub(super) at_ms: u64,
    /// By the wall clock.
    pub(super) wall_ms: i64,
    pub(super) session: usize,
    pub(super) fate: Fate,
}

/// What the broker that took a message still has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// All that it has to have.
    Kept,
    /// Its process died, and whether it was taken nobody knows any more; it may have been delivered.
    Forgotten,
    /// Its process died before it was delivered to anybody.
    Undone,
}

/// A message was recorded as taken over.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboundRecord {
    pub(super) position: Position,
    pub(super) id: MsgId,
    /// The session that it came in.
    pub(super) session: usize,
}

/// A member of a group that was sent a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupCopy {
    pub(super) session: usize,
    pub(super) qos: QoS,
}

/// A while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Order,
    pub(super) until: Option<Order>,
}

/// A record of a shard, in one life of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) life: usize,
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

    /// How often it was taken and may have been delivered for that.
    pub(super) fn times_taken(&self) -> u32 {
        let undone = |ingress: &&Ingress| ingress.fate != Fate::Undone;
        self.ingress.iter().filter(undone).count() as u32
    }

    /// Whether it was retained at some moment since `order`.
    pub(super) fn was_retained_since(&self, order: Order) -> bool {
        self.retained
            .iter()
            .any(|span| span.until.is_none_or(|until| until >= order))
    }
}
