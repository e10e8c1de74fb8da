//! [`Journal`]: where records become durable.

use std::error::Error;

use crate::record::{Form, Position, QueueId, Record, RetainedChange};
use crate::record::{GroupRecord, SessionRecord, SubscriptionRecord, WindowRecord};
use crate::{Message, MsgId, ShardId};

/// A journal: commits batches of records, reads queued messages back, and tells all of it to a broker that starts.
///
/// Every call blocks. One thread owns it; while one commit runs, the records of the next one gather, so that a
/// group commit needs no timer. `docs/storage.md` says what an implementation promises; one suite of tests
/// (`whimbrel_store::suite`) holds every implementation to it.
pub trait Journal: Send {
    /// How often this store was opened, this time included: part of every [`MsgId`] of this start. Known from the
    /// start, because what is replayed goes to shards that give identities.
    fn incarnation(&self) -> u32;

    /// Tells everything that is durable, in the order of [`Replayed`]'s variants; messages by ascending position. To
    /// be called once, before anything else.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where what is stored can't be what was committed.
    fn replay(
        &mut self,
        apply: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError>;

    /// Makes a batch durable, all of it or nothing.
    ///
    /// # Errors
    ///
    /// After [`JournalError::Full`] nothing of the batch is durable and it may be tried again. After any other error
    /// it is not known what is: no more may be acknowledged, and the journal is to be dropped.
    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError>;

    /// Reads messages of one queue, in the order of `positions`. All of them were committed and not said to be done.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where one of them is not there.
    fn read(
        &mut self,
        queue: QueueId,
        positions: &[Position],
    ) -> Result<Vec<StoredMessage>, JournalError>;

    /// Does one bounded step of what was put off, such as removing the messages of ended sessions. Called
    /// while there is nothing to commit.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    fn maintain(&mut self) -> Result<Maintenance, JournalError>;

    /// Whether there is so little room on the disk that messages are to be refused. Acknowledgements and removals
    /// go on. Asked between commits.
    fn is_full(&mut self) -> bool;

    /// Figures since the start, for operators.
    fn figures(&self) -> JournalFigures;
}

/// What is committed together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records, in the order of each shard.
    pub records: Vec<Record>,
    /// Retained messages, in the order of the index, taken after the records.
    pub retained: Vec<RetainedChange>,
}

/// One thing that a journal tells a broker that starts.
#[derive(Debug)]
pub enum Replayed {
    /// A shared subscription.
    Group(GroupRecord),
    /// A session.
    Session(SessionRecord),
    /// Subscriptions of a session.
    Subscriptions {
        /// The session's queue.
        session: QueueId,
        /// Some of its subscriptions.
        subscriptions: Vec<SubscriptionRecord>,
    },
    /// The open exchanges of a session.
    Window(WindowRecord),
    /// A message that was taken over and is not released.
    Inbound {
        /// The queue of the publisher's session, which may have ended.
        session: QueueId,
        /// The publisher's packet identifier; 0 for a will.
        packet_id: u16,
        /// The message.
        message: Message,
    },
    /// Queues that had a message which is not released and which they are done with.
    Known {
        /// The identity of the message.
        message: MsgId,
        /// The queues.
        queues: Vec<QueueId>,
    },
    /// A queued message.
    Message {
        /// Its place.
        position: Position,
        /// The message.
        message: Message,
        /// Every queue it was recorded for. A session's owes it if its window says so
        /// ([`WindowRecord::owes`]) or there is none; a group's always does.
        holders: Vec<Holder>,
    },
    /// A retained message.
    Retained(Message),
    /// The highest numbers that anything stored names, also what nobody needs any more and is not told: places and
    /// queues that are given from now on are above them.
    Used {
        /// The highest place.
        position: Option<Position>,
        /// The highest queue.
        queue: Option<QueueId>,
    },
}

/// A queue that holds a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The queue.
    pub queue: QueueId,
    /// How its client gets the message.
    pub form: Form,
}

/// A message that was read back.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its place.
    pub position: Position,
    /// The message.
    pub message: Message,
    /// How the client of the queue gets it.
    pub form: Form,
}

/// What a replay found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// As [`Journal::incarnation`] says.
    pub incarnation: u32,
    /// Things that were told.
    pub items: u64,
}

/// Whether something is left to be maintained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// Nothing.
    Done,
    /// Call again.
    More,
}

/// What a journal did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalFigures {
    /// Batches committed.
    pub commits: u64,
    /// Records committed.
    pub records: u64,
    /// Times the disk was told to make its cache durable.
    pub syncs: u64,
    /// Bytes written to the disk.
    pub bytes_written: u64,
    /// Bytes the store takes on the disk now.
    pub bytes_stored: u64,
}

/// A journal could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// No room on the disk.
    #[error("no room on the disk")]
    Full,
    /// What is stored can't be what was committed.
    #[error("the store is damaged: {detail}")]
    Damaged {
        /// What was found, and where.
        detail: String,
    },
    /// The disk or the store failed.
    #[error("the store failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// A request to read messages of a session's queue back.
#[derive(Debug)]
pub struct Load {
    /// The session that waits; opaque, to be handed to [`Shard::handle_loaded`](crate::Shard::handle_loaded).
    pub session: crate::SessionKey,
    /// Its queue.
    pub queue: QueueId,
    /// Places of the messages, in order.
    pub positions: Vec<Position>,
}

/// Records of one shard on their way to the journal.
#[derive(Debug)]
pub struct ShardRecords {
    /// The shard.
    pub shard: ShardId,
    /// Its records, in order.
    pub records: Vec<Record>,
}
