//! One seed.

use std::process::ExitCode;

use crate::command::{Command, Trace, again};
use crate::watch::{self, Done, Next};

/// Runs one seed, and prints what was asked for.
pub(crate) fn run(command: &Command, seed: u64) -> ExitCode {
    let mut options = command.options(seed);
    match command.trace {
        Trace::Nothing => {}
        Trace::Everything => options.trace = true,
        Trace::Message(key) => options.follow = Some(key),
    }
    let mut only = Some(options);
    match watch::start(1, move || only.take()).next() {
        Next::Done(Done { outcome, .. }) => {
            println!(
                "seed {seed} hash {:016x} deliveries {}",
                outcome.hash, outcome.deliveries
            );
            match outcome.finding {
                Some(finding) => {
                    println!("finding: {finding}");
                    ExitCode::FAILURE
                }
                None => ExitCode::SUCCESS,
            }
        }
        Next::Endless(_) => {
            println!("finding: endless: no end of the run in sight");
            ExitCode::FAILURE
        }
        Next::Over => ExitCode::FAILURE,
    }
}

/// Looks for the plainest run with the finding of this one.
pub(crate) fn shrink(command: &Command, seed: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    match whimbrel_sim::shrink(&command.options(seed)) {
        Some(shrunk) => {
            println!("{}", again(&shrunk.options));
            println!("finding: {} ({} runs)", shrunk.finding, shrunk.runs);
            ExitCode::FAILURE
        }
        None => {
            println!("nothing to shrink: seed {seed} finds nothing");
            ExitCode::SUCCESS
        }
    }
}
