//! [`Ledger`]: what the records of a file come to.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_session::codec::{PacketId, QoS};

use super::error::Contradiction;
use super::ring::{after, age, distance};

/// Everything of a session that is not over, without the bodies of its messages: those stay in the file.
///
/// A step that contradicts the ones before it changes nothing. Steps can be taken back until they are
/// [kept](Self::keep), because a batch of records is written as a whole or not at all.
///
/// ```text
///             Accepted            Sent             Received (QoS 2)
///   (none) ───────────▶ Unsent ──────────▶ Sent ───────────────────▶ Taken
///                        ▲ │                │ │                         │
///                        │ │ Done           │ │ Done                    │ Done, SessionBegan
///                        │ ▼                │ ▼                         ▼
///                        │ (none)           │ (none)                  (none)
///                        └──────────────────┘
///                            SessionBegan
/// ```
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// By sequence. Bounded by the bytes of the file.
    messages: BTreeMap<u64, Entry>,
    /// By the order of first sending.
    exchanges: BTreeMap<u64, Sent>,
    /// Where each id is among the exchanges.
    ids: BTreeMap<PacketId, u64>,
    held: BTreeSet<PacketId>,
    next: Next,
    /// What a compacted file needs at most, besides its header.
    live_bytes: u64,
    /// What was there before the steps that are not kept.
    changes: Vec<Change>,
    next_kept: Next,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Accepted {
        sequence: u64,
        qos: QoS,
        place: Place,
    },
    Sent {
        sequence: u64,
        packet_id: PacketId,
    },
    Received {
        packet_id: PacketId,
    },
    Done {
        sequence: u64,
    },
    Held {
        packet_id: PacketId,
    },
    Released {
        packet_id: PacketId,
    },
    SessionBegan,
    Taken {
        sequence: u64,
        packet_id: PacketId,
        rank: u64,
    },
    Next {
        sequence: u64,
        packet_id: PacketId,
    },
}

/// Where a record stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: u32,
    /// CRC-32 of the record alone: it is copied by compaction, apart from its batch.
    pub(super) checksum: u32,
}

/// A message that is not done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) qos: QoS,
    /// `None` when the server has taken it.
    pub(super) body: Option<Place>,
    /// Its exchange's place in the order of first sending.
    order: Option<u64>,
}

/// An open exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) packet_id: PacketId,
    /// Place of its PUBREC among all. Invariant: there is one exactly when the message has no body.
    pub(super) rank: Option<u64>,
}

/// The numbers to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) sequence: u64,
    pub(super) packet_id: PacketId,
    pub(super) rank: u64,
    order: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Message(u64, Option<Entry>),
    Exchange(u64, Option<Sent>),
    /// Whether it was held.
    Held(PacketId, bool),
}

impl Ledger {
    pub(super) fn new() -> Self {
        let next = Next {
            sequence: 0,
            packet_id: PacketId::MIN,
            rank: 0,
            order: 0,
        };
        Self {
            messages: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            ids: BTreeMap::new(),
            held: BTreeSet::new(),
            next,
            live_bytes: 0,
            changes: Vec::new(),
            next_kept: next,
        }
    }

    /// Takes one step.
    pub(super) fn apply(&mut self, step: Step) -> Result<(), Contradiction> {
        match step {
            Step::Accepted {
                sequence,
                qos,
                place,
            } => self.accept(sequence, qos, place),
            Step::Sent {
                sequence,
                packet_id,
            } => self.send(sequence, packet_id),
            Step::Received { packet_id } => self.receive(packet_id),
            Step::Done { sequence } => self.end(sequence),
            Step::Held { packet_id } => {
                self.put_held(packet_id, true);
                Ok(())
            }
            Step::Released { packet_id } => {
                self.put_held(packet_id, false);
                Ok(())
            }
            Step::SessionBegan => {
                self.begin();
                Ok(())
            }
            Step::Taken {
                sequence,
                packet_id,
                rank,
            } => self.take(sequence, packet_id, rank),
            Step::Next {
                sequence,
                packet_id,
            } => self.go_on(sequence, packet_id),
        }
    }

    /// The steps so far are written.
    pub(super) fn keep(&mut self) {
        self.changes.clear();
        self.changes.shrink_to(CHANGES_KEPT);
        self.next_kept = self.next;
        self.assert_invariants();
    }

    /// Takes every step back that was not kept.
    pub(super) fn take_back(&mut self) {
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            match change {
                Change::Message(sequence, before) => self.put_message(sequence, before),
                Change::Exchange(order, before) => self.put_exchange(order, before),
                Change::Held(packet_id, before) => self.put_held(packet_id, before),
            }
        }
        self.changes.clear();
        self.next = self.next_kept;
        self.assert_invariants();
    }

    /// The messages that are not done with, by sequence.
    pub(super) fn messages(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.messages
            .iter()
            .map(|(&sequence, &entry)| (sequence, entry))
    }

    /// The message of this sequence.
    pub(super) fn message(&self, sequence: u64) -> Option<Entry> {
        self.messages.get(&sequence).copied()
    }

    /// Open exchanges in the order of first sending.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = Sent> {
        self.exchanges.values().copied()
    }

    /// Ids of QoS 2 messages of the server that it has not released, ascending.
    pub(super) fn held(&self) -> impl Iterator<Item = PacketId> {
        self.held.iter().copied()
    }

    pub(super) fn next(&self) -> Next {
        self.next
    }

    /// What a compacted file needs at most, besides its header.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    fn accept(&mut self, sequence: u64, qos: QoS, place: Place) -> Result<(), Contradiction> {
        if qos == QoS::AtMostOnce {
            return Err(Contradiction::QosNotKept(sequence));
        }
        let after = sequence.checked_add(1);
        let Some(after) = after.filter(|_| sequence >= self.next.sequence) else {
            return Err(Contradiction::SequenceUsed(sequence));
        };
        let entry = Entry {
            qos,
            body: Some(place),
            order: None,
        };
        self.put_message(sequence, Some(entry));
        self.next.sequence = after;
        Ok(())
    }

    fn send(&mut self, sequence: u64, packet_id: PacketId) -> Result<(), Contradiction> {
        let entry = self.message(sequence);
        let entry = entry.ok_or(Contradiction::MessageUnknown(sequence))?;
        if entry.order.is_some() {
            return Err(Contradiction::SentAlready(sequence));
        }
        self.open(sequence, entry, packet_id, None)
    }

    /// An exchange begins.
    fn open(
        &mut self,
        sequence: u64,
        entry: Entry,
        packet_id: PacketId,
        rank: Option<u64>,
    ) -> Result<(), Contradiction> {
        if let Some((_, oldest)) = self.exchanges.first_key_value() {
            let taken = age(oldest.packet_id, self.next.packet_id);
            if distance(oldest.packet_id, packet_id) < taken {
                return Err(Contradiction::PacketIdOrder(packet_id));
            }
        }
        let order = self.next.order;
        let sent = Sent {
            sequence,
            packet_id,
            rank,
        };
        let entry = Entry {
            order: Some(order),
            ..entry
        };
        self.put_exchange(order, Some(sent));
        self.put_message(sequence, Some(entry));
        self.next.order += 1;
        self.next.packet_id = after(packet_id);
        Ok(())
    }

    fn receive(&mut self, packet_id: PacketId) -> Result<(), Contradiction> {
        let found = self.ids.get(&packet_id).and_then(|&order| {
            let sent = *self.exchanges.get(&order)?;
            Some((order, sent, self.message(sent.sequence)?))
        });
        let (order, sent, entry) = found.ok_or(Contradiction::PacketIdUnknown(packet_id))?;
        if entry.qos != QoS::ExactlyOnce || sent.rank.is_some() {
            return Err(Contradiction::NotAwaitingPubRec(packet_id));
        }
        let rank = self.next.rank;
        self.next.rank = rank.checked_add(1).ok_or(Contradiction::Rank)?;
        let sent = Sent {
            rank: Some(rank),
            ..sent
        };
        self.put_exchange(order, Some(sent));
        self.put_message(
            sent.sequence,
            Some(Entry {
                body: None,
                ..entry
            }),
        );
        Ok(())
    }

    fn end(&mut self, sequence: u64) -> Result<(), Contradiction> {
        let entry = self.message(sequence);
        let entry = entry.ok_or(Contradiction::MessageUnknown(sequence))?;
        if let Some(order) = entry.order {
            self.put_exchange(order, None);
        }
        self.put_message(sequence, None);
        Ok(())
    }

    fn begin(&mut self) {
        let exchanges: Vec<_> = self
            .exchanges
            .iter()
            .map(|(&order, &sent)| (order, sent))
            .collect();
        for (order, sent) in exchanges {
            self.put_exchange(order, None);
            let unsent = self
                .message(sent.sequence)
                .filter(|entry| entry.body.is_some());
            let unsent = unsent.map(|entry| Entry {
                order: None,
                ..entry
            });
            self.put_message(sent.sequence, unsent);
        }
        let held: Vec<_> = self.held().collect();
        for packet_id in held {
            self.put_held(packet_id, false);
        }
        self.next.packet_id = PacketId::MIN;
        self.next.rank = 0;
    }

    fn take(&mut self, sequence: u64, packet_id: PacketId, rank: u64) -> Result<(), Contradiction> {
        if self.messages.contains_key(&sequence) {
            return Err(Contradiction::SentAlready(sequence));
        }
        let next_sequence = sequence.checked_add(1);
        let next_sequence = next_sequence.ok_or(Contradiction::SequenceUsed(sequence))?;
        let next_rank = rank.checked_add(1).ok_or(Contradiction::Rank)?;
        let entry = Entry {
            qos: QoS::ExactlyOnce,
            body: None,
            order: None,
        };
        self.open(sequence, entry, packet_id, Some(rank))?;
        self.next.sequence = self.next.sequence.max(next_sequence);
        self.next.rank = self.next.rank.max(next_rank);
        Ok(())
    }

    fn go_on(&mut self, sequence: u64, packet_id: PacketId) -> Result<(), Contradiction> {
        if sequence < self.next.sequence {
            return Err(Contradiction::SequenceUsed(sequence));
        }
        if let Some((_, oldest)) = self.exchanges.first_key_value()
            && age(oldest.packet_id, packet_id) < age(oldest.packet_id, self.next.packet_id)
        {
            return Err(Contradiction::PacketIdOrder(packet_id));
        }
        self.next.sequence = sequence;
        self.next.packet_id = packet_id;
        Ok(())
    }

    fn put_message(&mut self, sequence: u64, entry: Option<Entry>) {
        let before = match entry {
            Some(entry) => self.messages.insert(sequence, entry),
            None => self.messages.remove(&sequence),
        };
        self.live_bytes += entry.map_or(0, Entry::live_bytes);
        self.live_bytes -= before.map_or(0, Entry::live_bytes);
        self.changes.push(Change::Message(sequence, before));
    }

    fn put_exchange(&mut self, order: u64, sent: Option<Sent>) {
        let before = match sent {
            Some(sent) => self.exchanges.insert(order, sent),
            None => self.exchanges.remove(&order),
        };
        if let Some(before) = before {
            self.ids.remove(&before.packet_id);
        }
        if let Some(sent) = sent {
            self.ids.insert(sent.packet_id, order);
        }
        self.changes.push(Change::Exchange(order, before));
    }

    fn put_held(&mut self, packet_id: PacketId, is_held: bool) {
        let changed = if is_held {
            self.held.insert(packet_id)
        } else {
            self.held.remove(&packet_id)
        };
        if !changed {
            return;
        }
        if is_held {
            self.live_bytes += HELD_BYTES;
        } else {
            self.live_bytes -= HELD_BYTES;
        }
        self.changes.push(Change::Held(packet_id, !is_held));
    }

    fn assert_invariants(&self) {
        debug_assert_eq!(self.exchanges.len(), self.ids.len());
        debug_assert!(
            self.exchanges.len() <= self.messages.len(),
            "every exchange has its message"
        );
    }
}

impl Entry {
    /// Whether it was sent under no id.
    pub(super) fn is_unsent(&self) -> bool {
        self.order.is_none()
    }

    /// What it needs at most in a compacted file.
    fn live_bytes(self) -> u64 {
        MESSAGE_BYTES + self.body.map_or(0, |place| u64::from(place.length))
    }
}

/// What a message needs in the file besides its own record: the records of its exchange, and the heads of their batches.
pub(super) const MESSAGE_BYTES: u64 = 96;
/// What an id that is held needs.
const HELD_BYTES: u64 = 4;
/// Room for the changes of a batch that is kept for the next one.
const CHANGES_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not 0")
    }

    fn accepted(sequence: u64, qos: QoS) -> Step {
        let place = Place {
            offset: sequence,
            length: 10,
            checksum: 0,
        };
        Step::Accepted {
            sequence,
            qos,
            place,
        }
    }

    fn sent(sequence: u64, number: u16) -> Step {
        Step::Sent {
            sequence,
            packet_id: id(number),
        }
    }

    fn ledger(steps: &[Step]) -> Ledger {
        let mut ledger = Ledger::new();
        for &step in steps {
            ledger.apply(step).expect("no contradiction");
        }
        ledger.keep();
        ledger
    }

    /// All of it but what is needed to take steps back.
    fn look(ledger: &Ledger) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {}",
            ledger.messages, ledger.exchanges, ledger.held, ledger.next, ledger.live_bytes
        )
    }

    #[test]
    fn a_qos_2_message_has_no_body_after_its_pubrec() {
        let mut ledger = ledger(&[accepted(0, QoS::ExactlyOnce), sent(0, 1)]);
        let before = ledger.live_bytes();
        ledger
            .apply(Step::Received { packet_id: id(1) })
            .expect("it awaits PUBREC");
        assert_eq!(ledger.live_bytes(), before - 10);
        let open: Vec<_> = ledger.exchanges().collect();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].rank, Some(0));
    }

    #[test]
    fn nothing_is_left_of_what_is_done() {
        let ledger = ledger(&[
            accepted(0, QoS::AtLeastOnce),
            accepted(1, QoS::AtLeastOnce),
            sent(0, 1),
            Step::Done { sequence: 0 },
            Step::Done { sequence: 1 },
            Step::Held { packet_id: id(9) },
            Step::Released { packet_id: id(9) },
        ]);
        assert_eq!(ledger.messages().count(), 0);
        assert_eq!(ledger.exchanges().count(), 0);
        assert_eq!(ledger.live_bytes(), 0);
        assert_eq!(ledger.next().packet_id, id(2));
    }

    #[test]
    fn a_new_session_makes_unsent_what_the_server_has_not_taken() {
        let ledger = ledger(&[
            accepted(0, QoS::ExactlyOnce),
            accepted(1, QoS::ExactlyOnce),
            sent(0, 1),
            sent(1, 2),
            Step::Received { packet_id: id(1) },
            Step::Held { packet_id: id(5) },
            Step::SessionBegan,
        ]);
        let open: Vec<_> = ledger.messages().collect();
        assert_eq!(open.len(), 1);
        assert!(open[0].0 == 1 && open[0].1.is_unsent());
        assert_eq!(ledger.held().count(), 0);
        assert_eq!(ledger.next().packet_id, PacketId::MIN);
    }

    #[test]
    fn what_contradicts_is_refused_and_changes_nothing() {
        let mut ledger = ledger(&[
            accepted(0, QoS::AtLeastOnce),
            accepted(1, QoS::ExactlyOnce),
            accepted(2, QoS::ExactlyOnce),
            sent(0, 5),
            sent(1, 6),
            Step::Received { packet_id: id(6) },
        ]);
        let before = look(&ledger);
        let cases = [
            (accepted(3, QoS::AtMostOnce), Contradiction::QosNotKept(3)),
            (
                accepted(2, QoS::AtLeastOnce),
                Contradiction::SequenceUsed(2),
            ),
            (
                accepted(u64::MAX, QoS::AtLeastOnce),
                Contradiction::SequenceUsed(u64::MAX),
            ),
            (sent(9, 7), Contradiction::MessageUnknown(9)),
            (sent(0, 7), Contradiction::SentAlready(0)),
            (sent(2, 5), Contradiction::PacketIdOrder(id(5))),
            (sent(2, 6), Contradiction::PacketIdOrder(id(6))),
            (
                Step::Received { packet_id: id(5) },
                Contradiction::NotAwaitingPubRec(id(5)),
            ),
            (
                Step::Received { packet_id: id(6) },
                Contradiction::NotAwaitingPubRec(id(6)),
            ),
            (
                Step::Received { packet_id: id(7) },
                Contradiction::PacketIdUnknown(id(7)),
            ),
            (Step::Done { sequence: 7 }, Contradiction::MessageUnknown(7)),
            (
                Step::Taken {
                    sequence: 8,
                    packet_id: id(9),
                    rank: u64::MAX,
                },
                Contradiction::Rank,
            ),
            (
                Step::Next {
                    sequence: 3,
                    packet_id: id(6),
                },
                Contradiction::PacketIdOrder(id(6)),
            ),
        ];
        for (step, contradiction) in cases {
            assert_eq!(ledger.apply(step), Err(contradiction));
            assert_eq!(look(&ledger), before, "{step:?}");
        }
    }

    #[test]
    fn an_id_may_wrap_but_not_pass_the_oldest_in_use() {
        // [5:MQTT-2.2.1-3]
        let mut ledger = ledger(&[
            accepted(0, QoS::AtLeastOnce),
            accepted(1, QoS::AtLeastOnce),
            accepted(2, QoS::AtLeastOnce),
            sent(0, 65_535),
            sent(1, 1),
        ]);
        assert_eq!(
            ledger.apply(sent(2, 1)),
            Err(Contradiction::PacketIdOrder(id(1)))
        );
        assert_eq!(
            ledger.apply(sent(2, 65_535)),
            Err(Contradiction::PacketIdOrder(id(65_535)))
        );
        assert_eq!(ledger.apply(sent(2, 65_534)), Ok(()));
        assert_eq!(ledger.next().packet_id, id(65_535));
    }

    #[test]
    fn steps_that_are_not_kept_are_taken_back() {
        let mut ledger = ledger(&[
            accepted(0, QoS::ExactlyOnce),
            accepted(1, QoS::ExactlyOnce),
            accepted(2, QoS::AtLeastOnce),
            sent(0, 1),
            sent(1, 2),
            Step::Received { packet_id: id(2) },
            Step::Held { packet_id: id(5) },
        ]);
        let before = look(&ledger);
        let steps = [
            accepted(3, QoS::AtLeastOnce),
            sent(2, 3),
            Step::Received { packet_id: id(1) },
            Step::Done { sequence: 1 },
            Step::Released { packet_id: id(5) },
            Step::Held { packet_id: id(6) },
            Step::SessionBegan,
            sent(2, 1),
            Step::Done { sequence: 2 },
        ];
        for step in steps {
            ledger.apply(step).expect("no contradiction");
        }
        assert_ne!(look(&ledger), before);
        ledger.take_back();
        assert_eq!(look(&ledger), before);
    }
}
