//! `cargo xtask sim`: the simulation, built for release; for `--exhaustive` with the core's own assertions.

use std::{env, ffi::OsString};

use crate::{
    Outcome,
    metadata::{Metadata, cargo},
};

/// Runs the simulation with `arguments`. What it finds is on its output; here it is a failure.
///
/// Where planted bugs are asked for, they are built in, into a target folder of their own, so that
/// neither build throws the other's work away.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let arguments: Vec<_> = arguments.collect();
    let is_exhaustive = arguments
        .first()
        .is_some_and(|first| first == "--exhaustive");
    let profile = if is_exhaustive { "explore" } else { "release" };
    let mut command = cargo();
    command
        .args(["run", "--profile", profile, "--quiet", "--locked"])
        .args(["--package", "whimbrel-sim"]);
    if arguments.iter().any(asks_for_mutants) {
        let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
        flags.push(" --cfg mutants");
        let target = Metadata::read()?.target_directory.join("mutants");
        command
            .env("RUSTFLAGS", flags)
            .arg("--target-dir")
            .arg(target);
    }
    let status = command.arg("--").args(arguments).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the simulation ended with {status}").into())
    }
}

fn asks_for_mutants(argument: &OsString) -> bool {
    argument == "--mutants" || argument == "--mutant"
}
