//! A journal that is right because it is plain: maps in memory, and what is committed is what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicNameBuf};
use whimbrel_broker_core::session::mutant;
use whimbrel_broker_core::{
    Batch, GroupRecord, Holder, Journal, JournalError, JournalFigures, Maintenance, Message, MsgId,
    Position, QueueId, Record, Replay, Replayed, RetainedChange, SessionRecord, StoredMessage,
    SubscriptionRecord, WindowRecord,
};

use super::{Disk, Failure, Remains, Room};
use crate::rng::Rng;

/// The tables on their disk.
#[derive(Debug, Default)]
pub(crate) struct ModelDisk {
    tables: Arc<Mutex<Tables>>,
}

/// The journal of one process.
#[derive(Debug)]
struct ModelJournal {
    incarnation: u32,
    tables: Arc<Mutex<Tables>>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    incarnation: u32,
    groups: BTreeMap<QueueId, GroupRecord>,
    sessions: BTreeMap<QueueId, SessionRecord>,
    subscriptions: BTreeMap<QueueId, BTreeMap<ByteStr, SubscriptionRecord>>,
    windows: BTreeMap<QueueId, WindowRecord>,
    messages: BTreeMap<Position, Stored>,
    /// Messages of each queue that it is not done with.
    queues: BTreeMap<QueueId, BTreeSet<Position>>,
    inbound: BTreeMap<MsgId, (QueueId, u16, Message)>,
    unreleased: BTreeMap<MsgId, u32>,
    known: BTreeMap<MsgId, BTreeSet<QueueId>>,
    retained: BTreeMap<TopicNameBuf, Message>,
    failure: Option<Failure>,
    /// Said to be committed, and not there: with a planted bug only.
    promised: Option<Batch>,
    /// The batch whose commit failed is there.
    has_doubtful: bool,
    room: Option<Room>,
    commits: u64,
    records: u64,
}

/// A queued message.
#[derive(Debug)]
struct Stored {
    message: Message,
    /// Every queue it was recorded for.
    holders: Vec<Holder>,
    /// Queues that are not done with it.
    open: usize,
}

impl Disk for ModelDisk {
    fn open(&mut self) -> Result<Box<dyn Journal>, JournalError> {
        let mut tables = lock(&self.tables);
        tables.incarnation += 1;
        Ok(Box::new(ModelJournal {
            incarnation: tables.incarnation,
            tables: Arc::clone(&self.tables),
        }))
    }

    fn fail(&mut self, failure: Failure, _: u64) {
        lock(&self.tables).failure = Some(failure);
    }

    fn set_room(&mut self, room: Room) {
        lock(&self.tables).room = Some(room);
    }

    fn crash(&mut self, _: &mut Rng) -> Result<Remains, String> {
        let mut tables = lock(&self.tables);
        tables.failure = None;
        tables.promised = None;
        Ok(if std::mem::take(&mut tables.has_doubtful) {
            Remains::Doubtful
        } else {
            Remains::Committed
        })
    }
}

impl Journal for ModelJournal {
    fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn replay(
        &mut self,
        apply: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError> {
        lock(&self.tables).replay(apply)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError> {
        let mut tables = lock(&self.tables);
        if tables.room == Some(Room::None) {
            return Err(JournalError::Full);
        }
        if mutant!(CommittedBeforeSync) {
            let copy = Batch {
                records: batch.records.clone(),
                retained: batch.retained.clone(),
            };
            if let Some(before) = tables.promised.replace(copy) {
                tables.apply(&before);
            }
            return Ok(());
        }
        let failure = tables.failure.take();
        if failure != Some(Failure::Lost) {
            tables.apply(batch);
        }
        tables.has_doubtful = failure == Some(Failure::Kept);
        match failure {
            None => Ok(()),
            Some(_) => Err(JournalError::Failed("the disk reports an error".into())),
        }
    }

    fn read(
        &mut self,
        queue: QueueId,
        positions: &[Position],
    ) -> Result<Vec<StoredMessage>, JournalError> {
        let tables = lock(&self.tables);
        let read = |&position: &Position| {
            let stored = tables.messages.get(&position);
            let found = stored.and_then(|stored| {
                let holder = stored.holders.iter().find(|holder| holder.queue == queue)?;
                Some((stored.message.clone(), holder.form.clone()))
            });
            let (message, form) = found.ok_or_else(|| JournalError::Damaged {
                detail: format!("queue {queue:?} has no message at {position:?}"),
            })?;
            Ok(StoredMessage {
                position,
                message,
                form,
            })
        };
        positions.iter().map(read).collect()
    }

    fn maintain(&mut self) -> Result<Maintenance, JournalError> {
        Ok(Maintenance::Done)
    }

    fn is_full(&mut self) -> bool {
        lock(&self.tables)
            .room
            .is_some_and(|room| room != Room::Enough)
    }

    fn figures(&self) -> JournalFigures {
        let tables = lock(&self.tables);
        let mut figures = JournalFigures::default();
        figures.commits = tables.commits;
        figures.records = tables.records;
        figures
    }
}

impl Tables {
    pub(super) fn replay(
        &self,
        apply: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError> {
        let mut items = 0;
        let mut tell = |replayed| {
            items += 1;
            apply(replayed)
        };
        for group in self.groups.values() {
            tell(Replayed::Group(group.clone()))?;
        }
        for session in self.sessions.values() {
            tell(Replayed::Session(session.clone()))?;
        }
        for (&session, subscriptions) in &self.subscriptions {
            let subscriptions = subscriptions.values().cloned().collect();
            tell(Replayed::Subscriptions {
                session,
                subscriptions,
            })?;
        }
        for window in self.windows.values() {
            tell(Replayed::Window(window.clone()))?;
        }
        for (session, packet_id, message) in self.inbound.values() {
            tell(Replayed::Inbound {
                session: *session,
                packet_id: *packet_id,
                message: message.clone(),
            })?;
        }
        for (&message, queues) in &self.known {
            let queues = queues.iter().copied().collect();
            tell(Replayed::Known { message, queues })?;
        }
        for (&position, stored) in &self.messages {
            tell(Replayed::Message {
                position,
                message: stored.message.clone(),
                holders: stored.holders.clone(),
            })?;
        }
        for message in self.retained.values() {
            tell(Replayed::Retained(message.clone()))?;
        }
        Ok(Replay {
            incarnation: self.incarnation,
            items,
        })
    }

    pub(super) fn apply(&mut self, batch: &Batch) {
        self.commits += 1;
        self.records += batch.records.len() as u64;
        for record in &batch.records {
            self.apply_record(record);
        }
        for change in &batch.retained {
            match change {
                RetainedChange::Set(message) => {
                    let topic = message.topic().to_owned();
                    self.retained.insert(topic, message.clone());
                }
                RetainedChange::Deleted { topic } => {
                    self.retained.remove(topic);
                }
            }
        }
    }

    fn apply_record(&mut self, record: &Record) {
        match record {
            Record::Session(record) => {
                self.sessions.insert(record.session, (**record).clone());
            }
            Record::SessionEnded { session } => {
                self.sessions.remove(session);
                self.subscriptions.remove(session);
                self.windows.remove(session);
                self.end_queue(*session);
            }
            Record::Subscribed {
                session,
                subscriptions,
            } => {
                let known = self.subscriptions.entry(*session).or_default();
                for record in subscriptions {
                    known.insert(record.filter.clone(), record.clone());
                }
            }
            Record::Unsubscribed { session, filters } => {
                if let Some(known) = self.subscriptions.get_mut(session) {
                    for filter in filters {
                        known.remove(filter);
                    }
                }
            }
            Record::Group(record) => {
                self.groups.insert(record.group, record.clone());
            }
            Record::GroupEnded { group } => {
                self.groups.remove(group);
                self.end_queue(*group);
            }
            Record::Enqueued {
                position,
                message,
                holders,
            } => self.enqueue(*position, message, holders.iter().collect()),
            Record::Done { queue, positions } => {
                for &position in positions {
                    self.done(*queue, position);
                }
            }
            Record::Window(record) => {
                self.windows.insert(record.session, (**record).clone());
            }
            Record::InboundStored {
                session,
                packet_id,
                message,
            } => {
                let inbound = (*session, *packet_id, message.clone());
                self.inbound.insert(message.id(), inbound);
                *self.unreleased.entry(message.id()).or_default() += 1;
            }
            Record::InboundReleased { message, .. } => {
                if self.inbound.remove(message).is_some() {
                    self.release(*message);
                }
            }
            // What it says is in the index's own log.
            Record::Retained => {}
            _ => unreachable!("a record that the model does not know: {record:?}"),
        }
    }

    fn enqueue(&mut self, position: Position, message: &Message, holders: Vec<Holder>) {
        for holder in &holders {
            self.queues
                .entry(holder.queue)
                .or_default()
                .insert(position);
        }
        let stored = Stored {
            message: message.clone(),
            open: holders.len(),
            holders,
        };
        self.messages.insert(position, stored);
    }

    fn done(&mut self, queue: QueueId, position: Position) {
        let of_queue = self.queues.get_mut(&queue);
        if !of_queue.is_some_and(|positions| positions.remove(&position)) {
            return;
        }
        let Some(stored) = self.messages.get_mut(&position) else {
            return;
        };
        stored.open -= 1;
        if stored.open == 0
            && let Some(stored) = self.messages.remove(&position)
            && self.unreleased.contains_key(&stored.message.id())
        {
            let queues = stored.holders.iter().map(|holder| holder.queue);
            self.known
                .entry(stored.message.id())
                .or_default()
                .extend(queues);
        }
    }

    fn end_queue(&mut self, queue: QueueId) {
        for position in self.queues.get(&queue).cloned().unwrap_or_default() {
            self.done(queue, position);
        }
        self.queues.remove(&queue);
    }

    fn release(&mut self, message: MsgId) {
        if let Some(times) = self.unreleased.get_mut(&message) {
            *times -= 1;
            if *times == 0 {
                self.unreleased.remove(&message);
                self.known.remove(&message);
            }
        }
    }
}

fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}
