//! `cargo xtask instructions`: what fixed scenes cost in instructions and allocations, held to a table.
//!
//! Times on a shared machine say nothing of one commit; counts do. Each scene of `benches/src/bin/instructions` runs
//! once under callgrind, which collects within one function of that program only, so that setting up is not counted.
//! What is counted, and what can differ between machines, is told in `docs/performance.md`.

mod callgrind;
mod judgement;
mod options;
mod table;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use self::{judgement::Finding, options::Options, table::Table};
use crate::{
    Outcome,
    metadata::{Metadata, cargo},
};

/// Counts the scenes and compares them with the table; or writes what has changed into it.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let options = Options::read(arguments)?;
    let metadata = Metadata::read()?;
    let page = metadata.workspace_root.join(TABLE);
    let table = Table::read(&fs::read_to_string(&page).unwrap_or_default())?;
    let compiler = compiler()?;

    let program = build(&metadata)?;
    let scenes: Vec<String> = text_of(Command::new(&program))?
        .lines()
        .filter(|scene| options.wants(scene))
        .map(str::to_owned)
        .collect();
    if scenes.is_empty() {
        return Err(format!("no scene is called so; {} lists them", program.display()).into());
    }
    let folder = metadata.target_directory.join("instructions");
    fs::create_dir_all(&folder)?;
    let counted = count_all(&program, &folder, &scenes)?;

    let mut findings = judgement::compare(&table, &counted);
    if options.wants_all() {
        findings.extend(judgement::gone(&table, &counted));
    }
    for (scene, cost) in &counted {
        println!("{scene}\t{cost}");
    }
    if let Some(note) = &options.note {
        let blessed = table.blessed(&findings, note, &compiler);
        fs::write(&page, blessed.to_string())?;
        println!("instructions: {} rows written to {TABLE}", findings.len());
        return Ok(());
    }
    if findings.is_empty() {
        let count = counted.len();
        println!("instructions: {count} scenes cost what {TABLE} says");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(complaint(&findings, &table, &compiler, &folder).into())
}

/// The release build of the scenes, which is what users get.
fn build(metadata: &Metadata) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let status = cargo()
        .args(["build", "--release", "--quiet", "--locked"])
        .args(["--package", "whimbrel-benches", "--bin", PROGRAM])
        .status()?;
    if !status.success() {
        return Err("the scenes do not build".into());
    }
    Ok(metadata.target_directory.join("release").join(PROGRAM))
}

type Counted = Vec<(String, table::Cost)>;

/// Runs as many scenes at a time as there are cores: counts do not mind.
fn count_all(program: &Path, folder: &Path, scenes: &[String]) -> Result<Counted, String> {
    let next = Mutex::new(scenes.iter().enumerate());
    let counted = Mutex::new(Vec::with_capacity(scenes.len()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let worker = || -> Result<(), String> {
            loop {
                let taken = next.lock().map_err(|_| PANICKED)?.next();
                let Some((place, scene)) = taken else {
                    return Ok(());
                };
                let cost = callgrind::count(program, folder, scene)
                    .map_err(|error| format!("{scene}: {error}"))?;
                let mut counted = counted.lock().map_err(|_| PANICKED)?;
                counted.push((place, scene.clone(), cost));
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| PANICKED.to_owned())?)
    })?;
    let mut counted = counted.into_inner().map_err(|_| PANICKED)?;
    counted.sort_by_key(|(place, ..)| *place);
    let costs = counted.into_iter().map(|(_, scene, cost)| (scene, cost));
    Ok(costs.collect())
}

fn complaint(findings: &[Finding], table: &Table, compiler: &str, folder: &Path) -> String {
    let mut complaint = format!("{} scenes do not cost what {TABLE} says", findings.len());
    if table.compiler() != Some(compiler) {
        let other = table.compiler().unwrap_or("none");
        complaint += &format!(
            "\n  the table was made with another compiler, which may be why: {other}, here {compiler}"
        );
    }
    complaint += &format!(
        "\n  where it goes: callgrind_annotate {}/SCENE.out, with dots for slashes\
         \n  mend it, or, if it has to be so or is to stay so: cargo xtask instructions --bless --note \"why\"",
        folder.display()
    );
    complaint
}

/// What counts depend on most: the version and commit of rustc, and what it compiles for.
fn compiler() -> Result<String, Box<dyn std::error::Error>> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--version", "--verbose"]);
    let text = text_of(rustc)?;
    let version = text.lines().next().unwrap_or_default();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(format!("{version} for {}", host.unwrap_or_default()))
}

fn text_of(mut command: Command) -> Result<String, Box<dyn std::error::Error>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?} ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Where the table is, below the workspace's root.
const TABLE: &str = "benches/instructions.tsv";
/// The program that has the scenes.
const PROGRAM: &str = "instructions";
const PANICKED: &str = "a worker panicked";
