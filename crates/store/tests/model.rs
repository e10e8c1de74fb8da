//! Random batches, starts and crashes against the model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use whimbrel_store::broker_core::{Batch, Journal, JournalError, Maintenance, Record};
use whimbrel_store::suite::{
    Model, Told, done, enqueued_as, group, group_ended, inbound_released, inbound_stored, message,
    retained_deleted, retained_set, session, session_ended, subscribed, unsubscribed, window,
};
use whimbrel_store::{Crash, DiskCall, DiskFault, MemoryDisk, OpenOptions, RedbStore};

/// What a broker would do, drawn from one source.
#[derive(Clone, Default)]
struct Broker {
    next_queue: u64,
    next_place: u64,
    next_message: u64,
    sessions: BTreeMap<u64, Queued>,
    groups: BTreeMap<u64, Queued>,
    /// Sequence and sender of each message that was taken over.
    taken_over: BTreeMap<u64, u64>,
}

/// The places a queue owes.
#[derive(Clone, Default)]
struct Queued {
    owed: BTreeSet<u64>,
    cursor: u64,
}

struct Dice(TestRng);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn one_of(&mut self, keys: impl Iterator<Item = u64>) -> Option<u64> {
        let keys: Vec<u64> = keys.collect();
        let at = self.below(keys.len().max(1) as u64);
        keys.get(usize::try_from(at).expect("small")).copied()
    }

    fn some_of(&mut self, keys: impl Iterator<Item = u64>) -> Vec<u64> {
        keys.filter(|_| self.below(2) == 0).collect()
    }
}

impl Broker {
    fn batch(&mut self, dice: &mut Dice) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..dice.below(12) + 1 {
            self.step(dice, &mut batch);
        }
        batch
    }

    fn step(&mut self, dice: &mut Dice, batch: &mut Batch) {
        let records = &mut batch.records;
        match dice.below(16) {
            0 | 1 => {
                self.next_queue += 1;
                self.sessions.insert(self.next_queue, Queued::default());
                records.push(session(self.next_queue));
                records.push(subscribed(self.next_queue, &["a", "b/#"]));
            }
            2 => {
                self.next_queue += 1;
                self.groups.insert(self.next_queue, Queued::default());
                records.push(group(self.next_queue));
            }
            3 => {
                if let Some(queue) = dice.one_of(self.sessions.keys().copied()) {
                    if dice.below(3) == 0 {
                        self.sessions.remove(&queue);
                        records.push(session_ended(queue));
                    } else {
                        records.push(unsubscribed(queue, &["a"]));
                    }
                }
            }
            4 => {
                if let Some(queue) = dice.one_of(self.groups.keys().copied())
                    && dice.below(4) == 0
                {
                    self.groups.remove(&queue);
                    records.push(group_ended(queue));
                }
            }
            5..=8 => self.publish(dice, records),
            9..=12 => self.acknowledge(dice, records),
            13 => {
                let released = dice.one_of(self.taken_over.keys().copied());
                if let Some(sender) = released.and_then(|id| self.taken_over.remove(&id)) {
                    records.push(inbound_released(sender, 1, released.expect("drawn")));
                }
            }
            _ => {
                let topic = ["r/a", "r/b", "r/c"][usize::try_from(dice.below(3)).expect("small")];
                self.next_message += 1;
                batch.retained.push(if dice.below(3) == 0 {
                    retained_deleted(topic)
                } else {
                    retained_set(self.next_message, topic)
                });
                batch.records.push(Record::Retained);
            }
        }
    }

    fn publish(&mut self, dice: &mut Dice, records: &mut Vec<Record>) {
        self.next_message += 1;
        let size = [10, 100, 6000][usize::try_from(dice.below(3)).expect("small")];
        let message = message(self.next_message, "a/b", size);
        if dice.below(3) == 0 {
            self.taken_over.insert(self.next_message, 1);
            records.push(inbound_stored(1, 1, message.clone()));
        }
        let holders = dice.some_of(self.sessions.keys().copied());
        if !holders.is_empty() {
            self.next_place += 1 + dice.below(3);
            for holder in &holders {
                let queued = self.sessions.get_mut(holder).expect("drawn");
                queued.owed.insert(self.next_place);
            }
            records.push(enqueued_as(self.next_place, message.clone(), &holders));
        }
        for holder in dice.some_of(self.groups.keys().copied()) {
            self.next_place += 1;
            let queued = self.groups.get_mut(&holder).expect("drawn");
            queued.owed.insert(self.next_place);
            records.push(enqueued_as(self.next_place, message.clone(), &[holder]));
        }
    }

    /// A session says so by its window, and perhaps by a record; a group by a record.
    fn acknowledge(&mut self, dice: &mut Dice, records: &mut Vec<Record>) {
        if let Some(queue) = dice.one_of(self.groups.keys().copied()) {
            let queued = self.groups.get_mut(&queue).expect("drawn");
            let places = dice.some_of(queued.owed.iter().copied());
            queued.owed.retain(|place| !places.contains(place));
            records.push(done(queue, &places));
        }
        if let Some(queue) = dice.one_of(self.sessions.keys().copied()) {
            let queued = self.sessions.get_mut(&queue).expect("drawn");
            let places = dice.some_of(queued.owed.iter().copied().take(10));
            queued.owed.retain(|place| !places.contains(place));
            let highest = places.iter().max().map_or(1, |place| place + 1);
            queued.cursor = queued.cursor.max(highest);
            let open: Vec<u64> = queued.owed.range(..queued.cursor).copied().collect();
            records.push(window(queue, queued.cursor, &open));
            if dice.below(4) != 0 {
                records.push(done(queue, &places));
            }
        }
    }
}

/// `PROPTEST_CASES` as always, but fewer without.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 32;
    }
    config.failure_persistence = None;
    config
}

fn open(disk: &MemoryDisk) -> RedbStore {
    let mut options = OpenOptions::default();
    // Little enough for pages to be written before they have to.
    options.cache_bytes = 64 * 1024;
    RedbStore::on_backend(disk.storage(), disk.room(), options).expect("a store")
}

fn told(store: &mut RedbStore) -> Told {
    Told::by(store).expect("undamaged").0
}

fn assert_same(found: &Told, expected: &Told) {
    let difference = found.difference(expected);
    assert!(difference.is_empty(), "{difference}");
}

fn maintain(store: &mut RedbStore, steps: u64) {
    for _ in 0..steps {
        if store.maintain().expect("a step") == Maintenance::Done {
            break;
        }
    }
}

/// Every message that the model has can be read, by each queue that owes it.
fn all_can_be_read(store: &mut RedbStore, told: &Told) {
    for (&position, (message, holders)) in &told.owed {
        for holder in holders {
            let read = store.read(holder.queue, &[position]).expect("there");
            assert_eq!(read[0].message, *message);
            assert_eq!(read[0].form, holder.form);
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_store_tells_what_the_model_tells(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let (disk, mut broker, mut model) = (MemoryDisk::new(), Broker::default(), Model::new());
        let mut store = open(&disk);
        assert_same(&told(&mut store), &model.start());
        for _ in 0..dice.below(60) {
            match dice.below(8) {
                0 => {
                    drop(store);
                    store = open(&disk);
                    let expected = model.start();
                    assert_same(&told(&mut store), &expected);
                    all_can_be_read(&mut store, &expected);
                }
                1 => maintain(&mut store, dice.below(3) + 1),
                _ => {
                    let batch = broker.batch(&mut dice);
                    store.commit(&batch).expect("room");
                    model.commit(&batch);
                }
            }
        }
        maintain(&mut store, 1000);
        drop(store);
        assert_same(&told(&mut open(&disk)), &model.start());
    }

    #[test]
    fn a_crash_loses_nothing_that_was_committed(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let (disk, mut broker, mut model) = (MemoryDisk::new(), Broker::default(), Model::new());
        drop(open(&disk));
        for _ in 0..dice.below(6) + 1 {
            let mut store = open(&disk);
            assert_same(&told(&mut store), &model.start());
            // The disk, and with it the process, fails after so many writes.
            let call = if dice.below(3) == 0 { DiskCall::Sync } else { DiskCall::Write };
            let after = dice.below(if call == DiskCall::Sync { 12 } else { 120 });
            disk.fail(call, after, u64::MAX, DiskFault::Broken);
            let mut begun = None;
            for _ in 0..20 {
                if dice.below(6) == 0 {
                    if store.maintain().is_err() {
                        break;
                    }
                    continue;
                }
                let before = broker.clone();
                let batch = broker.batch(&mut dice);
                match store.commit(&batch) {
                    Ok(()) => model.commit(&batch),
                    Err(error) => {
                        assert!(matches!(error, JournalError::Failed(_)), "{error}");
                        begun = Some((before, batch));
                        break;
                    }
                }
            }
            drop(store);
            // A process that starts after a failed sync, on the same system, reads what is not on the disk; no
            // program can tell.
            let crash = if call == DiskCall::Write && dice.below(4) == 0 {
                Crash::Process
            } else {
                Crash::Power
            };
            disk.crash(crash, &mut || dice.0.next_u64());
            // Of the batch that was under way, all is there or nothing.
            let mut store = open(&disk);
            let found = told(&mut store);
            let mut without = model.clone();
            let difference = found.difference(&without.start());
            if let Some((before, batch)) = begun {
                if difference.is_empty() {
                    broker = before;
                } else {
                    model.commit(&batch);
                    assert_same(&found, &model.start());
                }
            } else {
                assert!(difference.is_empty(), "{difference}");
            }
            drop(store);
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_changes_nothing(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let (disk, mut broker, mut model) = (MemoryDisk::new(), Broker::default(), Model::new());
        let mut store = open(&disk);
        told(&mut store);
        for _ in 0..dice.below(30) {
            let batch = broker.batch(&mut dice);
            if dice.below(2) == 0 {
                disk.fail(DiskCall::Write, dice.below(10), dice.below(3) + 1, DiskFault::Full);
            }
            let mut tries = 0;
            while let Err(error) = store.commit(&batch) {
                assert!(matches!(error, JournalError::Full), "{error}");
                tries += 1;
                assert!(tries < 10, "the disk has room again");
            }
            model.commit(&batch);
            disk.mend();
        }
        maintain(&mut store, 1000);
        drop(store);
        assert_same(&told(&mut open(&disk)), &model.start());
    }
}
