//! [`Report`]: what a run found, for people and for programs.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;
use whimbrel_codec::ProtocolVersion;

use crate::context::Announced;
use crate::statement::Statement;
use crate::verdict::Verdict;

/// What a run found. `Display` is the report for people, [`to_json`](Report::to_json) that for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The broker, without credentials.
    pub target: String,
    /// One section a version.
    pub sections: Vec<Section>,
    /// How long the run took.
    pub millis: u64,
}

/// What a run found in one version.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The version: `3.1`, `3.1.1` or `5.0`.
    pub version: String,
    /// What the broker says it can do.
    pub announced: String,
    /// Why nothing was run, if the broker does not serve this version.
    pub refused: Option<String>,
    /// How many statements there are of each verdict.
    pub summary: Summary,
    /// Every statement of the version, in the order of its table.
    pub statements: Vec<StatementReport>,
    /// Every case that ran, in the order of its source.
    pub cases: Vec<CaseReport>,
}

/// How many statements there are of each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The broker does as they say.
    pub pass: usize,
    /// It does not.
    pub fail: usize,
    /// Not tested.
    pub skip: usize,
    /// Not visible over a network.
    pub not_visible: usize,
}

/// What is known about one statement.
#[derive(Clone, Debug, Serialize)]
pub struct StatementReport {
    /// Its full id.
    pub id: &'static str,
    /// What it says.
    pub text: &'static str,
    /// The verdict: of the worst of its cases.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The cases that show it, by name.
    pub cases: Vec<&'static str>,
}

/// What one case found.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub name: &'static str,
    /// Its module.
    pub module: &'static str,
    /// The statements it shows in this version.
    pub statements: Vec<&'static str>,
    /// What it found.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The conversation, when it failed.
    pub transcript: Vec<String>,
    /// How long it took.
    pub millis: u64,
}

impl Report {
    pub(crate) fn new(target: String, sections: Vec<Section>, took: Duration) -> Report {
        Report {
            target,
            sections,
            millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether any statement or case failed.
    pub fn has_failures(&self) -> bool {
        self.sections.iter().any(|section| {
            let cases = section.cases.iter();
            section.summary.fail > 0
                || cases
                    .map(|case| &case.verdict)
                    .any(|v| matches!(v, Verdict::Fail(_)))
        })
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// Never in practice: all of it is strings and numbers.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

impl Section {
    pub(crate) fn new(
        version: ProtocolVersion,
        announced: &Announced,
        refused: Option<String>,
        cases: Vec<CaseReport>,
        only: Option<&[&'static str]>,
    ) -> Section {
        let wanted = |statement: &&Statement| match only {
            Some(only) => only.contains(&statement.id.as_str()),
            None => true,
        };
        let statements: Vec<StatementReport> = Statement::all()
            .iter()
            .filter(wanted)
            .filter(|statement| is_reported(statement, version))
            .map(|statement| report_on(statement, refused.as_deref(), &cases))
            .collect();
        let mut summary = Summary::default();
        for statement in &statements {
            match statement.verdict {
                Verdict::Pass => summary.pass += 1,
                Verdict::Fail(_) => summary.fail += 1,
                Verdict::Skip { .. } => summary.skip += 1,
                Verdict::NotVisible { .. } => summary.not_visible += 1,
            }
        }
        Section {
            version: version.to_string(),
            announced: announced.describe(version),
            refused,
            summary,
            statements,
            cases,
        }
    }
}

/// In 3.1 only those statements of 3.1.1 are spoken of that some case shows there.
fn is_reported(statement: &Statement, version: ProtocolVersion) -> bool {
    statement.standard == version
        || crate::Case::all().any(|case| case.shows(version).any(|id| id == statement.id))
}

fn report_on(
    statement: &'static Statement,
    refused: Option<&str>,
    cases: &[CaseReport],
) -> StatementReport {
    let id = statement.id.as_str();
    let about: Vec<&CaseReport> = cases
        .iter()
        .filter(|case| case.statements.contains(&id))
        .collect();
    let found = Verdict::of(about.iter().map(|case| &case.verdict)).cloned();
    let verdict = found.unwrap_or_else(|| match (statement.not_visible(), refused) {
        (Some(reason), _) => Verdict::NotVisible {
            reason: reason.to_owned(),
        },
        (None, Some(reason)) => Verdict::Skip {
            reason: format!("this version is not served: {reason}"),
        },
        (None, None) => Verdict::Skip {
            reason: "there is no case for it".to_owned(),
        },
    });
    StatementReport {
        id,
        text: statement.text,
        verdict,
        cases: about.iter().map(|case| case.name).collect(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(f, "MQTT {} at {}", section.version, self.target)?;
            match &section.refused {
                Some(reason) => writeln!(f, "not served: {reason}")?,
                None => writeln!(f, "{}", section.announced)?,
            }
            writeln!(f)?;
            for statement in &section.statements {
                write_statement(f, statement)?;
            }
            let failures = section.cases.iter().filter_map(|case| match &case.verdict {
                Verdict::Fail(failure) => Some((case, failure)),
                _ => None,
            });
            for (case, failure) in failures {
                writeln!(f, "\nFAIL {} ({})", case.name, case.statements.join(", "))?;
                writeln!(f, "  sent      {}", failure.sent)?;
                writeln!(f, "  expected  {}", failure.expected)?;
                writeln!(f, "  received  {}", failure.received)?;
                for line in &case.transcript {
                    writeln!(f, "  | {line}")?;
                }
            }
            writeln!(f, "\nMQTT {}: {}\n", section.version, section.summary)?;
        }
        write!(
            f,
            "took {}.{} s",
            self.millis / 1_000,
            self.millis % 1_000 / 100
        )
    }
}

fn write_statement(f: &mut fmt::Formatter<'_>, statement: &StatementReport) -> fmt::Result {
    let (word, reason) = match &statement.verdict {
        Verdict::Pass => ("pass", None),
        Verdict::Fail(_) => ("FAIL", None),
        Verdict::Skip { reason } => ("skip", Some(reason)),
        Verdict::NotVisible { reason } => ("n/v", Some(reason)),
    };
    let mut line = format!("{word:<4} {:<16} {}", statement.id, statement.text);
    if let Some(reason) = reason {
        let _ = write!(line, " -- {reason}");
    }
    if !statement.cases.is_empty() {
        let _ = write!(line, " [{}]", statement.cases.join(", "));
    }
    writeln!(f, "{line}")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pass, {} fail, {} skip, {} not visible over a network",
            self.pass, self.fail, self.skip, self.not_visible
        )
    }
}
