//! [`Record`]: what is known of a run, and the file of them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::machine::Machine;

/// One line of a file of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub(super) enum Record {
    /// What the runs behind it have in common.
    Session(Session),
    Run(Run),
}

/// What a few runs have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) machine: Machine,
    /// What was asked for.
    pub(super) command: String,
    /// What else readers are to know.
    pub(super) note: Option<String>,
    /// The version of each broker.
    pub(super) brokers: BTreeMap<String, String>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) broker: String,
    pub(super) workload: String,
    /// Counted from 0.
    pub(super) repeat: u32,
    /// The share of the machine that other work took meanwhile, where the system tells.
    pub(super) others: Option<f64>,
    /// What `whimbrel bench --json` has said.
    pub(super) report: Option<Value>,
    /// Why it has said nothing.
    pub(super) error: Option<String>,
}

impl Run {
    /// What was wrong with it: with the broker's work, or that there was none.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self.report.as_ref().and_then(|report| report.get("faults"));
        let faults = faults.and_then(Value::as_array).into_iter().flatten();
        let faults = faults.filter_map(|fault| fault.as_str().map(str::to_owned));
        faults.chain(self.error.clone()).collect()
    }

    /// The share of a core that the generator's busiest thread took.
    pub(super) fn generator_share(&self) -> Option<f64> {
        let busy = self.report.as_ref()?.pointer("/generator/busy")?;
        let shares = busy.as_array()?.iter().filter_map(Value::as_f64);
        shares.reduce(f64::max)
    }
}

/// A file that takes records as they come.
#[derive(Debug)]
pub(super) struct Writer(File);

impl Writer {
    /// Begins the file anew.
    pub(super) fn create(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = File::create(path);
        let file = file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self(file))
    }

    /// Adds a line, at once.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), Box<dyn Error>> {
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        Ok(self.0.write_all(line.as_bytes())?)
    }
}

/// Reads a file of results.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, Box<dyn Error>> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let lines = text.lines().enumerate();
    let record = |(index, line)| {
        serde_json::from_str(line).map_err(|error| {
            let line = index + 1;
            format!("{}:{line}: no result of a run: {error}", path.display()).into()
        })
    };
    lines.map(record).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn run(report: Option<Value>, error: Option<&str>) -> Run {
        Run {
            broker: "mosquitto".to_owned(),
            workload: "pairs10-q0".to_owned(),
            repeat: 0,
            others: Some(0.25),
            report,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results.jsonl");
        let session = Session {
            machine: Machine::here(folder.path()),
            command: "cargo xtask bench-brokers".to_owned(),
            note: None,
            brokers: BTreeMap::from([("mosquitto".to_owned(), "2.0".to_owned())]),
        };
        let records = [
            Record::Session(session),
            Record::Run(run(Some(json!({"faults": []})), None)),
            Record::Run(run(None, Some("it did not start"))),
        ];
        let mut writer = Writer::create(&path).expect("a file");
        for record in &records {
            writer.add(record).expect("it has room");
        }
        assert_eq!(read(&path).expect("a file"), records);
    }

    #[test]
    fn a_line_that_is_no_result_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results.jsonl");
        fs::write(&path, "{}\n").expect("a file");
        let error = read(&path).expect_err("no record").to_string();
        assert!(
            error.contains("results.jsonl:1: no result of a run"),
            "{error}"
        );
        let error = read(&folder.path().join("none"))
            .expect_err("no file")
            .to_string();
        assert!(error.starts_with("cannot read"), "{error}");
    }

    #[test]
    fn faults_are_those_of_the_report_or_that_there_is_none() {
        let report = json!({"faults": ["2 deliveries lost"]});
        assert_eq!(run(Some(report), None).faults(), ["2 deliveries lost"]);
        assert_eq!(run(None, Some("timed out")).faults(), ["timed out"]);
        assert!(run(Some(json!({"faults": []})), None).faults().is_empty());
    }
}
