//! The format number of a store, the count of its starts, and upgrades from older formats.

use redb::{Database, ReadableTable, TableHandle, WriteTransaction};

use crate::fault::Fault;
use crate::tables::{
    GROUPS, INBOUND, KNOWN, MESSAGES, META, META_FORMAT, META_INCARNATION, RETAINED, RowError,
    SESSIONS, SUBSCRIPTIONS, Table, ValueBuffer, WINDOWS, unseal,
};

/// The format this version writes: what tables there are, and what stands in them.
pub const FORMAT: u32 = 1;

/// Steps from one format to the next: the first one leads from format 1 to 2.
pub(crate) type Upgrades = &'static [fn(&WriteTransaction) -> Result<(), Fault>];

/// Format 1 is the first one.
pub(crate) const UPGRADES: Upgrades = &[];

/// A store that can't be used as it is.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Of a newer format.
    Newer {
        found: u32,
        known: u32,
    },
    /// A database of somebody else.
    NotAStore,
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// Counts a start, in one transaction with all that has to be done before it: tables of a new store, upgrades of an old
/// one. Answers which start this is.
pub(crate) fn begin(database: &Database, upgrades: Upgrades) -> Result<u32, Refusal> {
    // A format number for each step and the first.
    let known = u32::try_from(upgrades.len()).unwrap_or(u32::MAX - 1) + 1;
    let transaction = database.begin_write()?;
    let mut buffer = ValueBuffer::default();
    let is_new = transaction.list_tables()?.next().is_none();
    if is_new {
        make_tables(&transaction)?;
    } else if !transaction
        .list_tables()?
        .any(|table| table.name() == "meta")
    {
        return Err(Refusal::NotAStore);
    }
    let incarnation = if is_new {
        1
    } else {
        let meta = transaction.open_table(META)?;
        let found = number(&meta, META_FORMAT)?;
        if found == 0 || found > known {
            return Err(Refusal::Newer { found, known });
        }
        let incarnation = number(&meta, META_INCARNATION)?;
        drop(meta);
        for upgrade in upgrades.iter().skip(found as usize - 1) {
            upgrade(&transaction)?;
        }
        incarnation.checked_add(1).ok_or_else(|| {
            let fault = "there were more starts than can be counted";
            RowError::new(Table::Meta, META_INCARNATION, fault)
        })?
    };
    {
        let mut meta = transaction.open_table(META)?;
        for (name, number) in [(META_FORMAT, known), (META_INCARNATION, incarnation)] {
            let value = buffer.value(name, |out| out.extend_from_slice(&number.to_le_bytes()));
            meta.insert(name, value)?;
        }
    }
    transaction.commit()?;
    Ok(incarnation)
}

fn make_tables(transaction: &WriteTransaction) -> Result<(), Fault> {
    for table in [META, SUBSCRIPTIONS, INBOUND, KNOWN, RETAINED] {
        transaction.open_table(table)?;
    }
    for table in [SESSIONS, GROUPS, WINDOWS, MESSAGES] {
        transaction.open_table(table)?;
    }
    Ok(())
}

/// A number of the table `meta`.
pub(crate) fn number(
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: &[u8],
) -> Result<u32, Fault> {
    let value = meta
        .get(name)?
        .ok_or_else(|| RowError::new(Table::Meta, name, "it is not there"))?;
    Ok(number_of(name, value.value())?)
}

/// A row of the table `meta`.
pub(crate) fn number_of(name: &[u8], value: &[u8]) -> Result<u32, RowError> {
    let rest = unseal(Table::Meta, name, value)?;
    let bytes = rest
        .try_into()
        .map_err(|_| RowError::new(Table::Meta, name, "it is no number"))?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Builder, ReadableDatabase};

    use super::*;

    fn database() -> Database {
        Builder::new()
            .create_with_backend(InMemoryBackend::new())
            .expect("memory")
    }

    fn format_of(database: &Database) -> u32 {
        let transaction = database.begin_read().expect("memory");
        let meta = transaction.open_table(META).expect("made");
        number(&meta, META_FORMAT).expect("written")
    }

    #[test]
    fn each_start_is_counted() {
        let database = database();
        for start in 1..4 {
            assert_eq!(begin(&database, UPGRADES).ok(), Some(start));
        }
        assert_eq!(format_of(&database), FORMAT);
    }

    const NOTE: &[u8] = b"note";

    fn to_two(transaction: &WriteTransaction) -> Result<(), Fault> {
        let mut meta = transaction.open_table(META)?;
        meta.insert(NOTE, &b"two"[..])?;
        Ok(())
    }

    fn to_three(transaction: &WriteTransaction) -> Result<(), Fault> {
        let mut meta = transaction.open_table(META)?;
        let was_two = meta
            .remove(NOTE)?
            .is_some_and(|note| note.value() == b"two");
        if was_two {
            meta.insert(NOTE, &b"three"[..])?;
        }
        Ok(())
    }

    fn to_four_fails(transaction: &WriteTransaction) -> Result<(), Fault> {
        transaction.open_table(META)?.remove(NOTE)?;
        Err(RowError::new(Table::Meta, NOTE, "no").into())
    }

    #[test]
    fn an_older_format_is_upgraded_step_by_step() {
        let database = database();
        begin(&database, UPGRADES).ok();
        assert_eq!(begin(&database, &[to_two, to_three]).ok(), Some(2));
        assert_eq!(format_of(&database), 3);
        let transaction = database.begin_read().expect("memory");
        let meta = transaction.open_table(META).expect("made");
        let note = meta.get(NOTE).expect("memory").expect("upgraded");
        assert_eq!(note.value(), b"three");
    }

    #[test]
    fn an_upgrade_that_fails_changes_nothing() {
        let database = database();
        begin(&database, UPGRADES).ok();
        assert!(begin(&database, &[to_two, to_three, to_four_fails]).is_err());
        assert_eq!(format_of(&database), 1);
        assert_eq!(begin(&database, UPGRADES).ok(), Some(2));
    }

    #[test]
    fn a_newer_format_is_refused_with_both_numbers() {
        let database = database();
        begin(&database, UPGRADES).ok();
        begin(&database, &[to_two]).ok();
        let refusal = begin(&database, UPGRADES);
        assert!(matches!(
            refusal,
            Err(Refusal::Newer { found: 2, known: 1 })
        ));
    }
}
