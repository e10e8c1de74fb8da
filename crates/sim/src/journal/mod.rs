//! The journal of a simulated broker: what shards have posted, and the store that it is committed to.

mod model;
mod redb;
mod view;

use std::collections::VecDeque;
use std::fmt;

use whimbrel_broker_core::{
    Batch, Index, Journal, JournalError, Load, Position, Record, SessionKey, StoredMessage,
};

pub(crate) use self::model::ModelDisk;
pub(crate) use self::redb::RedbDisk;
pub(crate) use self::view::View;
use crate::rng::Rng;

/// What a journal keeps its tables on. It outlives the process.
pub(crate) trait Disk: fmt::Debug {
    /// A process opens its journal.
    ///
    /// # Errors
    ///
    /// As the store says: it is damaged, or can't be read.
    fn open(&mut self) -> Result<Box<dyn Journal>, JournalError>;

    /// A commit fails in this way: the next one or, by what it writes, one of the next.
    fn fail(&mut self, failure: Failure, after: u64);

    /// Whether there is room for messages; a disk without any lets commits fail.
    fn set_room(&mut self, room: Room);

    /// The process has died, or the machine: what was not synced may be lost.
    ///
    /// # Errors
    ///
    /// What the disk has that it must not have, or has not and must.
    fn crash(&mut self, rng: &mut Rng) -> Result<Remains, String>;
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// What was committed.
    Committed,
    /// And the batch whose commit failed.
    Doubtful,
}

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The disk reports an error, and the batch is not on it.
    Lost,
    /// The disk reports an error, although the batch is on it.
    Kept,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// Messages are to be refused; everything else fits.
    Little,
    /// Nothing can be committed.
    None,
}

/// The journal's side of one process: what a runtime has a thread for.
///
/// A shard posts all records of a turn at once. A commit takes the oldest posts of each shard, whole ones, and the
/// index's log of retained messages after them.
pub(crate) struct Committer {
    journal: Box<dyn Journal>,
    /// By shard, the oldest first.
    posts: Vec<VecDeque<Post>>,
    /// A batch for which there was no room.
    refused: Option<Taken>,
    /// The batch whose commit failed: what is durable of it is not known.
    failed: Option<Taken>,
    /// What was read back and not handed to its shard yet.
    loaded: VecDeque<Loaded>,
}

/// All that a shard said in one turn.
#[derive(Debug)]
struct Post {
    posted_ms: u64,
    records: Vec<Record>,
    loads: Vec<Load>,
}

/// A batch and how many records of each shard stand in it.
#[derive(Debug, Default)]
struct Taken {
    batch: Batch,
    counts: Vec<u64>,
}

/// Messages that a shard asked for.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) read_ms: u64,
    pub(crate) shard: usize,
    pub(crate) session: SessionKey,
    pub(crate) messages: Vec<StoredMessage>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Committed {
    /// There was none.
    Nothing,
    /// It is durable.
    Batch {
        /// Records of each shard.
        counts: Vec<u64>,
        batch: Batch,
    },
    /// There is no room: to be tried again.
    NoRoom,
    /// What is durable is not known.
    Failed(JournalError),
}

impl Committer {
    pub(crate) fn new(journal: Box<dyn Journal>, shards: usize) -> Self {
        Self {
            journal,
            posts: (0..shards).map(|_| VecDeque::new()).collect(),
            refused: None,
            failed: None,
            loaded: VecDeque::new(),
        }
    }

    /// A shard's turn is over.
    pub(crate) fn post(
        &mut self,
        shard: usize,
        posted_ms: u64,
        records: Vec<Record>,
        loads: Vec<Load>,
    ) {
        if !records.is_empty() || !loads.is_empty() {
            self.posts[shard].push_back(Post {
                posted_ms,
                records,
                loads,
            });
        }
    }

    /// Posts of a shard that were made before `before_ms`.
    pub(crate) fn older(&self, shard: usize, before_ms: u64) -> usize {
        let older = |post: &&Post| post.posted_ms < before_ms;
        self.posts[shard].iter().take_while(older).count()
    }

    /// Whether there is a batch that found no room.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether the journal asks for messages to be refused.
    pub(crate) fn is_full(&mut self) -> bool {
        self.journal.is_full()
    }

    /// Commits the oldest posts of each shard, so many of each; or the batch that found no room before.
    pub(crate) fn commit(&mut self, index: &Index, counts: &[usize], now_ms: u64) -> Committed {
        let taken = match self.refused.take() {
            Some(taken) => taken,
            None => match self.take(counts, now_ms) {
                Ok(taken) => taken,
                Err(error) => return Committed::Failed(error),
            },
        };
        self.commit_taken(index, taken)
    }

    fn commit_taken(&mut self, index: &Index, mut taken: Taken) -> Committed {
        taken.batch.retained.extend(index.take_retained_changes());
        let Taken { batch, counts } = taken;
        if batch.records.is_empty() && batch.retained.is_empty() {
            return Committed::Nothing;
        }
        match self.journal.commit(&batch) {
            Ok(()) => Committed::Batch { counts, batch },
            Err(JournalError::Full) => {
                self.refused = Some(Taken { batch, counts });
                Committed::NoRoom
            }
            Err(error) => {
                self.failed = Some(Taken { batch, counts });
                Committed::Failed(error)
            }
        }
    }

    /// The batch whose commit failed, and how many records of each shard it has.
    pub(crate) fn take_failed(&mut self) -> Option<(Vec<u64>, Batch)> {
        self.failed.take().map(|taken| (taken.counts, taken.batch))
    }

    /// Takes posts, and reads what they ask for. What is asked for was committed before or stands in the batch, which
    /// may also say, in a later post, that it is done with.
    fn take(&mut self, counts: &[usize], now_ms: u64) -> Result<Taken, JournalError> {
        let mut taken = Taken::default();
        let mut loads = Vec::new();
        for (shard, (posts, &count)) in self.posts.iter_mut().zip(counts).enumerate() {
            let mut records = 0;
            for post in posts.drain(..count.min(posts.len())) {
                records += post.records.len() as u64;
                taken.batch.records.extend(post.records);
                loads.extend(post.loads.into_iter().map(|load| (shard, load)));
            }
            taken.counts.push(records);
        }
        for (shard, load) in loads {
            let messages = self.read(&taken.batch.records, &load)?;
            self.loaded.push_back(Loaded {
                read_ms: now_ms,
                shard,
                session: load.session,
                messages,
            });
        }
        Ok(taken)
    }

    fn read(&mut self, fresh: &[Record], load: &Load) -> Result<Vec<StoredMessage>, JournalError> {
        let mut messages = Vec::with_capacity(load.positions.len());
        for &wanted in &load.positions {
            match fresh
                .iter()
                .find_map(|record| stored_in(record, load, wanted))
            {
                Some(message) => messages.push(message),
                None => messages.extend(self.journal.read(load.queue, &[wanted])?),
            }
        }
        Ok(messages)
    }

    /// What was read first and is not handed over, if that was before `before_ms`.
    pub(crate) fn pop_loaded(&mut self, before_ms: u64) -> Option<Loaded> {
        let is_due = self.loaded.front()?.read_ms < before_ms;
        if is_due {
            self.loaded.pop_front()
        } else {
            None
        }
    }

    /// Does what the journal has put off, all of it.
    pub(crate) fn maintain(&mut self) -> Result<(), JournalError> {
        use whimbrel_broker_core::Maintenance;
        while self.journal.maintain()? == Maintenance::More {}
        Ok(())
    }
}

/// The message at a place, if this is the record that puts it there.
fn stored_in(record: &Record, load: &Load, wanted: Position) -> Option<StoredMessage> {
    let Record::Enqueued {
        position,
        message,
        holders,
    } = record
    else {
        return None;
    };
    if *position != wanted {
        return None;
    }
    let holder = holders.iter().find(|holder| holder.queue == load.queue)?;
    Some(StoredMessage {
        position: wanted,
        message: message.clone(),
        form: holder.form,
    })
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer")
            .field("posts", &self.posts)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
