//! [`Ledger`]: what has to be known in memory of the messages on the disk, so that one with several holders goes with
//! the last of them.
//!
//! A message that one queue holds costs nothing here: it goes when that queue is done with it. One that several hold
//! costs a bit for each and an entry of some 60 bytes; the list of its holders is shared by all messages for the same
//! queues. The rest is a few numbers for each queue.
//!
//! Changes are written down while a batch is prepared ([`Undo`]), and taken back if its commit finds no room.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use whimbrel_broker_core::{Holders, MsgId, Position, QueueId};

use crate::bits::Bits;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Every session and shared subscription that is stored.
    queues: HashMap<QueueId, Queue, FixedState>,
    /// Messages that were recorded for several queues.
    shared: BTreeMap<Position, Shared>,
    /// The lists that `shared` uses.
    lists: HashSet<Interned, FixedState>,
    /// Messages that were taken over and are not released; whether `known` has rows of them.
    held: HashMap<MsgId, bool, FixedState>,
    /// Queues that ended, and whose messages have still to be found.
    ended: BTreeMap<QueueId, Queue>,
    /// The highest position that was ever recorded.
    highest: u64,
    undo: Vec<Undo>,
}

/// What is known of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) is_group: bool,
    /// Messages that it alone holds.
    pub(crate) owed_alone: u64,
    /// No message that it alone holds is before this place.
    pub(crate) first: u64,
}

/// A message with several holders.
#[derive(Clone, Debug)]
struct Shared {
    list: Arc<List>,
    /// By place in the list.
    done: Bits,
    /// Holders that are not done.
    left: u32,
}

/// The queues of a list of holders.
#[derive(Debug)]
struct List {
    holders: Holders,
    /// Ascending.
    queues: Box<[QueueId]>,
}

#[derive(Debug)]
struct Interned(Arc<List>);

/// What was there before a change.
#[derive(Debug)]
enum Undo {
    Queue(QueueId, Option<Queue>),
    Ended(QueueId, Option<Queue>),
    Shared(Position, Option<Shared>),
    Held(MsgId, Option<bool>),
    Highest(u64),
}

/// What it means that a queue is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoneWith {
    /// It has only this holder, if this queue is one; its row tells.
    Alone,
    /// Others are left, or the queue is no holder, or was done before.
    OthersLeft,
    /// As before; and the row has to say that this shared subscription is none any more.
    OthersLeftOfGroup,
    /// It was the last one.
    Last,
}

impl Ledger {
    pub(crate) fn queue(&self, queue: QueueId) -> Option<&Queue> {
        self.queues.get(&queue)
    }

    pub(crate) fn is_held(&self, id: MsgId) -> bool {
        self.held.contains_key(&id)
    }

    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn has_shared(&self, position: Position) -> bool {
        self.shared.contains_key(&position)
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// A position that is in use, or was.
    pub(crate) fn has_been_at(&mut self, position: Position) {
        if position.get() > self.highest {
            self.undo.push(Undo::Highest(self.highest));
            self.highest = position.get();
        }
    }

    pub(crate) fn begin_queue(&mut self, queue: QueueId, is_group: bool) {
        if self.queues.contains_key(&queue) {
            return;
        }
        let new = Queue {
            is_group,
            owed_alone: 0,
            first: 0,
        };
        self.undo.push(Undo::Queue(queue, None));
        self.queues.insert(queue, new);
    }

    pub(crate) fn end_queue(&mut self, queue: QueueId) {
        let Some(was) = self.queues.remove(&queue) else {
            return;
        };
        self.undo.push(Undo::Queue(queue, Some(was)));
        if was.owed_alone > 0 || !self.shared.is_empty() {
            let before = self.ended.insert(queue, was);
            self.undo.push(Undo::Ended(queue, before));
        }
    }

    /// A message is recorded. `done` says which of several holders are done with it already.
    pub(crate) fn enqueue(
        &mut self,
        position: Position,
        holders: &Holders,
        done: impl Fn(QueueId) -> bool,
    ) {
        self.has_been_at(position);
        let mut queues = holders.iter().map(|holder| holder.queue);
        match (queues.next(), queues.next()) {
            (None, _) => {}
            (Some(only), None) => self.owe_alone(only, position),
            (Some(_), Some(_)) => {
                let list = self.intern(holders);
                let mut shared = Shared {
                    done: Bits::new(list.queues.len()),
                    left: 0,
                    list,
                };
                for (place, &queue) in shared.list.queues.iter().enumerate() {
                    if done(queue) {
                        shared.done.set(place);
                    } else {
                        shared.left += 1;
                    }
                }
                let before = self.shared.insert(position, shared);
                self.undo.push(Undo::Shared(position, before));
            }
        }
    }

    fn owe_alone(&mut self, queue: QueueId, position: Position) {
        let Some(entry) = self.queues.get_mut(&queue) else {
            return;
        };
        self.undo.push(Undo::Queue(queue, Some(*entry)));
        if entry.owed_alone == 0 {
            entry.first = position.get();
        }
        // Shards commit in their own order, and a queue keeps its shard until a start.
        entry.first = entry.first.min(position.get());
        entry.owed_alone += 1;
    }

    /// A message that `queue` alone held is gone.
    pub(crate) fn done_alone(&mut self, queue: QueueId) {
        if let Some(entry) = self.queues.get_mut(&queue) {
            self.undo.push(Undo::Queue(queue, Some(*entry)));
            entry.owed_alone = entry.owed_alone.saturating_sub(1);
        }
    }

    /// A queue is done with a message.
    pub(crate) fn done(&mut self, queue: QueueId, position: Position) -> DoneWith {
        let Some(shared) = self.shared.get(&position) else {
            return DoneWith::Alone;
        };
        let place = match shared.list.queues.binary_search(&queue) {
            Ok(place) if !shared.done.get(place) => place,
            _ => return DoneWith::OthersLeft,
        };
        self.clear(position, &[place]);
        if !self.shared.contains_key(&position) {
            return DoneWith::Last;
        }
        if self.queues.get(&queue).is_some_and(|queue| queue.is_group) {
            DoneWith::OthersLeftOfGroup
        } else {
            DoneWith::OthersLeft
        }
    }

    /// Holders, by their places in the list, are done with a shared message; it goes with the last one.
    fn clear(&mut self, position: Position, places: &[usize]) {
        let Some(shared) = self.shared.get_mut(&position) else {
            return;
        };
        let before = shared.clone();
        for &place in places {
            if !shared.done.get(place) {
                shared.done.set(place);
                shared.left -= 1;
            }
        }
        let is_over = shared.left == 0;
        self.undo.push(Undo::Shared(position, Some(before)));
        if is_over {
            self.shared.remove(&position);
        }
    }

    /// The queues of a shared message that are done with it.
    pub(crate) fn is_done(&self, position: Position, queue: QueueId) -> bool {
        let shared = self.shared.get(&position);
        shared.is_some_and(|shared| match shared.list.queues.binary_search(&queue) {
            Ok(place) => shared.done.get(place),
            Err(_) => false,
        })
    }

    /// Takes queues that ended off the shared messages from `from` on, at most `budget` of them. Answers where to go
    /// on, and which messages nobody holds any more.
    pub(crate) fn sweep_shared(
        &mut self,
        queues: &BTreeMap<QueueId, Queue>,
        from: Position,
        budget: usize,
    ) -> (Option<Position>, Vec<Position>) {
        let mut hits: Vec<(Position, Vec<usize>)> = Vec::new();
        let mut seen = self.shared.range(from..);
        for (&position, shared) in seen.by_ref().take(budget) {
            let places: Vec<usize> = shared
                .list
                .queues
                .iter()
                .enumerate()
                .filter(|&(place, queue)| !shared.done.get(place) && queues.contains_key(queue))
                .map(|(place, _)| place)
                .collect();
            if !places.is_empty() {
                hits.push((position, places));
            }
        }
        let next = seen.next().map(|(&position, _)| position);
        let mut over = Vec::new();
        for (position, places) in hits {
            self.clear(position, &places);
            if !self.shared.contains_key(&position) {
                over.push(position);
            }
        }
        (next, over)
    }

    /// The queues that ended since this was last asked.
    pub(crate) fn take_ended(&mut self) -> BTreeMap<QueueId, Queue> {
        std::mem::take(&mut self.ended)
    }

    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    pub(crate) fn hold(&mut self, id: MsgId, is_known: bool) {
        let before = self.held.get(&id).copied();
        let after = is_known || before == Some(true);
        if before != Some(after) {
            self.undo.push(Undo::Held(id, before));
            self.held.insert(id, after);
        }
    }

    /// Whether `known` had rows of the message.
    pub(crate) fn release(&mut self, id: MsgId) -> bool {
        let before = self.held.remove(&id);
        if before.is_some() {
            self.undo.push(Undo::Held(id, before));
        }
        before == Some(true)
    }

    /// The changes since the last call are committed.
    pub(crate) fn settle(&mut self) {
        for undo in std::mem::take(&mut self.undo) {
            if let Undo::Shared(_, Some(shared)) = undo {
                self.release_list(shared);
            }
        }
    }

    /// The changes since the last [`settle`](Self::settle) have not happened.
    pub(crate) fn take_back(&mut self) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Queue(queue, before) => put_back(&mut self.queues, queue, before),
                Undo::Held(id, before) => put_back(&mut self.held, id, before),
                Undo::Highest(before) => self.highest = before,
                Undo::Ended(queue, Some(before)) => drop(self.ended.insert(queue, before)),
                Undo::Ended(queue, None) => drop(self.ended.remove(&queue)),
                Undo::Shared(position, before) => {
                    let after = match before {
                        Some(before) => self.shared.insert(position, before),
                        None => self.shared.remove(&position),
                    };
                    if let Some(after) = after {
                        self.release_list(after);
                    }
                }
            }
        }
    }

    fn intern(&mut self, holders: &Holders) -> Arc<List> {
        if let Some(list) = self.lists.get(holders.as_bytes()) {
            return Arc::clone(&list.0);
        }
        let mut queues: Box<[QueueId]> = holders.iter().map(|holder| holder.queue).collect();
        queues.sort_unstable();
        let list = Arc::new(List {
            holders: holders.clone(),
            queues,
        });
        self.lists.insert(Interned(Arc::clone(&list)));
        list
    }

    /// Forgets the list of a message that is gone if no other message uses it.
    fn release_list(&mut self, shared: Shared) {
        let list = shared.list;
        // This one and that in `lists`.
        if Arc::strong_count(&list) == 2 {
            self.lists.remove(list.holders.as_bytes());
        }
    }
}

fn put_back<K: Hash + Eq, V>(map: &mut HashMap<K, V, FixedState>, key: K, before: Option<V>) {
    match before {
        Some(before) => drop(map.insert(key, before)),
        None => drop(map.remove(&key)),
    }
}

impl Borrow<[u8]> for Interned {
    fn borrow(&self) -> &[u8] {
        self.0.holders.as_bytes()
    }
}

impl Hash for Interned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.holders.as_bytes().hash(state);
    }
}

impl PartialEq for Interned {
    fn eq(&self, other: &Self) -> bool {
        self.0.holders == other.0.holders
    }
}

impl Eq for Interned {}

#[cfg(test)]
mod tests {
    use whimbrel_broker_core::session::codec::QoS;
    use whimbrel_broker_core::{Form, Holder};

    use super::*;

    fn queue(number: u64) -> QueueId {
        QueueId::new(number).expect("not 0")
    }

    fn at(number: u64) -> Position {
        Position::new(number).expect("not 0")
    }

    fn of(queues: &[u64]) -> Holders {
        let form = Form::new(QoS::AtLeastOnce, false, &[]);
        let holders: Vec<_> = queues
            .iter()
            .map(|&number| Holder {
                queue: queue(number),
                form: form.clone(),
            })
            .collect();
        Holders::of(&holders)
    }

    fn nobody(_: QueueId) -> bool {
        false
    }

    #[test]
    fn a_message_of_several_goes_with_the_last_of_them() {
        let mut ledger = Ledger::default();
        ledger.enqueue(at(5), &of(&[3, 1, 2]), nobody);
        assert_eq!(ledger.done(queue(1), at(5)), DoneWith::OthersLeft);
        assert_eq!(ledger.done(queue(1), at(5)), DoneWith::OthersLeft);
        assert_eq!(ledger.done(queue(9), at(5)), DoneWith::OthersLeft);
        assert_eq!(ledger.done(queue(3), at(5)), DoneWith::OthersLeft);
        assert_eq!(ledger.done(queue(2), at(5)), DoneWith::Last);
        ledger.settle();
        assert!(ledger.lists.is_empty() && ledger.shared.is_empty());
    }

    #[test]
    fn what_was_taken_back_has_not_happened() {
        let mut ledger = Ledger::default();
        ledger.begin_queue(queue(1), false);
        ledger.begin_queue(queue(2), false);
        ledger.enqueue(at(5), &of(&[1, 2]), nobody);
        ledger.enqueue(at(6), &of(&[1]), nobody);
        ledger.settle();
        let before = format!("{ledger:?}");
        let id = MsgId {
            node: 0,
            incarnation: 1,
            sequence: 1,
        };
        ledger.hold(id, false);
        ledger.done(queue(1), at(5));
        ledger.done(queue(2), at(5));
        ledger.done_alone(queue(1));
        ledger.enqueue(at(7), &of(&[1, 3]), nobody);
        ledger.end_queue(queue(1));
        ledger.take_back();
        assert_eq!(format!("{ledger:?}"), before);
    }

    #[test]
    fn messages_for_the_same_queues_share_their_list() {
        let mut ledger = Ledger::default();
        for position in 1..100 {
            ledger.enqueue(at(position), &of(&[1, 2, 3]), nobody);
        }
        ledger.settle();
        assert_eq!(ledger.lists.len(), 1);
    }

    #[test]
    fn a_sweep_takes_ended_queues_off_in_steps() {
        let mut ledger = Ledger::default();
        ledger.begin_queue(queue(1), false);
        ledger.enqueue(at(1), &of(&[1, 2]), nobody);
        ledger.enqueue(at(2), &of(&[2, 3]), nobody);
        ledger.enqueue(at(3), &of(&[1, 3]), |queue| queue.get() == 3);
        ledger.end_queue(queue(1));
        ledger.settle();
        let ended = ledger.take_ended();
        let (next, over) = ledger.sweep_shared(&ended, at(1), 2);
        assert_eq!((next, over), (Some(at(3)), vec![]));
        let (next, over) = ledger.sweep_shared(&ended, at(3), 2);
        assert_eq!((next, over), (None, vec![at(3)]));
        assert_eq!(ledger.done(queue(2), at(1)), DoneWith::Last);
    }
}
