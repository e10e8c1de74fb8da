//! [`check`]: how much of a store is damaged.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use whimbrel_broker_core::{MsgId, QueueId, WindowRecord};

use super::survey::{Found, Survey};
use super::{Damage, DamageList, OnProgress, ToolError};
use crate::row::Row;
use crate::tables::{META_FORMAT, META_INCARNATION, Table};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The format, if it can be read.
    pub format: Option<u32>,
    /// How often the store was opened, if that can be read.
    pub incarnation: Option<u32>,
    /// Rows that are sound.
    pub rows: BTreeMap<Table, u64>,
    /// Everything that is not.
    pub damage: DamageList,
}

impl CheckReport {
    /// Whether the store can be opened and everything in it read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Reads everything, and counts and lists what is damaged, by table and key.
///
/// # Errors
///
/// [`ToolError`] where there is no store, another process has it, or nothing of it can be read. Damage is no error.
pub fn check(directory: &Path, progress: OnProgress<'_>) -> Result<CheckReport, ToolError> {
    report(&Survey::of_directory(directory)?, progress)
}

pub(crate) fn report(survey: &Survey, progress: OnProgress<'_>) -> Result<CheckReport, ToolError> {
    let mut report = CheckReport::default();
    let mut owners = Owners::default();
    if let Some(detail) = &survey.refused {
        report.damage.add(Damage {
            table: None,
            key: None,
            detail: format!("the database can't be opened: {detail}"),
        });
    }
    survey.visit(progress, &mut |table, found| match found {
        Found::BadRow(error) => report.damage.add(error),
        Found::Fault(fault) => report.damage.add(fault.clone()),
        Found::Row(row, _) => {
            if let Row::Meta { name, number } = &row {
                match &**name {
                    META_FORMAT => report.format = Some(*number),
                    META_INCARNATION => report.incarnation = Some(*number),
                    _ => {}
                }
            }
            match owners.check(&row) {
                Ok(()) => *report.rows.entry(table).or_default() += 1,
                Err(detail) => report.damage.add(Damage {
                    table: Some(table),
                    key: None,
                    detail,
                }),
            }
        }
    })?;
    Ok(report)
}

/// What rows of later tables refer to.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    sessions: HashSet<QueueId>,
    inbound: HashSet<MsgId>,
}

impl Owners {
    /// Whether what the row refers to was there, in the order of [`Table::ALL`].
    pub(crate) fn check(&mut self, row: &Row) -> Result<(), String> {
        match row {
            Row::Session(session) => drop(self.sessions.insert(session.session)),
            Row::Inbound { message, .. } => drop(self.inbound.insert(message.id())),
            Row::Subscription { session, .. } | Row::Window(WindowRecord { session, .. })
                if !self.sessions.contains(session) =>
            {
                return Err(format!("there is no session {}", session.get()));
            }
            Row::Known { message, .. } if !self.inbound.contains(message) => {
                return Err(format!("message {message:?} is released"));
            }
            _ => {}
        }
        Ok(())
    }
}
