//! [`export`]: a store as lines of JSON.

use std::io::{self, Write};
use std::path::Path;

use super::json::Line;
use super::survey::Survey;
use super::{OnProgress, ToolError};
use crate::row::Row;
use crate::tables::{META_FORMAT, META_INCARNATION};

/// What [`export`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Lines, that of the store itself included.
    pub lines: u64,
}

/// Writes everything as lines of JSON, an object for each thing, in an order that depends on nothing but the store.
///
/// The first line is the store's own; then come shared subscriptions, sessions, subscriptions, windows, messages taken
/// over, who had unreleased ones, queued messages, retained messages. Payloads are base64.
///
/// # Errors
///
/// [`ToolError`] where there is no store, another process has it, it is damaged, or `out` fails.
pub fn export(
    directory: &Path,
    out: &mut dyn Write,
    progress: OnProgress<'_>,
) -> Result<ExportReport, ToolError> {
    let survey = Survey::of_directory(directory)?;
    let mut report = ExportReport::default();
    let mut failed = None;
    let (mut format, mut incarnation) = (None, None);
    survey.visit_sound(progress, &mut |row, _| {
        if let Row::Meta { name, number } = &row {
            match &**name {
                META_FORMAT => format = Some(*number),
                META_INCARNATION => incarnation = Some(*number),
                _ => {}
            }
            // The rows of `meta` come first.
            if let (Some(format), Some(incarnation), 0) = (format, incarnation, report.lines) {
                let line = Line::Store {
                    format,
                    incarnation,
                };
                report.lines += 1;
                note(&mut failed, write_line(out, &line));
            }
        } else if let Some(line) = Line::of(row) {
            report.lines += 1;
            note(&mut failed, write_line(out, &line));
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    out.flush()?;
    Ok(report)
}

fn note(failed: &mut Option<io::Error>, written: io::Result<()>) {
    if let Err(error) = written {
        failed.get_or_insert(error);
    }
}

fn write_line(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
