//! [`Journaled`]: a store and the batch it is to commit next.

use tempfile::TempDir;
use whimbrel_broker_core::session::codec::topic::TopicName;
use whimbrel_broker_core::session::codec::{ProtocolVersion, PublishProperties, QoS};
use whimbrel_broker_core::{
    Batch, Form, Holder, Holders, Journal, Message, MessageParts, MsgId, Position, QueueId, Record,
    RetainedChange, SessionRecord, UnixMillis,
};
use whimbrel_store::{Durability, OpenOptions, RedbStore};

/// Bytes of a payload.
const PAYLOAD: usize = 64;

/// What a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages for sessions that are away.
    Arriving,
    /// The same, and as many that arrived before are done.
    Passing,
}

/// A store in a directory of its own, and the batch it is to commit next.
#[derive(Debug)]
pub struct Journaled {
    store: RedbStore,
    holders: Holders,
    batch: Batch,
    next: u64,
    oldest: u64,
    written_before: u64,
    directory: TempDir,
}

impl Journaled {
    /// A new store with so many sessions.
    ///
    /// # Panics
    ///
    /// If it can't be made.
    #[must_use]
    pub fn new(durability: Durability, sessions: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let mut options = OpenOptions::default();
        options.durability = durability;
        let mut store = RedbStore::open(directory.path(), options).expect("a new store");
        store.replay(&mut |_| Ok(())).expect("an empty store");
        let sessions: Vec<Holder> = (1..=sessions as u64).map(holder).collect();
        let records = sessions
            .iter()
            .map(|holder| session(holder.queue))
            .collect();
        let retained = Vec::new();
        let batch = Batch { records, retained };
        store.commit(&batch).expect("room");
        let written_before = store.figures().bytes_written;
        Self {
            store,
            holders: Holders::of(&sessions),
            batch: Batch::default(),
            next: 1,
            oldest: 1,
            written_before,
            directory,
        }
    }

    /// Makes the next batch of so many messages.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn prepare(&mut self, messages: usize, step: Step) {
        self.batch.records.clear();
        for _ in 0..messages {
            self.batch.records.push(Record::Enqueued {
                position: position(self.next),
                message: message(self.next, "sensors/hall/temperature"),
                holders: self.holders.clone(),
            });
            self.next += 1;
        }
        if step == Step::Passing && self.next > 2 * messages as u64 {
            let positions = (self.oldest..).take(messages).map(position).collect();
            self.oldest += messages as u64;
            for queue in self.holders.iter().map(|holder| holder.queue) {
                let positions = Box::clone(&positions);
                self.batch.records.push(Record::Done { queue, positions });
            }
        }
    }

    /// Commits the batch.
    ///
    /// # Panics
    ///
    /// If the store fails.
    pub fn commit(&mut self) {
        self.store.commit(&self.batch).expect("room");
    }

    /// The store, and the directory that it is in as long as that lives.
    #[must_use]
    pub fn into_parts(self) -> (RedbStore, TempDir) {
        (self.store, self.directory)
    }

    /// Bytes written since the sessions were there, and messages.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        let written = self.store.figures().bytes_written - self.written_before;
        (written, (self.next - 1).max(1))
    }
}

/// A batch of retained messages: topics that count up from `first`.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn retained_batch(first: u64, count: u64) -> Batch {
    let retained = first..first + count;
    let retained = retained
        .map(|number| RetainedChange::Set(message(number, &format!("devices/{number}/state"))));
    Batch {
        records: Vec::new(),
        retained: retained.collect(),
    }
}

fn position(number: u64) -> Position {
    // As shards count: 64 apart.
    Position::new(number * 64).expect("counted from 1")
}

fn message(sequence: u64, topic: &str) -> Message {
    Message::new(&MessageParts {
        id: MsgId {
            node: 0,
            incarnation: 1,
            sequence,
        },
        topic: TopicName::new(topic).expect("a topic name"),
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: UnixMillis::NEVER,
        properties: PublishProperties::EMPTY,
        payload: &[7; PAYLOAD],
    })
}

fn holder(number: u64) -> Holder {
    Holder {
        queue: QueueId::new(number * 64).expect("counted from 1"),
        form: Form::new(QoS::AtLeastOnce, false, &[]),
    }
}

fn session(queue: QueueId) -> Record {
    Record::Session(Box::new(SessionRecord {
        session: queue,
        client_id: format!("client-{}", queue.get()).into(),
        version: ProtocolVersion::V5,
        expiry_secs: u32::MAX,
        disconnected_at: Some(UnixMillis(0)),
        will: None,
    }))
}
