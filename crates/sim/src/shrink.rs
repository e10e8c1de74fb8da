//! [`shrink`]: the plainest run that still breaks the same rule.

use crate::changes::Changes;
use crate::finding::Finding;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::run::{Options, Outcome, run};

/// A run that breaks a rule, made as plain as could be found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shrunk {
    /// What to run.
    pub options: Options,
    /// What it finds.
    pub finding: Finding,
    /// How many runs it took to find it.
    pub runs: u32,
}

/// Takes steps away from the end, then faults, features, clients and sizes one by one, as long as the same rule
/// stays broken. `None` if the run breaks none.
///
/// One thing less is tried at a time, so that what is left is needed, each part of it on its own.
#[must_use]
pub fn shrink(options: &Options) -> Option<Shrunk> {
    let outcome = run(options);
    let finding = outcome.finding.clone()?;
    let mut shrinker = Shrinker {
        best: Shrunk {
            options: options.clone(),
            finding,
            runs: 1,
        },
    };
    shrinker.note(options.clone(), outcome);
    shrinker.fewer_steps();
    for _ in 0..PASSES_MAX {
        let before = shrinker.best.options.clone();
        shrinker.plainer_plan();
        shrinker.fewer_steps();
        let after = &shrinker.best.options;
        if after.changes == before.changes && after.steps == before.steps {
            break;
        }
    }
    shrinker.skip_steps();
    shrinker.plainer_plan();
    Some(shrinker.best)
}

struct Shrinker {
    best: Shrunk,
}

impl Shrinker {
    /// Runs `options`, and keeps them if they break the same rule.
    fn attempt(&mut self, options: Options) -> bool {
        if self.best.runs >= RUNS_MAX {
            return false;
        }
        self.best.runs += 1;
        let outcome = run(&options);
        self.note(options, outcome)
    }

    fn note(&mut self, mut options: Options, outcome: Outcome) -> bool {
        let Some(finding) = outcome.finding else {
            return false;
        };
        if finding.rule != self.best.finding.rule {
            return false;
        }
        if let Some(step) = outcome.found_at {
            // What comes after is not reached.
            options.steps = step;
        }
        self.best.options = options;
        self.best.finding = finding;
        true
    }

    fn fewer_steps(&mut self) {
        let mut less = self.best.options.steps / 2;
        while less > 0 {
            let mut options = self.best.options.clone();
            options.steps = options.steps.saturating_sub(less);
            if options.steps == self.best.options.steps || !self.attempt(options) {
                less /= 2;
            }
        }
    }

    /// Leaves out runs of steps in the middle.
    fn skip_steps(&mut self) {
        let steps = self.best.options.steps;
        let mut length = steps / 2;
        while length >= (steps / SKIPS_MAX).max(1) {
            let mut first = 0;
            while first < self.best.options.steps {
                let end = (first + length).min(self.best.options.steps);
                let mut options = self.best.options.clone();
                if !options.changes.skips(first) && end < options.steps {
                    options.changes = options.changes.skipping(first, end);
                    self.attempt(options);
                }
                first = end;
            }
            length /= 2;
        }
    }

    fn plainer_plan(&mut self) {
        // What was tried in vain is not tried again in this pass; a success begins it anew behind
        // what was tried.
        let mut tried: Vec<Changes> = Vec::new();
        loop {
            let current = &self.best.options;
            let mut plan = Plan::draw(&mut Rng::new(current.seed));
            current.changes.apply(&mut plan);
            let next = current
                .changes
                .plainer(&mut plan)
                .into_iter()
                .find(|changes| {
                    let last = changes.last();
                    !tried.iter().any(|tried| tried.last() == last)
                });
            let Some(changes) = next else {
                return;
            };
            tried.push(changes.clone());
            let mut options = current.clone();
            options.changes = changes;
            self.attempt(options);
        }
    }
}

/// More passes find next to nothing.
const PASSES_MAX: u32 = 4;

/// Into how many runs the steps are cut at the most.
const SKIPS_MAX: u64 = 128;

/// Where shrinking gives up: some seconds of the usual runs.
const RUNS_MAX: u32 = 2_000;
