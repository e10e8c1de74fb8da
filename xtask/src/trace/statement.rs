//! The statements of the standards, as the conformance crate has them.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use super::mention::Spelling;

/// Where the tables are, below the workspace's root.
pub(super) const FOLDER: &str = "crates/conformance/data";

/// Which document a statement is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standard {
    /// Numbered statements of MQTT 3.1.1, `3:MQTT-…`.
    V311,
    /// Numbered statements of MQTT 5.0, `5:MQTT-…`.
    V5,
    /// Rules of all versions that their standards give no number, `U5-…`, `U311-…`, `U31-…`.
    Unnumbered,
}

/// A line of one of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// As it is written in tags, with the standard's prefix.
    pub(super) id: String,
    pub(super) standard: Standard,
    /// Of the document, with its version where the table has several.
    pub(super) section: String,
    pub(super) paraphrase: String,
}

/// All statements, in the order of their tables.
#[derive(Debug)]
pub(super) struct Statements {
    ordered: Vec<Statement>,
    places: BTreeMap<String, usize>,
}

impl Statements {
    pub(super) fn read(root: &Path) -> Result<Self, Box<dyn Error>> {
        let table = |name: &str| {
            let path = root.join(FOLDER).join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Self::parse(
            &table("mqtt311-statements.tsv")?,
            &table("mqtt5-statements.tsv")?,
            &table("unnumbered-rules.tsv")?,
        )
    }

    /// Reads the tables of MQTT 3.1.1, of MQTT 5.0 and of the unnumbered rules, each with a header.
    pub(super) fn parse(v311: &str, v5: &str, unnumbered: &str) -> Result<Self, Box<dyn Error>> {
        let mut ordered = Vec::new();
        for (standard, text) in [
            (Standard::V311, v311),
            (Standard::V5, v5),
            (Standard::Unnumbered, unnumbered),
        ] {
            for line in text.lines().skip(1) {
                ordered.push(parse_line(standard, line)?);
            }
        }
        let places: BTreeMap<String, usize> = ordered
            .iter()
            .enumerate()
            .map(|(place, statement)| (statement.id.clone(), place))
            .collect();
        if places.len() != ordered.len() {
            return Err("an id stands twice in the tables".into());
        }
        Ok(Self { ordered, places })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Statement> {
        self.ordered.iter()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// The id that is meant, if there is one.
    ///
    /// Without a prefix it is the one of MQTT 5.0 if that has it, else the one of 3.1.1.
    pub(super) fn resolve(&self, spelling: &Spelling) -> Option<String> {
        let candidates = match spelling {
            Spelling::Whole(id) => vec![id.clone()],
            Spelling::Bare(id) => vec![format!("5:{id}"), format!("3:{id}")],
        };
        candidates.into_iter().find(|id| self.has(id))
    }
}

fn parse_line(standard: Standard, line: &str) -> Result<Statement, Box<dyn Error>> {
    let columns: Vec<&str> = line.split('\t').collect();
    let (id, section, paraphrase) = match (standard, columns.as_slice()) {
        (Standard::V311, [id, section, _binds, _testable, paraphrase]) => {
            (format!("3:{id}"), (*section).to_owned(), paraphrase)
        }
        (Standard::V5, [id, section, _binds, _testable, paraphrase]) => {
            (format!("5:{id}"), (*section).to_owned(), paraphrase)
        }
        (Standard::Unnumbered, [id, version, section, _binds, _testable, _error, paraphrase]) => (
            (*id).to_owned(),
            format!("{version}: {section}"),
            paraphrase,
        ),
        _ => return Err(format!("no line of a table of statements: {line}").into()),
    };
    Ok(Statement {
        id,
        standard,
        section,
        paraphrase: (*paraphrase).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements() -> Statements {
        let numbered = |ids: &[&str]| {
            let lines = ids
                .iter()
                .map(|id| format!("{id}\t1\tboth\tcodec\tText.\n"));
            format!("header\n{}", lines.collect::<String>())
        };
        Statements::parse(
            &numbered(&["MQTT-1.1.1-1", "MQTT-1.1.1-3"]),
            &numbered(&["MQTT-1.1.1-1", "MQTT-1.1.1-2"]),
            "header\nU5-001\t5\t1.5.4\tcodec\tcodec\t0x81\tText.\n",
        )
        .unwrap()
    }

    #[test]
    fn id_without_prefix_is_the_one_of_5_else_the_one_of_311() {
        let resolve = |id: &str| statements().resolve(&Spelling::Bare(id.to_owned()));
        assert_eq!(resolve("MQTT-1.1.1-1").as_deref(), Some("5:MQTT-1.1.1-1"));
        assert_eq!(resolve("MQTT-1.1.1-2").as_deref(), Some("5:MQTT-1.1.1-2"));
        assert_eq!(resolve("MQTT-1.1.1-3").as_deref(), Some("3:MQTT-1.1.1-3"));
        assert_eq!(resolve("MQTT-1.1.1-4"), None);
    }

    #[test]
    fn id_with_prefix_is_of_that_standard_only() {
        let resolve = |id: &str| statements().resolve(&Spelling::Whole(id.to_owned()));
        assert_eq!(resolve("3:MQTT-1.1.1-1").as_deref(), Some("3:MQTT-1.1.1-1"));
        assert_eq!(resolve("3:MQTT-1.1.1-2"), None);
        assert_eq!(resolve("U5-001").as_deref(), Some("U5-001"));
    }

    #[test]
    fn tables_that_cannot_be_read_are_refused() {
        assert!(Statements::parse("header\nMQTT-1.1.1-1\ttoo few\n", "", "").is_err());
        let twice =
            "header\nMQTT-1.1.1-1\t1\tboth\tcodec\tText.\nMQTT-1.1.1-1\t1\tboth\tcodec\tText.\n";
        assert!(Statements::parse(twice, "", "").is_err());
    }
}
