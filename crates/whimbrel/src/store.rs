//! `whimbrel store`: looks at, copies or rescues what a stopped broker has kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use whimbrel_store::tools::{self, CheckReport, DamageList, SalvageReport, StoreStats, ToolError};
use whimbrel_store::{OpenError, Table};

use crate::failure::{Chain, Failure};
use crate::progress::Bar;

#[derive(Args, Debug)]
#[command(disable_version_flag = true, arg_required_else_help = false)]
pub(crate) struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
}

/// What is found goes to standard output as lines of JSON.
#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Read everything, and list what is damaged: exit status 1 if anything is
    Check(Place),
    /// Tell how much of what there is, and which queues are longest
    Stats(Place),
    /// Write everything as lines of JSON: sessions, subscriptions, queues, retained messages
    Export(ExportArguments),
    /// Make a store of what export wrote, where there is none
    Import(ImportArguments),
    /// Write what can be read of a damaged store into a new one, and list what was left out
    Salvage(SalvageArguments),
}

#[derive(Args, Debug)]
struct Place {
    /// The folder of a broker that does not run
    #[arg(long, value_name = "DIR", default_value = "./whimbrel-data")]
    data_dir: PathBuf,
}

#[derive(Args, Debug)]
struct ExportArguments {
    #[command(flatten)]
    place: Place,

    /// Write to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ImportArguments {
    #[command(flatten)]
    place: Place,

    /// Read this file [default: standard input]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct SalvageArguments {
    #[command(flatten)]
    place: Place,

    /// The folder for the new store, which has none yet
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

/// Does what one of the subcommands says.
pub(crate) fn store(arguments: &StoreArguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        StoreCommand::Check(place) => check(&place.data_dir),
        StoreCommand::Stats(place) => stats(&place.data_dir),
        StoreCommand::Export(arguments) => export(arguments),
        StoreCommand::Import(arguments) => import(arguments),
        StoreCommand::Salvage(arguments) => salvage(arguments),
    }
}

/// Why a store can't be opened, and what to do about it.
pub(crate) fn refused(error: &OpenError, data_dir: &Path) -> Failure {
    let data_dir = data_dir.display();
    Failure::Runtime(match error {
        OpenError::Locked { .. } => format!(
            "{data_dir} is in use by another process: stop that one, or choose another folder with --data-dir"
        ),
        OpenError::Damaged { detail } => format!(
            "the store in {data_dir} is damaged: {detail}; whimbrel store check --data-dir {data_dir} tells how much, and \
             whimbrel store salvage --data-dir {data_dir} --into NEW writes what can be read into a new one"
        ),
        error => format!("cannot open the store in {data_dir}: {}", Chain(error)),
    })
}

fn check(data_dir: &Path) -> Result<ExitCode, Failure> {
    let mut bar = Bar::new("rows");
    let report = tools::check(data_dir, &mut |progress| bar.show(progress));
    drop(bar);
    let report = report.map_err(|error| describe(error, data_dir))?;
    let CheckReport {
        format,
        incarnation,
        rows,
        damage,
        ..
    } = &report;
    let mut lines = damages(damage);
    lines.push(json!({
        "sound": report.is_sound(),
        "format": format,
        "incarnation": incarnation,
        "rows": counts(rows),
        "damaged": damage.count,
    }));
    print(&lines)?;
    if report.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    let data_dir = data_dir.display();
    Err(Failure::Runtime(format!(
        "{} things in {data_dir} are damaged; whimbrel store salvage --data-dir {data_dir} --into NEW writes the others \
         into a new store",
        damage.count
    )))
}

fn stats(data_dir: &Path) -> Result<ExitCode, Failure> {
    let mut bar = Bar::new("rows");
    let stats = tools::stats(data_dir, &mut |progress| bar.show(progress));
    drop(bar);
    let StoreStats {
        format,
        incarnation,
        file_bytes,
        tables,
        sessions_connected,
        wills,
        longest_queues,
        ..
    } = stats.map_err(|error| describe(error, data_dir))?;
    let mut lines = vec![json!({
        "format": format,
        "incarnation": incarnation,
        "file_bytes": file_bytes,
        "sessions_connected": sessions_connected,
        "wills": wills,
    })];
    lines.extend(tables.iter().map(|(table, stats)| {
        json!({ "table": table.to_string(), "rows": stats.rows, "bytes": stats.bytes })
    }));
    lines.extend(longest_queues.iter().map(|queue| {
        json!({
            "queue": queue.queue,
            "name": queue.name,
            "messages": queue.messages,
            "bytes": queue.bytes,
        })
    }));
    print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

fn export(arguments: &ExportArguments) -> Result<ExitCode, Failure> {
    let data_dir = &arguments.place.data_dir;
    let mut out: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(File::create(path).map_err(|error| {
            let path = path.display();
            Failure::Usage(format!(
                "--output: cannot write {path}: {error}; choose another file"
            ))
        })?),
        None => Box::new(io::stdout().lock()),
    };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, &mut out);
    let mut bar = Bar::new("rows");
    let exported = tools::export(data_dir, &mut out, &mut |progress| bar.show(progress));
    drop(bar);
    let flushed = match exported {
        Ok(_) => out.flush().map_err(ToolError::from),
        Err(error) => Err(error),
    };
    match flushed {
        // A reader that has gone, as `head` does, is no failure.
        Err(ToolError::Io(error))
            if arguments.output.is_none() && error.kind() == io::ErrorKind::BrokenPipe =>
        {
            // What is left would fail again.
            drop(out.into_parts());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(describe(error, data_dir)),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn import(arguments: &ImportArguments) -> Result<ExitCode, Failure> {
    let data_dir = &arguments.place.data_dir;
    let mut input: Box<dyn BufRead> = match &arguments.input {
        Some(path) => {
            let file = File::open(path).map_err(|error| {
                let path = path.display();
                Failure::Usage(format!(
                    "--input: cannot read {path}: {error}; choose another file"
                ))
            })?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
        }
        None => Box::new(io::stdin().lock()),
    };
    let mut bar = Bar::new("lines");
    let imported = tools::import(data_dir, &mut input, &mut |progress| bar.show(progress));
    drop(bar);
    let report = imported.map_err(|error| describe(error, data_dir))?;
    print(&[json!({ "lines": report.lines })])?;
    Ok(ExitCode::SUCCESS)
}

fn salvage(arguments: &SalvageArguments) -> Result<ExitCode, Failure> {
    let SalvageArguments { place, into } = arguments;
    let mut bar = Bar::new("rows");
    let salvaged = tools::salvage(&place.data_dir, into, &mut |progress| bar.show(progress));
    drop(bar);
    let SalvageReport {
        kept,
        left_out,
        incarnation_is_guessed,
        ..
    } = salvaged.map_err(|error| describe(error, &place.data_dir))?;
    let mut lines = damages(&left_out);
    lines.push(json!({
        "kept": counts(&kept),
        "left_out": left_out.count,
        "incarnation_is_guessed": incarnation_is_guessed,
    }));
    print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(error: ToolError, data_dir: &Path) -> Failure {
    match error {
        ToolError::Open(error) => refused(&error, data_dir),
        error => Failure::Runtime(Chain(&error).to_string()),
    }
}

/// A line for each damaged thing that is listed.
fn damages(list: &DamageList) -> Vec<Value> {
    let listed = list.listed.iter();
    listed
        .map(|damage| {
            json!({
                "damaged": damage.detail,
                "table": damage.table.map(|table| table.to_string()),
                "key": damage.key,
            })
        })
        .collect()
}

fn counts(rows: &BTreeMap<Table, u64>) -> Value {
    let counts = rows.iter();
    counts
        .map(|(table, count)| (table.to_string(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Writes to standard output; a reader that has gone, as `head` does, is no failure.
fn print(lines: &[Value]) -> Result<(), Failure> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Runtime(format!(
            "cannot write what was found: {error}"
        ))),
        _ => Ok(()),
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
