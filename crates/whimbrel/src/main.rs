//! `whimbrel`: an MQTT broker in one binary.
//!
//! `whimbrel serve` runs the broker of the `whimbrel-broker` crate until SIGINT or SIGTERM.
//! `whimbrel conformance` tests a broker, this or any other, against the statements of the standards.
//! `whimbrel bench` loads a broker, measures it, and checks every message.
//! `whimbrel store` looks at, copies or rescues what a stopped broker has kept.
//!
//! Exit status: 0 after an orderly end, 1 when something failed, `store check` found damage or `bench` a fault, 2 when the
//! command line can't be meant or `bench` could not run, 3 when `conformance` finds no broker to test. Each failure is one line on standard error that
//! says what to do about it.

#![forbid(unsafe_code)]

mod bench;
mod cli;
mod conformance;
mod deny;
mod descriptors;
mod failure;
mod progress;
mod serve;
mod store;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<ExitCode, Failure> {
    let cli = Cli::try_parse().map_err(Failure::from_clap)?;
    match cli.command {
        Command::Serve(arguments) => serve::serve(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Conformance(arguments) => conformance::conformance(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Store(arguments) => store::store(&arguments),
    }
}
