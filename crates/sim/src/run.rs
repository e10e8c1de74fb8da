//! [`run`]: one seed from beginning to end.

use std::panic::{self, AssertUnwindSafe};

use crate::changes::Changes;
use crate::finding::Finding;
use crate::payload::MessageKey;
use crate::world::World;

/// What to run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// Steps before the quiet end.
    pub steps: u64,
    /// What is done differently from the plan that the seed draws.
    pub changes: Changes,
    /// Whether everything that happens is printed.
    pub trace: bool,
    /// The message whose life is printed.
    pub follow: Option<MessageKey>,
}

impl Options {
    /// A run without a printed trace.
    #[must_use]
    pub fn new(seed: u64, steps: u64) -> Self {
        Self {
            seed,
            steps,
            changes: Changes::default(),
            trace: false,
            follow: None,
        }
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Hash over everything that happened; 0 if the core panicked.
    pub hash: u64,
    /// The first rule that was broken.
    pub finding: Option<Finding>,
    /// The step after which it was seen to be broken, counted from 1; `None` if that was in the
    /// quiet end, or the core panicked.
    pub found_at: Option<u64>,
    /// Messages that clients were shown.
    pub deliveries: u64,
}

/// Runs one seed.
#[must_use]
pub fn run(options: &Options) -> Outcome {
    panic::catch_unwind(AssertUnwindSafe(|| run_unguarded(options))).unwrap_or_else(|panic| {
        let detail = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        Outcome {
            hash: 0,
            finding: Some(Finding {
                rule: "panic",
                detail,
            }),
            found_at: None,
            deliveries: 0,
        }
    })
}

fn run_unguarded(options: &Options) -> Outcome {
    let mut world = World::new(options);
    let mut found_at = None;
    for step in 0..options.steps {
        if options.changes.skips(step) {
            continue;
        }
        world.step(step);
        if world.oracle.finding().is_some() {
            found_at = Some(step + 1);
            break;
        }
    }
    if found_at.is_none() {
        world.end(options.steps);
    }
    Outcome {
        hash: world.trace.hash(),
        finding: world.oracle.finding().cloned(),
        found_at,
        deliveries: world.oracle.deliveries,
    }
}
