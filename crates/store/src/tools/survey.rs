//! [`Survey`]: a store, opened without changing it, and its rows.

use std::path::Path;

use redb::StorageBackend;
use whimbrel_broker_core::JournalError;

use super::overlay::Overlay;
use super::pages::{PageError, Pages, Slot, TableRoot};
use super::{Damage, DamageList, OnProgress, Progress, ToolError};
use crate::OpenOptions;
use crate::backend::Watched;
use crate::directory::DataDirectory;
use crate::fault::guard;
use crate::open_error::OpenError;
use crate::redb_store::open_database;
use crate::row::Row;
use crate::tables::{RowError, Table};

/// Rows between two reports of progress.
const ROWS_PER_REPORT: u64 = 4096;

/// A store to be looked at.
pub(crate) struct Survey {
    /// Held as long as the store is looked at.
    _directory: Option<DataDirectory>,
    /// The storage, with what redb mended, if it could.
    storage: Box<dyn StorageBackend>,
    /// What redb says of it.
    pub(crate) refused: Option<String>,
    slot: Slot,
    /// What is wrong with the tables themselves.
    faults: Vec<PageError>,
    tables: Vec<(Table, TableRoot)>,
}

impl Survey {
    pub(crate) fn of_directory(path: &Path) -> Result<Self, ToolError> {
        let directory = DataDirectory::open_existing(path)?;
        let below = || {
            let storage = directory.storage()?;
            Ok(Box::new(storage) as Box<dyn StorageBackend>)
        };
        let mut survey = Self::of_storage(&below)?;
        survey._directory = Some(directory);
        Ok(survey)
    }

    pub(crate) fn of_storage(
        below: &dyn Fn() -> Result<Box<dyn StorageBackend>, OpenError>,
    ) -> Result<Self, ToolError> {
        let disk = Watched::new(Box::new(Overlay::new(below()?)?), false);
        let opened = guard(|| open_database(&disk, &OpenOptions::default()).map(drop));
        match opened.map_err(|fault| fault.told_apart(&disk)) {
            Ok(()) => Self::begin(Box::new(disk), None),
            // What it changed before it gave up is not wanted.
            Err(error) => Self::begin(below()?, Some(text_of(&error))),
        }
    }

    fn begin(storage: Box<dyn StorageBackend>, refused: Option<String>) -> Result<Self, ToolError> {
        let unreadable = |detail: String| ToolError::Unreadable { detail };
        let pages = Pages::open(&*storage).map_err(unreadable)?;
        let mut best: Option<(u64, Slot)> = None;
        for slot in pages.slots() {
            // As redb does: the last commit that is whole. Where redb is content, that is the first one.
            let lost = if refused.is_none() {
                0
            } else {
                lost_rows(&pages, slot)
            };
            if best.is_none_or(|(least, _)| lost < least) {
                best = Some((lost, slot));
            }
        }
        let (_, slot) = best.ok_or_else(|| unreadable("it has no commit".to_owned()))?;
        let mut faults = Vec::new();
        let tables = pages.tables(slot, &mut |fault| faults.push(fault));
        Ok(Self {
            _directory: None,
            storage,
            refused,
            slot,
            faults,
            tables,
        })
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.storage.len().unwrap_or(0)
    }

    /// Which commit is looked at, for people.
    pub(crate) fn transaction(&self) -> u64 {
        self.slot.transaction
    }

    /// Goes through all rows, in the order of a replay.
    pub(crate) fn visit(
        &self,
        progress: OnProgress<'_>,
        visit: &mut dyn FnMut(Table, Found<'_>),
    ) -> Result<(), ToolError> {
        let unreadable = |detail: String| ToolError::Unreadable { detail };
        let pages = Pages::open(&*self.storage).map_err(unreadable)?;
        for fault in &self.faults {
            visit(Table::Meta, Found::Fault(&fault.as_damage(None)));
        }
        let total = Some(self.tables.iter().map(|(_, root)| root.rows).sum());
        let mut done = 0;
        for table in Table::ALL {
            let root = self.tables.iter().find(|(named, _)| *named == table);
            let Some(&(_, root)) = root else {
                let missing = Damage {
                    table: Some(table),
                    key: None,
                    detail: "the table is missing".to_owned(),
                };
                visit(table, Found::Fault(&missing));
                continue;
            };
            let mut seen = 0;
            let mut faults = Vec::new();
            pages.table_rows(
                table,
                root,
                &mut |key, value| {
                    seen += 1;
                    done += 1;
                    if done % ROWS_PER_REPORT == 0 {
                        progress(Progress { done, total });
                    }
                    let bytes = key.len() + value.len();
                    match Row::parse(table, key, value) {
                        Ok(row) => visit(table, Found::Row(row, bytes)),
                        Err(error) => visit(table, Found::BadRow(error)),
                    }
                },
                &mut |fault| faults.push(fault),
            );
            let lost = root.rows.saturating_sub(seen);
            for fault in &faults {
                let lost = (faults.len() == 1).then_some(lost);
                visit(table, Found::Fault(&fault.as_damage(lost)));
            }
            if faults.is_empty() && lost > 0 {
                let damage = Damage {
                    table: Some(table),
                    key: None,
                    detail: format!("{lost} rows are missing"),
                };
                visit(table, Found::Fault(&damage));
            }
        }
        progress(Progress { done, total });
        Ok(())
    }

    /// Goes through all rows of a store that has to be sound.
    pub(crate) fn visit_sound(
        &self,
        progress: OnProgress<'_>,
        visit: &mut dyn FnMut(Row, usize),
    ) -> Result<(), ToolError> {
        if let Some(detail) = &self.refused {
            let detail = detail.clone();
            return Err(ToolError::Damaged { detail });
        }
        let mut damage = DamageList::default();
        self.visit(progress, &mut |_, found| match found {
            Found::Row(row, bytes) => visit(row, bytes),
            Found::BadRow(error) => damage.add(error),
            Found::Fault(fault) => damage.add(fault.clone()),
        })?;
        match damage.listed.first() {
            None => Ok(()),
            Some(first) => Err(ToolError::Damaged {
                detail: first.to_string(),
            }),
        }
    }
}

/// What a walk comes upon.
pub(crate) enum Found<'a> {
    /// A row, and how many bytes it has.
    Row(Row, usize),
    BadRow(RowError),
    /// Rows that can't be reached.
    Fault(&'a Damage),
}

impl PageError {
    fn as_damage(&self, lost_rows: Option<u64>) -> Damage {
        let detail = match lost_rows {
            Some(lost) => format!("{}, and with it {lost} rows", self.detail),
            None => self.detail.clone(),
        };
        Damage {
            table: self.table,
            key: None,
            detail,
        }
    }
}

/// Rows of a commit that can't be read.
fn lost_rows(pages: &Pages<'_>, slot: Slot) -> u64 {
    let mut lost = 0;
    let tables = pages.tables(slot, &mut |_| lost += u64::from(u32::MAX));
    for table in Table::ALL {
        match tables.iter().find(|(named, _)| *named == table) {
            None => lost += u64::from(u32::MAX),
            Some(&(_, root)) => {
                let mut good = 0;
                pages.table_rows(
                    table,
                    root,
                    &mut |key, value| good += u64::from(Row::parse(table, key, value).is_ok()),
                    &mut |_| {},
                );
                lost += root.rows.saturating_sub(good);
            }
        }
    }
    lost
}

fn text_of(error: &JournalError) -> String {
    match error {
        JournalError::Damaged { detail } => detail.clone(),
        JournalError::Failed(source) => source.to_string(),
        other => other.to_string(),
    }
}
