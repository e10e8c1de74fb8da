//! Exchanges whose packet id is recorded before their PUBLISH goes out.

use whimbrel_codec::PacketId;

use super::packet_ids::{advance, distance};
use super::{Open, OutboundWindow, Phase, Slot, Unsent};
use crate::state::{Exchange, Stage};

impl<M> OutboundWindow<M> {
    /// Starts the exchange of a QoS 2 PUBLISH that is sent when its id is recorded.
    ///
    /// It holds a unit of quota from now on, so that nothing has to be asked when it is sent. The caller
    /// has asked [`has_room`](Self::has_room) and checked its quota.
    pub(crate) fn prepare(&mut self, item: M) -> PacketId {
        self.in_flight += 1;
        let packet_id = self.push(Slot::Open(Open {
            phase: if mutant!(OutboundIdNotAwaited) {
                Phase::AwaitSending
            } else {
                Phase::AwaitIdRecord
            },
            in_flight: true,
            item,
        }));
        self.prepared.get_or_insert(packet_id);
        packet_id
    }

    /// The record of the id is written; anything but an exchange that waits for it stays as it is.
    pub(crate) fn record(&mut self, packet_id: PacketId) {
        if let Some(Slot::Open(open)) = self.slot_mut(packet_id)
            && open.phase == Phase::AwaitIdRecord
        {
            open.phase = Phase::AwaitSending;
        }
    }

    /// Whether an exchange that was prepared on this connection is not sent.
    pub(crate) fn has_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Whether an exchange was prepared on any connection and is not sent.
    pub(crate) fn has_never_sent(&self) -> bool {
        self.find_from(0, |open| open.phase.is_never_sent())
            .is_some()
    }

    /// The oldest exchange that was prepared on this connection and is not sent, if its id is recorded.
    ///
    /// Those behind it wait for it even if theirs are: QoS 2 messages keep their order [MQTT-4.6.0-1].
    pub(crate) fn next_prepared(&self) -> Option<Unsent<'_, M>> {
        let packet_id = self.prepared?;
        match self.slot(packet_id) {
            Slot::Open(open) if open.phase == Phase::AwaitSending => {
                self.unsent(distance(self.first, packet_id), open)
            }
            Slot::Free | Slot::Request(_) | Slot::Open(_) => None,
        }
    }

    /// Whether the peer can't have heard of the exchange with this id.
    pub(crate) fn is_never_sent(&self, packet_id: PacketId) -> bool {
        matches!(self.slot(packet_id), Slot::Open(open) if open.phase.is_never_sent())
    }

    /// Open exchanges in the order of first sending, as they are once this is recorded.
    pub(crate) fn exchanges_to_record(&self) -> impl Iterator<Item = Exchange<&M>> {
        self.exchanges_by(Phase::stage_to_record)
    }

    /// This exchange is being sent or closed: if it is the first of those that are prepared, the next one
    /// is so now.
    pub(super) fn pass_prepared(&mut self, packet_id: PacketId) {
        if self.prepared != Some(packet_id) {
            return;
        }
        let start = distance(self.first, packet_id) + 1;
        let next = self.find_from(start, |open| open.phase.is_never_sent());
        self.prepared = next.map(|(index, _)| advance(self.first, index));
    }
}

impl Phase {
    /// The peer can't have heard of the exchange.
    pub(super) fn is_never_sent(self) -> bool {
        matches!(self, Self::AwaitIdRecord | Self::AwaitSending)
    }

    /// What the phase is when a record of it is written.
    fn stage_to_record(self) -> Stage {
        match self {
            Self::AwaitPubRelRecord { rank } => Stage::AwaitPubComp { rank },
            Self::AwaitPubAck
            | Self::AwaitIdRecord
            | Self::AwaitSending
            | Self::AwaitPubRec
            | Self::AwaitPubComp { .. } => self.stage(),
        }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_codec::QoS;

    use super::*;
    use crate::outbound::{Abandoned, Position, WrongAck};

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not 0")
    }

    fn next(window: &OutboundWindow<u8>) -> Option<(u16, u8)> {
        window.assert_invariants();
        let unsent = window.next_prepared()?;
        assert!(unsent.is_never_sent);
        assert_eq!(unsent.qos, QoS::ExactlyOnce);
        Some((unsent.packet_id.get(), *unsent.item))
    }

    #[test]
    fn the_next_one_is_found_behind_other_exchanges_and_holes() {
        let mut window = OutboundWindow::new(id(65_534));
        let first = window.prepare(1);
        let between = window.open_publish(QoS::AtLeastOnce, 2);
        window.open_publish(QoS::ExactlyOnce, 3);
        let second = window.prepare(4);
        assert_eq!(second, id(2));
        assert_eq!(window.pub_ack(between), Ok(Some(2)));
        window.record(second);
        assert_eq!(next(&window), None);
        window.record(first);
        assert_eq!(next(&window), Some((65_534, 1)));
        window.mark_sent(first);
        assert_eq!(next(&window), Some((2, 4)));
        window.mark_sent(second);
        assert_eq!(next(&window), None);
        assert!(!window.has_prepared());
        assert_eq!(window.in_flight(), 3);
    }

    #[test]
    fn one_given_up_at_the_front_takes_its_hole_along() {
        let mut window = OutboundWindow::new(PacketId::MIN);
        for item in 1..=3 {
            window.prepare(item);
            window.record(id(u16::from(item)));
        }
        assert_eq!(window.abandon(id(1)), Some(Abandoned::Ended(1)));
        assert_eq!(next(&window), Some((2, 2)));
        window.mark_sent(id(2));
        assert_eq!(window.abandon(id(3)), Some(Abandoned::Ended(3)));
        assert!(!window.has_prepared());
        assert_eq!(window.in_flight(), 1);
        window.prepare(4);
        assert_eq!(next(&window), None);
        window.record(id(4));
        assert_eq!(next(&window), Some((4, 4)));
    }

    #[test]
    fn a_refused_acknowledgement_leaves_the_exchange_as_it_is() {
        let mut window = OutboundWindow::new(PacketId::MIN);
        let packet_id = window.prepare(1);
        for _ in 0..2 {
            assert_eq!(window.pub_ack(packet_id), Err(WrongAck));
            assert_eq!(window.pub_rec(packet_id), Err(WrongAck));
            assert_eq!(window.pub_rec_failed(packet_id), Err(WrongAck));
            assert_eq!(window.pub_comp(packet_id), Err(WrongAck));
            assert!(!window.release(packet_id));
            window.record(packet_id);
        }
        assert_eq!(next(&window), Some((1, 1)));
    }

    #[test]
    fn a_lost_connection_leaves_nothing_prepared_but_what_is_to_be_sent() {
        let mut window = OutboundWindow::new(PacketId::MIN);
        for item in 1..=2 {
            window.prepare(item);
        }
        window.suspend();
        assert!(!window.has_prepared());
        assert_eq!(window.in_flight(), 0);
        for number in 1..=2 {
            let unsent = window.unsent_from(Position::default());
            let unsent = unsent.expect("two are unsent");
            assert!(unsent.is_never_sent);
            assert_eq!(unsent.packet_id, id(number));
            window.mark_sent(id(number));
        }
        window.suspend();
        let unsent = window.unsent_from(Position::default());
        assert!(!unsent.expect("two are unsent").is_never_sent);
    }
}
