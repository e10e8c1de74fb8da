//! The page that says who shows what, made from the tables and the tests.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    reasons::Reasons,
    scan::{Evidence, Test},
    statement::{Standard, Statement, Statements},
};

/// Where it is, below the workspace's root.
pub(super) const PAGE: &str = "docs/conformance.md";

/// The rows of a table of vectors that the page names for one statement; it counts the others.
const ROWS_NAMED_MAX: usize = 3;

/// The text of [`PAGE`].
pub(super) fn render(statements: &Statements, evidence: &Evidence, reasons: &Reasons) -> String {
    let mut page = String::from(INTRODUCTION);
    for (standard, title) in [
        (Standard::V311, "MQTT 3.1.1"),
        (Standard::V5, "MQTT 5.0"),
        (Standard::Unnumbered, "Rules without a number"),
    ] {
        let ours = || statements.iter().filter(|one| one.standard == standard);
        let with_test = ours().filter(|one| evidence.shows(&one.id)).count();
        let _ = write!(
            page,
            "\n## {title}\n\n{} statements, {with_test} shown by a test.\n\n\
             | id | section | statement | shown by |\n|---|---|---|---|\n",
            ours().count()
        );
        for statement in ours() {
            page.push_str(&line(statement, evidence, reasons));
        }
    }
    page
}

fn line(statement: &Statement, evidence: &Evidence, reasons: &Reasons) -> String {
    let Statement {
        id,
        section,
        paraphrase,
        ..
    } = statement;
    let shown = if evidence.shows(id) {
        by_layer(evidence.tests(id))
    } else if let Some(reason) = reasons.get(id) {
        format!("*No test:* {}", cell(reason))
    } else {
        "**Nobody.**".to_owned()
    };
    format!("| {id} | {section} | {} | {shown} |\n", cell(paraphrase))
}

/// The tests grouped by their layer, and rows by their test.
fn by_layer<'a>(tests: impl Iterator<Item = &'a Test>) -> String {
    let mut layers: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for test in tests {
        let rows = layers
            .entry(&test.layer)
            .or_default()
            .entry(&test.name)
            .or_default();
        rows.extend(test.row.as_deref());
    }
    let layers = layers.iter().map(|(layer, tests)| {
        let tests = tests
            .iter()
            .map(|(name, rows)| format!("`{name}`{}", row_list(rows)));
        format!("{layer}: {}", tests.collect::<Vec<_>>().join(", "))
    });
    layers.collect::<Vec<_>>().join("; ")
}

fn row_list(rows: &[&str]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let named: Vec<String> = rows
        .iter()
        .take(ROWS_NAMED_MAX)
        .map(|row| cell(row))
        .collect();
    let more = match rows.len().saturating_sub(ROWS_NAMED_MAX) {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    format!(" ({}{more})", named.join("; "))
}

/// Text that ends no cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const INTRODUCTION: &str = "\
# Statements of the standards, and the tests that show them

Made by `cargo xtask trace` from the tables in `crates/conformance/data` and from the ids that the
tests carry; CI fails when it is out of date. Do not edit it.

Ids are those of the standards, behind `3:` for MQTT 3.1.1 and `5:` for MQTT 5.0; `U31-`, `U311-` and
`U5-` are rules that the standards state without a number. The statements are paraphrased. A test is
named behind the crate that it belongs to; `network` are the cases of `whimbrel conformance`, which run
against any broker.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_names_tests_rows_reasons_and_gaps() {
        let table = "header\nMQTT-1.1.1-1\t1.1\tboth\tcodec\tA | bar.\nMQTT-1.1.1-2\t1.1\tboth\tcodec\tB.\nMQTT-1.1.1-3\t1.1\tboth\tcodec\tC.\n";
        let statements = Statements::parse("", table, "").unwrap();
        let (reasons, _) = Reasons::parse("5:MQTT-1.1.1-2\tA fact.\n", &statements);
        let mut evidence = Evidence::default();
        let source = "#[test]\nfn one() {\n    // MQTT-1.1.1-1\n}\n";
        let path = std::path::Path::new("crates/codec/tests/wire.rs");
        super::super::scan::rust_file(path, source, &statements, &mut evidence);
        let page = render(&statements, &evidence, &reasons);
        for line in [
            "| 5:MQTT-1.1.1-1 | 1.1 | A \\| bar. | codec: `wire::one` |\n",
            "| 5:MQTT-1.1.1-2 | 1.1 | B. | *No test:* A fact. |\n",
            "| 5:MQTT-1.1.1-3 | 1.1 | C. | **Nobody.** |\n",
            "3 statements, 1 shown by a test.",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
    }

    #[test]
    fn rows_beyond_the_bound_are_counted() {
        assert_eq!(row_list(&[]), "");
        assert_eq!(row_list(&["a", "b|c"]), " (a; b\\|c)");
        assert_eq!(row_list(&["a", "b", "c", "d", "e"]), " (a; b; c; 2 more)");
    }
}
