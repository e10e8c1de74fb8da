//! A journal in maps: what is committed, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_broker_core::{
    GroupRecord, Holder, Message, MsgId, Position, QueueId, Record, Replayed, RetainedChange,
    SessionRecord, StoredMessage, SubscriptionRecord, WindowRecord,
};

#[derive(Debug, Default)]
pub(crate) struct ModelJournal {
    groups: BTreeMap<QueueId, GroupRecord>,
    sessions: BTreeMap<QueueId, SessionRecord>,
    subscriptions: BTreeMap<QueueId, BTreeMap<String, SubscriptionRecord>>,
    windows: BTreeMap<QueueId, WindowRecord>,
    messages: BTreeMap<Position, Stored>,
    inbound: BTreeMap<MsgId, (QueueId, u16, Message)>,
    known: BTreeMap<MsgId, BTreeSet<QueueId>>,
    retained: BTreeMap<String, Message>,
    /// The highest numbers of what is still there and not told.
    pub(crate) used: Option<(Position, QueueId)>,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    holders: Vec<Holder>,
    open: BTreeSet<QueueId>,
}

impl ModelJournal {
    pub(crate) fn commit(&mut self, records: Vec<Record>, retained: Vec<RetainedChange>) {
        for record in records {
            self.apply(record);
        }
        for change in retained {
            match change {
                RetainedChange::Set(message) => {
                    self.retained
                        .insert(message.topic().as_str().to_owned(), message);
                }
                RetainedChange::Deleted { topic } => {
                    self.retained.remove(topic.as_str());
                }
            }
        }
    }

    pub(crate) fn read(&self, queue: QueueId, positions: &[Position]) -> Vec<StoredMessage> {
        let read = |&position: &Position| {
            let stored = &self.messages[&position];
            let holder = stored.holders.iter().find(|holder| holder.queue == queue);
            StoredMessage {
                position,
                message: stored.message.clone(),
                form: holder.expect("a holder").form.clone(),
            }
        };
        positions.iter().map(read).collect()
    }

    pub(crate) fn replay(&self) -> Vec<Replayed> {
        let mut all: Vec<_> = self.groups.values().cloned().map(Replayed::Group).collect();
        all.extend(self.sessions.values().cloned().map(Replayed::Session));
        for (&session, subscriptions) in &self.subscriptions {
            all.push(Replayed::Subscriptions {
                session,
                subscriptions: subscriptions.values().cloned().collect(),
            });
        }
        all.extend(self.windows.values().cloned().map(Replayed::Window));
        for (session, packet_id, message) in self.inbound.values() {
            all.push(Replayed::Inbound {
                session: *session,
                packet_id: *packet_id,
                message: message.clone(),
            });
        }
        for (&message, queues) in &self.known {
            all.push(Replayed::Known {
                message,
                queues: queues.iter().copied().collect(),
            });
        }
        for (&position, stored) in &self.messages {
            all.push(Replayed::Message {
                position,
                message: stored.message.clone(),
                holders: stored.holders.clone(),
            });
        }
        all.extend(self.retained.values().cloned().map(Replayed::Retained));
        all.extend(self.used.map(|(position, queue)| Replayed::Used {
            position: Some(position),
            queue: Some(queue),
        }));
        all
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.replay().is_empty()
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Session(record) => {
                self.sessions.insert(record.session, *record);
            }
            Record::SessionEnded { session } => {
                self.sessions.remove(&session);
                self.subscriptions.remove(&session);
                self.windows.remove(&session);
                self.end_queue(session);
            }
            Record::Subscribed {
                session,
                subscriptions,
            } => {
                let known = self.subscriptions.entry(session).or_default();
                for record in subscriptions {
                    known.insert(record.filter.as_str().to_owned(), record);
                }
            }
            Record::Unsubscribed { session, filters } => {
                let known = self.subscriptions.entry(session).or_default();
                for filter in &filters {
                    known.remove(filter.as_str());
                }
            }
            Record::Group(record) => {
                self.groups.insert(record.group, record);
            }
            Record::GroupEnded { group } => {
                self.groups.remove(&group);
                self.end_queue(group);
            }
            Record::Enqueued {
                position,
                message,
                holders,
            } => {
                let holders: Vec<_> = holders.iter().collect();
                let open = holders.iter().map(|holder| holder.queue).collect();
                let stored = Stored {
                    message,
                    holders,
                    open,
                };
                let old = self.messages.insert(position, stored);
                assert!(old.is_none(), "{position:?} is used twice");
            }
            Record::Done { queue, positions } => {
                for position in positions {
                    self.done(queue, position);
                }
            }
            Record::Window(window) => {
                self.windows.insert(window.session, *window);
            }
            Record::InboundStored {
                session,
                packet_id,
                message,
            } => {
                self.inbound
                    .insert(message.id(), (session, packet_id, message));
            }
            Record::InboundReleased { message, .. } => {
                self.inbound.remove(&message);
                self.known.remove(&message);
            }
            Record::Retained => {}
            other => panic!("unknown to the model: {other:?}"),
        }
    }

    fn end_queue(&mut self, queue: QueueId) {
        let positions: Vec<_> = self.messages.keys().copied().collect();
        for position in positions {
            self.done(queue, position);
        }
    }

    fn done(&mut self, queue: QueueId, position: Position) {
        let Some(stored) = self.messages.get_mut(&position) else {
            return;
        };
        stored.open.remove(&queue);
        if !stored.open.is_empty() {
            return;
        }
        let stored = self.messages.remove(&position).expect("it was there");
        let id = stored.message.id();
        if self.inbound.contains_key(&id) {
            let queues = stored.holders.iter().map(|holder| holder.queue);
            self.known.entry(id).or_default().extend(queues);
        }
    }
}
