//! [`Sweep`]: removes the messages of queues that ended, and rows that nobody owes, a bounded step at a time.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use whimbrel_broker_core::{Position, QueueId};

use crate::fault::Fault;
use crate::ledger::{Ledger, Queue};
use crate::plan::Removal;
use crate::replay::Orphans;
use crate::tables::{MESSAGES, MessageRow, ValueBuffer};
use crate::write::remove_messages;

/// Rows looked at in one step, at most.
const ROWS_PER_STEP: usize = 1024;

/// Takes a place out of the rows that nobody owes: it is given again.
pub(crate) fn keep(orphans: &mut Orphans, position: u64) {
    let run = orphans.partition_point(|&(_, last)| last < position);
    let Some(&(first, last)) = orphans.get(run) else {
        return;
    };
    if first > position {
        return;
    }
    orphans.remove(run);
    // In front of the run that follows, the later part first.
    if position < last {
        orphans.insert(run, (position + 1, last));
    }
    if first < position {
        orphans.insert(run, (first, position - 1));
    }
}

/// Looks for the messages of queues that ended together.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    queues: BTreeMap<QueueId, Queue>,
    /// Rows that are still to be looked at for messages that one of the queues alone holds: first and last.
    alone: Option<(u64, u64)>,
    /// Where to go on among the messages with several holders.
    shared: Option<Position>,
}

impl Sweep {
    pub(crate) fn new(queues: BTreeMap<QueueId, Queue>, ledger: &Ledger) -> Self {
        let owing = queues.values().filter(|queue| queue.owed_alone > 0);
        let first = owing.map(|queue| queue.first).min();
        Self {
            queues,
            alone: first.map(|first| (first, ledger.highest())),
            shared: Position::new(1),
        }
    }

    /// Takes a step; `None` when there is no more to do.
    pub(crate) fn step(
        &self,
        transaction: &WriteTransaction,
        ledger: &mut Ledger,
        buffer: &mut ValueBuffer,
    ) -> Result<Option<Self>, Fault> {
        let mut next = self.clone();
        let mut removals = Vec::new();
        let mut table = transaction.open_table(MESSAGES)?;
        if let Some((first, last)) = self.alone {
            next.alone = None;
            for (seen, row) in table.range(first..=last)?.enumerate() {
                let (key, value) = row?;
                if seen == ROWS_PER_STEP {
                    next.alone = Some((key.value(), last));
                    break;
                }
                let Some(position) = Position::new(key.value()) else {
                    continue;
                };
                if ledger.has_shared(position) {
                    continue;
                }
                let holders =
                    MessageRow::parse(key.value(), value.value())?.holders(key.value())?;
                let only = holders.iter().next().map(|holder| holder.queue);
                if only.is_some_and(|queue| self.queues.contains_key(&queue)) {
                    removals.push(Removal {
                        position,
                        only_of: only,
                    });
                }
            }
        } else if let Some(from) = self.shared {
            let (go_on, over) = ledger.sweep_shared(&self.queues, from, ROWS_PER_STEP);
            next.shared = go_on;
            removals.extend(over.into_iter().map(|position| Removal {
                position,
                only_of: None,
            }));
        }
        remove_messages(transaction, &mut table, &removals, ledger, buffer)?;
        let is_done = next.alone.is_none() && next.shared.is_none();
        Ok((!is_done).then_some(next))
    }
}

/// Removes some of the rows that nobody owes. Answers what is left of the first run of them.
pub(crate) fn remove_orphans(
    transaction: &WriteTransaction,
    orphans: &Orphans,
    ledger: &mut Ledger,
    buffer: &mut ValueBuffer,
) -> Result<Option<(u64, u64)>, Fault> {
    let Some(&(first, last)) = orphans.front() else {
        return Ok(None);
    };
    let mut left = None;
    let mut removals = Vec::new();
    let mut table = transaction.open_table(MESSAGES)?;
    for row in table.range(first..=last)? {
        let (key, _) = row?;
        if removals.len() == ROWS_PER_STEP {
            left = Some((key.value(), last));
            break;
        }
        if let Some(position) = Position::new(key.value()) {
            removals.push(Removal {
                position,
                only_of: None,
            });
        }
    }
    remove_messages(transaction, &mut table, &removals, ledger, buffer)?;
    Ok(left)
}
