//! [`Table`]: what scenes may cost, as it is kept in the repository.

use std::fmt;

use super::judgement::{Change, Finding};

/// What one operation of a scene costs, in thousandths, so that what is written and what is counted compare exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) instructions: Milli,
    pub(super) allocations: Milli,
}

/// Thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Milli(pub(super) u64);

/// The file's rows, in the order of the scenes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    compiler: Option<String>,
    rows: Vec<Row>,
}

/// A scene, its cost when it was last written, and why it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) scene: String,
    pub(super) cost: Cost,
    note: String,
}

impl Table {
    /// # Errors
    /// A message that names the line.
    pub(super) fn read(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        for (number, line) in text.lines().enumerate() {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                table.compiler = Some(compiler.to_owned());
            } else if !line.is_empty() && !line.starts_with('#') && line != COLUMNS {
                let row = row(line);
                table
                    .rows
                    .push(row.ok_or_else(|| format!("line {} is no row: {line}", number + 1))?);
            }
        }
        Ok(table)
    }

    /// The compiler that the rows were counted with.
    pub(super) fn compiler(&self) -> Option<&str> {
        self.compiler.as_deref()
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn cost(&self, scene: &str) -> Option<Cost> {
        let mut rows = self.rows.iter();
        Some(rows.find(|row| row.scene == scene)?.cost)
    }

    /// The table with what was found in it, each with the note; rows that nothing was found of stay as they are, so that
    /// many small steps add up to one that is found.
    pub(super) fn blessed(&self, findings: &[Finding], note: &str, compiler: &str) -> Table {
        let mut rows = self.rows.clone();
        for Finding { scene, change } in findings {
            let place = rows.iter().position(|row| row.scene == *scene);
            match (change.cost(), place) {
                (None, place) => {
                    place.map(|place| rows.remove(place));
                }
                (Some(cost), Some(place)) => {
                    let row = &mut rows[place];
                    row.cost = cost;
                    note.clone_into(&mut row.note);
                }
                (Some(cost), None) => rows.push(Row {
                    scene: scene.clone(),
                    cost,
                    note: note.to_owned(),
                }),
            }
        }
        rows.sort_by(|row, other| row.scene.cmp(&other.scene));
        Table {
            compiler: Some(compiler.to_owned()),
            rows,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        if let Some(compiler) = &self.compiler {
            writeln!(f, "{COMPILER}{compiler}")?;
        }
        writeln!(f, "{COLUMNS}")?;
        for Row { scene, cost, note } in &self.rows {
            writeln!(f, "{scene}\t{cost}\t{note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.instructions, self.allocations)
    }
}

impl Milli {
    /// The share of each of `operations` in `total`.
    pub(super) fn share(total: u64, operations: u64) -> Milli {
        Milli((total * 1_000).div_ceil(operations.max(1)))
    }

    fn read(text: &str) -> Option<Milli> {
        let (whole, thousandths) = text.split_once('.')?;
        if thousandths.len() != 3 {
            return None;
        }
        Some(Milli(
            whole.parse::<u64>().ok()? * 1_000 + thousandths.parse::<u64>().ok()?,
        ))
    }
}

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

impl Change {
    /// What the scene costs now; `None` where it is gone.
    fn cost(&self) -> Option<Cost> {
        match *self {
            Change::New { now }
            | Change::Instructions { now, .. }
            | Change::Allocations { now, .. } => Some(now),
            Change::Gone => None,
        }
    }
}

fn row(line: &str) -> Option<Row> {
    let mut cells = line.split('\t');
    let (scene, instructions) = (cells.next()?, cells.next()?);
    let (allocations, note) = (cells.next()?, cells.next()?);
    let row = Row {
        scene: scene.to_owned(),
        cost: Cost {
            instructions: Milli::read(instructions)?,
            allocations: Milli::read(allocations)?,
        },
        note: note.to_owned(),
    };
    cells.next().is_none().then_some(row)
}

const HEAD: &str = "\
# What one operation of each scene costs. Checked, and written with --bless --note, by `cargo xtask instructions`;
# docs/performance.md says what is counted. A row stands until it is off by more than the task allows.
";
const COMPILER: &str = "# compiler: ";
const COLUMNS: &str = "scene\tinstructions\tallocations\tnote";

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: u64, allocations: u64) -> Cost {
        Cost {
            instructions: Milli(instructions),
            allocations: Milli(allocations),
        }
    }

    fn finding(scene: &str, change: Change) -> Finding {
        Finding {
            scene: scene.to_owned(),
            change,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let now = cost(123_456, 7);
        let findings = [
            finding("b", Change::New { now }),
            finding("a", Change::New { now }),
        ];
        let table = Table::default().blessed(&findings, "first count", "rustc 1");
        assert_eq!(Table::read(&table.to_string()), Ok(table.clone()));
        assert_eq!(table.compiler(), Some("rustc 1"));
        assert_eq!(table.rows()[0].scene, "a");
        assert_eq!(table.cost("b"), Some(now));
        assert!(
            table
                .to_string()
                .contains("b\t123.456\t0.007\tfirst count\n")
        );
    }

    #[test]
    fn only_rows_that_were_found_are_blessed() {
        let text = "a\t100.000\t1.000\told\nb\t100.000\t1.000\told\nc\t1.000\t1.000\told\n";
        let table = Table::read(text).unwrap();
        let now = cost(200_000, 1_000);
        let was = cost(100_000, 1_000);
        let findings = [
            finding("a", Change::Instructions { was, now }),
            finding("c", Change::Gone),
        ];
        let blessed = table.blessed(&findings, "new", "rustc 1").to_string();
        assert!(blessed.contains("\na\t200.000\t1.000\tnew\nb\t100.000\t1.000\told\n"));
        assert!(!blessed.contains("\nc\t"));
    }

    #[test]
    fn broken_rows_are_named() {
        for broken in [
            "a\t1.000",
            "a\t1\t1.000\tnote",
            "a\t1.000\t1.00\tnote",
            "a\tx.000\t1.000\t\t",
        ] {
            let read = Table::read(&format!("{COLUMNS}\n{broken}\n"));
            assert_eq!(read, Err(format!("line 2 is no row: {broken}")));
        }
    }

    #[test]
    fn shares_are_rounded_up_so_that_one_allocation_shows() {
        assert_eq!(Milli::share(1, 5_000), Milli(1));
        assert_eq!(Milli::share(10, 4), Milli(2_500));
        assert_eq!(Milli::share(0, 4), Milli(0));
    }
}
