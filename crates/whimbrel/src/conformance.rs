//! `whimbrel conformance`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use whimbrel_conformance::codec::ProtocolVersion;
use whimbrel_conformance::{Case, Progress, Report, RunError, RunOptions, Statement, Target, run};

use crate::failure::Failure;

#[derive(Args, Debug)]
#[command(disable_version_flag = true)]
pub(crate) struct ConformanceArguments {
    /// The broker, as in mqtt://host or mqtt://user:password@host:port
    #[arg(long, value_name = "URL", required_unless_present = "list")]
    target: Option<Target>,

    /// Only this version; may be repeated [default: all three]
    #[arg(long, value_name = "VERSION", value_enum)]
    version: Vec<Version>,

    /// Only the cases about this statement, such as 5:MQTT-3.1.0-2 or MQTT-3.1.0-2; may be repeated
    #[arg(long, value_name = "ID")]
    only: Vec<String>,

    /// Write the report to this file as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Print every statement with its cases, and run nothing
    #[arg(long, conflicts_with_all = ["target", "only", "json"])]
    list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    /// MQTT 3.1
    #[value(name = "3.1")]
    V31,
    /// MQTT 3.1.1
    #[value(name = "3.1.1")]
    V311,
    /// MQTT 5.0
    #[value(name = "5", alias = "5.0")]
    V5,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> ProtocolVersion {
        match version {
            Version::V31 => ProtocolVersion::V31,
            Version::V311 => ProtocolVersion::V311,
            Version::V5 => ProtocolVersion::V5,
        }
    }
}

/// Exit status of a run in which some statement failed.
const FAILURES: u8 = 1;

/// Runs the cases against a broker, and prints what they found.
pub(crate) fn conformance(arguments: &ConformanceArguments) -> Result<ExitCode, Failure> {
    let mut options = RunOptions::default();
    if !arguments.version.is_empty() {
        options.versions = arguments
            .version
            .iter()
            .map(|version| (*version).into())
            .collect();
        options.versions.sort_unstable();
        options.versions.dedup();
    }
    let Some(target) = arguments.target.as_ref().filter(|_| !arguments.list) else {
        print(&list(&options.versions))?;
        return Ok(ExitCode::SUCCESS);
    };
    options.only.clone_from(&arguments.only);
    // Before the run, so that two minutes are not lost to a folder that isn't there.
    let json = arguments.json.as_ref().map(|path| {
        File::create(path).map_err(|error| {
            let path = path.display();
            Failure::Usage(format!(
                "--json: cannot write {path}: {error}; choose another file"
            ))
        })
    });
    let json = json.transpose()?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(format!("cannot start: {error}")))?;
    let mut ticker = Ticker::new();
    let report = runtime.block_on(run(target, &options, |progress| ticker.show(progress)));
    ticker.end();
    let report = report.map_err(describe)?;
    print(&format!("{report}\n"))?;
    if let Some(file) = json {
        write_json(&report, file)?;
    }
    Ok(if report.has_failures() {
        ExitCode::from(FAILURES)
    } else {
        ExitCode::SUCCESS
    })
}

fn describe(error: RunError) -> Failure {
    match error {
        RunError::UnknownStatement { id } => Failure::Usage(format!(
            "--only: no statement has the id {id}; whimbrel conformance --list shows them all"
        )),
        error @ RunError::NoCase { .. } => Failure::Usage(format!("--only: {error}")),
        error => Failure::Unreachable(error.to_string()),
    }
}

fn write_json(report: &Report, mut file: File) -> Result<(), Failure> {
    let text = report.to_json().map_err(io::Error::from);
    let written = text.and_then(|text| writeln!(file, "{text}"));
    written.map_err(|error| Failure::Runtime(format!("--json: cannot write: {error}")))
}

/// Every statement of these versions, with the cases that show it or the reason why there is none.
fn list(versions: &[ProtocolVersion]) -> String {
    let statements = Statement::all().iter();
    let wanted = statements.filter(|statement| versions.contains(&statement.standard));
    let line = |statement: &Statement| {
        let cases = Case::all().filter(|case| case.statements.contains(&statement.id.as_str()));
        let cases: Vec<&str> = cases.map(|case| case.name).collect();
        let what = match statement.not_visible() {
            Some(reason) => format!("not visible over a network: {reason}"),
            None if cases.is_empty() => "no case".to_owned(),
            None => cases.join(", "),
        };
        format!(
            "{:<16} {}\n                 [{what}]\n",
            statement.id, statement.text
        )
    };
    wanted.map(line).collect()
}

/// Writes to standard output; a reader that has gone, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Runtime(format!(
            "cannot write the report: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Shows on standard error how far the run is: one line that is rewritten on a terminal, some plain lines elsewhere.
struct Ticker {
    terminal: bool,
    /// Tenths of the run that have been told.
    tenths: usize,
    shown: bool,
}

impl Ticker {
    fn new() -> Ticker {
        Ticker {
            terminal: io::stderr().is_terminal(),
            tenths: 0,
            shown: false,
        }
    }

    fn show(&mut self, progress: &Progress) {
        let Progress {
            done,
            total,
            failed,
            version,
            case,
            ..
        } = progress;
        let mut stderr = io::stderr().lock();
        // Without a standard error nobody watches.
        if self.terminal {
            self.shown = true;
            let _ = write!(
                stderr,
                "\r\x1b[K{done}/{total}, {failed} failed: MQTT {version} {case}"
            );
            let _ = stderr.flush();
            return;
        }
        let tenths = done * 10 / (*total).max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            let _ = writeln!(stderr, "{done} of {total} cases, {failed} failed");
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
