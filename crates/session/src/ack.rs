//! Acknowledgements the caller owes, and the order in which they leave.

use std::collections::VecDeque;

use whimbrel_codec::{AckType, PacketId, PacketType, ReasonCode};

/// The right and the duty to acknowledge one packet, once what it asked for is safe.
///
/// Comes with the event that needs the acknowledgement and goes into `ack`, `ack_subscribe`,
/// `ack_unsubscribe` or `withhold` of the same connection, in any order and at any time. A token that is
/// dropped holds back every later acknowledgement of its connection; PUBRELs and the others wait for their own kind
/// only. One that outlived its connection does nothing there; see [`SessionState::settle`](crate::SessionState::settle).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a token that is dropped holds back every later acknowledgement"]
pub struct AckToken {
    epoch: Epoch,
    /// Rank of the packet among those of its connection that need an acknowledgement.
    sequence: u32,
    packet_id: PacketId,
    kind: AckKind,
}

/// Tells the tokens of one connection from those of another.
///
/// Any number will do that differs between connections whose tokens the caller could mix up: a count
/// of connections, or the generation of a slot that connections share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u32);

/// The packet that acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    SubAck,
    UnsubAck,
}

/// What an acknowledgement will say.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The short form.
    Plain(ReasonCode),
    /// A repeated PUBREC: success if the id is held when its turn comes, else nothing.
    Repeat,
    /// The whole packet, encoded, and its reason.
    Encoded {
        packet: Box<[u8]>,
        reason: ReasonCode,
    },
    /// Nothing is sent.
    Withheld,
}

/// An acknowledgement whose turn has come.
#[derive(Debug)]
pub(crate) struct DueAck {
    pub(crate) kind: AckKind,
    pub(crate) packet_id: PacketId,
    pub(crate) answer: Answer,
}

/// Acknowledgements in the order of the packets they answer [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4].
///
/// Bounded by its caller, which reads no packet while [`len`](Self::len) is at its limit.
#[derive(Debug)]
pub(crate) struct AckQueue {
    epoch: Epoch,
    slots: VecDeque<Slot>,
    /// Sequence of the first slot, or the next one while there is none. Wraps.
    first: u32,
    /// Slots that answer a PUBLISH.
    publishes: u32,
}

/// The acknowledgements of one connection, in two queues: no rule orders PUBRELs and the others among each other, and a
/// receiver that is slow to acknowledge must not hold back its own publications.
///
/// Its methods only find the queue, in the code of whoever calls them for each packet.
#[derive(Debug)]
pub(crate) struct AckQueues {
    /// Of what the peer publishes: PUBACK, PUBREC, PUBCOMP, and those of requests.
    received: AckQueue,
    /// PUBRELs of what this side publishes; made when the first PUBREC comes.
    releases: Option<Box<AckQueue>>,
}

#[derive(Debug)]
struct Slot {
    kind: AckKind,
    packet_id: PacketId,
    /// Filters of a SUBSCRIBE or UNSUBSCRIBE, each of which gets a reason code.
    filters: u32,
    /// `None` while the caller has the token.
    answer: Option<Answer>,
}

impl AckToken {
    /// The id of the packet that waits for its acknowledgement.
    pub fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    /// The packet that will acknowledge it: PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK or UNSUBACK.
    pub fn acknowledged_by(&self) -> PacketType {
        self.kind.packet_type()
    }

    pub(crate) fn kind(&self) -> AckKind {
        self.kind
    }
}

impl AckKind {
    /// The kind as one of the four acknowledgements of an exchange.
    pub(crate) fn ack_type(self) -> Option<AckType> {
        match self {
            Self::PubAck => Some(AckType::PubAck),
            Self::PubRec => Some(AckType::PubRec),
            Self::PubRel => Some(AckType::PubRel),
            Self::PubComp => Some(AckType::PubComp),
            Self::SubAck | Self::UnsubAck => None,
        }
    }

    fn answers_publish(self) -> bool {
        matches!(self, Self::PubAck | Self::PubRec)
    }

    pub(crate) fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
            Self::SubAck => PacketType::SubAck,
            Self::UnsubAck => PacketType::UnsubAck,
        }
    }
}

impl AckQueues {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            received: AckQueue::new(epoch),
            releases: None,
        }
    }

    /// Acknowledgements that are owed or wait for an earlier one.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let releases = self.releases.as_ref().map_or(0, |queue| queue.len());
        self.received.len() + releases
    }

    /// Those of them that answer a PUBLISH.
    #[inline]
    pub(crate) fn publishes(&self) -> usize {
        self.received.publishes()
    }

    /// A packet of an exchange has come that the caller is to acknowledge.
    #[inline]
    pub(crate) fn owe(&mut self, kind: AckKind, packet_id: PacketId) -> AckToken {
        self.queue_mut(kind).owe_request(kind, packet_id, 0)
    }

    /// A SUBSCRIBE or UNSUBSCRIBE of so many filters has come.
    pub(crate) fn owe_request(
        &mut self,
        kind: AckKind,
        packet_id: PacketId,
        filters: usize,
    ) -> AckToken {
        self.received.owe_request(kind, packet_id, filters)
    }

    /// A packet has come that needs nobody's consent; its answer still keeps its place.
    #[inline]
    pub(crate) fn answer_in_turn(&mut self, kind: AckKind, packet_id: PacketId, answer: Answer) {
        self.queue_mut(kind).answer_in_turn(kind, packet_id, answer);
    }

    /// How many filters the request of `token` has, if it is one of this connection.
    pub(crate) fn filters(&self, token: &AckToken) -> Option<usize> {
        self.received.filters(token)
    }

    /// Whether `token` is one of this connection.
    #[inline]
    pub(crate) fn knows(&self, token: &AckToken) -> bool {
        match token.kind {
            AckKind::PubRel => self
                .releases
                .as_ref()
                .is_some_and(|queue| queue.knows(token)),
            _ => self.received.knows(token),
        }
    }

    /// The caller's answer. Does nothing for a token of another connection.
    #[inline]
    pub(crate) fn settle(&mut self, token: &AckToken, answer: Answer) {
        self.queue_mut(token.kind).settle(token, answer);
    }

    /// Takes the first acknowledgement in the queue of this kind, if it is settled.
    #[inline]
    pub(crate) fn pop_due(&mut self, kind: AckKind) -> Option<DueAck> {
        self.queue_mut(kind).pop_due()
    }

    /// What is settled, whether or not its turn has come: the connection is gone.
    pub(crate) fn into_settled(self) -> impl Iterator<Item = DueAck> {
        let releases = self.releases.map(|queue| queue.into_settled());
        self.received
            .into_settled()
            .chain(releases.into_iter().flatten())
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn release_memory(&mut self) {
        self.received.release_memory();
        self.releases.take_if(|queue| queue.len() == 0);
    }

    #[inline]
    fn queue_mut(&mut self, kind: AckKind) -> &mut AckQueue {
        match kind {
            AckKind::PubRel => {
                let epoch = self.received.epoch;
                self.releases
                    .get_or_insert_with(|| Box::new(AckQueue::new(epoch)))
            }
            AckKind::PubAck
            | AckKind::PubRec
            | AckKind::PubComp
            | AckKind::SubAck
            | AckKind::UnsubAck => &mut self.received,
        }
    }
}

impl AckQueue {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            slots: VecDeque::new(),
            first: 0,
            publishes: 0,
        }
    }

    /// Acknowledgements that are owed or wait for an earlier one.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Those of them that answer a PUBLISH.
    pub(crate) fn publishes(&self) -> usize {
        self.publishes as usize
    }

    /// A packet of an exchange has come that the caller is to acknowledge.
    #[cfg(test)]
    fn owe(&mut self, kind: AckKind, packet_id: PacketId) -> AckToken {
        self.owe_request(kind, packet_id, 0)
    }

    /// A SUBSCRIBE or UNSUBSCRIBE of so many filters has come.
    pub(crate) fn owe_request(
        &mut self,
        kind: AckKind,
        packet_id: PacketId,
        filters: usize,
    ) -> AckToken {
        let sequence = self.first.wrapping_add(self.slots.len() as u32);
        self.push(Slot {
            kind,
            packet_id,
            filters: u32::try_from(filters).unwrap_or(u32::MAX),
            answer: None,
        });
        AckToken {
            epoch: self.epoch,
            sequence,
            packet_id,
            kind,
        }
    }

    /// A packet has come that needs nobody's consent; its answer still keeps its place.
    pub(crate) fn answer_in_turn(&mut self, kind: AckKind, packet_id: PacketId, answer: Answer) {
        self.push(Slot {
            kind,
            packet_id,
            filters: 0,
            answer: Some(answer),
        });
    }

    /// How many filters the request of `token` has, if it is one of this connection.
    pub(crate) fn filters(&self, token: &AckToken) -> Option<usize> {
        if !self.knows(token) {
            return None;
        }
        let slot = self.slots.get(self.index(token))?;
        Some(slot.filters as usize)
    }

    /// Whether `token` is one of this connection.
    pub(crate) fn knows(&self, token: &AckToken) -> bool {
        token.epoch == self.epoch && self.index(token) < self.slots.len()
    }

    /// The caller's answer. Does nothing for a token of another connection.
    pub(crate) fn settle(&mut self, token: &AckToken, answer: Answer) {
        if !self.knows(token) {
            return;
        }
        let index = self.index(token);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.answer = Some(answer);
        }
    }

    /// Takes the first acknowledgement, if it is settled.
    pub(crate) fn pop_due(&mut self) -> Option<DueAck> {
        self.slots.front()?.answer.as_ref()?;
        let slot = self.slots.pop_front()?;
        self.first = self.first.wrapping_add(1);
        self.publishes -= u32::from(slot.kind.answers_publish());
        Some(DueAck {
            kind: slot.kind,
            packet_id: slot.packet_id,
            answer: slot.answer?,
        })
    }

    /// What is settled, whether or not its turn has come: the connection is gone.
    pub(crate) fn into_settled(self) -> impl Iterator<Item = DueAck> {
        self.slots.into_iter().filter_map(|slot| {
            Some(DueAck {
                kind: slot.kind,
                packet_id: slot.packet_id,
                answer: slot.answer?,
            })
        })
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn release_memory(&mut self) {
        self.slots.shrink_to_fit();
    }

    fn push(&mut self, slot: Slot) {
        self.publishes += u32::from(slot.kind.answers_publish());
        self.slots.push_back(slot);
    }

    fn index(&self, token: &AckToken) -> usize {
        token.sequence.wrapping_sub(self.first) as usize
    }
}

const _: () = assert!(size_of::<AckToken>() <= 12);

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not 0")
    }

    fn drain(queue: &mut AckQueue) -> Vec<u16> {
        std::iter::from_fn(|| queue.pop_due())
            .map(|due| due.packet_id.get())
            .collect()
    }

    #[test]
    fn acknowledgements_leave_in_the_order_of_receipt() {
        // [5:MQTT-4.6.0-2]
        let mut queue = AckQueue::new(Epoch(1));
        let tokens = [1, 2, 3].map(|number| queue.owe(AckKind::PubAck, id(number)));
        let [first, second, third] = tokens;
        queue.settle(&third, Answer::Plain(ReasonCode::Success));
        assert_eq!(drain(&mut queue), [0; 0]);
        queue.settle(&first, Answer::Plain(ReasonCode::Success));
        assert_eq!(drain(&mut queue), [1]);
        queue.settle(&second, Answer::Plain(ReasonCode::Success));
        assert_eq!(drain(&mut queue), [2, 3]);
    }

    #[test]
    fn an_answer_that_needs_nobody_keeps_its_place() {
        let mut queue = AckQueue::new(Epoch(1));
        let first = queue.owe(AckKind::PubRec, id(1));
        queue.answer_in_turn(AckKind::PubRec, id(2), Answer::Repeat);
        assert_eq!(drain(&mut queue), [0; 0]);
        queue.settle(&first, Answer::Withheld);
        assert_eq!(drain(&mut queue), [1, 2]);
    }

    #[test]
    fn a_token_of_another_connection_does_nothing() {
        let mut old = AckQueue::new(Epoch(1));
        let stale = old.owe(AckKind::PubAck, id(1));
        let mut queue = AckQueue::new(Epoch(2));
        let _current = queue.owe(AckKind::PubAck, id(1));
        assert!(!queue.knows(&stale));
        queue.settle(&stale, Answer::Plain(ReasonCode::Success));
        assert_eq!(drain(&mut queue), [0; 0]);
    }

    #[test]
    fn sequences_wrap() {
        let mut queue = AckQueue::new(Epoch(1));
        queue.first = u32::MAX;
        let [first, second] = [1, 2].map(|number| queue.owe(AckKind::PubAck, id(number)));
        queue.settle(&second, Answer::Plain(ReasonCode::Success));
        queue.settle(&first, Answer::Plain(ReasonCode::Success));
        assert_eq!(drain(&mut queue), [1, 2]);
    }
}
