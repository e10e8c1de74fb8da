//! The durable journal of the Whimbrel broker.
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
