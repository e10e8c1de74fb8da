//! The normative statements, as tables that are part of this crate.

use std::sync::LazyLock;

use whimbrel_codec::ProtocolVersion;

/// One normative statement of a standard, in our own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The id with its prefix: `5:MQTT-3.1.2-24`, `3:MQTT-3.1.2-24`, or `U5-033`, `U311-004`, `U31-002` for a rule that
    /// the standard does not number.
    pub id: String,
    /// The standard it is from.
    pub standard: ProtocolVersion,
    /// The section of the standard.
    pub section: &'static str,
    /// Whom it binds: `server`, `client`, `both`, or `codec` for whoever sends or reads the packet.
    pub binds: &'static str,
    /// Where it can be tested: `codec`, `session`, `broker`, `client`, or `n/a`.
    pub testable: &'static str,
    /// What it says.
    pub text: &'static str,
}

impl Statement {
    /// All statements: MQTT 5.0, 3.1.1, then the unnumbered rules of all three, each in the order of its table.
    pub fn all() -> &'static [Statement] {
        &STATEMENTS
    }

    /// The statement with this full id.
    pub fn find(id: &str) -> Option<&'static Statement> {
        Statement::all().iter().find(|statement| statement.id == id)
    }

    /// The statements meant by `text`, an id with or without its prefix: without one, the numbered statements of MQTT
    /// 5.0 and of 3.1.1 are both meant.
    pub fn matching(text: &str) -> Vec<&'static Statement> {
        let same = |statement: &&Statement| {
            let id = statement.id.as_str();
            id.eq_ignore_ascii_case(text)
                || id
                    .split_once(':')
                    .is_some_and(|(_, bare)| bare.eq_ignore_ascii_case(text))
        };
        Statement::all().iter().filter(same).collect()
    }

    /// Why this statement is not visible to a black-box tester on a network, if it is not.
    pub fn not_visible(&self) -> Option<&'static str> {
        let mut lines = rows(NOT_VISIBLE);
        lines.find_map(|[id, reason]| (id == self.id).then_some(reason))
    }

    /// Whether a run in `version` speaks about this statement.
    ///
    /// 3.1 has no numbered statements of its own: there the cases that run in 3.1 say which of 3.1.1 they show.
    pub fn belongs_to(&self, version: ProtocolVersion) -> bool {
        self.standard == version || (version == ProtocolVersion::V31 && self.id.starts_with("3:"))
    }
}

fn load() -> Vec<Statement> {
    let numbered = |table, prefix: &'static str, standard| {
        rows(table).map(move |[id, section, binds, testable, text]| Statement {
            id: format!("{prefix}{id}"),
            standard,
            section,
            binds,
            testable,
            text,
        })
    };
    let unnumbered = rows(UNNUMBERED).map(
        |[id, standard, section, binds, testable, _error, text]| Statement {
            id: id.to_owned(),
            standard: match standard {
                "5" => ProtocolVersion::V5,
                "3.1.1" => ProtocolVersion::V311,
                _ => ProtocolVersion::V31,
            },
            section,
            binds,
            testable,
            text,
        },
    );
    numbered(MQTT5, "5:", ProtocolVersion::V5)
        .chain(numbered(MQTT311, "3:", ProtocolVersion::V311))
        .chain(unnumbered)
        .collect()
}

/// The lines of a table below its heading, as columns; a line with another number of columns is left out, which a test
/// excludes.
fn rows<const COLUMNS: usize>(
    table: &'static str,
) -> impl Iterator<Item = [&'static str; COLUMNS]> {
    let columns = |line: &'static str| line.split('\t').collect::<Vec<_>>().try_into().ok();
    table.lines().skip(1).filter_map(columns)
}

static STATEMENTS: LazyLock<Vec<Statement>> = LazyLock::new(load);

const MQTT5: &str = include_str!("../data/mqtt5-statements.tsv");
const MQTT311: &str = include_str!("../data/mqtt311-statements.tsv");
const UNNUMBERED: &str = include_str!("../data/unnumbered-rules.tsv");
const NOT_VISIBLE: &str = include_str!("../data/not-visible.tsv");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_line_of_every_table_is_a_statement() {
        let lines = [MQTT5, MQTT311, UNNUMBERED].map(|table| table.lines().count() - 1);
        assert_eq!(Statement::all().len(), lines.iter().sum::<usize>());
        assert_eq!(lines, [251, 141, 109]);
        let ids: HashSet<&str> = Statement::all().iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), Statement::all().len());
    }

    #[test]
    fn ids_are_found_with_and_without_prefix() {
        let ids = |text| -> Vec<&str> {
            let found = Statement::matching(text).into_iter();
            found.map(|statement| statement.id.as_str()).collect()
        };
        assert_eq!(ids("5:MQTT-3.1.0-2"), ["5:MQTT-3.1.0-2"]);
        assert_eq!(ids("mqtt-3.1.0-2"), ["5:MQTT-3.1.0-2", "3:MQTT-3.1.0-2"]);
        assert_eq!(ids("U31-002"), ["U31-002"]);
        assert!(ids("MQTT-9.9.9-9").is_empty());
    }

    #[test]
    fn what_is_not_visible_is_a_statement_and_has_a_reason() {
        let mut seen = HashSet::new();
        assert_eq!(
            rows::<2>(NOT_VISIBLE).count(),
            NOT_VISIBLE.lines().count() - 1
        );
        for [id, reason] in rows(NOT_VISIBLE) {
            assert!(Statement::find(id).is_some(), "{id} is no statement");
            assert!(seen.insert(id), "{id} is there twice");
            assert!(reason.len() > 20, "{id}: {reason:?} is no reason");
        }
    }
}
