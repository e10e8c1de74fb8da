//! [`View`]: what a journal tells, without what only its way of keeping it decides.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_broker_core::{Journal, JournalError, QueueId, Replayed, WindowRecord};

use super::model::Tables;

/// Everything that decides what a broker that starts owes, a line each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View(BTreeSet<String>);

impl View {
    pub(crate) fn of(journal: &mut dyn Journal) -> Result<Self, JournalError> {
        let mut told = Vec::new();
        journal.replay(&mut |replayed| {
            told.push(replayed);
            Ok(())
        })?;
        Ok(Self::of_told(told))
    }

    pub(crate) fn of_tables(tables: &Tables) -> Self {
        let mut told = Vec::new();
        let take = &mut |replayed| {
            told.push(replayed);
            Ok(())
        };
        // Nothing is refused.
        let _ = tables.replay(take);
        Self::of_told(told)
    }

    /// A few of the lines that only one of both has.
    pub(crate) fn difference(&self, found: &Self) -> String {
        let missing: Vec<_> = self.0.difference(&found.0).take(SHOWN).collect();
        let extra: Vec<_> = found.0.difference(&self.0).take(SHOWN).collect();
        format!("missing {missing:?}, beyond {extra:?}")
    }

    /// Lines that are not retained messages.
    pub(crate) fn unretained(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|line| !line.starts_with("Retained"))
    }

    /// Retained messages.
    pub(crate) fn retained(&self) -> usize {
        self.0.len() - self.unretained().count()
    }

    /// A session owes what its window says, a group all it has; what was had of a message that is routed again is told in
    /// two ways.
    fn of_told(told: Vec<Replayed>) -> Self {
        let mut lines = BTreeSet::new();
        let mut queues: BTreeMap<QueueId, Option<WindowRecord>> = BTreeMap::new();
        let mut unreleased = BTreeSet::new();
        for replayed in &told {
            match replayed {
                Replayed::Session(record) => {
                    queues.insert(record.session, None);
                }
                Replayed::Group(record) => {
                    queues.insert(record.group, None);
                }
                Replayed::Window(record) => {
                    queues.insert(record.session, Some(record.clone()));
                }
                Replayed::Inbound { message, .. } => {
                    unreleased.insert(message.id());
                }
                _ => {}
            }
        }
        for replayed in told {
            match replayed {
                Replayed::Subscriptions {
                    session,
                    subscriptions,
                } => {
                    for subscription in subscriptions {
                        lines.insert(format!("Subscription {session:?} {subscription:?}"));
                    }
                }
                Replayed::Known {
                    message,
                    queues: had,
                } => {
                    for queue in had.iter().filter(|queue| queues.contains_key(queue)) {
                        lines.insert(format!("Known {message:?} {queue:?}"));
                    }
                }
                Replayed::Message {
                    position,
                    message,
                    holders,
                } => {
                    let id = message.id();
                    for holder in holders {
                        let Some(window) = queues.get(&holder.queue) else {
                            continue;
                        };
                        if unreleased.contains(&id) {
                            lines.insert(format!("Known {id:?} {:?}", holder.queue));
                        }
                        let is_owed = window.as_ref().is_none_or(|window| window.owes(position));
                        if is_owed {
                            lines.insert(format!("Message {position:?} {message:?} {holder:?}"));
                        }
                    }
                }
                // Only what is not swept yet makes these differ from those of what is told.
                Replayed::Used { .. } => {}
                other => {
                    lines.insert(format!("{other:?}"));
                }
            }
        }
        Self(lines)
    }
}

/// Lines of each side that a finding shows.
const SHOWN: usize = 3;
