//! `cargo xtask sim`: the simulation, built for release; for `--exhaustive` with the core's own assertions.

use std::ffi::OsString;

use crate::{Outcome, metadata::cargo};

/// Runs the simulation with `arguments`. What it finds is on its output; here it is a failure.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let arguments: Vec<_> = arguments.collect();
    let is_exhaustive = arguments
        .first()
        .is_some_and(|first| first == "--exhaustive");
    let profile = if is_exhaustive { "explore" } else { "release" };
    let status = cargo()
        .args(["run", "--profile", profile, "--quiet", "--locked"])
        .args(["--package", "whimbrel-sim", "--"])
        .args(arguments)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the simulation ended with {status}").into())
    }
}
