//! The simulated disk under the journal of a shard.
//!
//! This is where the store joins: it will keep its files on an implementation of [`Disk`] that
//! remembers what was written, tears the last write, and fails. Until then [`NullDisk`] keeps
//! nothing but when its records were written, for a broker whose state lives in memory only.

use std::collections::VecDeque;
use std::fmt;

use whimbrel_broker_core::OldRecord;

/// What a shard's records are written to. It outlives the process.
pub(crate) trait Disk: fmt::Debug {
    /// Writes a record behind all others. It is not durable yet.
    fn append(&mut self, now_ms: u64, record: &OldRecord);

    /// Records that were written before `before_ms` and are not durable.
    fn unsynced(&self, before_ms: u64) -> u64;

    /// Makes the oldest `records` durable that are not.
    fn sync(&mut self, records: u64);

    /// The process has died: what was not durable is lost, and counted.
    fn crash(&mut self) -> u64;
}

/// Counts records and forgets them: nothing comes back after a crash.
#[derive(Debug, Default)]
pub(crate) struct NullDisk {
    /// When each record that is not durable was written.
    open: VecDeque<u64>,
}

impl Disk for NullDisk {
    fn append(&mut self, now_ms: u64, _: &OldRecord) {
        self.open.push_back(now_ms);
    }

    fn unsynced(&self, before_ms: u64) -> u64 {
        let old = self.open.iter().take_while(|&&at_ms| at_ms < before_ms);
        old.count() as u64
    }

    fn sync(&mut self, records: u64) {
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        self.open.drain(..records.min(self.open.len()));
    }

    fn crash(&mut self) -> u64 {
        std::mem::take(&mut self.open).len() as u64
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_broker_core::session::codec::topic::ByteStr;

    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let mut disk = NullDisk::default();
        let record = OldRecord::SessionOpened {
            client_id: ByteStr::from("c1"),
        };
        for at_ms in [1, 2, 3] {
            disk.append(at_ms, &record);
        }
        assert_eq!(disk.unsynced(3), 2);
        disk.sync(2);
        assert_eq!(disk.unsynced(u64::MAX), 1);
        assert_eq!(disk.crash(), 1);
        assert_eq!(disk.unsynced(u64::MAX), 0);
    }
}
