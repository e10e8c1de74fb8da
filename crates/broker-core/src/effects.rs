//! What a shard asks of its surroundings: values, never calls.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_session::codec::ReasonCode;
use whimbrel_session::codec::topic::{ByteStr, TopicFilterBuf, TopicNameBuf};

use crate::bundle::{Bundle, Done, Handed, Spare};
use crate::index::Matched;
use crate::journal::Load;
use crate::record::Record;
use crate::{ConnectionKey, GroupId, Message, MsgId, SessionKey, SessionRef, ShardId};

/// Effects of the steps since they were last drained. Drained by the owner of the shard, once a turn.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages for other shards, in order. Per pair of shards the order has to be kept.
    pub forward: Vec<Forward>,
    /// Connections whose task has something to do: output to write, input to resume, a close.
    /// A connection stands here once until [`Shard::woken`](crate::Shard::woken) is called for it.
    pub wake: Vec<ConnectionKey>,
    /// Records to append to the journal, in order; empty without one.
    pub append: Vec<Record>,
    /// Queued messages to read back, in order.
    pub load: Vec<Load>,
    /// Outcomes for in-process clients.
    pub local: Vec<LocalOutcome>,
    /// What happened to sessions, for observers.
    pub events: Vec<Event>,
}

impl Effects {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forward.is_empty()
            && self.wake.is_empty()
            && self.append.is_empty()
            && self.load.is_empty()
            && self.local.is_empty()
            && self.events.is_empty()
    }
}

/// A message for another shard.
#[derive(Debug)]
pub struct Forward {
    /// Where it goes.
    pub to: ShardId,
    /// What is said.
    pub message: ShardMessage,
}

/// What one shard says to another. Opaque: only its cost matters to who carries it.
#[derive(Debug)]
pub struct ShardMessage(pub(crate) Hop);

impl ShardMessage {
    /// Bytes this message counts with in the window between two shards; 0 for control messages,
    /// whose number is bounded by what they answer.
    #[must_use]
    pub fn cost(&self) -> usize {
        match &self.0 {
            Hop::Publish { message, .. } | Hop::Handout { message, .. } => {
                message.size() + size_of::<Self>()
            }
            Hop::Bundle(bundle) => bundle.cost(),
            _ => 0,
        }
    }

    /// The payloads of the application messages that it carries; for traces.
    #[must_use]
    pub fn payloads(&self) -> Vec<Bytes> {
        match &self.0 {
            Hop::Publish { message, .. } | Hop::Handout { message, .. } => {
                vec![message.payload()]
            }
            Hop::Bundle(bundle) => bundle
                .iter()
                .filter_map(|said| said.parts().map(|parts| parts.payload))
                .map(Bytes::copy_from_slice)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it says no more than that bytes of the window are free again.
    #[must_use]
    pub fn is_credit(&self) -> bool {
        matches!(self.0, Hop::Credit { .. })
    }
}

#[derive(Debug)]
pub(crate) enum Hop {
    /// Messages and answers, as they are usually said.
    Bundle(Box<Bundle>),
    /// A message for the subscribers and groups of the receiving shard that goes by itself.
    Publish {
        message: Message,
        matched: Arc<Matched>,
        publisher: Option<SessionRef>,
        obligation: Option<ObligationId>,
    },
    /// A session joins a shared subscription that the receiving shard owns, or changes its options.
    GroupJoin {
        group: GroupName,
        member: SessionRef,
        status: MemberStatus,
        /// Tells the joins of one member apart.
        join: u64,
        obligation: ObligationId,
    },
    /// The answer to a `GroupJoin`.
    GroupJoined {
        obligation: ObligationId,
        join: u64,
        member: SessionKey,
        name: GroupName,
        group: GroupId,
    },
    /// A member left, by UNSUBSCRIBE or because its session ended.
    GroupLeave { group: GroupId, member: SessionRef },
    /// A member's connection came or went.
    GroupMember {
        group: GroupId,
        member: SessionRef,
        status: MemberStatus,
    },
    /// A message for a member of a group that goes by itself, or to a member here.
    Handout { handed: Handed, message: Message },
    /// What became of one, of a shard to itself.
    Done(Done),
    /// A message that was routed again by a broker that started is released: nobody need remember who had it.
    Released { message: MsgId },
    /// Bytes of costed messages that the sender of this has processed.
    Credit { bytes: usize, spare: Spare },
}

/// A shared subscription by its name on the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupName {
    pub(crate) share: ByteStr,
    pub(crate) filter: TopicFilterBuf,
}

/// What the owner of a group has to know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberStatus {
    pub(crate) connected: bool,
    /// The member stores messages: its session outlives its connection, and it was granted more
    /// than `QoS` 0.
    pub(crate) durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupOutcome {
    /// Delivered, or dropped for good.
    Consumed,
    /// Never sent to the member: somebody else may have it.
    Returned,
    /// Larger than the member's client takes: somebody else may take it (F7).
    TooLarge,
}

/// An acknowledgement that waits at another shard: slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObligationId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ObligationId {
    /// Nobody waits: slots are below this.
    pub(crate) const NONE: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };
}

/// The outcome of a command of an in-process client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOutcome {
    /// The client.
    pub connection: ConnectionKey,
    /// The request's number, as the client gave it.
    pub request: u64,
    /// One code per filter of a subscribe or unsubscribe, one for a publish.
    pub reasons: Vec<ReasonCode>,
}

/// What happened to a client, for observers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection was accepted.
    Connected {
        /// Client id, assigned ones included.
        client_id: ByteStr,
        /// Whether a session was resumed.
        session_present: bool,
    },
    /// A connection ended.
    Disconnected {
        /// Client id.
        client_id: ByteStr,
        /// Why.
        reason: CloseReason,
    },
    /// A session ended.
    SessionEnded {
        /// Client id.
        client_id: ByteStr,
    },
    /// A session was subscribed to a filter.
    Subscribed {
        /// Client id.
        client_id: ByteStr,
        /// The filter as it was sent.
        filter: ByteStr,
    },
    /// A subscription ended by request.
    Unsubscribed {
        /// Client id.
        client_id: ByteStr,
        /// The filter as it was sent.
        filter: ByteStr,
    },
    /// Messages were dropped for a session; at most one event per connection or absence of it.
    Dropping {
        /// Client id.
        client_id: ByteStr,
        /// Why the first of them was.
        cause: crate::DropCause,
    },
    /// A will was published.
    WillPublished {
        /// Client id of the client that vanished.
        client_id: ByteStr,
        /// Where to.
        topic: TopicNameBuf,
    },
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    Disconnect,
    /// The stream ended or failed.
    NetworkError,
    /// Keep alive ran out: the link was half-open.
    KeepAlive,
    /// A malformed packet or protocol error.
    ProtocolError,
    /// The client did not finish to authenticate itself anew, or failed [MQTT-4.12.1-2].
    NotAuthorized,
    /// Another connection took the session over.
    TakenOver,
    /// The broker shuts down.
    ShuttingDown,
    /// An operator or a hook ended it.
    Administrative,
}
