//! The walk over the workspace's tests, and who shows what in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
};

use proc_macro2::LexError;

use super::{
    cases,
    finding::Finding,
    functions::{TestFunction, test_functions},
    mention::{Spelling, mentions},
    statement::Statements,
    vectors::{self, VectorTable},
};
use crate::rust_files::rust_files;

/// A test, or one row of a table that a test runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    /// The folder of its crate; `network` for the cases of the conformance tool.
    pub(super) layer: String,
    /// The modules of its target and its function, as in `qos1::name`.
    pub(super) name: String,
    pub(super) row: Option<String>,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.layer, self.name)?;
        match &self.row {
            Some(row) => write!(f, " \"{row}\""),
            None => Ok(()),
        }
    }
}

/// Who shows which statement.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    by_id: BTreeMap<String, BTreeSet<Test>>,
}

impl Evidence {
    pub(super) fn shows(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn tests(&self, id: &str) -> impl Iterator<Item = &Test> {
        self.by_id.get(id).into_iter().flatten()
    }

    /// How many tests carry at least one statement; the rows of a table are one test.
    pub(super) fn test_count(&self) -> usize {
        let tests: BTreeSet<(&str, &str)> = self
            .by_id
            .values()
            .flatten()
            .map(|test| (test.layer.as_str(), test.name.as_str()))
            .collect();
        tests.len()
    }

    fn add(&mut self, id: String, test: Test) {
        self.by_id.entry(id).or_default().insert(test);
    }
}

/// Reads every test below `root`: those of the crates, their tables, and the conformance cases.
///
/// [`INSTRUMENTS`] are left out, but for those cases.
pub(super) fn workspace(
    root: &Path,
    statements: &Statements,
) -> Result<(Evidence, Vec<Finding>), Box<dyn Error>> {
    let mut evidence = Evidence::default();
    let mut findings = Vec::new();
    for path in test_sources(&root.join("crates"))? {
        let text = fs::read_to_string(&path)?;
        let path = path.strip_prefix(root)?;
        findings.extend(if path.starts_with(cases::FOLDER) {
            case_file(path, &text, statements, &mut evidence)
        } else if INSTRUMENTS.iter().any(|folder| path.starts_with(folder)) {
            Vec::new()
        } else {
            rust_file(path, &text, statements, &mut evidence)
        });
    }
    for table in vectors::TABLES {
        let text = fs::read_to_string(root.join(table.path))?;
        findings.extend(vector_table(table, &text, statements, &mut evidence));
        if !has_test(root, table)? {
            let fault = format!("is run by no test named {}", table.test.1);
            findings.push(Finding::new(
                table.path,
                &fault,
                "name its test in xtask/src/trace/vectors.rs",
            ));
        }
    }
    Ok((evidence, findings))
}

/// Adds what the test functions of `text`, the source of `path`, show.
///
/// Whatever else in the text names a statement shows nothing; it is an error all the same if there
/// is no such statement.
pub(super) fn rust_file(
    path: &Path,
    text: &str,
    statements: &Statements,
    evidence: &mut Evidence,
) -> Vec<Finding> {
    let functions = match test_functions(text) {
        Ok(functions) => functions,
        Err(error) => return vec![unreadable(path, &error)],
    };
    let mut findings = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        for spelling in mentions(text) {
            let Some(id) = statements.resolve(&spelling) else {
                findings.push(unknown(path, line, &spelling));
                continue;
            };
            let function = functions
                .iter()
                .find(|function| function.lines.contains(&line));
            if let Some(function) = function {
                evidence.add(id, test(path, function));
            }
        }
    }
    findings
}

fn case_file(
    path: &Path,
    text: &str,
    statements: &Statements,
    evidence: &mut Evidence,
) -> Vec<Finding> {
    let cases = match cases::cases(text) {
        Ok(cases) => cases,
        Err(error) => return vec![unreadable(path, &error)],
    };
    let below = path.strip_prefix(cases::FOLDER).unwrap_or(path);
    let file = modules(below).join("::");
    let mut findings = Vec::new();
    for case in &cases {
        for id in &case.statements {
            if !statements.has(id) {
                let spelling = Spelling::Whole(id.clone());
                findings.push(unknown(path, case.line, &spelling));
                continue;
            }
            if !case.runs_for(id) {
                findings.push(Finding::new(
                    &place(path, case.line),
                    &format!("shows {id} in no version that it runs in"),
                    "add the version, or take the id away",
                ));
                continue;
            }
            evidence.add(
                id.clone(),
                Test {
                    layer: "network".to_owned(),
                    name: format!("{file}::{}", case.name),
                    row: None,
                },
            );
        }
    }
    findings
}

fn vector_table(
    table: &VectorTable,
    text: &str,
    statements: &Statements,
    evidence: &mut Evidence,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in vectors::rows(text) {
        for spelling in mentions(row.statements) {
            let Some(id) = statements.resolve(&spelling) else {
                findings.push(unknown(Path::new(table.path), row.line, &spelling));
                continue;
            };
            let (layer, name) = table.test;
            evidence.add(
                id,
                Test {
                    layer: layer.to_owned(),
                    name: name.to_owned(),
                    row: Some(row.name.to_owned()),
                },
            );
        }
    }
    findings
}

/// Whether the test that is said to run `table` exists in a source file beside it.
fn has_test(root: &Path, table: &VectorTable) -> Result<bool, Box<dyn Error>> {
    let (_, name) = table.test;
    let (modules, function) = name.rsplit_once("::").ok_or("a test without a module")?;
    let file = modules.rsplit("::").next().unwrap_or(modules);
    let path = root.join(table.path).with_file_name(format!("{file}.rs"));
    let functions = test_functions(&fs::read_to_string(path)?)?;
    Ok(functions.iter().any(|one| one.name == function))
}

fn test(path: &Path, function: &TestFunction) -> Test {
    let mut parts = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    // `crates`, the crate, and `src` or `tests`.
    let layer = parts.nth(1).unwrap_or_default();
    let below: PathBuf = parts.skip(1).collect();
    let mut names = modules(&below);
    names.push(function.name.clone());
    Test {
        layer,
        name: names.join("::"),
        row: None,
    }
}

/// The modules that a source file below `src` or `tests` stands for.
fn modules(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let names = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    names
        .filter(|name| !["lib", "main", "mod"].contains(&name.as_str()))
        .collect()
}

/// Crates that name statements as data: their own tests show the instrument, not the broker.
const INSTRUMENTS: [&str; 2] = ["crates/conformance", "crates/whimbrel"];

fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

fn unknown(path: &Path, line: usize, spelling: &Spelling) -> Finding {
    let (Spelling::Whole(id) | Spelling::Bare(id)) = spelling;
    Finding::new(
        &place(path, line),
        &format!("names {id}, which is in no table"),
        "mend the id: `5:MQTT-…`, `3:MQTT-…`, `U5-…`, `U311-…` or `U31-…`",
    )
}

fn unreadable(path: &Path, error: &LexError) -> Finding {
    Finding::new(
        &place(path, error.span().start().line),
        "does not consist of Rust tokens",
        &error.to_string(),
    )
}

/// Every `.rs` file in `src` and `tests` of every crate, sorted.
fn test_sources(crates: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut folders = Vec::new();
    for package in fs::read_dir(crates)? {
        let package = package?.path();
        folders.extend([package.join("src"), package.join("tests")]);
    }
    folders.retain(|folder| folder.is_dir());
    let mut files = Vec::new();
    for folder in folders {
        files.extend(rust_files(&folder)?);
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements() -> Statements {
        let table = |ids: [&str; 2]| {
            let lines = ids
                .iter()
                .map(|id| format!("{id}\t1\tboth\tcodec\tText.\n"));
            format!("header\n{}", lines.collect::<String>())
        };
        Statements::parse(
            &table(["MQTT-1.1.1-1", "MQTT-1.1.1-3"]),
            &table(["MQTT-1.1.1-1", "MQTT-1.1.1-2"]),
            "",
        )
        .unwrap()
    }

    fn shown(evidence: &Evidence, id: &str) -> Vec<String> {
        evidence.tests(id).map(ToString::to_string).collect()
    }

    #[test]
    fn ids_count_above_and_inside_a_test_in_comments_and_literals() {
        let text = "// [MQTT-1.1.1-1]\n#[test]\nfn one() {\n    assert!(true, \"[3:MQTT-1.1.1-1]\"); // MQTT-1.1.1-2\n}\n\n// [MQTT-1.1.1-3]\n";
        let mut evidence = Evidence::default();
        let path = Path::new("crates/session/tests/session/qos1.rs");
        assert_eq!(rust_file(path, text, &statements(), &mut evidence), []);
        for id in ["5:MQTT-1.1.1-1", "3:MQTT-1.1.1-1", "5:MQTT-1.1.1-2"] {
            assert_eq!(shown(&evidence, id), ["session session::qos1::one"], "{id}");
        }
        assert!(!evidence.shows("3:MQTT-1.1.1-3"));
        assert_eq!(evidence.test_count(), 1);
    }

    #[test]
    fn test_is_named_by_its_modules() {
        let function = TestFunction {
            name: "tests::one".to_owned(),
            lines: 1..=2,
        };
        for (path, name) in [
            (
                "crates/topic/src/filter_trie/children.rs",
                "topic filter_trie::children::tests::one",
            ),
            ("crates/topic/src/lib.rs", "topic tests::one"),
            (
                "crates/broker-core/src/shard/mod.rs",
                "broker-core shard::tests::one",
            ),
            (
                "crates/broker/tests/broker/main.rs",
                "broker broker::tests::one",
            ),
        ] {
            assert_eq!(test(Path::new(path), &function).to_string(), name);
        }
    }

    #[test]
    fn rows_are_the_evidence_of_the_test_that_runs_them() {
        let mut evidence = Evidence::default();
        let text =
            "5 | a row | 00 | same | MQTT-1.1.1-2 limit\n3 | other | 00 | same | 3:MQTT-1.1.1-2\n";
        let table = VectorTable {
            path: "vectors.txt",
            test: ("codec", "wire::all"),
        };
        let findings = vector_table(&table, text, &statements(), &mut evidence);
        assert_eq!(
            shown(&evidence, "5:MQTT-1.1.1-2"),
            ["codec wire::all \"a row\""]
        );
        let places: Vec<&str> = findings.iter().map(Finding::place).collect();
        assert_eq!(places, ["vectors.txt:2"]);
    }

    #[test]
    fn cases_are_tests_over_a_network_in_the_versions_they_run_in() {
        let mut evidence = Evidence::default();
        let text = "const CASES: &[Case] = &[\n    case!(pings, [V311], [\"3:MQTT-1.1.1-1\", \"5:MQTT-1.1.1-1\"]),\n    case!(others, [V311], [\"3:MQTT-1.1.1-9\"]),\n];\n";
        let path = Path::new("crates/conformance/src/cases/ping.rs");
        let findings = case_file(path, text, &statements(), &mut evidence);
        assert_eq!(shown(&evidence, "3:MQTT-1.1.1-1"), ["network ping::pings"]);
        assert!(!evidence.shows("5:MQTT-1.1.1-1"));
        let places: Vec<&str> = findings.iter().map(Finding::place).collect();
        let file = path.display();
        assert_eq!(places, [format!("{file}:2"), format!("{file}:3")]);
    }
}
