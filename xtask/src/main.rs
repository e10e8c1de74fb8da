//! Development tasks of the Whimbrel workspace, run as `cargo xtask TASK`.
//!
//! - `bench-brokers` runs the same load on Whimbrel and on the brokers that are installed, and compares.
//! - `instructions` counts what fixed scenes cost, and compares it with a table.
//! - `layers` holds the crates to the edges of the design and the pure crates to their purity.
//! - `sim` runs the simulation with the arguments that follow, such as `--seeds 0..1000`.
//! - `trace` says which tests show which statement of the standards, and writes the page of it.
//! - `package` makes every publishable crate into the archive that a registry would take, and
//!   builds it from there.

mod bench_brokers;
mod instructions;
mod layers;
mod metadata;
mod package;
mod rust_files;
mod sim;
mod trace;

use std::{env, error::Error, process::ExitCode};

fn main() -> ExitCode {
    let task = env::args().nth(1);
    let outcome = match task.as_deref() {
        Some("bench-brokers") => bench_brokers::run(env::args_os().skip(2)),
        Some("instructions") => instructions::run(env::args_os().skip(2)),
        Some("layers") => layers::run(),
        Some("package") => package::run(),
        Some("sim") => sim::run(env::args_os().skip(2)),
        Some("trace") => trace::run(env::args_os().skip(2)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a task returns; its error is shown to the developer as it is.
type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "usage: cargo xtask TASK

  bench-brokers  run the same load on Whimbrel and on other brokers and print what they cost: --help
  instructions   count instructions and allocations of fixed scenes under valgrind and compare them with
                 benches/instructions.tsv: [SCENE...], parts of names; --bless --note WHY to write what changed
  layers         check the edges between crates and the purity of the protocol crates
  package        check the metadata of every publishable crate, package it and build the package
  sim            run the simulation of the broker in release: [--seed N | --seeds A..B] [--steps M], with
                 --trace [mC.N], --shrink, --minutes T, --jobs J, --plan CHANGES, --mutants, --mutant NAME;
                 or every state of small worlds: --exhaustive [--scope full | --scope NAME]
  trace          list the tests that show each statement of the standards and write docs/conformance.md:
                 [--check] to compare the page instead";
