//! The exchanges this side has started: their packet ids, phases and order.

mod packet_ids;
mod prepared;

use std::collections::VecDeque;

use whimbrel_codec::{PacketId, QoS};

use crate::state::{Exchange, RestoreError, Stage};

use self::packet_ids::{SPAN_MAX, advance, age, distance};

/// Every open exchange of one session in the order of first sending.
///
/// Ids are taken one after the other and wrap after 65,535, so the slot of an id is found by its
/// distance from the first one. An exchange that ends leaves a hole, which goes once it is at the
/// front; the caller bounds the span, holes included, through [`has_room`](Self::has_room).
///
/// ```text
///            open_publish QoS 1                  PUBACK
///   (free) ────────────────────▶ AwaitPubAck ──────────────────────▶ (free)
///            prepare (QoS 2)
///   (free) ────────────────────▶ AwaitIdRecord
///                                  │ recorded, connection lost
///                                  ▼             abandoned
///                              AwaitSending ───────────────────────▶ (free)
///                                  │ PUBLISH is sent
///            open_publish QoS 2    ▼             PUBREC ≥ 0x80
///   (free) ────────────────────▶ AwaitPubRec ──────────────────────▶ (free)
///                                  │     ▲
///                    PUBREC < 0x80 │     │ connection lost
///                                  ▼     │
///                              AwaitPubRelRecord
///                                  │ recorded: PUBREL is sent
///                                  ▼             PUBCOMP
///                              AwaitPubComp ───────────────────────▶ (free)
///            open_request                        SUBACK, UNSUBACK, connection lost
///   (free) ────────────────────▶ Request ──────────────────────────▶ (free)
/// ```
///
/// Any acknowledgement of a PUBLISH that was never sent breaks the protocol, as every other does that
/// no arrow is for.
#[derive(Debug)]
pub(crate) struct OutboundWindow<M> {
    /// Invariant: the first slot is never free.
    slots: VecDeque<Slot<M>>,
    /// Id of the first slot, or the id that is taken next while there is none.
    first: PacketId,
    /// Count of the slots that have left the front, so that a [`Position`] outlives that.
    left: u64,
    /// Slots that are not free.
    open: u16,
    /// Slots whose PUBLISH went out on this connection, or is prepared to: the units of send quota in use.
    in_flight: u16,
    /// The first exchange that was prepared on this connection and is not sent: its phase is
    /// `AwaitIdRecord` or `AwaitSending`.
    prepared: Option<PacketId>,
    /// Rank of the next PUBREC.
    next_rank: u64,
}

/// Place of a slot, stable while slots before it leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// What a client asked for with a packet id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Subscribe { filters: usize },
    Unsubscribe { filters: usize },
}

/// An acknowledgement that its exchange can't get in its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongAck;

/// What a PUBREC below 0x80 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The first one: PUBREL waits for its record.
    First,
    /// A repeat while PUBREL waits for its record and will follow.
    AwaitsRecord,
    /// A repeat after PUBREL was sent.
    Repeated,
    /// No exchange has this id.
    Unknown,
}

/// A PUBLISH that has not been sent on this connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsent<'a, M> {
    pub(crate) position: Position,
    pub(crate) packet_id: PacketId,
    pub(crate) qos: QoS,
    /// On no connection before either.
    pub(crate) is_never_sent: bool,
    pub(crate) item: &'a M,
}

/// What became of an exchange that is not resent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandoned<M> {
    /// QoS 1, or never sent: over.
    Ended(M),
    /// QoS 2 that was sent before: goes on with PUBREL.
    Released,
}

#[derive(Debug)]
enum Slot<M> {
    Free,
    Request(Request),
    Open(Open<M>),
}

#[derive(Debug)]
struct Open<M> {
    phase: Phase,
    /// The PUBLISH of this exchange went out on this connection, or is prepared to, and holds a unit of
    /// quota.
    in_flight: bool,
    item: M,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::enum_variant_names,
    reason = "named for the packets they wait for, like the protocol's own tables"
)]
enum Phase {
    AwaitPubAck,
    /// Its id waits for its record; the PUBLISH was never sent.
    AwaitIdRecord,
    /// Its id is recorded; the PUBLISH was never sent.
    AwaitSending,
    AwaitPubRec,
    /// PUBREC came as the `rank`-th; PUBREL waits for its record.
    AwaitPubRelRecord {
        rank: u64,
    },
    /// PUBREC came as the `rank`-th; PUBREL was sent.
    AwaitPubComp {
        rank: u64,
    },
}

impl<M> OutboundWindow<M> {
    pub(crate) fn new(next: PacketId) -> Self {
        Self {
            slots: VecDeque::new(),
            first: next,
            left: 0,
            open: 0,
            in_flight: 0,
            prepared: None,
            next_rank: 0,
        }
    }

    /// Whether no exchange and no request is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Exchanges whose PUBLISH went out on this connection, or is prepared to, and that are not over
    /// [U5-107].
    pub(crate) fn in_flight(&self) -> usize {
        usize::from(self.in_flight)
    }

    /// Whether one more exchange keeps the span, holes included, within `span_max`.
    pub(crate) fn has_room(&self, span_max: usize) -> bool {
        self.slots.len() < span_max.min(SPAN_MAX)
    }

    /// The id that the next exchange gets.
    pub(crate) fn next_packet_id(&self) -> PacketId {
        let taken = usize::from(mutant!(PacketIdReused) && self.slots.len() > 1);
        advance(self.first, self.slots.len() - taken)
    }

    /// Starts the exchange of a QoS 1 or 2 PUBLISH that is sent now.
    ///
    /// The caller has asked [`has_room`](Self::has_room) and checked its quota.
    pub(crate) fn open_publish(&mut self, qos: QoS, item: M) -> PacketId {
        debug_assert!(qos != QoS::AtMostOnce, "QoS 0 has no exchange");
        let phase = match qos {
            QoS::AtMostOnce | QoS::AtLeastOnce => Phase::AwaitPubAck,
            QoS::ExactlyOnce => Phase::AwaitPubRec,
        };
        self.in_flight += 1;
        self.push(Slot::Open(Open {
            phase,
            in_flight: true,
            item,
        }))
    }

    /// Starts the exchange of a SUBSCRIBE or UNSUBSCRIBE; same space of ids [U5-008].
    pub(crate) fn open_request(&mut self, request: Request) -> PacketId {
        self.push(Slot::Request(request))
    }

    /// PUBACK, whatever its reason: `None` where no exchange has this id.
    pub(crate) fn pub_ack(&mut self, packet_id: PacketId) -> Result<Option<M>, WrongAck> {
        match self.slot(packet_id) {
            Slot::Free => Ok(None),
            Slot::Open(open) if open.phase == Phase::AwaitPubAck => Ok(self.close(packet_id)),
            Slot::Open(_) | Slot::Request(_) => Err(WrongAck),
        }
    }

    /// PUBREC below 0x80.
    pub(crate) fn pub_rec(&mut self, packet_id: PacketId) -> Result<Received, WrongAck> {
        let rank = self.next_rank;
        match self.slot_mut(packet_id) {
            None | Some(Slot::Free) => Ok(Received::Unknown),
            Some(Slot::Request(_)) => Err(WrongAck),
            Some(Slot::Open(open)) => match open.phase {
                Phase::AwaitPubAck | Phase::AwaitIdRecord | Phase::AwaitSending => Err(WrongAck),
                Phase::AwaitPubRelRecord { .. } => Ok(Received::AwaitsRecord),
                Phase::AwaitPubComp { .. } => Ok(Received::Repeated),
                Phase::AwaitPubRec => {
                    open.phase = Phase::AwaitPubRelRecord { rank };
                    if mutant!(QuotaBackAtPubRec) {
                        self.in_flight -= u16::from(std::mem::take(&mut open.in_flight));
                    }
                    self.next_rank += 1;
                    Ok(Received::First)
                }
            },
        }
    }

    /// PUBREC of 0x80 or above: ends the exchange without PUBREL [MQTT-4.4.0-2, U5-054].
    pub(crate) fn pub_rec_failed(&mut self, packet_id: PacketId) -> Result<Option<M>, WrongAck> {
        match self.slot(packet_id) {
            Slot::Free => Ok(None),
            Slot::Request(_) => Err(WrongAck),
            Slot::Open(open) => match open.phase {
                Phase::AwaitPubAck | Phase::AwaitIdRecord | Phase::AwaitSending => Err(WrongAck),
                // Its record is under way; the exchange goes on with PUBREL, which the peer
                // answers whatever it knows.
                Phase::AwaitPubRelRecord { .. } => Ok(None),
                Phase::AwaitPubRec | Phase::AwaitPubComp { .. } => Ok(self.close(packet_id)),
            },
        }
    }

    /// The record that a PUBREL waits for is written: whether there is such an exchange.
    pub(crate) fn release(&mut self, packet_id: PacketId) -> bool {
        if let Some(Slot::Open(open)) = self.slot_mut(packet_id)
            && let Phase::AwaitPubRelRecord { rank } = open.phase
        {
            open.phase = Phase::AwaitPubComp { rank };
            return true;
        }
        false
    }

    /// PUBCOMP, whatever its reason: `None` where no exchange has this id.
    pub(crate) fn pub_comp(&mut self, packet_id: PacketId) -> Result<Option<M>, WrongAck> {
        match self.slot(packet_id) {
            Slot::Free => Ok(None),
            Slot::Open(open) if matches!(open.phase, Phase::AwaitPubComp { .. }) => {
                Ok(self.close(packet_id))
            }
            Slot::Open(_) | Slot::Request(_) => Err(WrongAck),
        }
    }

    /// Whether the id is in use.
    pub(crate) fn is_open(&self, packet_id: PacketId) -> bool {
        !matches!(self.slot(packet_id), Slot::Free)
    }

    /// The request that is open under this id.
    pub(crate) fn request(&self, packet_id: PacketId) -> Option<Request> {
        match self.slot(packet_id) {
            Slot::Request(request) => Some(*request),
            Slot::Free | Slot::Open(_) => None,
        }
    }

    /// SUBACK or UNSUBACK: ends the request.
    pub(crate) fn close_request(&mut self, packet_id: PacketId) {
        if self.request(packet_id).is_some() {
            self.close(packet_id);
        }
    }

    /// The connection is gone: requests end, since they are no part of a session, and a PUBREC
    /// whose record was not confirmed counts as not received. The record of an id counts as written,
    /// since a next connection is accepted only when it is.
    pub(crate) fn suspend(&mut self) {
        for slot in &mut self.slots {
            match slot {
                Slot::Free => {}
                Slot::Request(_) => {
                    *slot = Slot::Free;
                    self.open -= 1;
                }
                Slot::Open(open) => {
                    open.in_flight = false;
                    match open.phase {
                        Phase::AwaitPubRelRecord { .. } => open.phase = Phase::AwaitPubRec,
                        Phase::AwaitIdRecord => open.phase = Phase::AwaitSending,
                        Phase::AwaitPubAck
                        | Phase::AwaitSending
                        | Phase::AwaitPubRec
                        | Phase::AwaitPubComp { .. } => {}
                    }
                }
            }
        }
        self.in_flight = 0;
        self.prepared = None;
        self.drop_front_holes();
        self.slots.shrink_to_fit();
    }

    /// The first PUBLISH at or after `from` that has not been sent on this connection, and was not
    /// prepared on it.
    pub(crate) fn unsent_from(&self, from: Position) -> Option<Unsent<'_, M>> {
        let start = usize::try_from(from.0.saturating_sub(self.left)).ok()?;
        let (index, open) = self.find_from(start, |open| {
            !open.in_flight && open.phase.unacknowledged().is_some()
        })?;
        self.unsent(index, open)
    }

    /// The PUBLISH of this exchange goes out now, on this connection.
    pub(crate) fn mark_sent(&mut self, packet_id: PacketId) {
        if let Some(Slot::Open(open)) = self.slot_mut(packet_id) {
            if open.phase.is_never_sent() {
                open.phase = Phase::AwaitPubRec;
            }
            if !std::mem::replace(&mut open.in_flight, true) {
                self.in_flight += 1;
            }
        }
        self.pass_prepared(packet_id);
    }

    /// Gives up sending a PUBLISH. A QoS 1 exchange is over, and one that was never sent; another of
    /// QoS 2 goes on with PUBREL, since the peer may hold the id from the first sending.
    pub(crate) fn abandon(&mut self, packet_id: PacketId) -> Option<Abandoned<M>> {
        let rank = self.next_rank;
        let Some(Slot::Open(open)) = self.slot_mut(packet_id) else {
            return None;
        };
        match open.phase {
            Phase::AwaitPubAck => self.close(packet_id).map(Abandoned::Ended),
            Phase::AwaitIdRecord | Phase::AwaitSending => {
                self.pass_prepared(packet_id);
                self.close(packet_id).map(Abandoned::Ended)
            }
            Phase::AwaitPubRec => {
                open.phase = Phase::AwaitPubComp { rank };
                self.next_rank += 1;
                Some(Abandoned::Released)
            }
            Phase::AwaitPubRelRecord { .. } | Phase::AwaitPubComp { .. } => None,
        }
    }

    /// Ids whose PUBREL has no PUBCOMP yet, in the order of their PUBRECs [MQTT-4.6.0-4].
    pub(crate) fn released(&self) -> VecDeque<PacketId> {
        let mut ranked: Vec<_> = self
            .exchanges()
            .filter_map(|exchange| match exchange.stage {
                Stage::AwaitPubComp { rank } => Some((rank, exchange.packet_id)),
                Stage::AwaitPubAck | Stage::AwaitPubRec => None,
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, packet_id)| packet_id).collect()
    }

    /// Whether PUBREL was sent for this id and PUBCOMP is awaited.
    pub(crate) fn awaits_pub_comp(&self, packet_id: PacketId) -> bool {
        let slot = self.slot(packet_id);
        matches!(slot, Slot::Open(open) if matches!(open.phase, Phase::AwaitPubComp { .. }))
    }

    /// The item of an exchange.
    pub(crate) fn item_mut(&mut self, packet_id: PacketId) -> Option<&mut M> {
        match self.slot_mut(packet_id)? {
            Slot::Open(open) => Some(&mut open.item),
            Slot::Free | Slot::Request(_) => None,
        }
    }

    /// Open exchanges in the order of first sending.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = Exchange<&M>> {
        self.exchanges_by(Phase::stage)
    }

    /// Takes the window apart: open exchanges in the order of first sending.
    pub(crate) fn into_exchanges(self) -> impl Iterator<Item = Exchange<M>> {
        let first = self.first;
        let slots = self.slots.into_iter().enumerate();
        slots.filter_map(move |(index, slot)| match slot {
            Slot::Open(open) => Some(Exchange {
                packet_id: advance(first, index),
                stage: open.phase.stage(),
                item: open.item,
            }),
            Slot::Free | Slot::Request(_) => None,
        })
    }

    /// Puts a window together again; `exchanges` are in the order of first sending.
    pub(crate) fn restore(
        next: PacketId,
        exchanges: Vec<Exchange<M>>,
    ) -> Result<Self, RestoreError> {
        let Some(oldest) = exchanges.first() else {
            return Ok(Self::new(next));
        };
        let mut window = Self::new(oldest.packet_id);
        let span = age(oldest.packet_id, next);
        for exchange in exchanges {
            let index = distance(window.first, exchange.packet_id);
            if index < window.slots.len() || index >= span {
                return Err(RestoreError::PacketIdOrder(exchange.packet_id));
            }
            window.slots.resize_with(index, || Slot::Free);
            let phase = match exchange.stage {
                Stage::AwaitPubAck => Phase::AwaitPubAck,
                Stage::AwaitPubRec => Phase::AwaitPubRec,
                Stage::AwaitPubComp { rank } => {
                    let next_rank = rank.checked_add(1).ok_or(RestoreError::Rank)?;
                    window.next_rank = window.next_rank.max(next_rank);
                    Phase::AwaitPubComp { rank }
                }
            };
            window.push(Slot::Open(Open {
                phase,
                in_flight: false,
                item: exchange.item,
            }));
        }
        window.slots.resize_with(span, || Slot::Free);
        Ok(window)
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn release_memory(&mut self) {
        self.slots.shrink_to_fit();
    }

    pub(crate) fn assert_invariants(&self) {
        debug_assert!(self.slots.len() <= SPAN_MAX);
        debug_assert!(self.in_flight <= self.open && usize::from(self.open) <= self.slots.len());
        debug_assert!(!matches!(self.slots.front(), Some(Slot::Free)));
        debug_assert!(
            self.prepared.is_none_or(|packet_id| {
                let slot = self.slot(packet_id);
                matches!(slot, Slot::Open(open) if open.in_flight && open.phase.is_never_sent())
            }),
            "what is prepared and not sent is found"
        );
    }

    fn push(&mut self, slot: Slot<M>) -> PacketId {
        debug_assert!(self.slots.len() < SPAN_MAX);
        let packet_id = self.next_packet_id();
        self.slots.push_back(slot);
        self.open += 1;
        packet_id
    }

    fn exchanges_by(&self, stage: fn(Phase) -> Stage) -> impl Iterator<Item = Exchange<&M>> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(move |(index, slot)| match slot {
            Slot::Open(open) => Some(Exchange {
                packet_id: advance(self.first, index),
                stage: stage(open.phase),
                item: &open.item,
            }),
            Slot::Free | Slot::Request(_) => None,
        })
    }

    /// The first exchange from the slot `start` on that is `wanted`, and the index of its slot.
    fn find_from(
        &self,
        start: usize,
        wanted: impl Fn(&Open<M>) -> bool,
    ) -> Option<(usize, &Open<M>)> {
        let slots = self.slots.iter().enumerate().skip(start);
        slots
            .filter_map(|(index, slot)| match slot {
                Slot::Open(open) if wanted(open) => Some((index, open)),
                _ => None,
            })
            .next()
    }

    fn unsent<'a>(&self, index: usize, open: &'a Open<M>) -> Option<Unsent<'a, M>> {
        Some(Unsent {
            position: Position(self.left + index as u64),
            packet_id: advance(self.first, index),
            qos: open.phase.unacknowledged()?,
            is_never_sent: open.phase.is_never_sent(),
            item: &open.item,
        })
    }

    fn slot(&self, packet_id: PacketId) -> &Slot<M> {
        let slot = self.slots.get(distance(self.first, packet_id));
        slot.unwrap_or(&Slot::Free)
    }

    fn slot_mut(&mut self, packet_id: PacketId) -> Option<&mut Slot<M>> {
        self.slots.get_mut(distance(self.first, packet_id))
    }

    /// Frees the id and gives its unit of quota back, if it holds one.
    fn close(&mut self, packet_id: PacketId) -> Option<M> {
        let slot = self.slot_mut(packet_id)?;
        let item = match std::mem::replace(slot, Slot::Free) {
            Slot::Free => return None,
            Slot::Request(_) => None,
            Slot::Open(open) => {
                self.in_flight -= u16::from(open.in_flight);
                Some(open.item)
            }
        };
        self.open -= 1;
        self.drop_front_holes();
        item
    }

    fn drop_front_holes(&mut self) {
        while let Some(Slot::Free) = self.slots.front() {
            self.slots.pop_front();
            self.first = advance(self.first, 1);
            self.left += 1;
        }
    }
}

impl Phase {
    /// The QoS of a PUBLISH that the peer has not acknowledged.
    fn unacknowledged(self) -> Option<QoS> {
        match self {
            Self::AwaitPubAck => Some(QoS::AtLeastOnce),
            Self::AwaitIdRecord | Self::AwaitSending | Self::AwaitPubRec => Some(QoS::ExactlyOnce),
            Self::AwaitPubRelRecord { .. } | Self::AwaitPubComp { .. } => None,
        }
    }

    fn stage(self) -> Stage {
        match self {
            Self::AwaitPubAck => Stage::AwaitPubAck,
            Self::AwaitIdRecord
            | Self::AwaitSending
            | Self::AwaitPubRec
            | Self::AwaitPubRelRecord { .. } => Stage::AwaitPubRec,
            Self::AwaitPubComp { rank } => Stage::AwaitPubComp { rank },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not 0")
    }

    fn window_of(count: usize) -> OutboundWindow<usize> {
        let mut window = OutboundWindow::new(PacketId::MIN);
        for item in 0..count {
            window.open_publish(QoS::AtLeastOnce, item);
        }
        window
    }

    #[test]
    fn ids_follow_each_other_and_skip_0_at_the_wrap() {
        // [5:MQTT-2.2.1-4]
        let mut window = OutboundWindow::new(id(65_534));
        let taken = [(); 4].map(|()| window.open_publish(QoS::AtLeastOnce, ()).get());
        assert_eq!(taken, [65_534, 65_535, 1, 2]);
        assert_eq!(window.pub_ack(id(1)), Ok(Some(())));
        assert_eq!(window.pub_ack(id(65_534)), Ok(Some(())));
        assert_eq!(window.next_packet_id(), id(3));
        assert_eq!(window.in_flight(), 2);
    }

    #[test]
    fn an_id_in_use_is_never_taken_again() {
        // [5:MQTT-2.2.1-3]
        let mut window = window_of(1);
        while window.has_room(SPAN_MAX) {
            let packet_id = window.open_publish(QoS::AtLeastOnce, 0);
            assert_ne!(packet_id, id(1));
            assert_eq!(window.pub_ack(packet_id), Ok(Some(0)));
        }
        assert_eq!(window.in_flight(), 1);
        assert_eq!(window.pub_ack(id(1)), Ok(Some(0)));
        assert!(window.has_room(1));
    }

    #[test]
    fn holes_count_until_the_front_is_acknowledged() {
        let mut window = window_of(4);
        for number in [2, 3, 4] {
            assert_eq!(
                window.pub_ack(id(number)),
                Ok(Some(usize::from(number) - 1))
            );
        }
        assert!(!window.has_room(4));
        assert_eq!(window.pub_ack(id(1)), Ok(Some(0)));
        assert!(window.has_room(1));
        assert!(window.is_empty());
    }

    #[test]
    fn an_acknowledgement_for_a_free_id_changes_nothing() {
        let mut window = window_of(1);
        assert_eq!(window.pub_ack(id(2)), Ok(None));
        assert_eq!(window.pub_comp(id(2)), Ok(None));
        assert_eq!(window.pub_rec(id(2)), Ok(Received::Unknown));
        assert_eq!(window.pub_rec_failed(id(2)), Ok(None));
        assert_eq!(window.in_flight(), 1);
    }

    #[test]
    fn releases_keep_the_order_of_their_pubrecs() {
        // [5:MQTT-4.6.0-4]
        let mut window = OutboundWindow::new(PacketId::MIN);
        for _ in 0..3 {
            window.open_publish(QoS::ExactlyOnce, ());
        }
        for number in [3, 1, 2] {
            assert_eq!(window.pub_rec(id(number)), Ok(Received::First));
            assert!(window.release(id(number)));
        }
        assert_eq!(window.released(), [id(3), id(1), id(2)]);
    }

    #[test]
    fn a_pubrec_without_its_record_is_forgotten_with_the_connection() {
        let mut window = OutboundWindow::new(PacketId::MIN);
        let packet_id = window.open_publish(QoS::ExactlyOnce, ());
        assert_eq!(window.pub_rec(packet_id), Ok(Received::First));
        window.suspend();
        let unsent = window
            .unsent_from(Position::default())
            .expect("to be resent");
        assert_eq!(
            (unsent.packet_id, unsent.qos),
            (packet_id, QoS::ExactlyOnce)
        );
        assert!(window.released().is_empty());
    }

    #[test]
    fn requests_end_with_the_connection() {
        let mut window = OutboundWindow::new(PacketId::MIN);
        window.open_request(Request::Subscribe { filters: 1 });
        window.open_publish(QoS::AtLeastOnce, ());
        window.suspend();
        assert_eq!(window.request(id(1)), None);
        assert_eq!(window.exchanges().count(), 1);
        assert_eq!(window.first, id(2));
    }

    #[test]
    fn a_position_survives_what_leaves_the_front() {
        let mut window = window_of(3);
        window.suspend();
        let first = window
            .unsent_from(Position::default())
            .expect("three are unsent");
        let position = first.position;
        window.mark_sent(id(1));
        assert_eq!(window.pub_ack(id(1)), Ok(Some(0)));
        let next = window.unsent_from(position).expect("two are unsent");
        assert_eq!(next.packet_id, id(2));
    }
}
