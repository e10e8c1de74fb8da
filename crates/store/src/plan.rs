//! [`Plan`]: what a batch of records means for the queued messages.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use whimbrel_broker_core::{Holders, Message, MsgId, Position, QueueId, Record};

use crate::ledger::{DoneWith, Ledger};

/// Changes of the table of messages. A message that comes and goes in one batch is not written at all.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// Rows to be written, by ascending position.
    pub(crate) inserts: Vec<Insert<'a>>,
    /// Rows to be removed.
    pub(crate) removals: Vec<Removal>,
    /// Rows that a shared subscription is no holder of any more.
    pub(crate) rewrites: Vec<Position>,
    /// Messages that came and went, but are not released: who had them.
    pub(crate) known: Vec<(MsgId, Position, &'a Holders)>,
    /// Released messages that `known` has rows of.
    pub(crate) released: Vec<MsgId>,
}

#[derive(Debug)]
pub(crate) struct Insert<'a> {
    pub(crate) position: Position,
    pub(crate) message: &'a Message,
    pub(crate) holders: &'a Holders,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) position: Position,
    /// The row goes if this queue alone holds it; without, it goes.
    pub(crate) only_of: Option<QueueId>,
}

impl<'a> Plan<'a> {
    /// Goes through the records once, in their order, and brings the ledger up to date.
    pub(crate) fn of(records: &'a [Record], ledger: &mut Ledger) -> Self {
        let mut plan = Self::default();
        // Only what is also done with in the same batch is looked up.
        let mut places: Option<HashMap<Position, usize, FixedState>> = None;
        for record in records {
            match record {
                Record::Session(session) => ledger.begin_queue(session.session, false),
                Record::Group(group) => ledger.begin_queue(group.group, true),
                Record::SessionEnded { session } => ledger.end_queue(*session),
                Record::GroupEnded { group } => ledger.end_queue(*group),
                Record::InboundStored { message, .. } => ledger.hold(message.id(), false),
                Record::InboundReleased { message, .. } => {
                    let was_known = ledger.release(*message);
                    plan.released.extend(was_known.then_some(*message));
                }
                Record::Enqueued {
                    position,
                    message,
                    holders,
                } => {
                    ledger.enqueue(*position, holders, |_| false);
                    if let Some(places) = &mut places {
                        places.insert(*position, plan.inserts.len());
                    }
                    plan.inserts.push(Insert {
                        position: *position,
                        message,
                        holders,
                        is_over: false,
                    });
                }
                Record::Done { queue, positions } => {
                    let places = places.get_or_insert_with(|| plan.places());
                    for &position in positions {
                        let place = places.get(&position).copied();
                        plan.done(*queue, position, place, ledger);
                    }
                }
                _ => {}
            }
        }
        plan.finish(ledger);
        plan
    }

    fn places(&self) -> HashMap<Position, usize, FixedState> {
        let places = self.inserts.iter().enumerate();
        places
            .map(|(place, insert)| (insert.position, place))
            .collect()
    }

    fn done(
        &mut self,
        queue: QueueId,
        position: Position,
        place: Option<usize>,
        ledger: &mut Ledger,
    ) {
        let insert = place.and_then(|place| self.inserts.get_mut(place));
        match (ledger.done(queue, position), insert) {
            (DoneWith::OthersLeft, _) => {}
            (DoneWith::OthersLeftOfGroup, _) => self.rewrites.push(position),
            (DoneWith::Last, Some(insert)) => insert.is_over = true,
            (DoneWith::Last, None) => self.removals.push(Removal {
                position,
                only_of: None,
            }),
            (DoneWith::Alone, Some(insert)) => {
                let mut holders = insert.holders.iter();
                if !insert.is_over && holders.next().is_some_and(|holder| holder.queue == queue) {
                    insert.is_over = true;
                    ledger.done_alone(queue);
                }
            }
            (DoneWith::Alone, None) => self.removals.push(Removal {
                position,
                only_of: Some(queue),
            }),
        }
    }

    fn finish(&mut self, ledger: &Ledger) {
        let known = &mut self.known;
        self.inserts.retain(|insert| {
            let id = insert.message.id();
            if insert.is_over && ledger.holds_any() && ledger.is_held(id) {
                known.push((id, insert.position, insert.holders));
            }
            !insert.is_over
        });
        // Shards have positions of their own; redb is fastest where keys rise.
        self.inserts.sort_by_key(|insert| insert.position);
        self.rewrites.sort_unstable();
        self.rewrites.dedup();
        self.rewrites
            .retain(|&position| ledger.has_shared(position));
    }
}
