//! What can be done with the store of a stopped broker.
//!
//! [`check`], [`stats`] and [`export`] change nothing: what redb writes to open a database stays in memory. [`import`]
//! and [`salvage`] write a new store and refuse a directory that has one.

mod check;
mod export;
mod import;
mod json;
mod overlay;
mod pages;
mod salvage;
mod stats;
mod survey;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use self::check::{CheckReport, check};
pub use self::export::{ExportReport, export};
pub use self::import::{ImportReport, import};
pub use self::salvage::{SalvageReport, salvage};
pub use self::stats::{QueueStats, StoreStats, TableStats, stats};
use crate::open_error::OpenError;
use crate::tables::{RowError, Table};

/// How far a tool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows that are done.
    pub done: u64,
    /// Rows there are, once that is known.
    pub total: Option<u64>,
}

/// Called now and then while a tool works, and once at its end.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress);

/// Something that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The table, once that is known.
    pub table: Option<Table>,
    /// The key in hexadecimal digits, where a single row is damaged; cut where it is long.
    pub key: Option<String>,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(table) = self.table {
            write!(f, "table {table}")?;
            if let Some(key) = &self.key {
                write!(f, ", key {key}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.detail)
    }
}

impl From<RowError> for Damage {
    fn from(error: RowError) -> Self {
        Self {
            table: Some(error.table),
            key: Some(error.key),
            detail: error.fault,
        }
    }
}

/// What was found damaged: all of it counted, the first ones listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamageList {
    /// How much there is.
    pub count: u64,
    /// The first [`DAMAGE_LISTED_MAX`].
    pub listed: Vec<Damage>,
}

/// The most entries of a [`DamageList`]: a damaged page may stand for any number of rows.
pub const DAMAGE_LISTED_MAX: usize = 1000;

impl DamageList {
    pub(crate) fn add(&mut self, damage: impl Into<Damage>) {
        self.count += 1;
        if self.listed.len() < DAMAGE_LISTED_MAX {
            self.listed.push(damage.into());
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Why a tool did not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ToolError {
    /// A store can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Input or output failed.
    #[error("input or output failed")]
    Io(#[from] io::Error),
    /// A store is written into a new directory only.
    #[error("{} has a store already; name a directory that has none", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A line can't be imported.
    #[error("line {line}: {detail}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// It is for sound stores.
    #[error(
        "the store is damaged: {detail}; `whimbrel store salvage` writes what can be read into a new store"
    )]
    Damaged {
        /// The first damage found.
        detail: String,
    },
    /// Nothing can be read.
    #[error("nothing can be read of the store: {detail}")]
    Unreadable {
        /// Why.
        detail: String,
    },
    /// The new store can't be written.
    #[error("the new store can't be written")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}
