//! The queue of one session: what waits for its connection, its window or its reader.

mod disk_part;

use std::collections::VecDeque;
use std::ops::Deref;

use whimbrel_session::codec::{QoS, SubscriptionId};
use whimbrel_session::mutant;

use self::disk_part::DiskPart;
use crate::backlog::Spilled;
use crate::lazy_box::LazyBox;
use crate::record::{Form, Position, QueueId};
use crate::{GroupId, Message};

/// A message on its way to one session, with all that its PUBLISH will say.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    pub(crate) subscription_ids: SubscriptionIds,
    pub(crate) origin: Option<Box<GroupOrigin>>,
    /// Where the journal has it, in the queue of the session or, with an origin, of that group.
    pub(crate) position: Option<Position>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// The shared subscription that handed a message out, and how it is called there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupOrigin {
    pub(crate) group: GroupId,
    pub(crate) sequence: Position,
    /// The group's queue in the journal, if it has one.
    pub(crate) queue: Option<QueueId>,
}

impl Outgoing {
    /// Where the journal has it in the queue of the session itself.
    pub(crate) fn own_position(&self) -> Option<Position> {
        self.position.filter(|_| self.origin.is_none())
    }

    pub(crate) fn form(&self) -> Form {
        Form {
            qos: self.qos,
            retain: self.retain,
            subscription_ids: self.subscription_ids.clone(),
        }
    }
}

/// Subscription Identifiers of the subscriptions that one copy answers [MQTT-3.3.4-4].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SubscriptionIds {
    #[default]
    None,
    One(SubscriptionId),
    /// Boxed twice, so that the usual one or none costs 16 bytes.
    #[expect(clippy::box_collection, reason = "keeps the enum small")]
    Many(Box<Vec<SubscriptionId>>),
}

impl SubscriptionIds {
    pub(crate) fn push(&mut self, id: SubscriptionId) {
        match self {
            Self::None => *self = Self::One(id),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, id])),
            Self::Many(ids) => ids.push(id),
        }
    }

    pub(crate) fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// First in, first out over both lanes; the `QoS` 0 lane is apart so that it can be dropped first.
///
/// What does not fit in the window in memory is on the disk only, behind the acknowledged lane: the queue knows where, and
/// the caller has it read back.
///
/// The bounds are the caller's: it asks [`fits`](Self::fits) and drops by
/// [`drop_oldest`](Self::drop_oldest), so that every drop is counted where its cause is known.
///
/// Without messages it is a pointer. What only looks is asked of the [`Lanes`].
#[derive(Debug, Default)]
pub(crate) struct SessionQueue {
    lanes: LazyBox<Lanes>,
}

/// The messages of a [`SessionQueue`].
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Position the next message gets; positions never repeat in a session's life.
    next_position: u64,
    /// Bytes of both lanes, by [`cost`](SessionQueue::cost).
    bytes: usize,
    at_most_once: VecDeque<Entry>,
    acknowledged: VecDeque<Entry>,
    /// What is on the disk only; most queues have none.
    disk: Option<Box<DiskPart>>,
}

/// An [`Outgoing`] as it waits: most have one subscription identifier or none, and no origin.
#[derive(Debug)]
struct Entry {
    position: u64,
    message: Message,
    /// The [`Outgoing::position`].
    recorded: Option<Position>,
    extra: Option<Box<Extra>>,
    /// If it is the only one.
    subscription_id: Option<SubscriptionId>,
    qos: QoS,
    retain: bool,
}

/// What few queued messages have.
#[derive(Debug)]
struct Extra {
    /// Empty where the entry has the only one.
    subscription_ids: SubscriptionIds,
    origin: Option<Box<GroupOrigin>>,
}

impl Entry {
    fn new(position: u64, outgoing: Outgoing) -> Self {
        let (subscription_id, subscription_ids) = match outgoing.subscription_ids {
            SubscriptionIds::One(id) => (Some(id), SubscriptionIds::None),
            others => (None, others),
        };
        let extra = Extra {
            subscription_ids,
            origin: outgoing.origin,
        };
        let is_needed =
            extra.origin.is_some() || matches!(extra.subscription_ids, SubscriptionIds::Many(_));
        Self {
            position,
            message: outgoing.message,
            recorded: outgoing.position,
            extra: is_needed.then(|| Box::new(extra)),
            subscription_id,
            qos: outgoing.qos,
            retain: outgoing.retain,
        }
    }

    fn into_outgoing(self) -> Outgoing {
        let (mut subscription_ids, origin) = match self.extra {
            Some(extra) => (extra.subscription_ids, extra.origin),
            None => (SubscriptionIds::None, None),
        };
        if let Some(id) = self.subscription_id {
            subscription_ids = SubscriptionIds::One(id);
        }
        Outgoing {
            message: self.message,
            subscription_ids,
            origin,
            position: self.recorded,
            qos: self.qos,
            retain: self.retain,
        }
    }

    /// The [`Outgoing::own_position`].
    fn own_position(&self) -> Option<Position> {
        let has_origin = self
            .extra
            .as_ref()
            .is_some_and(|extra| extra.origin.is_some());
        self.recorded.filter(|_| !has_origin)
    }
}

// A queued message costs this and its image (docs/performance.md, "Memory").
const _: () = assert!(size_of::<Entry>() <= 48);

impl SessionQueue {
    /// Adds a message that the journal has, without keeping it.
    pub(crate) fn push_back_on_disk(&mut self, spilled: Spilled) {
        self.lanes.make().push_back_on_disk(spilled);
    }

    /// Takes the places of what is to be read next, if little is left in memory and nothing is on its way.
    pub(crate) fn begin_load(&mut self, count_max: usize, bytes_max: usize) -> Vec<Position> {
        let lanes = self.lanes.get_mut();
        lanes.map_or_else(Vec::new, |lanes| lanes.begin_load(count_max, bytes_max))
    }

    /// Takes in what was read; says what it counted with while it was on the disk, or `None` if it is no longer
    /// wanted.
    pub(crate) fn loaded(&mut self, outgoing: Outgoing) -> Option<usize> {
        self.lanes.get_mut()?.loaded(outgoing)
    }

    /// Drops the oldest message on the disk, if none is in memory.
    pub(crate) fn drop_oldest_on_disk(&mut self) -> Option<Spilled> {
        self.lanes.get_mut()?.drop_oldest_on_disk()
    }

    pub(crate) fn push_back(&mut self, outgoing: Outgoing) {
        self.lanes.make().push_back(outgoing);
    }

    /// Takes the message that is next; `None` too if that is on the disk.
    pub(crate) fn pop_front(&mut self) -> Option<Outgoing> {
        self.lanes.get_mut()?.pop_front()
    }

    /// Puts back what [`pop_front`](Self::pop_front) gave, as the next one.
    pub(crate) fn push_front(&mut self, outgoing: Outgoing) {
        self.lanes.make().push_front(outgoing);
    }

    /// Takes the oldest message in memory out to make room, `QoS` 0 before any other.
    pub(crate) fn drop_oldest(&mut self) -> Option<Outgoing> {
        self.lanes.get_mut()?.drop_oldest()
    }

    /// Takes every `QoS` 0 message out: an offline session keeps none of them (ambiguity B6).
    pub(crate) fn take_at_most_once(&mut self) -> Vec<Outgoing> {
        let lanes = self.lanes.get_mut();
        lanes.map_or_else(Vec::new, Lanes::take_at_most_once)
    }

    /// Takes the messages that `of` picks, `QoS` 0 first, the oldest of each lane first.
    pub(crate) fn take_matching(&mut self, of: impl FnMut(&Outgoing) -> bool) -> Vec<Outgoing> {
        let lanes = self.lanes.get_mut();
        lanes.map_or_else(Vec::new, |lanes| lanes.take_matching(of))
    }

    /// Gives back the memory that a burst has left. Positions begin anew, which nobody sees while there are none.
    pub(crate) fn release_memory(&mut self) {
        self.lanes.release_if(Lanes::is_empty);
    }

    /// Bytes a queued message counts with: its image, although sessions share it, and its entry.
    pub(crate) fn cost(message: &Message) -> usize {
        message.size() + size_of::<Entry>()
    }
}

impl Deref for SessionQueue {
    type Target = Lanes;

    fn deref(&self) -> &Lanes {
        self.lanes.get().unwrap_or(&EMPTY)
    }
}

static EMPTY: Lanes = Lanes {
    next_position: 0,
    bytes: 0,
    at_most_once: VecDeque::new(),
    acknowledged: VecDeque::new(),
    disk: None,
};

impl Lanes {
    /// Messages, wherever they are.
    pub(crate) fn len(&self) -> usize {
        let disk = self.disk.as_ref();
        self.at_most_once.len()
            + self.acknowledged.len()
            + disk.map_or(0, |disk| disk.loading.len() + disk.backlog.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at_most_once.is_empty() && self.acknowledged.is_empty() && self.disk.is_none()
    }

    /// What all messages count with, wherever they are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.disk_bytes()
    }

    /// What the messages that are on the disk only count with.
    pub(crate) fn disk_bytes(&self) -> usize {
        let disk = self.disk.as_ref();
        disk.map_or(0, |disk| disk.backlog.cost() + disk.loading_cost)
    }

    /// Whether something is on the disk only.
    pub(crate) fn has_disk_part(&self) -> bool {
        self.disk.is_some()
    }

    /// Whether a message of these bytes, recorded already, is to be kept in memory too.
    pub(crate) fn keeps_in_memory(&self, cost: usize, count_max: usize, bytes_max: usize) -> bool {
        self.disk.is_none()
            && (self.acknowledged.is_empty()
                || self.acknowledged.len() < count_max && self.bytes + cost <= bytes_max)
    }

    fn push_back_on_disk(&mut self, spilled: Spilled) {
        let position = self.next_position;
        self.next_position += 1;
        self.disk.get_or_insert_default().push(position, spilled);
    }

    fn begin_load(&mut self, count_max: usize, bytes_max: usize) -> Vec<Position> {
        let mut positions = Vec::new();
        let Some(disk) = self.disk.as_mut() else {
            return positions;
        };
        if !disk.loading.is_empty() || self.acknowledged.len() > count_max / 2 {
            return positions;
        }
        let mut bytes = 0;
        while positions.len() < count_max
            && (bytes < bytes_max || positions.is_empty())
            && let Some(spilled) = disk.backlog.pop_front()
        {
            bytes += spilled.cost;
            positions.push(spilled.position);
            disk.loading_cost += spilled.cost;
            disk.loading.push_back(spilled);
        }
        positions
    }

    fn loaded(&mut self, outgoing: Outgoing) -> Option<usize> {
        let position = outgoing.position?;
        let disk = self.disk.as_mut()?;
        let spilled = disk.loading.front().copied()?;
        if spilled.position != position {
            // Dropped for room since it was asked for.
            return None;
        }
        let (position, _) = disk.pop()?;
        self.forget_disk_part_if_empty();
        if !mutant!(LoadedIsLost) {
            self.bytes += SessionQueue::cost(&outgoing.message);
            self.acknowledged.push_back(Entry::new(position, outgoing));
        }
        Some(spilled.cost)
    }

    fn drop_oldest_on_disk(&mut self) -> Option<Spilled> {
        if !self.acknowledged.is_empty() {
            return None;
        }
        let dropped = self.disk.as_mut()?.pop();
        self.forget_disk_part_if_empty();
        dropped.map(|(_, spilled)| spilled)
    }

    /// The first of the session's own recorded messages: everything before it has left the queue.
    pub(crate) fn first_position(&self) -> Option<Position> {
        let in_memory = self.acknowledged.iter().find_map(Entry::own_position);
        in_memory.or_else(|| {
            let disk = self.disk.as_ref()?;
            let first = disk.loading.front().copied();
            first
                .or_else(|| disk.backlog.front())
                .map(|spilled| spilled.position)
        })
    }

    fn forget_disk_part_if_empty(&mut self) {
        self.disk
            .take_if(|disk| disk.loading.is_empty() && disk.backlog.is_empty());
    }

    /// Whether `message` may still be added under these bounds; an empty queue takes anything.
    pub(crate) fn fits(&self, message: &Message, count_max: usize, bytes_max: usize) -> bool {
        let fits =
            || self.len() < count_max && self.bytes() + SessionQueue::cost(message) <= bytes_max;
        self.is_empty() || fits()
    }

    fn push_back(&mut self, outgoing: Outgoing) {
        self.bytes += SessionQueue::cost(&outgoing.message);
        let position = self.next_position;
        self.next_position += 1;
        let lane = match outgoing.qos {
            QoS::AtMostOnce => &mut self.at_most_once,
            QoS::AtLeastOnce | QoS::ExactlyOnce => &mut self.acknowledged,
        };
        lane.push_back(Entry::new(position, outgoing));
    }

    fn pop_front(&mut self) -> Option<Outgoing> {
        let low = self.at_most_once.front().map(|entry| entry.position);
        let high = self.acknowledged.front().map(|entry| entry.position);
        let on_disk = self.disk.as_ref().and_then(|disk| disk.first());
        // What a group hands out stands in memory, and may pass what is on the disk; `QoS` 0 does not.
        let low_first = match (low, high.into_iter().chain(on_disk).min()) {
            (Some(low), Some(high)) => low < high,
            (low, _) => low.is_some(),
        };
        self.pop_lane(low_first)
    }

    fn push_front(&mut self, outgoing: Outgoing) {
        self.bytes += SessionQueue::cost(&outgoing.message);
        let on_disk = self.disk.as_ref().and_then(|disk| disk.first());
        let first = [self.at_most_once.front(), self.acknowledged.front()]
            .into_iter()
            .flatten()
            .map(|entry| entry.position)
            .chain(on_disk)
            .min();
        // Positions below the present front are free: its predecessor had one of them.
        let position = first.map_or(self.next_position, |first| first.saturating_sub(1));
        let lane = match outgoing.qos {
            QoS::AtMostOnce => &mut self.at_most_once,
            QoS::AtLeastOnce | QoS::ExactlyOnce => &mut self.acknowledged,
        };
        lane.push_front(Entry::new(position, outgoing));
        self.next_position = self.next_position.max(position + 1);
    }

    fn drop_oldest(&mut self) -> Option<Outgoing> {
        self.pop_lane(!self.at_most_once.is_empty())
    }

    /// Whether a `QoS` 0 message is queued.
    pub(crate) fn has_at_most_once(&self) -> bool {
        !self.at_most_once.is_empty()
    }

    fn take_at_most_once(&mut self) -> Vec<Outgoing> {
        let taken: Vec<_> = std::mem::take(&mut self.at_most_once)
            .into_iter()
            .map(Entry::into_outgoing)
            .collect();
        self.bytes -= taken
            .iter()
            .map(|outgoing| SessionQueue::cost(&outgoing.message))
            .sum::<usize>();
        taken
    }

    fn take_matching(&mut self, mut of: impl FnMut(&Outgoing) -> bool) -> Vec<Outgoing> {
        let mut taken = Vec::new();
        for lane in [&mut self.at_most_once, &mut self.acknowledged] {
            for entry in std::mem::take(lane) {
                let position = entry.position;
                let outgoing = entry.into_outgoing();
                if of(&outgoing) {
                    self.bytes -= SessionQueue::cost(&outgoing.message);
                    taken.push(outgoing);
                } else {
                    lane.push_back(Entry::new(position, outgoing));
                }
            }
        }
        taken
    }

    fn pop_lane(&mut self, at_most_once: bool) -> Option<Outgoing> {
        let lane = if at_most_once {
            &mut self.at_most_once
        } else {
            &mut self.acknowledged
        };
        let outgoing = lane.pop_front()?.into_outgoing();
        if lane.is_empty() && lane.capacity() > KEPT_CAPACITY {
            *lane = VecDeque::new();
        }
        self.bytes -= SessionQueue::cost(&outgoing.message);
        Some(outgoing)
    }
}

/// Entries of capacity that an emptied lane keeps, so that a busy queue does not reallocate each turn.
const KEPT_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whimbrel_session::codec::PublishProperties;
    use whimbrel_session::codec::topic::TopicName;

    use super::*;
    use crate::message::MessageParts;
    use crate::{MsgId, UnixMillis};

    fn outgoing(sequence: u64, qos: QoS) -> Outgoing {
        Outgoing {
            message: Message::new(&MessageParts {
                id: MsgId {
                    node: 0,
                    incarnation: 0,
                    sequence,
                },
                topic: TopicName::new("t").expect("valid"),
                qos,
                retain: false,
                expires_at: UnixMillis::NEVER,
                properties: PublishProperties::EMPTY,
                payload: b"x",
            }),
            subscription_ids: SubscriptionIds::None,
            origin: None,
            position: None,
            qos,
            retain: false,
        }
    }

    fn sequences(queue: &mut SessionQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop_front())
            .map(|outgoing| outgoing.message.id().sequence)
            .collect()
    }

    #[test]
    fn both_lanes_leave_in_the_order_they_came() {
        let mut queue = SessionQueue::default();
        for (sequence, qos) in [
            (1, QoS::AtLeastOnce),
            (2, QoS::AtMostOnce),
            (3, QoS::ExactlyOnce),
            (4, QoS::AtMostOnce),
        ] {
            queue.push_back(outgoing(sequence, qos));
        }
        assert_eq!(sequences(&mut queue), [1, 2, 3, 4]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_was_taken_and_put_back_is_next_again() {
        let mut queue = SessionQueue::default();
        for sequence in 1..=3 {
            queue.push_back(outgoing(sequence, QoS::AtLeastOnce));
        }
        queue.push_back(outgoing(4, QoS::AtMostOnce));
        let first = queue.pop_front().expect("queued");
        queue.push_front(first);
        assert_eq!(sequences(&mut queue), [1, 2, 3, 4]);
    }

    #[test]
    fn both_lanes_keep_their_order_beside_what_is_on_the_disk() {
        let mut queue = SessionQueue::default();
        let at = |sequence: u64| Position::new(sequence).expect("not 0");
        let recorded = |sequence| Outgoing {
            position: Some(at(sequence)),
            ..outgoing(sequence, QoS::AtLeastOnce)
        };
        queue.push_back(recorded(1));
        for (spilled, low) in [(2, 3), (4, 5)] {
            let position = at(spilled);
            queue.push_back_on_disk(Spilled { position, cost: 1 });
            queue.push_back(outgoing(low, QoS::AtMostOnce));
        }
        assert_eq!(sequences(&mut queue), [1], "the next one is on the disk");
        assert_eq!(queue.begin_load(1, 1), [at(2)]);
        assert_eq!(queue.loaded(recorded(2)), Some(1));
        let taken = queue.pop_front().expect("loaded");
        queue.push_front(taken);
        assert_eq!(sequences(&mut queue), [2, 3]);
        assert_eq!(queue.begin_load(1, 1), [at(4)]);
        assert_eq!(queue.loaded(recorded(4)), Some(1));
        assert_eq!(sequences(&mut queue), [4, 5]);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_on_the_disk_messages_leave_in_the_order_they_came(
            steps in prop::collection::vec(0_u8..6, 0..200),
        ) {
            let mut queue = SessionQueue::default();
            let mut model: VecDeque<(u64, bool)> = VecDeque::new();
            let mut last = 0;
            let at = |sequence: u64| Position::new(sequence).expect("not 0");
            let recorded = |sequence| Outgoing {
                position: Some(at(sequence)),
                ..outgoing(sequence, QoS::AtLeastOnce)
            };
            for step in steps {
                last += 1;
                match step {
                    0 => {
                        queue.push_back(outgoing(last, QoS::AtMostOnce));
                        model.push_back((last, false));
                    }
                    1 | 2 => {
                        let on_disk = !queue.keeps_in_memory(1, 3, 1 << 20);
                        if on_disk {
                            queue.push_back_on_disk(Spilled { position: at(last), cost: 1 });
                        } else {
                            queue.push_back(recorded(last));
                        }
                        model.push_back((last, on_disk));
                    }
                    3 => {
                        for position in queue.begin_load(2, 1 << 20) {
                            prop_assert!(queue.loaded(recorded(position.get())).is_some());
                            let found = model.iter_mut().find(|(sequence, _)| *sequence == position.get());
                            found.expect("it is queued").1 = false;
                        }
                    }
                    put_back => {
                        let popped = queue.pop_front();
                        let expected = model.front().filter(|(_, on_disk)| !on_disk);
                        let sequence = popped.as_ref().map(|outgoing| outgoing.message.id().sequence);
                        prop_assert_eq!(sequence, expected.map(|&(sequence, _)| sequence));
                        match popped {
                            Some(outgoing) if put_back == 4 => queue.push_front(outgoing),
                            Some(_) => { model.pop_front(); }
                            None => {}
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn room_is_made_from_qos_0_first() {
        let mut queue = SessionQueue::default();
        queue.push_back(outgoing(1, QoS::AtLeastOnce));
        queue.push_back(outgoing(2, QoS::AtMostOnce));
        let dropped = queue.drop_oldest().expect("queued");
        assert_eq!(dropped.message.id().sequence, 2);
        let dropped = queue.drop_oldest().expect("queued");
        assert_eq!(dropped.message.id().sequence, 1);
        assert!(queue.drop_oldest().is_none());
    }

    #[test]
    fn an_empty_queue_takes_a_message_larger_than_its_bound() {
        let mut queue = SessionQueue::default();
        let first = outgoing(1, QoS::AtLeastOnce);
        assert!(queue.fits(&first.message, 10, 1));
        queue.push_back(first);
        assert!(!queue.fits(&outgoing(2, QoS::AtLeastOnce).message, 10, 1));
    }
}
