//! [`DiskPart`]: what of a queue is on the disk only, and where between the others it stands.

use std::collections::VecDeque;

use crate::backlog::{Backlog, Spilled};

/// The part of a queue that is on the disk.
#[derive(Debug, Default)]
pub(super) struct DiskPart {
    /// Asked for and not there yet.
    pub(super) loading: VecDeque<Spilled>,
    pub(super) loading_cost: usize,
    pub(super) backlog: Backlog,
    /// The positions of both, in runs: only what came between and is in memory breaks one.
    runs: VecDeque<Run>,
}

/// Positions without a gap.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    count: u64,
}

impl DiskPart {
    pub(super) fn push(&mut self, position: u64, spilled: Spilled) {
        self.backlog.push_back(spilled);
        match self.runs.back_mut() {
            Some(run) if run.first + run.count == position => run.count += 1,
            _ => self.runs.push_back(Run {
                first: position,
                count: 1,
            }),
        }
    }

    /// Takes out what is next, with its position.
    pub(super) fn pop(&mut self) -> Option<(u64, Spilled)> {
        let spilled = if let Some(spilled) = self.loading.pop_front() {
            self.loading_cost -= spilled.cost;
            spilled
        } else {
            self.backlog.pop_front()?
        };
        let run = self.runs.front_mut()?;
        let position = run.first;
        run.first += 1;
        run.count -= 1;
        if run.count == 0 {
            self.runs.pop_front();
        }
        Some((position, spilled))
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.runs.front().map(|run| run.first)
    }
}
