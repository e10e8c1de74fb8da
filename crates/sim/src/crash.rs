//! The process dies and a new one starts; the wall clock is set.

use crate::process::{Around, Process};
use crate::world::{World, wall_ms};

impl World {
    /// The process dies at this moment, and another one starts with what is on the disk: nothing, if there is
    /// none. Every connection breaks; what had left the process may still arrive.
    pub(crate) fn crash(&mut self) {
        self.deaths += 1;
        let deaths = self.deaths;
        self.trace.note(&[50, u64::from(deaths)], || {
            format!("the process dies, number {deaths}")
        });
        if let Some(disk) = &mut self.disk {
            disk.crash();
        }
        self.oracle.crashed(self.plan.core.shards);
        let mut around = Around {
            now_ms: self.now_ms,
            wall_ms: wall_ms(self.now_ms, self.wall_offset_ms),
            oracle: &mut self.oracle,
            trace: &mut self.trace,
        };
        match Process::start(&self.plan, deaths, self.disk.as_mut(), &mut around) {
            Ok(process) => self.process = process,
            Err(error) => self
                .oracle
                .fail("the store can't be read back", format!("{error:?}")),
        }
        self.lose_links();
    }

    /// The links of a process that is gone break.
    fn lose_links(&mut self) {
        for local in &mut self.locals {
            local.crash();
        }
        let links: Vec<_> = self.links.keys().copied().collect();
        for number in links {
            let Some(wire) = self.links.get_mut(&number) else {
                continue;
            };
            let kept = self.rng.below(wire.link.down.len() as u64 + 1) as usize;
            wire.link.up.cut(0);
            wire.link.down.cut(kept);
            wire.link.stalled = false;
            if self.clients[wire.client].link() != Some(number) {
                self.links.remove(&number);
            }
        }
    }

    /// Somebody sets the wall clock, forwards or backwards.
    pub(crate) fn set_clock(&mut self) {
        let far = self.rng.pick(&[5_000, 60_000, 3_600_000]);
        let jump_ms = self.rng.between(0, 2 * far) as i64 - far as i64;
        // Never before the clock of the run's beginning: Unix time is not negative.
        self.wall_offset_ms += jump_ms;
        self.trace.note(&[51, jump_ms.unsigned_abs()], || {
            format!("the wall clock jumps by {jump_ms} ms")
        });
        self.oracle.clock_set(self.wall_offset_ms);
    }
}
