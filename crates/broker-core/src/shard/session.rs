//! [`Session`]: what a client's session is to the broker, connected or not.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_session::codec::topic::{ByteStr, ScanCursor};
use whimbrel_session::codec::{ProtocolVersion, QoS, SubscriptionId, Will};
use whimbrel_session::{AckToken, SessionState, Tick};

use crate::effects::GroupName;
use crate::lazy_box::LazyBox;
use crate::map::Map;
use crate::queue::{Outgoing, SessionQueue};
use crate::{ConnectionKey, FilterId, GroupId, MsgId, QueueId, UnixMillis};

/// A session at its shard.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) generation: u32,
    pub(super) client_id: Box<str>,
    pub(super) version: ProtocolVersion,
    /// The connection that has it, accepted or about to be.
    pub(super) connection: Option<ConnectionKey>,
    /// Windows and packet identifiers; with the connection while that is accepted.
    pub(super) state: Option<Box<SessionState<Inflight>>>,
    /// Unused while it has a connection.
    pub(super) absence: LazyBox<Absence>,
    /// Session Expiry Interval in force, in seconds; 0 ends the session with its connection.
    pub(super) expiry_secs: u32,
    pub(super) will: Option<Box<Will>>,
    /// Ordinary subscriptions: the slot in the filter's list of subscribers.
    pub(super) subscriptions: Map<FilterId, u32>,
    pub(super) rare: LazyBox<Rare>,
    /// How many received `QoS` 2 messages wait for their record before they are routed.
    pub(super) unrouted: u32,
    pub(super) queue: SessionQueue,
    /// The routing pass that last met this session, and its place among that pass's targets.
    pub(super) mark: u64,
    pub(super) mark_index: u32,
    /// Its queue in the journal, if it is known there.
    pub(super) queue_id: Option<QueueId>,
    /// Its window is to be recorded at the end of the turn.
    pub(super) is_dirty: bool,
    /// A drop was reported to observers since the connection came or went.
    pub(super) drop_reported: bool,
}

/// How long a session has been without a connection, and may be.
#[derive(Debug, Default)]
pub(super) struct Absence {
    pub(super) disconnected_at: Option<UnixMillis>,
    /// When the armed expiry timer fires.
    pub(super) expiry_due: Option<Tick>,
    /// When the armed will timer fires.
    pub(super) will_due: Option<Tick>,
}

/// What most sessions have nothing of.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) shared: BTreeMap<GroupId, SharedSubscription>,
    pub(super) shared_by_name: BTreeMap<GroupName, GroupId>,
    /// Shared subscriptions whose owner has not answered yet.
    pub(super) joining: BTreeMap<GroupName, Joining>,
    /// Received `QoS` 2 messages whose targets have not all said `Stored`.
    pub(super) inbound: BTreeMap<u16, InboundMessage>,
    /// Retained messages still to be sent for new subscriptions.
    pub(super) scans: VecDeque<RetainedScan>,
}

impl Rare {
    fn is_unused(&self) -> bool {
        let Self {
            shared,
            shared_by_name,
            joining,
            inbound,
            scans,
        } = self;
        shared.is_empty()
            && shared_by_name.is_empty()
            && joining.is_empty()
            && inbound.is_empty()
            && scans.is_empty()
    }
}

impl Session {
    /// Ordinary and shared subscriptions, those among them that are being entered.
    pub(super) fn subscription_count(&self) -> usize {
        let shared = self
            .rare
            .get()
            .map_or(0, |rare| rare.shared.len() + rare.joining.len());
        self.subscriptions.len() + shared
    }

    /// The client id, for those outside of the shard.
    pub(super) fn client_id(&self) -> ByteStr {
        ByteStr::from(&*self.client_id)
    }

    /// Gives back the memory that a burst has left.
    pub(super) fn release_memory(&mut self) {
        self.rare.release_if(Rare::is_unused);
        self.queue.release_memory();
    }

    /// Whether the session outlives its connection.
    pub(super) fn is_durable(&self) -> bool {
        self.expiry_secs > 0
    }

    /// Exchanges that are open, as far as the session itself has them: while a connection has its
    /// state, those are the received `QoS` 2 messages that are not released.
    pub(super) fn open_exchanges(&self) -> usize {
        let state = self.state.as_ref();
        let inbound = self.rare.get().map_or(0, |rare| rare.inbound.len());
        inbound + state.map_or(0, |state| state.exchanges().count() + state.held().len())
    }

    /// Whether messages of `QoS` 1 and 2 for it have to be stored before they are acknowledged.
    pub(super) fn stores(&self, qos: QoS) -> bool {
        self.is_durable() && qos > QoS::AtMostOnce
    }

    /// Whether messages of `QoS` 1 and 2 for it are recorded. While a part of its queue is on the disk only, those of a
    /// session that now ends with its connection are so too: they stand behind that part.
    pub(super) fn records(&self, qos: QoS) -> bool {
        self.stores(qos) || self.queue.has_disk_part() && qos > QoS::AtMostOnce
    }
}

/// What a session keeps of a delivery that is not finished.
///
/// Nothing where nothing will ever be resent: the session ends with its connection, and no group
/// wants the message back.
#[derive(Debug)]
pub struct Inflight(pub(super) Option<Box<Outgoing>>);

impl Inflight {
    pub(super) fn of(outgoing: Option<Outgoing>) -> Self {
        Self(outgoing.map(Box::new))
    }

    pub(super) fn into_outgoing(self) -> Option<Outgoing> {
        self.0.map(|outgoing| *outgoing)
    }

    pub(super) fn outgoing(&self) -> Option<&Outgoing> {
        self.0.as_deref()
    }
}

/// A membership in a shared subscription.
#[derive(Debug)]
pub(super) struct SharedSubscription {
    pub(super) name: GroupName,
    pub(super) qos: QoS,
    pub(super) retain_as_published: bool,
    pub(super) subscription_id: Option<SubscriptionId>,
}

/// A shared subscription that is being entered.
#[derive(Debug)]
pub(super) struct Joining {
    /// The join whose answer enters the subscription; those before it are history.
    pub(super) join: u64,
    pub(super) qos: QoS,
    pub(super) retain_as_published: bool,
    pub(super) subscription_id: Option<SubscriptionId>,
}

/// A received `QoS` 2 message between PUBLISH and PUBCOMP.
#[derive(Debug)]
pub(super) struct InboundMessage {
    pub(super) id: MsgId,
    /// Under which the journal has it, if it does.
    pub(super) queue: Option<QueueId>,
    /// All targets have it.
    pub(super) routed: bool,
    /// The PUBREL that came before that.
    pub(super) release: Option<InboundRelease>,
}

/// A PUBREL that waits for the targets.
#[derive(Debug)]
pub(super) struct InboundRelease {
    pub(super) connection: ConnectionKey,
    pub(super) token: AckToken,
}

/// Retained messages that a new subscription is still to get.
#[derive(Debug)]
pub(super) struct RetainedScan {
    pub(super) filter: FilterId,
    pub(super) cursor: ScanCursor,
    pub(super) qos: QoS,
    pub(super) subscription_id: Option<SubscriptionId>,
}

// Each idle connection has one (docs/performance.md, "Memory").
const _: () = assert!(size_of::<Session>() <= 144);
