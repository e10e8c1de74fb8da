//! `cargo xtask sim`: the simulation, built for release.

use std::ffi::OsString;

use crate::{Outcome, metadata::cargo};

/// Runs the simulation with `arguments`. What it finds is on its output; here it is a failure.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome {
    let status = cargo()
        .args(["run", "--release", "--quiet", "--locked"])
        .args(["--package", "whimbrel-sim", "--"])
        .args(arguments)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the simulation ended with {status}").into())
    }
}
