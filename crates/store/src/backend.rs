//! [`Watched`]: what redb writes through, counted, with its first error kept apart.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

/// A storage that can be handed to redb more than once.
///
/// redb takes no more calls after an error, so that the database has to be opened again after a disk was full. And
/// what failed tells what is to be done: a write without room may be tried again, a sync never.
#[derive(Clone, Debug)]
pub(crate) struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Box<dyn StorageBackend>,
    /// Whether a sync is passed on.
    syncs_are_real: AtomicBool,
    syncs: AtomicU64,
    bytes_written: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

/// The first call that failed since the last look, but for want of room only if no other did.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) call: Call,
    pub(crate) error: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    Sync,
}

impl Failure {
    /// Whether there was no room for a write: nothing is lost, and it may be tried again.
    pub(crate) fn is_full(&self) -> bool {
        self.call == Call::Write
            && matches!(
                self.error.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            )
    }
}

impl Watched {
    pub(crate) fn new(storage: Box<dyn StorageBackend>, syncs_are_real: bool) -> Self {
        Self(Arc::new(Inner {
            storage,
            syncs_are_real: AtomicBool::new(syncs_are_real),
            syncs: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            failure: Mutex::new(None),
        }))
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_written(&self) -> u64 {
        self.0.bytes_written.load(Ordering::Relaxed)
    }

    /// Bytes the storage has; 0 where it can't be asked.
    pub(crate) fn stored(&self) -> u64 {
        self.0.storage.len().unwrap_or(0)
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.0
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Makes everything durable that was written, whatever the durability, and lets the storage go.
    pub(crate) fn finish(&self) {
        if !self.0.syncs_are_real.load(Ordering::Relaxed) {
            // Nobody was promised anything of it.
            let _ = self.0.storage.sync_data();
        }
        let _ = self.0.storage.close();
    }

    fn watch<T>(&self, call: Call, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let mut failure = self
                .0
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // redb also writes before it has to, and goes on where that finds no room: what comes later is worse.
            if failure.as_ref().is_none_or(Failure::is_full) {
                let error = copy_of(error);
                *failure = Some(Failure { call, error });
            }
        })
    }
}

/// The locks are not redb's: the data directory is locked as long as it is open, also while its database is opened
/// again.
impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.watch(Call::Read, self.0.storage.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch(Call::Read, self.0.storage.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch(Call::Write, self.0.storage.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.0.syncs_are_real.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        self.watch(Call::Sync, self.0.storage.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0
            .bytes_written
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        self.watch(Call::Write, self.0.storage.write(offset, data))
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
