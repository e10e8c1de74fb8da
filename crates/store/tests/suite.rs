//! The suite, on a store in memory and on one in a directory.

use tempfile::TempDir;
use whimbrel_store::broker_core::Journal;
use whimbrel_store::suite::Fixture;
use whimbrel_store::{Durability, MemoryDisk, OpenOptions, RedbStore};

struct InMemory(MemoryDisk);

impl Fixture for InMemory {
    fn open(&mut self) -> Box<dyn Journal> {
        let options = OpenOptions::default();
        let store = RedbStore::on_backend(self.0.storage(), self.0.room(), options);
        Box::new(store.expect("a store"))
    }
}

struct InDirectory {
    directory: TempDir,
    durability: Durability,
}

impl InDirectory {
    fn new(durability: Durability) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self {
            directory,
            durability,
        }
    }
}

impl Fixture for InDirectory {
    fn open(&mut self) -> Box<dyn Journal> {
        let mut options = OpenOptions::default();
        options.durability = self.durability;
        let path = self.directory.path().join("data");
        Box::new(RedbStore::open(path, options).expect("a store"))
    }
}

mod in_memory {
    use super::*;

    whimbrel_store::journal_suite!(InMemory(MemoryDisk::new()));
}

mod in_a_directory {
    use super::*;

    whimbrel_store::journal_suite!(InDirectory::new(Durability::Sync));
}

mod in_a_directory_without_syncs {
    use super::*;

    whimbrel_store::journal_suite!(InDirectory::new(Durability::Os));
}
