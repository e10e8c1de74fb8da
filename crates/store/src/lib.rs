//! The durable journal of the Whimbrel broker.
//!
//! # What it is
//!
//! [`RedbStore`] makes the records of a broker durable and tells them to the broker that starts after it. It is a
//! [`Journal`](broker_core::Journal): batches in, one transaction and one sync for each; everything out, in a fixed order,
//! at a start; single messages out in between, for queues that are longer than their window in memory.
//!
//! ```
//! use whimbrel_store::broker_core::{Batch, Journal, Record};
//! use whimbrel_store::{OpenOptions, RedbStore};
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//!
//! let mut store = RedbStore::open(directory, OpenOptions::default())?;
//! let replay = store.replay(&mut |replayed| {
//!     println!("{replayed:?}"); // Here the broker would be built.
//!     Ok(())
//! })?;
//! assert_eq!(replay.incarnation, 1);
//! store.commit(&Batch { records: vec![Record::Retained], retained: Vec::new() })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! - A batch that [`commit`](broker_core::Journal::commit) answered with `Ok` is told again by every start: after the end
//!   of the process always, after the loss of power with [`Durability::Sync`].
//! - [`JournalError::Full`](broker_core::JournalError::Full): nothing of the batch is durable, and it may be tried again.
//!   After any other error of a commit, what is durable is not known, and the store answers nothing any more. A
//!   sync that failed is not tried again: the disk might say "fine" of what it has dropped.
//! - A queue is done with a message once. That it says so again, or of a message it does not hold, changes nothing.
//! - A damaged store is an error at the start, never a start with less. Panics of the database count as damage.
//!
//! # Limits
//!
//! - Memory: the cache of [`OpenOptions`], some 60 bytes for each session or shared subscription, and as much for each
//!   message that several queues hold, with a bit for each of them. A message of one queue costs none.
//! - One step of [`maintain`](broker_core::Journal::maintain) looks at no more than 1,024 messages.
//! - A start can't tell a last commit that was cut off from one that was damaged later, if the process did not end in
//!   an orderly way: it falls back to the one before. `docs/storage.md` says more.
//!
//! # Features
//!
//! - `tools`: check, figures, export, import and salvage for the store of a stopped broker.
//! - `memory`: `MemoryDisk`, a disk that loses, tears and fails as it is told.
//! - `suite`: the tests that any journal has to pass.
//!
//! The minimum Rust version is that of redb, 1.90; raising it is a minor release.
#![forbid(unsafe_code)]

mod backend;
mod bits;
mod directory;
mod fault;
mod format;
mod ledger;
#[cfg(feature = "memory")]
mod memory_disk;
mod open_error;
mod options;
mod plan;
mod redb_store;
mod replay;
mod room;
#[cfg(feature = "tools")]
mod row;
#[cfg(feature = "suite")]
pub mod suite;
mod sweep;
mod tables;
#[cfg(feature = "tools")]
pub mod tools;
mod write;

pub use redb::StorageBackend;
pub use whimbrel_broker_core as broker_core;

pub use crate::format::FORMAT;
#[cfg(feature = "memory")]
pub use crate::memory_disk::{Crash, DiskCall, DiskFault, MemoryDisk};
pub use crate::open_error::OpenError;
pub use crate::options::{Durability, OpenOptions};
pub use crate::redb_store::RedbStore;
pub use crate::room::{Boundless, Room};
pub use crate::tables::Table;
