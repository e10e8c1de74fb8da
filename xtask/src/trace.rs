//! `cargo xtask trace`: which tests show which statement of the standards.
//!
//! Every statement in the tables of the conformance crate has a test that carries its id, or a
//! reviewed reason why it has none. The page [`page::PAGE`] is made from what is found.

mod cases;
mod finding;
mod functions;
mod mention;
mod page;
mod reasons;
mod scan;
mod statement;
mod vectors;

use std::{
    ffi::{OsStr, OsString},
    fs,
};

use self::{finding::Finding, reasons::Reasons, scan::Evidence, statement::Statements};
use crate::{Outcome, metadata::Metadata};

/// Prints each statement with its tests and writes the page; with `--check`, compares the page.
///
/// Either way it fails on a statement that nobody shows and on a tag that says nothing.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let mut is_check = false;
    for argument in arguments {
        if argument != OsStr::new("--check") {
            return Err(format!("trace takes --check only, not {}", argument.display()).into());
        }
        is_check = true;
    }
    let root = Metadata::read()?.workspace_root;
    let statements = Statements::read(&root)?;
    let (reasons, mut findings) = Reasons::read(&root, &statements)?;
    let (evidence, from_sources) = scan::workspace(&root, &statements)?;
    findings.extend(from_sources);
    findings.extend(judge(&statements, &evidence, &reasons));

    let text = page::render(&statements, &evidence, &reasons);
    let path = root.join(page::PAGE);
    if is_check {
        if fs::read_to_string(&path).unwrap_or_default() != text {
            findings.push(Finding::new(
                page::PAGE,
                "is not what the tests say",
                "run `cargo xtask trace` and commit the page",
            ));
        }
    } else {
        for statement in statements.iter() {
            let tests: Vec<String> = evidence
                .tests(&statement.id)
                .map(ToString::to_string)
                .collect();
            println!("{}\t{}", statement.id, tests.join(", "));
        }
        fs::write(&path, text)?;
    }
    let with_test = statements
        .iter()
        .filter(|one| evidence.shows(&one.id))
        .count();
    let with_reason = statements
        .iter()
        .filter(|one| reasons.get(&one.id).is_some())
        .count();
    println!(
        "trace: {} statements, {with_test} with a test, {with_reason} with a reason; {} tests carry a statement",
        statements.iter().count(),
        evidence.test_count(),
    );
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(format!("{} findings of the trace", findings.len()).into())
}

/// Statements that nobody shows, and reasons that a test has made stale.
fn judge(statements: &Statements, evidence: &Evidence, reasons: &Reasons) -> Vec<Finding> {
    let mut findings = Vec::new();
    for statement in statements.iter() {
        let id = &statement.id;
        match (evidence.shows(id), reasons.get(id)) {
            (false, None) => findings.push(Finding::new(
                id,
                &format!("has no test: {}", statement.paraphrase),
                &format!("write a test that carries `[{id}]`"),
            )),
            (true, Some(_)) => findings.push(Finding::new(
                id,
                "has a test, so its reason is stale",
                &format!("delete its line from {}", reasons::TABLE),
            )),
            (true, None) | (false, Some(_)) => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TABLE: &str = "id\tsection\tbinds\ttestable\tparaphrase\n\
        MQTT-1.5.4-1\t1.5.4\tcodec\tcodec\tFirst.\n\
        MQTT-1.5.4-2\t1.5.4\tcodec\tcodec\tSecond.\n\
        MQTT-1.5.4-3\t1.5.4\tcodec\tcodec\tThird.\n";

    fn found(source: &str, reasons: &str) -> Vec<String> {
        let statements = Statements::parse("", TABLE, "").unwrap();
        let (reasons, mut findings) = Reasons::parse(reasons, &statements);
        let mut evidence = Evidence::default();
        let file = Path::new("crates/codec/tests/wire.rs");
        findings.extend(scan::rust_file(file, source, &statements, &mut evidence));
        findings.extend(judge(&statements, &evidence, &reasons));
        findings
            .iter()
            .map(Finding::place)
            .map(str::to_owned)
            .collect()
    }

    const TWO: &str = "#[test]\nfn two() {\n    // [MQTT-1.5.4-1] [5:MQTT-1.5.4-2]\n}\n";

    #[test]
    fn planted_statement_without_a_test_is_found() {
        assert_eq!(found(TWO, ""), ["5:MQTT-1.5.4-3"]);
    }

    #[test]
    fn reason_stands_in_for_a_test() {
        assert_eq!(
            found(TWO, "5:MQTT-1.5.4-3\tA fact about the moon.\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn planted_stale_reason_is_found() {
        let reasons = "5:MQTT-1.5.4-3\tA fact.\n5:MQTT-1.5.4-1\tAnother fact.\n";
        assert_eq!(found(TWO, reasons), ["5:MQTT-1.5.4-1"]);
    }

    #[test]
    fn planted_unknown_tag_is_found_at_its_line() {
        let source =
            format!("{TWO}\n// [MQTT-1.5.4-3]\n#[test]\nfn three() {{\n    // U5-777\n}}\n");
        assert_eq!(found(&source, ""), ["crates/codec/tests/wire.rs:9"]);
    }

    #[test]
    fn mention_outside_of_tests_shows_nothing() {
        let source = format!("// [MQTT-1.5.4-3]\nfn helper() {{ /* MQTT-1.5.4-3 */ }}\n\n{TWO}");
        assert_eq!(found(&source, ""), ["5:MQTT-1.5.4-3"]);
    }
}
