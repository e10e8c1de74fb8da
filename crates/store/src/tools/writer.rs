//! [`NewStore`]: a store that is written row by row.

use std::path::Path;

use redb::{Database, WriteTransaction};

use super::ToolError;
use crate::OpenOptions;
use crate::backend::Watched;
use crate::directory::{DATABASE, DataDirectory};
use crate::fault::Fault;
use crate::format::{Refusal, UPGRADES, begin};
use crate::redb_store::open_database;
use crate::row::Row;
use crate::tables::ValueBuffer;

/// Rows written in one transaction.
const ROWS_PER_TRANSACTION: u32 = 4096;

/// A store that becomes one when it is finished: before that, its directory has none.
pub(crate) struct NewStore {
    directory: DataDirectory,
    disk: Watched,
    database: Database,
    transaction: Option<WriteTransaction>,
    written: u32,
    buffer: ValueBuffer,
}

impl NewStore {
    pub(crate) fn create(path: &Path) -> Result<Self, ToolError> {
        if path.join(DATABASE).exists() {
            return Err(ToolError::NotEmpty {
                path: path.to_owned(),
            });
        }
        let directory = DataDirectory::open(path)?;
        if !directory.is_new() {
            return Err(ToolError::NotEmpty {
                path: path.to_owned(),
            });
        }
        let disk = Watched::new(Box::new(directory.storage()?), true);
        let made = open_database(&disk, &OpenOptions::default()).and_then(|database| {
            match begin(&database, UPGRADES) {
                Ok(_) => Ok(database),
                Err(Refusal::Fault(fault)) => Err(fault),
                // It is new.
                Err(refusal) => unreachable!("{refusal:?}"),
            }
        });
        let database = made.map_err(|fault| failed(fault, &disk))?;
        Ok(Self {
            directory,
            disk,
            database,
            transaction: None,
            written: 0,
            buffer: ValueBuffer::default(),
        })
    }

    pub(crate) fn write(&mut self, row: &Row) -> Result<(), ToolError> {
        let written = self.try_write(row);
        written.map_err(|fault| failed(fault, &self.disk))
    }

    fn try_write(&mut self, row: &Row) -> Result<(), Fault> {
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => self.database.begin_write()?,
        };
        row.write(&transaction, &mut self.buffer)?;
        self.written += 1;
        if self.written.is_multiple_of(ROWS_PER_TRANSACTION) {
            transaction.commit()?;
        } else {
            self.transaction = Some(transaction);
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), ToolError> {
        if let Some(transaction) = self.transaction.take() {
            let committed = transaction.commit().map_err(Fault::from);
            committed.map_err(|fault| failed(fault, &self.disk))?;
        }
        drop(self.database);
        self.disk.finish();
        self.directory.finish()?;
        Ok(())
    }
}

fn failed(fault: Fault, disk: &Watched) -> ToolError {
    ToolError::Write(Box::new(fault.told_apart(disk)))
}
