//! [`Record`]: what a journal keeps, so that a broker that starts again owes what the one before it owed.
//!
//! `docs/storage.md` says what each record promises and when it may be forgotten.

use std::num::NonZeroU64;

use whimbrel_session::Stage;
use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    PacketId, ProtocolVersion, QoS, SubscriptionId, SubscriptionOptions, Will,
};

use crate::holders::Holders;
use crate::queue::SubscriptionIds;
use crate::{Message, MsgId, UnixMillis};

/// A durable queue: that of a session, or that of a shared subscription. Never used twice in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(NonZeroU64);

/// The place of a message in the journal, given by the shard that enqueues it.
///
/// Positions rise in every queue, over all starts of a broker, and are never used twice in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

/// A record for the journal. What is promised to a peer waits for its commit.
///
/// Records of one shard are committed in order. Those that carry the whole state of something replace what was
/// recorded of it before, so that committing one twice changes nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// A session that outlives its connection: begun, resumed, left by its connection, or without its will now.
    Session(Box<SessionRecord>),
    /// A session ended, with its subscriptions, its window and its queue.
    SessionEnded {
        /// The session's queue.
        session: QueueId,
    },
    /// Subscriptions of a session were added or replaced.
    Subscribed {
        /// The session's queue.
        session: QueueId,
        /// The subscriptions.
        subscriptions: Box<[SubscriptionRecord]>,
    },
    /// Subscriptions of a session were removed.
    Unsubscribed {
        /// The session's queue.
        session: QueueId,
        /// Their filters as they were sent, `$share/` included.
        filters: Box<[ByteStr]>,
    },
    /// A shared subscription keeps messages.
    Group(GroupRecord),
    /// A shared subscription is over, with its queue.
    GroupEnded {
        /// The group's queue.
        group: QueueId,
    },
    /// One message for queues of this shard.
    Enqueued {
        /// Its place.
        position: Position,
        /// The message.
        message: Message,
        /// The queues that hold it.
        holders: Holders,
    },
    /// Queues are done with messages: delivered, expired or dropped. Lazy; a group's last word, since it has no
    /// [`WindowRecord`].
    Done {
        /// The queue.
        queue: QueueId,
        /// Places of the messages, ascending or not.
        positions: Box<[Position]>,
    },
    /// The open exchanges of a session.
    Window(Box<WindowRecord>),
    /// A message was taken over from its publisher and is not yet with everybody who is to have it: of `QoS` 2, or a
    /// will.
    InboundStored {
        /// The queue of the publisher's session.
        session: QueueId,
        /// The publisher's packet identifier; 0 for a will.
        packet_id: u16,
        /// The message.
        message: Message,
    },
    /// A message that was taken over is with everybody who is to have it, and released by its publisher.
    InboundReleased {
        /// The queue of the publisher's session.
        session: QueueId,
        /// The publisher's packet identifier; 0 for a will.
        packet_id: u16,
        /// The identity of the message.
        message: MsgId,
    },
    /// A retained message was set or deleted. What it is now is in the index's own log
    /// ([`Index::take_retained_changes`](crate::Index::take_retained_changes)), because shards write the same
    /// topics: whoever commits this record commits that log with it.
    Retained,
}

/// What outlives the connection of a session, beside its subscriptions, window and queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session's queue.
    pub session: QueueId,
    /// The client id.
    pub client_id: ByteStr,
    /// The protocol version it last spoke.
    pub version: ProtocolVersion,
    /// Session Expiry Interval, in seconds; `u32::MAX` is for ever.
    pub expiry_secs: u32,
    /// When its connection went; `None` while there is one.
    pub disconnected_at: Option<UnixMillis>,
    /// The will that is still to be published.
    pub will: Option<Will>,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The filter as it was sent, `$share/` included.
    pub filter: ByteStr,
    /// Its options, with the granted `QoS`.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier.
    pub subscription_id: Option<SubscriptionId>,
}

/// A shared subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// The group's queue.
    pub group: QueueId,
    /// The share name.
    pub share: ByteStr,
    /// The filter.
    pub filter: ByteStr,
}

/// The open exchanges of a session towards its client, and how far its queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRecord {
    /// The session's queue.
    pub session: QueueId,
    /// Messages of the session's queue before this place are done with, unless they stand in `exchanges`.
    pub cursor: Position,
    /// The packet identifier that the next exchange gets.
    pub next_packet_id: PacketId,
    /// Open exchanges in the order of first sending.
    pub exchanges: Vec<ExchangeRecord>,
}

/// An open exchange of a session towards its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeRecord {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// How far it is.
    pub stage: Stage,
    /// The place of its message; in the queue of the session or, with `group`, in the group's. Without one the
    /// message is not recorded, only the packet identifier.
    pub position: Option<Position>,
    /// The shared subscription that handed the message out.
    pub group: Option<QueueId>,
    /// How the message is sent.
    pub form: Form,
}

/// How a message is sent to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The `QoS` of the delivery.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// Subscription Identifiers.
    pub(crate) subscription_ids: SubscriptionIds,
}

/// A retained message as it is now.
#[derive(Clone, Debug)]
pub enum RetainedChange {
    /// It was set.
    Set(Message),
    /// It was deleted, or has expired.
    Deleted {
        /// The topic.
        topic: whimbrel_session::codec::topic::TopicNameBuf,
    },
}

impl Record {
    /// About how many bytes it takes on its way to the journal.
    #[must_use]
    pub fn cost(&self) -> usize {
        let bytes = match self {
            Self::Enqueued {
                message, holders, ..
            } => message.size() + holders.as_bytes().len(),
            Self::InboundStored { message, .. } => message.size(),
            Self::Session(record) => {
                let will = record.will.as_ref();
                record.client_id.len() + will.map_or(0, |will| will.payload.len())
            }
            Self::Subscribed { subscriptions, .. } => {
                let filter = |record: &SubscriptionRecord| record.filter.len();
                size_of_val(&**subscriptions) + subscriptions.iter().map(filter).sum::<usize>()
            }
            Self::Unsubscribed { filters, .. } => {
                size_of_val(&**filters) + filters.iter().map(|filter| filter.len()).sum::<usize>()
            }
            Self::Window(record) => size_of_val(&*record.exchanges),
            Self::Done { positions, .. } => size_of_val(&**positions),
            _ => 0,
        };
        size_of::<Self>() + bytes
    }
}

impl WindowRecord {
    /// Whether the session's own queue still owes the message at `position`.
    #[must_use]
    pub fn owes(&self, position: Position) -> bool {
        position >= self.cursor
            || self
                .exchanges
                .iter()
                .any(|exchange| exchange.group.is_none() && exchange.position == Some(position))
    }
}

impl QueueId {
    /// From its number, which is never 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl Position {
    /// From its number, which is never 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl Form {
    /// A form.
    #[must_use]
    pub fn new(qos: QoS, retain: bool, subscription_ids: &[SubscriptionId]) -> Self {
        let mut ids = SubscriptionIds::None;
        for &id in subscription_ids {
            ids.push(id);
        }
        Self {
            qos,
            retain,
            subscription_ids: ids,
        }
    }

    /// The form of an exchange whose message is not known any more.
    pub(crate) fn of_stage(stage: Stage) -> Self {
        let qos = match stage {
            Stage::AwaitPubAck => QoS::AtLeastOnce,
            Stage::AwaitPubRec | Stage::AwaitPubComp { .. } => QoS::ExactlyOnce,
        };
        Self::new(qos, false, &[])
    }

    /// Subscription Identifiers [MQTT-3.3.4-4].
    #[must_use]
    pub fn subscription_ids(&self) -> &[SubscriptionId] {
        self.subscription_ids.as_slice()
    }
}
