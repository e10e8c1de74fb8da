//! [`salvage`]: what can be read of a damaged store, in a new one.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::Owners;
use super::survey::{Found, Survey};
use super::writer::NewStore;
use super::{Damage, DamageList, OnProgress, ToolError};
use crate::row::Row;
use crate::tables::{META_INCARNATION, Table};

/// What [`salvage`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Rows that are in the new store.
    pub kept: BTreeMap<Table, u64>,
    /// What had to be left out.
    pub left_out: DamageList,
    /// The count of starts could not be read: it was set above that of every message that was read.
    pub incarnation_is_guessed: bool,
}

/// Writes what can be read of the store in `damaged` into a new store in `into`. The damaged one is not touched.
///
/// Of the two last commits it takes the one of which more can be read, as redb would.
///
/// # Errors
///
/// [`ToolError`] where nothing can be read, another process has the store, or the new one can't be written.
pub fn salvage(
    damaged: &Path,
    into: &Path,
    progress: OnProgress<'_>,
) -> Result<SalvageReport, ToolError> {
    let survey = Survey::of_directory(damaged)?;
    let mut new = NewStore::create(into)?;
    let mut report = SalvageReport::default();
    let mut owners = Owners::default();
    let mut incarnation = None;
    let mut highest = 0;
    let mut failed = None;
    if let Some(detail) = &survey.refused {
        let transaction = survey.transaction();
        report.left_out.add(Damage {
            table: None,
            key: None,
            detail: format!(
                "the database can't be opened ({detail}); commit {transaction} was read"
            ),
        });
    }
    survey.visit(progress, &mut |table, found| {
        let row = match found {
            Found::Row(row, _) => row,
            Found::BadRow(error) => return report.left_out.add(error),
            Found::Fault(fault) => return report.left_out.add(fault.clone()),
        };
        match &row {
            Row::Meta { name, number } => {
                if &**name == META_INCARNATION {
                    incarnation = Some(*number);
                }
                // The new store has its own.
                return;
            }
            Row::Inbound { message, .. }
            | Row::Message { message, .. }
            | Row::Retained(message) => {
                highest = highest.max(message.id().incarnation);
            }
            _ => {}
        }
        if let Err(detail) = owners.check(&row) {
            return report.left_out.add(Damage {
                table: Some(table),
                key: None,
                detail,
            });
        }
        match new.write(&row) {
            Ok(()) => *report.kept.entry(table).or_default() += 1,
            Err(error) => drop(failed.get_or_insert(error)),
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    report.incarnation_is_guessed = incarnation.is_none();
    let number = incarnation.unwrap_or(0).max(highest);
    new.write(&Row::Meta {
        name: META_INCARNATION.to_vec(),
        number,
    })?;
    new.finish()?;
    Ok(report)
}
