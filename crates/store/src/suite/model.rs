//! [`Model`]: a journal without a disk, as simple as can be.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_broker_core::{
    Batch, Holder, Message, MsgId, Position, QueueId, Record, RetainedChange,
};

use super::told::Told;

/// What a journal has to tell after the batches that were committed.
#[derive(Clone, Debug, Default)]
pub struct Model {
    told: Told,
    messages: BTreeMap<Position, Stored>,
    /// Of each message that is not released, who has or had it.
    had: BTreeMap<MsgId, BTreeSet<QueueId>>,
}

#[derive(Clone, Debug)]
struct Stored {
    message: Message,
    holders: Vec<Holder>,
    done: BTreeSet<QueueId>,
}

impl Model {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch is committed.
    pub fn commit(&mut self, batch: &Batch) {
        for record in &batch.records {
            self.record(record);
        }
        for change in &batch.retained {
            match change {
                RetainedChange::Set(message) => {
                    let topic = message.topic().as_str().to_owned();
                    self.told.retained.insert(topic, message.clone());
                }
                RetainedChange::Deleted { topic } => {
                    self.told.retained.remove(topic.as_str());
                }
            }
        }
    }

    fn record(&mut self, record: &Record) {
        let told = &mut self.told;
        match record {
            Record::Session(session) => {
                told.sessions.insert(session.session, (**session).clone());
            }
            Record::SessionEnded { session } => {
                told.sessions.remove(session);
                told.windows.remove(session);
                told.subscriptions.retain(|(of, _), _| of != session);
            }
            Record::Subscribed {
                session,
                subscriptions,
            } => {
                for subscription in subscriptions {
                    let key = (*session, subscription.filter.to_string());
                    told.subscriptions.insert(key, subscription.clone());
                }
            }
            Record::Unsubscribed { session, filters } => {
                for filter in filters {
                    told.subscriptions.remove(&(*session, filter.to_string()));
                }
            }
            Record::Group(group) => {
                told.groups.insert(group.group, group.clone());
            }
            Record::GroupEnded { group } => {
                told.groups.remove(group);
            }
            Record::Window(window) => {
                told.windows.insert(window.session, (**window).clone());
            }
            Record::InboundStored {
                session,
                packet_id,
                message,
            } => {
                let inbound = (*session, *packet_id, message.clone());
                told.inbound.insert(message.id(), inbound);
                self.had.entry(message.id()).or_default();
            }
            Record::InboundReleased { message, .. } => {
                told.inbound.remove(message);
                self.had.remove(message);
            }
            Record::Enqueued {
                position,
                message,
                holders,
            } => {
                let holders: Vec<Holder> = holders.iter().collect();
                if let Some(had) = self.had.get_mut(&message.id()) {
                    had.extend(holders.iter().map(|holder| holder.queue));
                }
                let message = message.clone();
                let done = BTreeSet::new();
                self.messages.insert(
                    *position,
                    Stored {
                        message,
                        holders,
                        done,
                    },
                );
            }
            Record::Done { queue, positions } => {
                for position in positions {
                    if let Some(stored) = self.messages.get_mut(position) {
                        stored.done.insert(*queue);
                    }
                }
            }
            _ => {}
        }
    }

    /// The broker starts again. Answers what it is told.
    pub fn start(&mut self) -> Told {
        let (told, had) = (&mut self.told, &self.had);
        // A message goes when the last queue is done with it. Until then a start forgets who was: windows say so.
        self.messages.retain(|_, stored| {
            let lives = |holder: &Holder| {
                told.sessions.contains_key(&holder.queue) || told.groups.contains_key(&holder.queue)
            };
            stored
                .holders
                .iter()
                .any(|holder| lives(holder) && !stored.done.contains(&holder.queue))
        });
        told.owed.clear();
        for (&position, stored) in &mut self.messages {
            let Stored {
                message,
                holders,
                done,
            } = stored;
            // Shared subscriptions have no window; their word is in the row.
            holders.retain(|holder| {
                !(told.groups.contains_key(&holder.queue) && done.contains(&holder.queue))
            });
            let owes = |holder: &&Holder| {
                told.groups.contains_key(&holder.queue)
                    || told.sessions.contains_key(&holder.queue)
                        && told
                            .windows
                            .get(&holder.queue)
                            .is_none_or(|window| window.owes(position))
            };
            let owing: Vec<Holder> = holders.iter().filter(owes).cloned().collect();
            let queues: BTreeSet<QueueId> = owing.iter().map(|holder| holder.queue).collect();
            *done = holders
                .iter()
                .map(|holder| holder.queue)
                .filter(|queue| !queues.contains(queue))
                .collect();
            if !owing.is_empty() {
                told.owed.insert(position, (message.clone(), owing));
            }
        }
        self.messages
            .retain(|position, _| told.owed.contains_key(position));
        told.known = had
            .iter()
            .map(|(&id, queues)| {
                let mut queues = queues.clone();
                queues.retain(|queue| {
                    told.sessions.contains_key(queue) || told.groups.contains_key(queue)
                });
                (id, queues)
            })
            .filter(|(_, queues)| !queues.is_empty())
            .collect();
        told.clone()
    }
}
