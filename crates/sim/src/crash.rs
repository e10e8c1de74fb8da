//! The process dies and a new one starts; the wall clock is set.

use crate::journal::{Failure, Remains, Room};
use crate::plan::draw_shards;
use crate::process::{Around, Process};
use crate::world::{World, wall_ms};

impl World {
    /// The process dies at this moment, and another one starts with what is on the disk: nothing, if there is
    /// none. Every connection breaks; what had left the process may still arrive.
    pub(crate) fn crash(&mut self) {
        self.deaths += 1;
        self.drops_before += self.process.drops();
        let deaths = self.deaths;
        self.trace.note(&[50, u64::from(deaths)], || {
            format!("the process dies, number {deaths}")
        });
        if let Some(disk) = &mut self.disk {
            let failed = self.process.take_failed();
            match (disk.crash(&mut self.rng), failed) {
                (Ok(Remains::Doubtful), Some((counts, batch))) => {
                    self.oracle.committed(&counts, &batch.retained);
                }
                (Ok(_), _) => {}
                (Err(detail), _) => self
                    .oracle
                    .fail("the store has another state than it was given", detail),
            }
        }
        self.room_again_ms = None;
        if let Some(disk) = &mut self.disk {
            disk.set_room(Room::Enough);
        }
        if self.plan.faults.reshards && self.rng.percent(50) {
            self.plan.core.shards = draw_shards(&mut self.rng);
        }
        self.oracle.crashed(self.plan.core.shards);
        if self.rng.percent(30) {
            let away_ms = self.rng.between(0, 20_000);
            self.now_ms += away_ms;
            self.oracle.advance(self.now_ms);
        }
        if self.plan.faults.clock_jumps && self.rng.percent(30) {
            self.set_clock();
        }
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

    /// The process dies: now, at some turn of its shards, or of its disk.
    pub(crate) fn doom(&mut self) {
        match self.rng.below(4) {
            0 => self.crash(),
            1 | 2 if self.plan.faults.disk_errors => {
                let failure = self.rng.pick(&[Failure::Lost, Failure::Kept]);
                let after = self.rng.between(0, 20);
                if let Some(disk) = &mut self.disk {
                    self.trace
                        .note(&[52, after], || format!("the disk will fail: {failure:?}"));
                    disk.fail(failure, after);
                }
            }
            _ => {
                let turns = self.rng.between(0, 30) as u32;
                self.process.doom(turns);
            }
        }
    }

    /// Little room is left on the disk, or none, for a while.
    pub(crate) fn fill_disk(&mut self) {
        if self.room_again_ms.is_some() {
            return self.make_room();
        }
        let room = self.rng.pick(&[Room::Little, Room::None]);
        let Some(disk) = &mut self.disk else {
            return;
        };
        disk.set_room(room);
        self.room_again_ms = Some(self.now_ms + FULL_MS);
        self.trace
            .note(&[53], || format!("room on the disk: {room:?}"));
        let (process, mut around) = self.parts();
        process.look_at_disk(&mut around);
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

/// Simulated milliseconds that a disk is full at the most: messages wait no longer than that.
const FULL_MS: u64 = 500;
