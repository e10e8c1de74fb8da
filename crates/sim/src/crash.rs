//! The process dies and a new one starts; the wall clock is set.

use crate::process::Process;
use crate::world::World;

impl World {
    /// The process dies at this moment, and another one starts with what is on the disks: nothing,
    /// as long as there is no store. Every connection breaks; what had left the process may still
    /// arrive.
    pub(crate) fn crash(&mut self) {
        let incarnation = self.process.incarnation() + 1;
        self.trace.note(&[50, u64::from(incarnation)], || {
            format!("the process dies; incarnation {incarnation} starts")
        });
        let mut disks = self.process.take_disks();
        let lost: Vec<u64> = disks.iter_mut().map(|disk| disk.crash()).collect();
        self.process = Process::new(&self.plan, incarnation, disks);
        self.oracle.crashed(&lost);
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
