//! `whimbrel bench`.

mod amounts;
mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use whimbrel_load::{Options, Report, run};

use crate::descriptors;
use crate::failure::{Chain, Failure};
use crate::progress::Bar;

pub(crate) use self::arguments::BenchArguments;

/// Exit status of a run that found something wrong.
const FAULTS: u8 = 1;

/// Loads a broker, and prints what that has shown.
pub(crate) fn bench(arguments: &BenchArguments) -> Result<ExitCode, Failure> {
    let (options, output) = arguments.options().map_err(Failure::Usage)?;
    options
        .check()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let clients = usize::try_from(options.clients()).unwrap_or(usize::MAX);
    descriptors::raise_limit(clients);
    let report = run_with_progress(&options, output.quiet)?;
    let text = if output.json {
        to_json(&report)?
    } else {
        report.to_string()
    };
    print(&text)?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAULTS)
    })
}

fn run_with_progress(options: &Options, quiet: bool) -> Result<Report, Failure> {
    let mut bar = (!quiet).then(|| Bar::new("messages"));
    let report = run(options, |progress| {
        if let Some(bar) = &mut bar {
            bar.show_line(|| progress.to_string());
        }
    });
    // The line goes before anything else is said.
    drop(bar);
    report.map_err(|error| Failure::Usage(format!("bench: {}", Chain(&error))))
}

/// The report as one object, and what was asked for.
fn to_json(report: &Report) -> Result<String, Failure> {
    let object = serde_json::to_value(report).and_then(|mut object| {
        if let Value::Object(fields) = &mut object {
            fields.insert("command".to_owned(), json!(command(std::env::args())));
            fields.insert("clean".to_owned(), json!(report.is_clean()));
        }
        serde_json::to_string(&object)
    });
    let object = object.map_err(|error| Failure::Runtime(format!("--json: {error}")))?;
    Ok(format!("{object}\n"))
}

/// The command line, without what is secret in it.
fn command(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut is_password = false;
    let hide = |argument: String| {
        if std::mem::take(&mut is_password) {
            return HIDDEN.to_owned();
        }
        if argument == "-P" || argument == "--password" {
            is_password = true;
            return argument;
        }
        if argument.starts_with("--password=") {
            return format!("--password={HIDDEN}");
        }
        if argument.starts_with("-P") {
            return format!("-P{HIDDEN}");
        }
        match (argument.split_once("://"), argument.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{HIDDEN}@{host}"),
            (None, Some((_, host))) => format!("{HIDDEN}@{host}"),
            _ => argument,
        }
    };
    arguments.map(hide).collect()
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

const HIDDEN: &str = "***";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_told_without_its_secrets() {
        let told = |line: &str| command(line.split(' ').map(str::to_owned)).join(" ");
        for (line, expected) in [
            ("bench pairs -h host --qos 1", "bench pairs -h host --qos 1"),
            (
                "bench -u ann -P secret --qos 1",
                "bench -u ann -P *** --qos 1",
            ),
            ("bench -Psecret", "bench -P***"),
            (
                "bench --password secret --json",
                "bench --password *** --json",
            ),
            ("bench --password=secret", "bench --password=***"),
            ("bench mqtt://ann:se@cret@host:1", "bench mqtt://***@host:1"),
            ("bench ann:secret@host", "bench ***@host"),
        ] {
            assert_eq!(told(line), expected);
        }
    }
}
