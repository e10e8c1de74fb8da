//! `whimbrel-sim`: runs one seed, follows a message, shrinks a finding, or sweeps over many seeds.

mod command;
#[cfg(mutants)]
mod mutants;
mod single;
mod sweep;
mod watch;

use std::process::ExitCode;

use crate::command::{Command, Mode};

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args().skip(1)) {
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
