//! [`Finding`]: where a scene does not cost what it should.

use std::fmt;

use super::table::{Cost, Milli, Table};

/// A scene, and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) scene: String,
    pub(super) change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The table does not know the scene.
    New { now: Cost },
    /// The table has a scene that is no more.
    Gone,
    /// More or fewer instructions than is let pass. Fewer too: left as it is, the table would let what was gained be
    /// lost again.
    Instructions { was: Cost, now: Cost },
    /// Another number of allocations, be it by one in a thousand operations.
    Allocations { was: Cost, now: Cost },
}

/// What is the matter with the scenes that were counted.
pub(super) fn compare(table: &Table, counted: &[(String, Cost)]) -> Vec<Finding> {
    let findings = counted.iter().filter_map(|(scene, now)| {
        let now = *now;
        let change = match table.cost(scene) {
            None => Change::New { now },
            Some(was) if is_off(was.instructions, now.instructions) => {
                Change::Instructions { was, now }
            }
            Some(was) if was.allocations != now.allocations => Change::Allocations { was, now },
            Some(_) => return None,
        };
        Some(Finding {
            scene: scene.clone(),
            change,
        })
    });
    findings.collect()
}

/// The scenes of the table that are not among all that there are.
pub(super) fn gone(table: &Table, counted: &[(String, Cost)]) -> Vec<Finding> {
    let rows = table.rows().iter();
    let gone = rows.filter(|row| !counted.iter().any(|(scene, _)| *scene == row.scene));
    gone.map(|row| Finding {
        scene: row.scene.clone(),
        change: Change::Gone,
    })
    .collect()
}

fn is_off(was: Milli, now: Milli) -> bool {
    now.0.abs_diff(was.0) * 100 > was.0 * OFF_PERCENT_MAX
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scene = &self.scene;
        match self.change {
            Change::New { .. } => write!(f, "{scene}: not in the table"),
            Change::Gone => write!(f, "{scene}: in the table, but no scene"),
            Change::Instructions { was, now } => {
                let (was, now) = (was.instructions, now.instructions);
                let percent = (now.0 as f64 / was.0 as f64 - 1.0) * 100.0;
                let word = if now > was { "more" } else { "fewer" };
                write!(
                    f,
                    "{scene}: {word} instructions an operation, from {was} to {now} ({percent:+.1} %)"
                )
            }
            Change::Allocations { was, now } => {
                let (was, now) = (was.allocations, now.allocations);
                write!(f, "{scene}: allocations an operation from {was} to {now}")
            }
        }
    }
}

/// How far from the table's row a scene may be, in percent of the row.
const OFF_PERCENT_MAX: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: u64, allocations: u64) -> Cost {
        Cost {
            instructions: Milli(instructions),
            allocations: Milli(allocations),
        }
    }

    fn found(instructions: u64, allocations: u64) -> Option<Finding> {
        let table = Table::read("scene\t100.000\t2.000\tnote\n").unwrap();
        let counted = [("scene".to_owned(), cost(instructions, allocations))];
        assert_eq!(gone(&table, &counted), []);
        compare(&table, &counted).pop()
    }

    #[test]
    fn five_percent_more_or_fewer_pass_and_a_thousandth_beyond_does_not() {
        for passes in [95_000, 100_000, 105_000] {
            assert_eq!(found(passes, 2_000), None);
        }
        let more = found(105_001, 2_000).unwrap().to_string();
        assert_eq!(
            more,
            "scene: more instructions an operation, from 100.000 to 105.001 (+5.0 %)"
        );
        let fewer = found(50_000, 2_000).unwrap().to_string();
        assert_eq!(
            fewer,
            "scene: fewer instructions an operation, from 100.000 to 50.000 (-50.0 %)"
        );
    }

    #[test]
    fn one_allocation_more_or_fewer_does_not_pass() {
        let more = found(100_000, 2_001).unwrap().to_string();
        assert_eq!(more, "scene: allocations an operation from 2.000 to 2.001");
        assert!(found(100_000, 1_999).is_some());
    }

    #[test]
    fn new_and_vanished_scenes_are_found() {
        let table = Table::read("old\t100.000\t2.000\tnote\n").unwrap();
        let counted = [("new".to_owned(), cost(1, 1))];
        let texts = |findings: Vec<Finding>| -> Vec<String> {
            findings.iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(compare(&table, &counted)), ["new: not in the table"]);
        assert_eq!(
            texts(gone(&table, &counted)),
            ["old: in the table, but no scene"]
        );
    }
}
