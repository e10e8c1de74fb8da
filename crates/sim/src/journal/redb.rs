//! The store that runs in production, on a disk in memory that loses, tears and reorders what was not synced.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_broker_core::{
    Batch, Journal, JournalError, JournalFigures, Maintenance, Position, QueueId, Replay, Replayed,
    StoredMessage,
};
use whimbrel_store::{
    Crash, DiskCall, DiskFault, MemoryDisk, OpenOptions, RedbStore, Room as Free,
};

use super::model::Tables;
use super::view::View;
use super::{Disk, Failure, Remains, Room};
use crate::rng::Rng;

/// A store of redb on its disk, and beside it what it has to have.
#[derive(Debug, Default)]
pub(crate) struct RedbDisk {
    disk: MemoryDisk,
    shared: Arc<Mutex<Shared>>,
    /// A sync has failed or is to. What the operating system has in memory since then may never reach the disk, so that
    /// the machine is started anew, as `docs/storage.md` says.
    sync_fails: bool,
}

#[derive(Debug, Default)]
struct Shared {
    /// What was committed.
    model: Tables,
    /// A batch of which it is not known whether it is durable.
    doubtful: Option<Batch>,
    room: Option<Room>,
}

/// The journal of one process.
struct RedbJournal {
    store: RedbStore,
    shared: Arc<Mutex<Shared>>,
}

/// What the store hears of the room on its disk.
#[derive(Debug)]
struct SimulatedRoom(Arc<Mutex<Shared>>);

impl RedbDisk {
    fn store(&self) -> Result<RedbStore, JournalError> {
        let mut options = OpenOptions::default();
        options.cache_bytes = CACHE_BYTES;
        let room = Box::new(SimulatedRoom(Arc::clone(&self.shared)));
        RedbStore::on_backend(self.disk.storage(), room, options)
            .map_err(|error| JournalError::Failed(Box::new(error)))
    }
}

impl Disk for RedbDisk {
    fn open(&mut self) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(RedbJournal {
            store: self.store()?,
            shared: Arc::clone(&self.shared),
        }))
    }

    fn fail(&mut self, failure: Failure, after: u64) {
        self.sync_fails |= failure == Failure::Kept;
        let call = match failure {
            Failure::Lost => DiskCall::Write,
            Failure::Kept => DiskCall::Sync,
        };
        let after = if failure == Failure::Kept { 0 } else { after };
        self.disk.fail(call, after, 1, DiskFault::Broken);
    }

    fn set_room(&mut self, room: Room) {
        self.disk.mend();
        if room == Room::None {
            self.disk
                .fail(DiskCall::Write, 0, u64::MAX, DiskFault::Full);
        }
        lock(&self.shared).room = Some(room);
    }

    fn crash(&mut self, rng: &mut Rng) -> Result<Remains, String> {
        let drawn = rng.pick(&[Crash::Process, Crash::Power]);
        let crash = if std::mem::take(&mut self.sync_fails) {
            Crash::Power
        } else {
            drawn
        };
        self.disk.crash(crash, &mut || rng.next());
        let mut store = self.store().map_err(|error| format!("{error:?}"))?;
        let found = View::of(&mut store).map_err(|error| format!("{error:?}"))?;
        let mut shared = lock(&self.shared);
        let doubtful = shared.doubtful.take();
        let before = View::of_tables(&shared.model);
        if found == before {
            return Ok(Remains::Committed);
        }
        let mut told = before.difference(&found);
        if let Some(batch) = doubtful {
            shared.model.apply(&batch);
            let after = View::of_tables(&shared.model);
            if found == after {
                return Ok(Remains::Doubtful);
            }
            told = format!("{told}; with the last batch: {}", after.difference(&found));
        }
        Err(told)
    }
}

impl Journal for RedbJournal {
    fn incarnation(&self) -> u32 {
        self.store.incarnation()
    }

    fn replay(
        &mut self,
        apply: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError> {
        self.store.replay(apply)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError> {
        let result = self.store.commit(batch);
        let mut shared = lock(&self.shared);
        match &result {
            Ok(()) => shared.model.apply(batch),
            Err(JournalError::Full) => {}
            Err(_) => {
                shared.doubtful = Some(Batch {
                    records: batch.records.clone(),
                    retained: batch.retained.clone(),
                });
            }
        }
        result
    }

    fn read(
        &mut self,
        queue: QueueId,
        positions: &[Position],
    ) -> Result<Vec<StoredMessage>, JournalError> {
        self.store.read(queue, positions)
    }

    fn maintain(&mut self) -> Result<Maintenance, JournalError> {
        self.store.maintain()
    }

    fn is_full(&mut self) -> bool {
        self.store.is_full()
    }

    fn figures(&self) -> JournalFigures {
        self.store.figures()
    }
}

impl Free for SimulatedRoom {
    fn free_bytes(&self) -> Option<u64> {
        match lock(&self.0).room {
            Some(Room::Little) => Some(LITTLE_BYTES),
            Some(Room::None) => Some(0),
            Some(Room::Enough) | None => None,
        }
    }

    fn give_up_reserve(&mut self) -> bool {
        false
    }

    fn make_reserve(&mut self) {}
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So small that pages are written before their commit, too.
const CACHE_BYTES: usize = 256 << 10;

/// Below the line at which messages are refused, and enough to commit.
const LITTLE_BYTES: u64 = 8 << 20;
