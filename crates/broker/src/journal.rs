//! The thread of the journal: it makes what shards post durable, and tells them.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_broker_core::{Batch, Journal, JournalError, Load, Maintenance};

use crate::config::Durability;
use crate::fresh::Fresh;
use crate::outbox::{Outbox, Post, Taken, Wait};
use crate::shared::Shared;

/// Starts the thread. It ends when every shard has ended and what they posted is committed, or when it fails: then
/// nothing more is acknowledged, and the broker stops.
pub(crate) fn start(
    shared: &Arc<Shared>,
    outbox: &Arc<Outbox>,
    journal: Box<dyn Journal>,
) -> io::Result<JoinHandle<()>> {
    let ended = Ended {
        shared: Arc::clone(shared),
        outbox: Arc::clone(outbox),
    };
    let committer = Committer::new(shared, outbox, journal);
    std::thread::Builder::new()
        .name("whimbrel-journal".to_owned())
        .spawn(move || {
            // Dropped last: whoever waits for the broker's end may open the journal again.
            let ended = ended;
            if let Err(failure) = committer.run() {
                failure.report();
                ended.shared.fail("the journal failed");
            }
        })
}

/// The journal with what it needs to work for the shards.
///
/// There is no timer between a post and its commit: while one batch is being committed, the next one gathers.
struct Committer {
    journal: Box<dyn Journal>,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    /// Empty between commits; kept for its memory.
    post: Post,
    /// Empty between commits; kept for its memory.
    batch: Batch,
    maintenance: Maintenance,
    disk: Disk,
}

/// Whether there is room, and when that was last said.
#[derive(Debug)]
struct Disk {
    is_full: bool,
    said: Option<Instant>,
}

/// Why the thread ends before its time.
#[derive(Debug)]
enum Failure {
    Journal(JournalError),
    /// The broker stopped while the disk was full.
    GaveUp {
        records: usize,
    },
}

impl Committer {
    fn new(shared: &Arc<Shared>, outbox: &Arc<Outbox>, journal: Box<dyn Journal>) -> Self {
        let shards = shared.shards().count();
        Self {
            journal,
            shared: Arc::clone(shared),
            outbox: Arc::clone(outbox),
            post: Post::new(shards),
            batch: Batch::default(),
            // A start may have found what nobody owes any more.
            maintenance: Maintenance::More,
            disk: Disk {
                is_full: false,
                said: None,
            },
        }
    }

    fn run(mut self) -> Result<(), Failure> {
        self.look_at_disk();
        loop {
            let wait = match self.maintenance {
                Maintenance::More => Wait::Not,
                // Nothing may be posted that would be followed by a look at the disk.
                Maintenance::Done if self.disk.is_full => Wait::For(FULL_RETRY),
                Maintenance::Done => Wait::ForEver,
            };
            match self.outbox.take(&mut self.post, wait) {
                Taken::Post => self.serve()?,
                Taken::Nothing => self.maintain()?,
                Taken::Closed => break,
            }
        }
        // The last word: what the index's log still has.
        self.commit()
    }

    /// Works through one post.
    fn serve(&mut self) -> Result<(), Failure> {
        self.answer_loads()?;
        if self.shared.config.durability == Durability::None {
            // So never more than this one batch is acknowledged and not written: what the next one gathers counts
            // against the shards' windows until it is taken.
            self.tell_committed();
        }
        std::mem::swap(&mut self.batch.records, &mut self.post.records);
        self.post.retained_swept = false;
        self.commit()?;
        if self.shared.config.durability != Durability::None {
            self.tell_committed();
        }
        self.maintenance = Maintenance::More;
        Ok(())
    }

    /// Commits the batch, with what the index's log has of retained messages by now: whatever a record of the batch
    /// speaks of is in it.
    fn commit(&mut self) -> Result<(), Failure> {
        self.batch.retained = self.shared.index.take_retained_changes();
        if self.batch.records.is_empty() && self.batch.retained.is_empty() {
            return Ok(());
        }
        let mut stopping_since: Option<Instant> = None;
        while let Err(error) = self.journal.commit(&self.batch) {
            if !matches!(error, JournalError::Full) {
                return Err(error.into());
            }
            self.note_disk(true);
            if self.outbox.pause(FULL_RETRY) {
                let now = Instant::now();
                let since = *stopping_since.get_or_insert(now);
                if now.duration_since(since) >= self.shared.config.close_timeout {
                    return Err(Failure::GaveUp {
                        records: self.batch.records.len(),
                    });
                }
            }
        }
        self.batch.records.clear();
        self.batch.retained.clear();
        self.look_at_disk();
        Ok(())
    }

    /// Tells the shards that what they posted is committed: one lock and at most one wake each.
    fn tell_committed(&mut self) {
        for (shard, count) in self.shared.shards().zip(&mut self.post.counts) {
            let count = std::mem::take(count);
            if count > 0 {
                self.shared.inbox(shard).committed(count);
            }
        }
    }

    /// Does one step of what was put off.
    fn maintain(&mut self) -> Result<(), Failure> {
        match self.journal.maintain() {
            Ok(left) => {
                self.maintenance = left;
                self.look_at_disk();
            }
            Err(JournalError::Full) => {
                // Tried again with the next look at the disk.
                self.maintenance = Maintenance::Done;
                self.note_disk(true);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads messages back that shards asked for, before the batch is committed.
    ///
    /// What is asked for was committed before, or stands in the batch. The batch may also say that it is done with, in a
    /// record that was posted after the load.
    fn answer_loads(&mut self) -> Result<(), Failure> {
        if self.post.loads.is_empty() {
            return Ok(());
        }
        let fresh = Fresh::new(&self.post.records);
        for (shard, load) in self.post.loads.drain(..) {
            let Load {
                session,
                queue,
                positions,
            } = load;
            let messages = fresh.read(&mut *self.journal, queue, &positions)?;
            self.shared.inbox(shard).loaded(session, messages);
        }
        Ok(())
    }

    /// Asks the journal whether there is room, and publishes its figures.
    fn look_at_disk(&mut self) {
        let is_full = self.journal.is_full();
        self.note_disk(is_full);
    }

    fn note_disk(&mut self, is_full: bool) {
        let is_news = self.disk.is_full != is_full;
        self.disk.is_full = is_full;
        self.outbox.set_stats(self.journal.figures(), is_full);
        if is_news {
            for shard in self.shared.shards() {
                self.shared.inbox(shard).disk_full(is_full);
            }
        }
        let now = Instant::now();
        let is_due = self
            .disk
            .said
            .is_none_or(|said| now.duration_since(said) >= FULL_LOG_INTERVAL);
        if is_full && (is_news || is_due) {
            self.disk.said = Some(now);
            tracing::warn!(
                "no room on the disk: publications of QoS 1 and 2 that would have to be stored are refused, \
                 or wait; make room, and the broker goes on by itself"
            );
        } else if is_news {
            tracing::info!("there is room on the disk again");
        }
    }
}

impl Failure {
    /// Says what happened, and what to do.
    fn report(&self) {
        match self {
            Self::Journal(error) => tracing::error!(
                error = %Chain(error),
                "the journal failed: nothing more is acknowledged; what was acknowledged is kept. Look after the disk, \
                 restart the machine, then the broker; if it refuses to start, see `whimbrel store check`"
            ),
            Self::GaveUp { records } => tracing::error!(
                records,
                "the broker stopped while there was no room on the disk: the last records are not kept"
            ),
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// An error with everything behind it, in one line.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Notes the end of the thread, whatever ended it.
struct Ended {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.outbox.abandon();
        if std::thread::panicking() {
            self.shared.fail("the journal's thread panicked");
        }
        self.shared.journal_ended();
    }
}

/// How long a full disk is left alone.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// Between two lines of the log that say that the disk is still full.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(30);
