//! [`Pages`]: the rows of a database, read page by page without redb, so that damage costs no more than what it hit.
//!
//! redb reads a tree as a whole or not at all. Here a page that can't be is skipped with what hangs on it, and every
//! row is judged by its own checksum. Only redb's file format 3 is known, which is the one redb 3 and 4 write:
//!
//! ```text
//! header  = magic (9 bytes), flags (bit 0: primary slot), 2, page size (4), header pages of a region (4),
//!           data pages of a region (4) ... slot at 64, slot at 192
//! slot    = version, root present, 6, root ... transaction (8, at 104)
//! root    = page (8), checksum (16), rows (8)
//! page    = number in units of its size (20 bits), region (20 bits), order (bits 59-63): 4096 << order bytes
//! branch  = 2, 1, keys (2), 4, checksum of each child (16), page of each child (8) ...
//! leaf    = 1, 1, rows (2), [ends of keys (4)], ends of values (4), keys, values
//! ```

use std::collections::HashSet;

use redb::StorageBackend;

use crate::tables::Table;

/// A database, page by page.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    storage: &'a dyn StorageBackend,
    length: u64,
    region_header_bytes: u64,
    region_bytes: u64,
    primary: usize,
    slots: [Option<Slot>; 2],
}

/// One of the two last commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) transaction: u64,
    root: Option<u64>,
}

/// A part of the database that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageError {
    /// The table it belongs to, once that is known.
    pub(crate) table: Option<Table>,
    pub(crate) detail: String,
}

/// A table as a commit has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableRoot {
    pub(crate) rows: u64,
    root: Option<u64>,
}

impl<'a> Pages<'a> {
    pub(crate) fn open(storage: &'a dyn StorageBackend) -> Result<Self, String> {
        let length = storage.len().map_err(|error| error.to_string())?;
        let mut header = [0; HEADER];
        storage
            .read(0, &mut header)
            .map_err(|_| "the file is shorter than its header".to_owned())?;
        let word = |at: usize| u64::from(u32_at(&header, at).unwrap_or(0));
        if !header.starts_with(MAGIC) || word(12) != PAGE {
            return Err("the file does not begin like a database".to_owned());
        }
        let region_header_bytes = word(16) * PAGE;
        Ok(Self {
            storage,
            length,
            region_header_bytes,
            region_bytes: region_header_bytes + word(20) * PAGE,
            primary: usize::from(header.get(9).copied().unwrap_or(0) & 1),
            slots: [slot(&header, 64), slot(&header, 192)],
        })
    }

    /// The commits there are: the last one first, as far as the header tells.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let order = [self.primary, self.primary ^ 1];
        order
            .into_iter()
            .filter_map(|index| self.slots.get(index).copied().flatten())
    }

    /// The tables of a commit.
    pub(crate) fn tables(
        &self,
        slot: Slot,
        fault: &mut dyn FnMut(PageError),
    ) -> Vec<(Table, TableRoot)> {
        let mut tables = Vec::new();
        let mut note = |detail: String| {
            fault(PageError {
                table: None,
                detail,
            });
        };
        let mut wrong = Vec::new();
        self.rows(
            slot.root,
            Width::Any,
            &mut |name, value| {
                let table = Table::ALL
                    .into_iter()
                    .find(|table| table.name().as_bytes() == name);
                match (table, table_root(value)) {
                    (Some(table), Some(root)) => tables.push((table, root)),
                    _ => wrong.push("a table whose definition can't be read".to_owned()),
                }
            },
            &mut note,
        );
        wrong.into_iter().for_each(note);
        tables.sort_by_key(|&(table, _)| table);
        tables
    }

    /// The rows of a table that can be reached.
    pub(crate) fn table_rows(
        &self,
        table: Table,
        root: TableRoot,
        visit: &mut dyn FnMut(&[u8], &[u8]),
        fault: &mut dyn FnMut(PageError),
    ) {
        let width = match table {
            Table::Groups | Table::Sessions | Table::Windows | Table::Messages => Width::Eight,
            _ => Width::Any,
        };
        self.rows(root.root, width, visit, &mut |detail| {
            let table = Some(table);
            fault(PageError { table, detail });
        });
    }

    fn rows(
        &self,
        root: Option<u64>,
        keys: Width,
        visit: &mut dyn FnMut(&[u8], &[u8]),
        fault: &mut dyn FnMut(String),
    ) {
        let mut stack: Vec<u64> = root.into_iter().collect();
        // No page is in a tree twice; a damaged one may say so.
        let mut seen = HashSet::new();
        while let Some(number) = stack.pop() {
            if !seen.insert(number) {
                fault(format!("page {number:#x} hangs in the tree twice"));
                continue;
            }
            match self.page(number) {
                None => fault(format!("page {number:#x} is outside of the file")),
                Some(page) => {
                    let is_read = match page.first() {
                        Some(1) => leaf(&page, keys, visit),
                        Some(2) => children(&page).map(|children| {
                            // The first child is looked at first.
                            stack.extend(children.into_iter().rev());
                        }),
                        _ => None,
                    };
                    if is_read.is_none() {
                        fault(format!("page {number:#x} is damaged"));
                    }
                }
            }
        }
    }

    fn page(&self, number: u64) -> Option<Vec<u8>> {
        let order = number >> 59;
        if order > ORDER_MAX {
            return None;
        }
        let size = PAGE << order;
        let index = number & (0xf_ffff >> order);
        let region = number >> 20 & 0xf_ffff;
        let start = region
            .checked_mul(self.region_bytes)?
            .checked_add(PAGE + self.region_header_bytes + index * size)?;
        if start.checked_add(size)? > self.length {
            return None;
        }
        let mut page = vec![0; usize::try_from(size).ok()?];
        self.storage.read(start, &mut page).ok()?;
        Some(page)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Eight,
    Any,
}

fn slot(header: &[u8], at: usize) -> Option<Slot> {
    let slot = header.get(at..at + 128)?;
    (slot.first() == Some(&FORMAT_VERSION)).then_some(())?;
    let root = u64_at(slot, 8)?;
    Some(Slot {
        transaction: u64_at(slot, 104)?,
        root: (*slot.get(1)? != 0).then_some(root),
    })
}

fn table_root(definition: &[u8]) -> Option<TableRoot> {
    (definition.first() == Some(&TABLE)).then_some(())?;
    let root = u64_at(definition, 10)?;
    Some(TableRoot {
        rows: u64_at(definition, 1)?,
        root: (*definition.get(9)? != 0).then_some(root),
    })
}

fn children(page: &[u8]) -> Option<Vec<u64>> {
    let count = u16_at(page, 2)? + 1;
    let first = 8 + 16 * count;
    (0..count)
        .map(|child| u64_at(page, first + 8 * child))
        .collect()
}

fn leaf(page: &[u8], keys: Width, visit: &mut dyn FnMut(&[u8], &[u8])) -> Option<()> {
    let count = u16_at(page, 2)?;
    let end =
        |table: usize, row: usize| Some(u32_at(page, 4 + 4 * (table * count + row))? as usize);
    let (values_table, keys_start) = match keys {
        Width::Eight => (0, 4 + 4 * count),
        Width::Any => (1, 4 + 8 * count),
    };
    let key_end = |row: usize| match keys {
        Width::Eight => Some(keys_start + 8 * (row + 1)),
        Width::Any => end(0, row),
    };
    let mut key_start = keys_start;
    let mut value_start = key_end(count.checked_sub(1)?)?;
    let mut rows = Vec::with_capacity(count);
    for row in 0..count {
        let (key_end, value_end) = (key_end(row)?, end(values_table, row)?);
        let key = page.get(key_start..key_end)?;
        let value = page.get(value_start..value_end)?;
        rows.push((key, value));
        (key_start, value_start) = (key_end, value_end);
    }
    for (key, value) in rows {
        visit(key, value);
    }
    Some(())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(usize::from(u16::from_le_bytes(*field)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
const HEADER: usize = 320;
const PAGE: u64 = 4096;
/// A page of the largest order is a region.
const ORDER_MAX: u64 = 20;
const FORMAT_VERSION: u8 = 3;
const TABLE: u8 = 3;
