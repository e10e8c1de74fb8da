//! `cargo xtask bench-brokers`: Whimbrel beside other brokers, by the same load.

mod arguments;
mod brokers;
mod machine;
mod page;
mod plots;
mod results;
mod running;
mod statistics;
mod summary;
mod table;
mod workloads;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Parser;

use self::arguments::Arguments;
use self::brokers::{Broker, KINDS, Kind};
use self::machine::{Machine, Work};
use self::results::{Record, Run, Session, Writer};
use self::running::Plan;
use self::summary::Summary;
use self::workloads::{Set, WORKLOADS, Workload};
use crate::{
    Outcome,
    metadata::{Metadata, cargo},
};

/// Runs what the arguments ask for, and prints the table.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let words: Vec<OsString> = arguments.collect();
    let program = OsString::from("cargo xtask bench-brokers");
    let parsed = Arguments::try_parse_from(std::iter::once(&program).chain(&words));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        // Help is printed to standard output, and is no failure.
        Err(error) if !error.use_stderr() => return Ok(error.print()?),
        Err(error) => {
            let text = error.to_string();
            return Err(text.trim_start_matches("error: ").trim_end().into());
        }
    };
    let metadata = Metadata::read()?;
    let root = &metadata.workspace_root;
    let records = if arguments.list {
        list();
        return Ok(());
    } else if arguments.plot.is_empty() {
        measure(&arguments, &metadata, &words)?
    } else {
        let mut records = Vec::new();
        for file in &arguments.plot {
            records.extend(results::read(file)?);
        }
        records
    };
    let summary = Summary::of(records);
    let (losses, tables) = (table::losses(&summary), table::tables(&summary));
    println!("{losses}{tables}");
    if arguments.write {
        let texts = [("losses", losses.as_str()), ("tables", tables.as_str())];
        page::write(&root.join(PAGE), &texts)?;
    }
    if arguments.write || !arguments.plot.is_empty() {
        for path in plots::draw(&summary, &root.join(PLOTS))? {
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// Runs everything, and writes each run as soon as it has ended.
fn measure(
    arguments: &Arguments,
    metadata: &Metadata,
    words: &[OsString],
) -> Result<Vec<Record>, Box<dyn Error>> {
    raise_limit_of_open_files();
    let whimbrel = match &arguments.whimbrel {
        Some(path) => path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => build(metadata)?,
    };
    let brokers = found(&arguments.brokers, &whimbrel)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => metadata.target_directory.join("bench-brokers"),
    };
    fs::create_dir_all(&out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    let path = out.join("results.jsonl");
    let mut writer = Writer::create(&path)?;
    let mut records = Vec::new();
    let mut add = |record: Record| {
        writer.add(&record)?;
        records.push(record);
        Ok::<(), Box<dyn Error>>(())
    };
    let versions = brokers
        .iter()
        .map(|broker| (broker.kind.name.to_owned(), broker.version.clone()));
    add(Record::Session(Session {
        machine: Machine::here(&metadata.workspace_root),
        command: command(words),
        note: arguments.note.clone(),
        brokers: versions.collect(),
    }))?;
    let plan = Plan {
        whimbrel: &whimbrel,
        duration: arguments.duration(),
        timeout: arguments.timeout,
    };
    let jobs = jobs(arguments, &brokers);
    let all = jobs.len();
    for (
        index,
        Job {
            broker,
            workload,
            repeat,
        },
    ) in jobs.into_iter().enumerate()
    {
        eprint!(
            "{}/{all} {} on {}: ",
            index + 1,
            workload.name,
            broker.kind.name
        );
        let before = Work::so_far();
        let outcome = plan.run(broker, workload);
        let (report, error) = match outcome {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error)),
        };
        let run = Run {
            broker: broker.kind.name.to_owned(),
            workload: workload.name.to_owned(),
            repeat,
            others: Work::so_far().others_since(before),
            report,
            error,
        };
        eprintln!("{}", told(&run, workload));
        add(Record::Run(run))?;
    }
    eprintln!("wrote {}", path.display());
    Ok(records)
}

/// One run to be made.
#[derive(Debug)]
struct Job<'a> {
    broker: &'a Broker,
    workload: &'static Workload,
    repeat: u32,
}

/// All runs, interleaved: each workload on all brokers, and then the next; in each repeat another broker is first.
fn jobs<'a>(arguments: &Arguments, brokers: &'a [Broker]) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for repeat in 0..arguments.rounds() {
        for workload in WORKLOADS
            .iter()
            .filter(|workload| is_wanted(arguments, workload))
        {
            let first = repeat as usize % brokers.len().max(1);
            let turned = brokers[first..].iter().chain(&brokers[..first]);
            let able = turned.filter(|broker| {
                let is_named = !arguments.brokers.is_empty();
                let is_chosen = workload.set != Set::Scale || is_named || is_scaled(broker.kind);
                is_chosen && broker.kind.lacks(workload).is_none()
            });
            jobs.extend(able.map(|broker| Job {
                broker,
                workload,
                repeat,
            }));
        }
    }
    jobs
}

fn is_wanted(arguments: &Arguments, workload: &Workload) -> bool {
    let is_named = |name: &str| arguments.workloads.iter().any(|named| named.name == name);
    let is_in_set = match workload.set {
        Set::Main => arguments.workloads.is_empty(),
        Set::OptIn => false,
        Set::Scale => arguments.scale,
    };
    is_in_set || is_named(workload.name)
}

/// Growth is shown of Whimbrel as it comes and of the reference.
fn is_scaled(kind: &Kind) -> bool {
    kind.name == "whimbrel" || kind.name == brokers::REFERENCE
}

/// The brokers that are asked for and there; those that are not are told of.
fn found(named: &[&'static Kind], whimbrel: &Path) -> Result<Vec<Broker>, Box<dyn Error>> {
    let is_wanted = |kind: &&Kind| {
        let is_named = named.iter().any(|named| named.name == kind.name);
        is_named || (named.is_empty() && kind.is_default)
    };
    let mut brokers = Vec::new();
    for kind in KINDS.iter().filter(is_wanted) {
        match kind.find(whimbrel) {
            Some(broker) => {
                eprintln!("{}: {}", kind.name, broker.version);
                brokers.push(broker);
            }
            None if named.is_empty() => {
                eprintln!("{} is not installed: {}", kind.name, kind.install);
            }
            None => return Err(format!("{} is not installed: {}", kind.name, kind.install).into()),
        }
    }
    if brokers.is_empty() {
        return Err("there is no broker to run".into());
    }
    Ok(brokers)
}

/// Builds Whimbrel for release, and returns its binary.
fn build(metadata: &Metadata) -> Result<PathBuf, Box<dyn Error>> {
    let status = cargo()
        .args(["build", "--release", "--locked", "--package", "whimbrel"])
        .status()?;
    if !status.success() {
        return Err(format!("the build of whimbrel ended with {status}").into());
    }
    let name = format!("whimbrel{}", env::consts::EXE_SUFFIX);
    Ok(metadata.target_directory.join("release").join(name))
}

/// What was asked for, as it is typed, but without the folders of paths: these are this machine's own.
fn command(words: &[OsString]) -> String {
    let is_text = |word: &OsString| word.to_string_lossy().contains(' ');
    let without_folders = |word: &OsString| {
        let path = Path::new(word);
        let name = path.file_name().unwrap_or(word);
        name.to_string_lossy().into_owned()
    };
    // The note, which is told beside.
    let words = words.iter().filter(|word| !is_text(word));
    let words = words.map(without_folders).filter(|word| word != "--note");
    let command = std::iter::once("cargo xtask bench-brokers".to_owned()).chain(words);
    command.collect::<Vec<_>>().join(" ")
}

/// A run in one line.
fn told(run: &Run, workload: &Workload) -> String {
    let mut parts = Vec::new();
    if let Some(report) = &run.report {
        for figure in workload.figures {
            if let Some(number) = figure.of(report) {
                parts.push(format!("{} {}", statistics::digits(number), figure.title));
            }
        }
    }
    parts.extend(
        run.faults()
            .into_iter()
            .map(|fault| format!("NOT RIGHT: {fault}")),
    );
    parts.join("; ")
}

fn list() {
    println!("brokers");
    for kind in KINDS {
        let note = if kind.is_default {
            ""
        } else {
            ", only when named"
        };
        println!("  {:<18}{}{note}; {}", kind.name, kind.title, kind.install);
    }
    println!("workloads");
    for workload in WORKLOADS {
        let note = match workload.set {
            Set::Main => "",
            Set::OptIn => ", only when named",
            Set::Scale => ", with --scale",
        };
        println!("  {:<18}{}{note}", workload.name, workload.title);
    }
}

/// Thousands of connections need as many open files, in what is started from here.
#[cfg(unix)]
fn raise_limit_of_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it stays low, the runs that need more say so.
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(not(unix))]
fn raise_limit_of_open_files() {}

const PAGE: &str = "docs/benchmarks.md";
const PLOTS: &str = "docs/plots";

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(names: &[&str]) -> Vec<Broker> {
        let root = tempfile::tempdir().expect("a folder");
        let binary = root.path().join("whimbrel");
        fs::write(&binary, "").expect("a file");
        let kinds = names
            .iter()
            .map(|name| brokers::named(name).expect("a broker"));
        kinds
            .map(|kind| kind.find(&binary).expect("our own binary"))
            .collect()
    }

    fn order(line: &str, brokers: &[Broker]) -> Vec<String> {
        let words = std::iter::once("bench-brokers").chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(words).expect("a line");
        let job = |job: Job<'_>| format!("{} {}", job.workload.name, job.broker.kind.name);
        jobs(&arguments, brokers).into_iter().map(job).collect()
    }

    #[test]
    fn runs_are_interleaved_and_each_broker_is_first_once() {
        let brokers = brokers(&["whimbrel", "whimbrel-1"]);
        let order = order("--workloads connect,pairs10-q0 --repeats 2", &brokers);
        assert_eq!(
            order,
            [
                "pairs10-q0 whimbrel",
                "pairs10-q0 whimbrel-1",
                "connect whimbrel",
                "connect whimbrel-1",
                "pairs10-q0 whimbrel-1",
                "pairs10-q0 whimbrel",
                "connect whimbrel-1",
                "connect whimbrel",
            ]
        );
    }

    #[test]
    fn the_command_is_told_without_folders_and_its_note() {
        let words = "--seconds 0.5 --whimbrel /home/ann/whimbrel --note".split(' ');
        let words: Vec<_> = words.chain(["A sentence."]).map(OsString::from).collect();
        assert_eq!(
            command(&words),
            "cargo xtask bench-brokers --seconds 0.5 --whimbrel whimbrel"
        );
    }

    #[test]
    fn growth_is_shown_of_few_brokers_and_only_when_asked_for() {
        let brokers = brokers(&["whimbrel", "whimbrel-1"]);
        let plain = order("--repeats 1", &brokers);
        assert!(plain.contains(&"subs100k whimbrel-1".to_owned()));
        assert!(
            !plain
                .iter()
                .any(|job| job.starts_with("scale-") || job.starts_with("subs1m"))
        );
        let scaled = order("--repeats 1 --scale", &brokers);
        assert!(scaled.contains(&"scale-subs1m whimbrel".to_owned()));
        assert!(!scaled.contains(&"scale-subs1m whimbrel-1".to_owned()));
        let named = order(
            "--repeats 1 --workloads scale-subs1m --brokers whimbrel-1",
            &brokers,
        );
        assert!(named.contains(&"scale-subs1m whimbrel-1".to_owned()));
    }

    #[test]
    fn a_broker_that_is_named_and_not_there_is_an_error_with_its_installation() {
        let kind = brokers::named("whimbrel").expect("a broker");
        let error = found(&[kind], Path::new("/nowhere/whimbrel")).expect_err("none");
        assert!(
            error.to_string().contains("is not installed: cargo build"),
            "{error}"
        );
    }
}
