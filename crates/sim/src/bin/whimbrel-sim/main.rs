//! `whimbrel-sim`: runs one seed, follows a message, shrinks a finding, sweeps over many seeds, or explores every
//! order of events in small worlds.

mod command;
#[cfg(mutants)]
mod mutants;
mod single;
mod sweep;
mod watch;

use std::process::ExitCode;

use crate::command::{Command, Mode};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(code) = whimbrel_sim::exhaustive(&arguments) {
        return code;
    }
    let command = match Command::parse(arguments.into_iter()) {
        Ok(command) => command,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{}", command::USAGE);
            return ExitCode::from(2);
        }
    };
    match command.mode {
        Mode::Single { seed } => single::run(&command, seed),
        Mode::Shrink { seed } => single::shrink(&command, seed),
        Mode::Sweep { first, end } => sweep::run(&command, first, end),
        #[cfg(mutants)]
        Mode::Mutant { which, first, end } => mutants::one(&command, which, first, end),
        #[cfg(mutants)]
        Mode::Mutants { first, end } => mutants::all(&command, first, end),
    }
}
