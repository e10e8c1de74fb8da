//! [`import`]: a store from lines of JSON.

use std::io::{BufRead, Read};
use std::path::Path;

use super::check::Owners;
use super::json::{BadField, Line};
use super::writer::NewStore;
use super::{OnProgress, Progress, ToolError};
use crate::format::FORMAT;
use crate::row::Row;
use crate::tables::META_INCARNATION;

/// Bytes of a line, at most: the largest message in base64, and what stands around it.
const LINE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Lines between two reports of progress.
const LINES_PER_REPORT: u64 = 4096;

/// What [`import`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Lines, that of the store itself included.
    pub lines: u64,
}

/// Makes a store of what [`export`](super::export) wrote, in a directory that has none. Nothing is there until all of
/// it is.
///
/// # Errors
///
/// [`ToolError`] where there is a store, a line can't be, or `input` or the disk fail.
pub fn import(
    directory: &Path,
    input: &mut dyn BufRead,
    progress: OnProgress<'_>,
) -> Result<ImportReport, ToolError> {
    let mut lines = Lines { input, number: 0 };
    let mut new = NewStore::create(directory)?;
    let incarnation = match lines.next()? {
        Some(Line::Store {
            format,
            incarnation,
        }) if format == FORMAT => incarnation,
        Some(Line::Store { format, .. }) => {
            let detail = format!("format {format}, where {FORMAT} is known");
            return Err(lines.fault(&detail));
        }
        _ => return Err(lines.fault(&"the line of the store is missing")),
    };
    new.write(&Row::Meta {
        name: META_INCARNATION.to_vec(),
        number: incarnation,
    })?;
    let mut owners = Owners::default();
    while let Some(line) = lines.next()? {
        let row = line
            .into_row()
            .map_err(|BadField(field)| lines.fault(&format!("field {field} can't be")))?;
        owners.check(&row).map_err(|detail| lines.fault(&detail))?;
        new.write(&row)?;
        if lines.number.is_multiple_of(LINES_PER_REPORT) {
            progress(lines.progress());
        }
    }
    new.finish()?;
    progress(lines.progress());
    Ok(ImportReport {
        lines: lines.number,
    })
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Line>, ToolError> {
        let mut text = Vec::new();
        let mut input = Read::take(&mut *self.input, LINE_BYTES_MAX);
        if input.read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        match serde_json::from_slice(&text) {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(self.fault(&error)),
        }
    }

    fn fault(&self, detail: &dyn ToString) -> ToolError {
        ToolError::Line {
            line: self.number,
            detail: detail.to_string(),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            done: self.number,
            total: None,
        }
    }
}
