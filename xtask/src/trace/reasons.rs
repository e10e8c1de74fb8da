//! Reviewed reasons for statements that no test of this project can show.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use super::{finding::Finding, statement::Statements};

/// Where they are, below the workspace's root.
pub(super) const TABLE: &str = "crates/conformance/data/reasons.tsv";

/// Reasons by id.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    by_id: BTreeMap<String, String>,
}

impl Reasons {
    /// Reads the table, and what is wrong with its lines.
    pub(super) fn read(
        root: &Path,
        statements: &Statements,
    ) -> Result<(Self, Vec<Finding>), Box<dyn Error>> {
        let text =
            fs::read_to_string(root.join(TABLE)).map_err(|error| format!("{TABLE}: {error}"))?;
        let lines = text.strip_prefix("id\treason\n");
        let lines = lines.ok_or_else(|| format!("{TABLE} does not begin with its header"))?;
        Ok(Self::parse(lines, statements))
    }

    /// Reads lines of an id, a tab, and a reason.
    pub(super) fn parse(lines: &str, statements: &Statements) -> (Self, Vec<Finding>) {
        let mut reasons = Self::default();
        let mut findings = Vec::new();
        for line in lines.lines() {
            let (id, reason) = line.split_once('\t').unwrap_or((line, ""));
            if !statements.has(id) {
                findings.push(Finding::new(
                    TABLE,
                    &format!("has a reason for {id}, which is in no table"),
                    "mend the id, or delete the line",
                ));
            } else if reason.trim().is_empty() {
                findings.push(Finding::new(
                    TABLE,
                    &format!("gives no reason for {id}"),
                    "say where the statement holds and why no test can show it",
                ));
            } else if reasons
                .by_id
                .insert(id.to_owned(), reason.to_owned())
                .is_some()
            {
                findings.push(Finding::new(
                    TABLE,
                    &format!("has {id} twice"),
                    "keep one of the lines",
                ));
            }
        }
        (reasons, findings)
    }

    pub(super) fn get(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_nothing_are_found() {
        let table = "header\nU5-001\t5\t1.5.4\tcodec\tcodec\t0x81\tText.\n";
        let statements = Statements::parse("", "", table).unwrap();
        let count = |lines: &str| Reasons::parse(lines, &statements).1.len();
        assert_eq!(count("U5-001\tBecause.\n"), 0);
        for lines in [
            "U5-002\tBecause.\n",
            "U5-001\t \n",
            "U5-001\n",
            "U5-001\ta\nU5-001\tb\n",
        ] {
            assert_eq!(count(lines), 1, "{lines}");
        }
    }
}
