//! [`SessionState`]: what outlives a connection.

use whimbrel_codec::{PacketId, ReasonCode};

use crate::ack::{AckKind, AckToken};
use crate::inbound::InboundWindow;
use crate::outbound::OutboundWindow;

/// The part of a session that connections take over from each other: open exchanges in both
/// directions and packet ids [MQTT-4.1.0-1].
///
/// A connection takes it in with `accept` or `connect` and gives it back with `into_state`. Subscriptions,
/// queues, wills and expiry are the owner's; quotas, topic aliases and limits end with the connection.
/// `M` is whatever the owner needs to encode a message again.
#[derive(Debug)]
pub struct SessionState<M> {
    pub(crate) outbound: OutboundWindow<M>,
    pub(crate) inbound: InboundWindow,
}

/// A [`SessionState`] taken apart, to be stored or sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParts<M> {
    /// The id that the next exchange gets.
    pub next_packet_id: PacketId,
    /// Open exchanges of this side, in the order of first sending.
    pub exchanges: Vec<Exchange<M>>,
    /// Ids of QoS 2 publications of the peer that it has not released, ascending.
    pub held: Vec<PacketId>,
}

/// A QoS 1 or 2 publication that this side has sent, or prepared, and that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange<M> {
    /// The id of the exchange.
    pub packet_id: PacketId,
    /// How far it is.
    pub stage: Stage,
    /// What the caller gave to `deliver`, `prepare` or `publish`.
    pub item: M,
}

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// QoS 1: PUBLISH was sent.
    AwaitPubAck,
    /// QoS 2: PUBLISH was sent, or is prepared.
    AwaitPubRec,
    /// QoS 2: PUBREL was sent, or at least recorded.
    AwaitPubComp {
        /// Place of its PUBREC among all PUBRECs of the session: PUBRELs are resent in this order
        /// [MQTT-4.6.0-4].
        rank: u64,
    },
}

/// Parts that are no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The exchanges are not in the order of first sending, or two have one id.
    #[error("packet id {0} is out of order")]
    PacketIdOrder(PacketId),
    /// A rank can't be counted on from.
    #[error("rank of a PUBREC is too large")]
    Rank,
}

impl<M> SessionState<M> {
    /// A session without open exchanges.
    pub fn new() -> Self {
        Self {
            outbound: OutboundWindow::new(PacketId::MIN),
            inbound: InboundWindow::default(),
        }
    }

    /// Whether nothing is open in either direction.
    pub fn is_empty(&self) -> bool {
        self.outbound.is_empty() && self.inbound.is_empty()
    }

    /// The id that the next exchange gets.
    pub fn next_packet_id(&self) -> PacketId {
        self.outbound.next_packet_id()
    }

    /// Open exchanges of this side, in the order of first sending.
    pub fn exchanges(&self) -> impl Iterator<Item = Exchange<&M>> {
        self.outbound.exchanges()
    }

    /// Open exchanges of this side in the order of first sending, as a record makes them; see
    /// [`ServerConnection::exchanges_to_record`](crate::ServerConnection::exchanges_to_record).
    ///
    /// Without a connection no PUBREC waits for its record: these are the [`exchanges`](Self::exchanges).
    pub fn exchanges_to_record(&self) -> impl Iterator<Item = Exchange<&M>> {
        self.outbound.exchanges_to_record()
    }

    /// Whether the exchange with this id was prepared and its PUBLISH was sent on no connection.
    pub fn is_never_sent(&self, packet_id: PacketId) -> bool {
        self.outbound.is_never_sent(packet_id)
    }

    /// Ids of QoS 2 publications of the peer that it has not released, ascending.
    pub fn held(&self) -> impl ExactSizeIterator<Item = PacketId> {
        self.inbound.held()
    }

    /// Says what became of a packet whose connection was gone before it was acknowledged.
    ///
    /// Only failures and releases matter: a QoS 2 publication of the peer that was *not* taken is
    /// forgotten, so that its repeat counts as new, and a released id is free. Everything else the
    /// state takes for granted; see [`accept`](crate::ServerConnection::accept).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a token is used up by its answer"
    )]
    pub fn settle(&mut self, token: AckToken, reason: ReasonCode) {
        match token.kind() {
            AckKind::PubRec if reason.is_error() => self.inbound.rejected(token.packet_id()),
            AckKind::PubComp => self.inbound.rejected(token.packet_id()),
            AckKind::PubRec
            | AckKind::PubAck
            | AckKind::PubRel
            | AckKind::SubAck
            | AckKind::UnsubAck => {}
        }
    }

    /// Lets go of a QoS 2 publication of the peer that counts as received because its connection was lost before it was
    /// accepted: a repeat of it counts as new.
    pub fn forget_received(&mut self, packet_id: PacketId) {
        self.inbound.rejected(packet_id);
    }

    /// Takes the state apart.
    pub fn into_parts(self) -> SessionParts<M> {
        SessionParts {
            next_packet_id: self.outbound.next_packet_id(),
            held: self.inbound.held().collect(),
            exchanges: self.outbound.into_exchanges().collect(),
        }
    }

    /// Puts a state together again.
    ///
    /// The parts don't say whether a message was prepared only: every open one counts as sent before, and is
    /// sent again with DUP.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] where the parts contradict each other.
    pub fn from_parts(parts: SessionParts<M>) -> Result<Self, RestoreError> {
        Ok(Self {
            outbound: OutboundWindow::restore(parts.next_packet_id, parts.exchanges)?,
            inbound: InboundWindow::holding(parts.held),
        })
    }

    /// The connection is gone.
    pub(crate) fn suspend(&mut self) {
        self.outbound.suspend();
        self.inbound.suspend();
    }
}

impl<M> Default for SessionState<M> {
    fn default() -> Self {
        Self::new()
    }
}
