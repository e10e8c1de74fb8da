//! Many seeds.

use std::process::ExitCode;
use std::time::Instant;

use crate::command::{Command, again};
use crate::watch::{self, Done, Next};

/// Runs many seeds, tells of each finding, and goes on.
pub(crate) fn run(command: &Command, first: u64, end: u64) -> ExitCode {
    let begun = Instant::now();
    let time_max = command.time_max;
    let template = command.options(first);
    let mut seeds = first..end;
    let runs = watch::start(command.jobs, move || {
        if time_max.is_some_and(|max| begun.elapsed() >= max) {
            return None;
        }
        let mut options = template.clone();
        options.seed = seeds.next()?;
        Some(options)
    });
    let mut told = Told::default();
    loop {
        match runs.next() {
            Next::Done(Done { options, outcome }) => {
                told.seeds += 1;
                told.deliveries += outcome.deliveries;
                if let Some(finding) = outcome.finding {
                    told.findings += 1;
                    println!("seed {}: {finding}", options.seed);
                    println!("    {} --shrink", again(&options));
                }
                if told.seeds.is_multiple_of(PROGRESS_SEEDS) {
                    told.progress(begun);
                }
            }
            Next::Endless(seed) => {
                // Its thread can't be ended but with the process.
                told.findings += 1;
                println!("seed {seed}: endless: no end of the run in sight");
                break;
            }
            Next::Over => break,
        }
    }
    told.progress(begun);
    if told.findings > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[derive(Debug, Default)]
struct Told {
    seeds: u64,
    findings: u64,
    deliveries: u64,
}

impl Told {
    fn progress(&self, begun: Instant) {
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!(
            "{} seeds in {seconds:.0} s, {} findings, {} deliveries, {:.0} seeds/minute",
            self.seeds,
            self.findings,
            self.deliveries,
            self.seeds as f64 * 60.0 / seconds.max(f64::EPSILON)
        );
    }
}

/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 500;
