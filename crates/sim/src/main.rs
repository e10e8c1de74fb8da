//! `whimbrel-sim`: runs one seed, sweeps over many, or explores every order of events in small worlds.

use std::process::ExitCode;
use std::time::Instant;

use whimbrel_sim::{Options, run};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(code) = whimbrel_sim::exhaustive(&arguments) {
        return code;
    }
    let mut arguments = arguments.into_iter();
    let mut command = Command::default();
    while let Some(argument) = arguments.next() {
        let understood = match argument.as_str() {
            "--seed" => number(arguments.next()).map(|seed| {
                command.first = seed;
                command.end = seed + 1;
            }),
            "--seeds" => range(arguments.next()).map(|(first, end)| {
                command.first = first;
                command.end = end;
            }),
            "--steps" => number(arguments.next()).map(|steps| command.steps = steps),
            "--trace" => {
                command.trace = true;
                Some(())
            }
            _ => None,
        };
        if understood.is_none() {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    if command.end == command.first + 1 {
        single(&command)
    } else {
        sweep(&command)
    }
}

#[derive(Debug)]
struct Command {
    first: u64,
    end: u64,
    steps: u64,
    trace: bool,
}

impl Default for Command {
    fn default() -> Self {
        Self {
            first: 0,
            end: 100,
            steps: 10_000,
            trace: false,
        }
    }
}

/// Runs one seed.
fn single(command: &Command) -> ExitCode {
    let mut options = Options::new(command.first, command.steps);
    options.trace = command.trace;
    let outcome = run(options);
    println!(
        "seed {} hash {:016x} deliveries {}",
        command.first, outcome.hash, outcome.deliveries
    );
    match outcome.finding {
        Some(finding) => {
            println!("finding: {finding}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Runs many seeds, tells of each finding, and goes on.
fn sweep(command: &Command) -> ExitCode {
    // A panic is told as a finding, once.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let mut findings = 0_u64;
    let mut deliveries = 0;
    for seed in command.first..command.end {
        let outcome = run(Options::new(seed, command.steps));
        deliveries += outcome.deliveries;
        if let Some(finding) = outcome.finding {
            findings += 1;
            println!("seed {seed}: {finding}");
        }
        let done = seed + 1 - command.first;
        if done.is_multiple_of(PROGRESS_SEEDS) || seed + 1 == command.end {
            let minutes = begun.elapsed().as_secs_f64() / 60.0;
            eprintln!(
                "{done} seeds, {findings} findings, {deliveries} deliveries, {:.0} seeds/minute",
                done as f64 / minutes
            );
        }
    }
    if findings > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn number(argument: Option<String>) -> Option<u64> {
    argument?.parse().ok()
}

fn range(argument: Option<String>) -> Option<(u64, u64)> {
    let argument = argument?;
    let (first, end) = argument.split_once("..")?;
    let (first, end) = (first.parse().ok()?, end.parse().ok()?);
    (first < end).then_some((first, end))
}

/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 100;

const USAGE: &str = "usage: whimbrel-sim [--seed N | --seeds A..B] [--steps M] [--trace]

  --seed N      run one seed
  --seeds A..B  run the seeds from A up to, not including, B (default 0..100)
  --steps M     steps of each run before its quiet end (default 10000)
  --trace       print everything that happens; with --seed
  --exhaustive  explore every order of events in small worlds instead";
