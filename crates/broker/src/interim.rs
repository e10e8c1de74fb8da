//! Stands in for what the core is about to bring.

use whimbrel_broker_core::{Index, OldRecord, Record, RetainedChange};

pub(crate) fn records(append: &mut Vec<OldRecord>) -> Vec<Record> {
    append.drain(..).map(|_| Record::Retained).collect()
}

pub(crate) fn take_retained_changes(_: &Index) -> Vec<RetainedChange> {
    Vec::new()
}
