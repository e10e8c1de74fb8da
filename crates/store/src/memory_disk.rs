//! [`MemoryDisk`]: a disk in memory that does what disks do at the worst moment.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::room::Room;

/// A disk in memory, for simulators and tests: it keeps apart what was synced, and fails as it is told.
///
/// Clones are the same disk. It has no clock and no randomness of its own: the same calls and the same random numbers
/// give the same bytes.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// What a process reads: all writes, synced or not.
    seen: Vec<u8>,
    /// What survives the loss of power for certain.
    synced: Vec<u8>,
    /// What may or may not survive it, in order.
    unsynced: Vec<Change>,
    /// Changes that a failed sync was to make durable. A later sync says nothing of them.
    doubtful: Vec<Change>,
    /// The process that uses the disk: handles of an earlier one are dead.
    process: u64,
    /// Blocks that take room.
    allocated: BTreeSet<u64>,
    capacity_blocks: Option<u64>,
    reserve_blocks: u64,
    faults: Vec<PlannedFault>,
    writes: u64,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write { offset: usize, data: Vec<u8> },
}

#[derive(Clone, Copy, Debug)]
struct PlannedFault {
    call: DiskCall,
    /// Calls of this kind that still go well.
    after: u64,
    /// Calls that fail then.
    times: u64,
    fault: DiskFault,
}

/// A kind of call to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    /// A write, or a change of the length.
    Write,
    /// A sync.
    Sync,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// No room.
    Full,
    /// Broken.
    Broken,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process alone: what it wrote is there.
    Process,
    /// The power: of what was not synced, some is there, some not, and some in part.
    Power,
}

impl MemoryDisk {
    /// An empty disk without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these bytes on it.
    #[must_use]
    pub fn with_image(image: Vec<u8>) -> Self {
        let blocks = blocks_of(0, image.len()).collect();
        Self(Arc::new(Mutex::new(Disk {
            seen: image.clone(),
            synced: image,
            allocated: blocks,
            ..Disk::default()
        })))
    }

    /// What a process reads.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        self.lock().seen.clone()
    }

    /// For a process that starts now: what [`RedbStore::on_backend`](crate::RedbStore::on_backend) takes.
    #[must_use]
    pub fn storage(&self) -> Box<dyn StorageBackend> {
        let process = self.lock().process;
        Box::new(Handle {
            disk: self.clone(),
            process,
        })
    }

    /// The room on the disk.
    #[must_use]
    pub fn room(&self) -> Box<dyn Room> {
        Box::new(self.clone())
    }

    /// Ends the process that uses the disk. Handles that were given out before do nothing any more.
    ///
    /// Of what was not synced, `random` decides what survives the loss of power: write by write, and sector by sector
    /// of 512 bytes.
    pub fn crash(&self, crash: Crash, random: &mut dyn FnMut() -> u64) {
        let mut disk = self.lock();
        disk.process += 1;
        disk.faults.clear();
        if crash == Crash::Power {
            let mut survived = std::mem::take(&mut disk.synced);
            let doubtful = std::mem::take(&mut disk.doubtful);
            let unsynced = std::mem::take(&mut disk.unsynced);
            for change in doubtful.into_iter().chain(unsynced) {
                survive(&mut survived, change, random);
            }
            let end = blocks_of(0, survived.len()).end;
            disk.allocated.split_off(&end);
            disk.synced = survived.clone();
            disk.seen = survived;
        }
    }

    /// After `after` more calls of this kind, `times` of them fail.
    pub fn fail(&self, call: DiskCall, after: u64, times: u64, fault: DiskFault) {
        self.lock().faults.push(PlannedFault {
            call,
            after,
            times,
            fault,
        });
    }

    /// Takes back all that [`fail`](Self::fail) planned.
    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    /// Bounds the disk, or not.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_blocks = bytes.map(|bytes| bytes / BLOCK);
    }

    /// Writes so far, those that failed included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Syncs so far, those that failed included.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn change(&mut self, change: Change) -> io::Result<()> {
        self.writes += 1;
        self.planned(DiskCall::Write)?;
        if let Change::Write { offset, data } = &change {
            let new = blocks_of(*offset, data.len());
            let new: Vec<u64> = new
                .filter(|block| !self.allocated.contains(block))
                .collect();
            let taken = self.allocated.len() as u64 + self.reserve_blocks + new.len() as u64;
            if self.capacity_blocks.is_some_and(|most| taken > most) {
                return Err(DiskFault::Full.error());
            }
            self.allocated.extend(new);
        }
        apply(&mut self.seen, &change);
        if let Change::Length(length) = change {
            let end = blocks_of(0, length).end;
            self.allocated.split_off(&end);
        }
        self.unsynced.push(change);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        if let Err(error) = self.planned(DiskCall::Sync) {
            let unsynced = std::mem::take(&mut self.unsynced);
            self.doubtful.extend(unsynced);
            return Err(error);
        }
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.synced, &change);
        }
        Ok(())
    }

    fn planned(&mut self, call: DiskCall) -> io::Result<()> {
        for planned in &mut self.faults {
            if planned.call != call {
                continue;
            }
            if planned.after > 0 {
                planned.after -= 1;
            } else if planned.times > 0 {
                planned.times -= 1;
                return Err(planned.fault.error());
            }
        }
        Ok(())
    }

    fn free_blocks(&self) -> Option<u64> {
        let taken = self.allocated.len() as u64 + self.reserve_blocks;
        Some(self.capacity_blocks?.saturating_sub(taken))
    }
}

impl DiskFault {
    fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::Broken => io::Error::other("the disk is broken"),
        }
    }
}

/// One process's way to the disk.
#[derive(Debug)]
struct Handle {
    disk: MemoryDisk,
    process: u64,
}

impl Handle {
    fn lock(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock();
        if disk.process == self.process {
            Ok(disk)
        } else {
            Err(io::Error::other("the process has ended"))
        }
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.lock()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let read = start
            .checked_add(out.len())
            .and_then(|end| disk.seen.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.lock()?.change(Change::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.lock()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let data = data.to_vec();
        self.lock()?.change(Change::Write { offset, data })
    }
}

impl Room for MemoryDisk {
    fn free_bytes(&self) -> Option<u64> {
        self.lock().free_blocks().map(|blocks| blocks * BLOCK)
    }

    fn give_up_reserve(&mut self) -> bool {
        std::mem::take(&mut self.lock().reserve_blocks) > 0
    }

    fn make_reserve(&mut self) {
        let mut disk = self.lock();
        if disk.reserve_blocks == 0 && disk.free_blocks().is_none_or(|free| free >= RESERVE_BLOCKS)
        {
            disk.reserve_blocks = RESERVE_BLOCKS;
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(place) = bytes.get_mut(*offset..end) {
                place.copy_from_slice(data);
            }
        }
    }
}

/// What the loss of power leaves of a change.
fn survive(bytes: &mut Vec<u8>, change: Change, random: &mut dyn FnMut() -> u64) {
    match random() % 4 {
        0 => {}
        1 => {
            let Change::Write { offset, data } = change else {
                return;
            };
            let mut at = offset;
            let mut rest = &data[..];
            while !rest.is_empty() {
                let length = rest.len().min(SECTOR - at % SECTOR);
                let (sector, behind) = rest.split_at(length);
                if random().is_multiple_of(2) {
                    let data = sector.to_vec();
                    apply(bytes, &Change::Write { offset: at, data });
                }
                at += length;
                rest = behind;
            }
        }
        _ => apply(bytes, &change),
    }
}

fn blocks_of(offset: usize, length: usize) -> Range<u64> {
    let (first, end) = (offset as u64 / BLOCK, (offset + length) as u64);
    first..end.div_ceil(BLOCK)
}

const SECTOR: usize = 512;
const BLOCK: u64 = 4096;
/// As much as a data directory has.
const RESERVE_BLOCKS: u64 = 8 * 1024 * 1024 / BLOCK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let disk = MemoryDisk::new();
        let storage = disk.storage();
        storage.write(0, &[1; 2048]).expect("room");
        storage.sync_data().expect("works");
        storage.write(1024, &[2; 2048]).expect("room");
        assert_eq!(disk.image().len(), 3072);
        disk.crash(Crash::Power, &mut || 0);
        assert_eq!(disk.image(), [1; 2048]);
        assert!(storage.len().is_err());
    }

    #[test]
    fn a_write_may_be_torn() {
        let disk = MemoryDisk::new();
        let storage = disk.storage();
        storage.write(0, &[1; 2048]).expect("room");
        let mut numbers = [1, 1, 0, 1, 0].into_iter();
        disk.crash(Crash::Power, &mut || numbers.next().unwrap_or(0));
        let torn = [[0; 512], [1; 512], [0; 512], [1; 512]].concat();
        assert_eq!(disk.image(), torn);
    }

    #[test]
    fn a_second_sync_does_not_make_good_for_one_that_failed() {
        let disk = MemoryDisk::new();
        let storage = disk.storage();
        storage.write(0, &[1; 10]).expect("room");
        disk.fail(DiskCall::Sync, 0, 1, DiskFault::Broken);
        assert!(storage.sync_data().is_err());
        storage.sync_data().expect("works again");
        disk.crash(Crash::Power, &mut || 0);
        assert!(disk.image().is_empty());
    }

    #[test]
    fn a_bounded_disk_is_full_and_has_a_reserve() {
        let disk = MemoryDisk::new();
        let mut room = disk.room();
        disk.set_capacity(Some(RESERVE_BLOCKS * BLOCK + 2 * BLOCK));
        room.make_reserve();
        let storage = disk.storage();
        storage.set_len(100 * BLOCK).expect("holes take no room");
        storage.write(50 * BLOCK, &[1; 4096]).expect("room");
        assert_eq!(room.free_bytes(), Some(BLOCK));
        let full = storage.write(0, &[1; 4097]).expect_err("full");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(room.give_up_reserve() && !room.give_up_reserve());
        storage.write(0, &[1; 4097]).expect("the reserve's room");
    }
}
