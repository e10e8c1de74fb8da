//! [`Fault`]: whatever goes wrong inside, before it is told apart.

use std::any::Any;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use whimbrel_broker_core::JournalError;

use crate::backend::Watched;
use crate::tables::RowError;

#[derive(Debug)]
pub(crate) enum Fault {
    Redb(redb::Error),
    Row(RowError),
    /// redb did not expect what it read.
    Panic(String),
    Journal(JournalError),
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}

from_redb!(
    CommitError,
    DatabaseError,
    StorageError,
    TableError,
    TransactionError
);

impl From<redb::CursorError> for Fault {
    fn from(error: redb::CursorError) -> Self {
        match error {
            redb::CursorError::Storage(error) => error.into(),
            other => Self::Journal(JournalError::Failed(Box::new(other))),
        }
    }
}

impl From<RowError> for Fault {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// Runs what reads from the disk: where redb panics because it did not expect what it read, that is an error.
pub(crate) fn guard<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // What `run` changed is not looked at after a panic: the store takes no more calls.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(Fault::Panic(text_of(&*panic))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".to_owned())
}

impl Fault {
    /// Tells apart what failed, by the first call to the disk that did.
    pub(crate) fn told_apart(self, disk: &Watched) -> JournalError {
        let failure = disk.take_failure();
        match (self, failure) {
            (Self::Journal(error), _) => error,
            (Self::Row(error), _) => damaged(error),
            (_, Some(failure)) if failure.is_full() => JournalError::Full,
            (_, Some(failure)) if failure.error.kind() == io::ErrorKind::UnexpectedEof => {
                damaged("the file is shorter than it was")
            }
            (_, Some(failure)) => failed(failure.error),
            (Self::Panic(text), None) => {
                damaged(format_args!("the database could not be read ({text})"))
            }
            (Self::Redb(redb::Error::Corrupted(text)), None) => damaged(text),
            (Self::Redb(error), None) => failed(error),
        }
    }
}

pub(crate) fn damaged(detail: impl std::fmt::Display) -> JournalError {
    JournalError::Damaged {
        detail: detail.to_string(),
    }
}

pub(crate) fn failed(error: impl Error + Send + Sync + 'static) -> JournalError {
    JournalError::Failed(Box::new(error))
}
