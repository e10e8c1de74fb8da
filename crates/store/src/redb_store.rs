//! [`RedbStore`]: the journal in a redb database.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, StorageBackend};
use whimbrel_broker_core::{
    Batch, Journal, JournalError, JournalFigures, Maintenance, Position, QueueId, Record, Replay,
    Replayed, StoredMessage,
};

use crate::backend::Watched;
use crate::directory::DataDirectory;
use crate::fault::{Fault, damaged, failed, guard};
use crate::format::{Refusal, UPGRADES, begin};
use crate::ledger::Ledger;
use crate::open_error::OpenError;
use crate::options::{Durability, OpenOptions};
use crate::replay::{Orphans, Replaying};
use crate::room::Room;
use crate::sweep::{Sweep, keep, remove_orphans};
use crate::tables::{MESSAGES, MessageRow, RowError, Table, ValueBuffer, number_key};
use crate::write::write_batch;

/// The journal in a redb database: one transaction for each batch, one sync for each transaction.
///
/// Opening it counts a start and makes that durable. Everything else is in [`Journal`]; `docs/storage.md` has the
/// tables.
#[derive(Debug)]
pub struct RedbStore {
    disk: Watched,
    room: Box<dyn Room>,
    options: OpenOptions,
    /// `None` after an error; after a full disk it is opened again.
    database: Option<Database>,
    state: State,
    /// Messages are refused, from too little room to enough again.
    is_full: bool,
    /// Whether the reserve was set aside since the store was opened, and not given up.
    has_reserve: bool,
    incarnation: u32,
    ledger: Ledger,
    orphans: Orphans,
    sweep: Option<Sweep>,
    buffer: ValueBuffer,
    commits: u64,
    records: u64,
}

/// ```text
/// Opened --replay--> Ready --no room--> Full --commit--> Ready
///    |                 |                  |
///    +-----------------+------------------+--any other error--> Failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The ledger knows nothing yet.
    Opened,
    Ready,
    /// The last commit found no room.
    Full,
    /// What is durable is not known.
    Failed,
}

/// A call after one that failed.
#[derive(Debug, thiserror::Error)]
#[error("the store failed before")]
struct FailedBefore;

impl RedbStore {
    /// Opens the store in a directory, and makes both where they are not.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub fn open(directory: impl AsRef<Path>, options: OpenOptions) -> Result<Self, OpenError> {
        let mut directory = DataDirectory::open(directory.as_ref())?;
        let storage = Box::new(directory.storage()?);
        if !directory.is_new() && matches!(StorageBackend::len(&*storage), Ok(0)) {
            // redb would begin a new database.
            let detail = "the file is empty".to_owned();
            return Err(OpenError::Damaged { detail });
        }
        let room = Box::new(directory.room());
        let mut store = Self::on(storage, room, options, &directory.database())?;
        directory.finish()?;
        store.is_full();
        Ok(store)
    }

    /// Opens the store that is on `storage`, or makes one if it is empty. The storage's locks are not used.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn on_backend(
        storage: Box<dyn StorageBackend>,
        room: Box<dyn Room>,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let mut store = Self::on(storage, room, options, &PathBuf::from("the storage"))?;
        store.is_full();
        Ok(store)
    }

    fn on(
        storage: Box<dyn StorageBackend>,
        room: Box<dyn Room>,
        options: OpenOptions,
        named: &Path,
    ) -> Result<Self, OpenError> {
        let disk = Watched::new(storage, options.durability == Durability::Sync);
        let mut store = Self {
            disk,
            room,
            options,
            database: None,
            state: State::Opened,
            is_full: false,
            has_reserve: false,
            incarnation: 0,
            ledger: Ledger::default(),
            orphans: Orphans::new(),
            sweep: None,
            buffer: ValueBuffer::default(),
            commits: 0,
            records: 0,
        };
        match store.begin(named) {
            Err(OpenError::Full) if store.room.give_up_reserve() => store.begin(named)?,
            other => other?,
        }
        Ok(store)
    }

    fn begin(&mut self, named: &Path) -> Result<(), OpenError> {
        let opened = guard(|| {
            let database = open_database(&self.disk, &self.options)?;
            Ok(begin(&database, UPGRADES).map(|incarnation| (database, incarnation)))
        });
        let refusal = match opened {
            Ok(Ok((database, incarnation))) => {
                self.database = Some(database);
                self.incarnation = incarnation;
                return Ok(());
            }
            Ok(Err(refusal)) => refusal,
            Err(fault) => Refusal::Fault(fault),
        };
        Err(match refusal {
            Refusal::Newer { found, known } => OpenError::NewerFormat { found, known },
            Refusal::NotAStore => OpenError::NotAStore {
                path: named.to_owned(),
                detail: "a database of another program".to_owned(),
            },
            Refusal::Fault(fault) => refused(fault, &self.disk, named),
        })
    }

    /// The database, opened again if it has to be.
    fn database(&mut self) -> Result<&Database, JournalError> {
        if self.state == State::Failed {
            return Err(failed(FailedBefore));
        }
        if self.database.is_none() {
            let opened = guard(|| open_database(&self.disk, &self.options));
            match opened.map_err(|fault| fault.told_apart(&self.disk)) {
                Ok(database) => self.database = Some(database),
                Err(JournalError::Full) => return Err(JournalError::Full),
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            }
        }
        self.database.as_ref().ok_or_else(|| failed(FailedBefore))
    }

    /// Runs something that commits one transaction.
    fn transact<T>(
        &mut self,
        run: impl FnOnce(&mut Self, &redb::WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        if self.state == State::Opened {
            self.replay(&mut |_| Ok(()))?;
        }
        if self.state == State::Full && !self.has_room_to_try() {
            return Err(JournalError::Full);
        }
        let began = guard(|| Ok(self.database()?.begin_write()?));
        let result = began.and_then(|transaction| {
            guard(|| {
                let done = run(self, &transaction)?;
                transaction.commit()?;
                Ok(done)
            })
        });
        match result {
            Ok(done) => {
                self.ledger.settle();
                self.state = State::Ready;
                // What failed and was not needed.
                self.disk.take_failure();
                Ok(done)
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    fn fail(&mut self, fault: Fault) -> JournalError {
        let error = fault.told_apart(&self.disk);
        // redb is asked nothing more: what it has in memory may be wrong. What fails while it closes is no news.
        self.database = None;
        self.disk.take_failure();
        if matches!(error, JournalError::Full) && self.state != State::Failed {
            self.ledger.take_back();
            self.has_reserve &= !self.room.give_up_reserve();
            self.state = State::Full;
        } else {
            self.state = State::Failed;
        }
        error
    }

    /// After a full disk the whole database is read when it is opened: not before there is something to be hoped for.
    fn has_room_to_try(&self) -> bool {
        const ROOM_TO_TRY: u64 = 1024 * 1024;
        self.room
            .free_bytes()
            .is_none_or(|free| free >= ROOM_TO_TRY)
    }
}

pub(crate) fn open_database(disk: &Watched, options: &OpenOptions) -> Result<Database, Fault> {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    // The checksum of every page, after each start and not after a crash only: a page that was changed behind
    // redb's back may hide rows without a trace in those that are left.
    builder.set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(disk.clone())?)
}

fn refused(fault: Fault, disk: &Watched, named: &Path) -> OpenError {
    let is_another = matches!(&fault, Fault::Redb(redb::Error::Io(error))
        if error.kind() == std::io::ErrorKind::InvalidData);
    if is_another {
        return OpenError::NotAStore {
            path: named.to_owned(),
            detail: "not a database, or its first page is damaged".to_owned(),
        };
    }
    match fault.told_apart(disk) {
        JournalError::Full => OpenError::Full,
        JournalError::Damaged { detail } => OpenError::Damaged { detail },
        error => OpenError::Failed(error),
    }
}

impl Journal for RedbStore {
    fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn replay(
        &mut self,
        apply: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError> {
        self.ledger = Ledger::default();
        let transaction = self.database()?.begin_read().map_err(failed)?;
        let ledger = &mut self.ledger;
        let replayed = guard(|| Replaying::new(&transaction, ledger, apply).run());
        match replayed {
            Ok((items, orphans)) => {
                self.orphans = orphans;
                self.sweep = None;
                self.state = State::Ready;
                Ok(Replay {
                    incarnation: self.incarnation,
                    items,
                })
            }
            Err(fault) => {
                drop(transaction);
                Err(self.fail(fault))
            }
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError> {
        if batch.records.is_empty() && batch.retained.is_empty() {
            return Ok(());
        }
        if self.state == State::Opened {
            self.replay(&mut |_| Ok(()))?;
        }
        if !self.orphans.is_empty() {
            for record in &batch.records {
                if let Record::Enqueued { position, .. } = record {
                    keep(&mut self.orphans, position.get());
                }
            }
        }
        self.transact(|store, transaction| {
            write_batch(transaction, batch, &mut store.ledger, &mut store.buffer)
        })?;
        self.commits += 1;
        self.records += batch.records.len() as u64;
        Ok(())
    }

    fn read(
        &mut self,
        queue: QueueId,
        positions: &[Position],
    ) -> Result<Vec<StoredMessage>, JournalError> {
        let read = guard(|| {
            let transaction = self.database()?.begin_read()?;
            let table = transaction.open_table(MESSAGES)?;
            let stored = positions.iter().map(|&position| {
                let key = position.get();
                let row = table.get(key)?;
                stored(queue, position, row.as_ref().map(redb::AccessGuard::value))
            });
            stored.collect()
        });
        read.map_err(|fault| match fault {
            // A row alone is wrong: the next one can be read.
            Fault::Row(error) => damaged(error),
            fault => self.fail(fault),
        })
    }

    fn maintain(&mut self) -> Result<Maintenance, JournalError> {
        match self.state {
            State::Opened => drop(self.replay(&mut |_| Ok(()))?),
            State::Failed => return Err(failed(FailedBefore)),
            State::Ready | State::Full => {}
        }
        if self.sweep.is_none() && self.orphans.is_empty() && self.ledger.has_ended() {
            let ended = self.ledger.take_ended();
            self.sweep = Some(Sweep::new(ended, &self.ledger));
        }
        if !self.orphans.is_empty() {
            let left = self.transact(|store, transaction| {
                let Self {
                    orphans,
                    ledger,
                    buffer,
                    ..
                } = store;
                remove_orphans(transaction, orphans, ledger, buffer)
            })?;
            self.orphans.pop_front();
            if let Some(left) = left {
                self.orphans.push_front(left);
            }
        } else if let Some(sweep) = &self.sweep {
            let sweep = sweep.clone();
            self.sweep = self.transact(|store, transaction| {
                sweep.step(transaction, &mut store.ledger, &mut store.buffer)
            })?;
        }
        let is_done = self.orphans.is_empty() && self.sweep.is_none() && !self.ledger.has_ended();
        Ok(if is_done {
            Maintenance::Done
        } else {
            Maintenance::More
        })
    }

    fn is_full(&mut self) -> bool {
        let free = self.room.free_bytes().unwrap_or(u64::MAX);
        if free >= self.options.room_again_bytes {
            if !self.has_reserve {
                self.room.make_reserve();
                self.has_reserve = true;
            }
            self.is_full = false;
        } else if free < self.options.full_below_bytes {
            self.is_full = true;
        }
        self.is_full || self.state == State::Full
    }

    fn figures(&self) -> JournalFigures {
        let mut figures = JournalFigures::default();
        figures.commits = self.commits;
        figures.records = self.records;
        figures.syncs = self.disk.syncs();
        figures.bytes_written = self.disk.bytes_written();
        figures.bytes_stored = self.disk.stored();
        figures
    }
}

fn stored(queue: QueueId, position: Position, row: Option<&[u8]>) -> Result<StoredMessage, Fault> {
    let key = position.get();
    let fault = |fault: &str| RowError::new(Table::Messages, &number_key(key), fault);
    let value = row.ok_or_else(|| fault("the message is not there"))?;
    let parsed = MessageRow::parse(key, value)?;
    let holders = parsed.holders(key)?;
    let holder = holders
        .iter()
        .find(|holder| holder.queue == queue)
        .ok_or_else(|| fault("the queue does not hold the message"))?;
    Ok(StoredMessage {
        position,
        message: parsed.message(key)?,
        form: holder.form,
    })
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // Before the disk is let go.
        self.database = None;
        if self.state != State::Failed {
            self.disk.finish();
        }
    }
}
