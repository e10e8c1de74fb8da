//! Planted bugs: each has to be found, or the oracle has a hole.

use std::process::{Child, ExitCode, Stdio};

use whimbrel_sim::mutants::{self, Mutant};
use whimbrel_sim::{Finding, run};

use crate::command::Command;
use crate::watch::{self, Done, Next};

/// The planted bug of this name.
pub(crate) fn named(name: &str) -> Result<Mutant, String> {
    Mutant::ALL
        .iter()
        .copied()
        .find(|mutant| mutant.name() == name)
        .ok_or_else(|| format!("no planted bug is called `{name}`"))
}

/// Runs one planted bug over the seeds until it is found, and prints a line of the table.
pub(crate) fn one(command: &Command, which: Mutant, first: u64, end: u64) -> ExitCode {
    mutants::activate(Some(which));
    for seed in first..end {
        // One at a time and none ahead: the planted bug is switched on and off for the process.
        let mut only = Some(command.options(seed));
        match watch::start(1, move || only.take()).next() {
            Next::Done(Done { outcome, .. }) => {
                if let Some(finding) = outcome.finding {
                    return found(command, which, seed, &finding);
                }
            }
            Next::Endless(seed) => {
                println!("{}", row(which, Some(seed), "the run has no end"));
                return ExitCode::SUCCESS;
            }
            Next::Over => break,
        }
    }
    println!("{}", row(which, None, "not found"));
    ExitCode::FAILURE
}

/// It counts only if the seed finds nothing in the broker as it is.
fn found(command: &Command, which: Mutant, seed: u64, finding: &Finding) -> ExitCode {
    mutants::activate(None);
    if run(&command.options(seed)).finding.is_some() {
        println!("{}", row(which, None, "found without the planted bug too"));
        return ExitCode::FAILURE;
    }
    println!("{}", row(which, Some(seed), finding.rule));
    ExitCode::SUCCESS
}

/// Runs all planted bugs, each in a process of its own, and prints the table in their order.
pub(crate) fn all(command: &Command, first: u64, end: u64) -> ExitCode {
    println!("| planted bug | what it does wrong | first seed | what the oracle says |");
    println!("|---|---|---|---|");
    let mut waiting = Mutant::ALL.iter();
    let mut running: std::collections::VecDeque<Running> = std::collections::VecDeque::new();
    let mut survivors = Vec::new();
    loop {
        while running.len() < command.jobs {
            let Some(&which) = waiting.next() else {
                break;
            };
            match start(command, which, first, end) {
                Ok(child) => running.push_back(Running { which, child }),
                Err(error) => {
                    eprintln!("can't start a run: {error}");
                    return ExitCode::from(2);
                }
            }
        }
        let Some(Running { which, child }) = running.pop_front() else {
            break;
        };
        match child.wait_with_output() {
            Ok(output) => {
                print!("{}", String::from_utf8_lossy(&output.stdout));
                if !output.status.success() {
                    survivors.push(which.name());
                }
            }
            Err(error) => {
                eprintln!("lost a run: {error}");
                return ExitCode::from(2);
            }
        }
    }
    let found = Mutant::ALL.len() - survivors.len();
    println!("\n{found} of {} planted bugs found", Mutant::ALL.len());
    if survivors.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("not found: {}", survivors.join(", "));
        ExitCode::FAILURE
    }
}

#[derive(Debug)]
struct Running {
    which: Mutant,
    child: Child,
}

fn start(command: &Command, which: Mutant, first: u64, end: u64) -> std::io::Result<Child> {
    std::process::Command::new(std::env::current_exe()?)
        .args(["--mutant", which.name()])
        .args(["--seeds", &format!("{first}..{end}")])
        .args(["--steps", &command.steps.to_string()])
        .stdout(Stdio::piped())
        .spawn()
}

fn row(which: Mutant, seed: Option<u64>, words: &str) -> String {
    let seed = seed.map_or_else(|| "—".to_owned(), |seed| seed.to_string());
    format!(
        "| {} | {} | {seed} | {words} |",
        which.name(),
        which.breaks()
    )
}
