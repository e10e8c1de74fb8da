//! What an outbox has to hold, written down as simply as it can be said.

use whimbrel_session::codec::{PacketId, QoS};
use whimbrel_session::{Exchange, SessionState, Stage};

use super::super::{Accepted, Outstanding, Record, Restored};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// Accepted and not done with, in order.
    pub(super) open: Vec<Accepted>,
    /// Sequences and ids of open exchanges, in the order of first sending.
    pub(super) sent: Vec<(u64, PacketId)>,
    /// Of those, the sequences whose PUBREC came, in order.
    pub(super) taken: Vec<u64>,
    pub(super) held: Vec<PacketId>,
    pub(super) next_sequence: u64,
    pub(super) next_packet_id: PacketId,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            sent: Vec::new(),
            taken: Vec::new(),
            held: Vec::new(),
            next_sequence: 0,
            next_packet_id: PacketId::MIN,
        }
    }

    pub(super) fn is_sent(&self, sequence: u64) -> bool {
        self.sent.iter().any(|&(sent, _)| sent == sequence)
    }

    pub(super) fn record(&mut self, record: &Record) {
        match *record {
            Record::Accepted(ref message) => {
                self.next_sequence = message.sequence + 1;
                self.open.push(message.clone());
            }
            Record::Sent {
                sequence,
                packet_id,
            } => {
                self.sent.push((sequence, packet_id));
                let next = packet_id.get() % u16::MAX + 1;
                self.next_packet_id = PacketId::new(next).expect("1 to 65,535");
            }
            Record::Received { packet_id } => {
                let sent = self.sent.iter().find(|&&(_, id)| id == packet_id);
                self.taken.push(sent.expect("it was sent").0);
            }
            Record::Done { sequence } => self.end(sequence),
            Record::Held { packet_id } => {
                self.held.push(packet_id);
                self.held.sort_unstable();
                self.held.dedup();
            }
            Record::Released { packet_id } => self.held.retain(|&id| id != packet_id),
            Record::SessionBegan => {
                for sequence in self.taken.clone() {
                    self.end(sequence);
                }
                self.sent.clear();
                self.held.clear();
                self.next_packet_id = PacketId::MIN;
            }
        }
    }

    fn end(&mut self, sequence: u64) {
        self.open.retain(|message| message.sequence != sequence);
        self.sent.retain(|&(sent, _)| sent != sequence);
        self.taken.retain(|&taken| taken != sequence);
    }

    /// What was restored, as a model; and it is a session.
    pub(super) fn of(restored: &Restored) -> Self {
        let state = SessionState::from_parts(restored.session.clone());
        let state = state.expect("the parts of a session");
        assert_eq!(state.next_packet_id(), restored.session.next_packet_id);
        let mut model = Self {
            open: restored.unsent.clone(),
            held: restored.session.held.clone(),
            next_sequence: restored.next_sequence,
            next_packet_id: restored.session.next_packet_id,
            ..Self::new()
        };
        let mut ranked = Vec::new();
        for exchange in &restored.session.exchanges {
            let Exchange {
                packet_id,
                stage,
                ref item,
            } = *exchange;
            let sequence = item.sequence();
            model.sent.push((sequence, packet_id));
            match (item, stage) {
                (Outstanding::Message(message), Stage::AwaitPubAck) => {
                    assert_eq!(message.qos, QoS::AtLeastOnce);
                    model.open.push(message.clone());
                }
                (Outstanding::Message(message), Stage::AwaitPubRec) => {
                    assert_eq!(message.qos, QoS::ExactlyOnce);
                    model.open.push(message.clone());
                }
                (Outstanding::Taken { .. }, Stage::AwaitPubComp { rank }) => {
                    ranked.push((rank, sequence));
                }
                _ => panic!("{exchange:?}"),
            }
        }
        ranked.sort_unstable();
        model.taken = ranked.into_iter().map(|(_, sequence)| sequence).collect();
        model.open.sort_by_key(|message| message.sequence);
        model
    }

    /// What of it comes back: bodies of messages that the server has taken do not.
    pub(super) fn restorable(&self) -> Self {
        let mut model = self.clone();
        model
            .open
            .retain(|message| !self.taken.contains(&message.sequence));
        model
    }
}
