//! Development tasks of the Whimbrel workspace, run as `cargo xtask TASK`.
//!
//! - `layers` holds the crates to the edges of the design and the pure crates to their purity.
//! - `package` makes every publishable crate into the archive that a registry would take, and
//!   builds it from there.

mod layers;
mod metadata;
mod package;

use std::{env, error::Error, process::ExitCode};

fn main() -> ExitCode {
    let task = env::args().nth(1);
    let outcome = match task.as_deref() {
        Some("layers") => layers::run(),
        Some("package") => package::run(),
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

  layers   check the edges between crates and the purity of the protocol crates
  package  check the metadata of every publishable crate, package it and build the package";
