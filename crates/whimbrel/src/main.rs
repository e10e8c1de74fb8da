//! `whimbrel`: an MQTT broker in one binary.
//!
//! `whimbrel serve` runs the broker of the `whimbrel-broker` crate until SIGINT or SIGTERM.
//! `whimbrel pub`, `sub` and `rr` are clients, with the options of mosquitto_pub, _sub and _rr.
//! `whimbrel conformance` tests a broker, this or any other, against the statements of the standards.
//! `whimbrel bench` loads a broker, measures it, and checks every message.
//! `whimbrel store` looks at, copies or rescues what a stopped broker has kept.
//! `whimbrel completions` and `whimbrel man` print what shells and man(1) read.
//!
//! Exit status: 0 after an orderly end, 1 when something failed, `store check` found damage or `bench` a fault, 2 when the
//! command line can't be meant or `bench` could not run, 3 when `conformance` finds no broker to test; of `pub`, `sub` and
//! `rr` what mosquitto's clients have, which is 1 for a command line too, 27 for a time that is over, and else the server's
//! reason code. Each failure is one line on standard error that
//! says what to do about it.

#![forbid(unsafe_code)]

mod bench;
mod cli;
mod client;
mod completions;
mod conformance;
mod deny;
mod descriptors;
mod failure;
mod progress;
mod serve;
mod store;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(failure) if is_client() => failure.into_that_of_a_client().report(),
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut command = Cli::command();
    let arguments = client::joined(&command, std::env::args_os());
    let matches = command.try_get_matches_from_mut(arguments);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    match cli.map_err(Failure::from_clap)?.command {
        Command::Serve(arguments) => serve::serve(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Pub(arguments) => client::publish(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Sub(arguments) => client::subscribe(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Rr(arguments) => client::request(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Conformance(arguments) => conformance::conformance(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Store(arguments) => store::store(&arguments),
        Command::Completions(arguments) => {
            completions::completions(&arguments).map(|()| ExitCode::SUCCESS)
        }
        Command::Man(arguments) => completions::man(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// Whether the exit statuses are those of mosquitto_pub, _sub and _rr.
fn is_client() -> bool {
    let command = std::env::args_os().nth(1);
    command.is_some_and(|command| matches!(command.to_str(), Some("pub" | "sub" | "rr")))
}
