//! Every operation of a life interrupted, in every way.

use whimbrel_session::codec::QoS;

use super::super::faulty::{Crash, Fault, FaultyDisk};
use super::super::{AppendError, Durability, OutboxError, OutboxOptions, Record};
use super::harness::Harness;
use super::{accepted, id, message, options, path, sent};

/// The life of an outbox, up to the first error: it is filled, emptied, compacted and filled again.
fn live(harness: &mut Harness) {
    let mut steps = || {
        for sequence in 0..6 {
            harness
                .append(&[accepted(sequence, QoS::ExactlyOnce)])
                .ok()?;
        }
        harness.sync().ok()?;
        harness.append(&[sent(0, 1), sent(1, 2), sent(2, 3)]).ok()?;
        harness
            .append(&[Record::Received { packet_id: id(2) }])
            .ok()?;
        harness.sync().ok()?;
        harness
            .append(&[
                Record::Held { packet_id: id(9) },
                Record::Done { sequence: 0 },
            ])
            .ok()?;
        for sequence in 6..20 {
            let done = Record::Done { sequence };
            harness
                .append(&[accepted(sequence, QoS::AtLeastOnce), done])
                .ok()?;
        }
        harness.maintain().ok()?;
        harness.append(&[accepted(20, QoS::ExactlyOnce)]).ok()?;
        harness.append(&[sent(3, 4)]).ok()?;
        harness.sync().ok()
    };
    let _ = steps();
}

/// How many operations the life has. The first ones make the file.
fn operations(options: OutboxOptions) -> usize {
    let mut harness = Harness::new(options);
    let before = harness.outbox.file_bytes();
    live(&mut harness);
    assert_eq!(harness.model.next_sequence, 21, "all steps were taken");
    assert!(harness.outbox.file_bytes() > before);
    assert_eq!(
        harness.disk.names(),
        [path()],
        "the new file has taken the old one's place"
    );
    harness.disk.operations()
}

/// Runs the life on a disk that fails at its `at`-th operation. `None` where no outbox comes about at all.
fn failing_at(at: usize, fault: Fault, options: OutboxOptions) -> Result<Harness, FaultyDisk> {
    let disk = FaultyDisk::default();
    disk.fail(at, fault);
    let Ok(mut harness) = Harness::on(disk.clone(), options) else {
        return Err(disk);
    };
    live(&mut harness);
    Ok(harness)
}

fn crashes() -> impl Iterator<Item = Crash> {
    let masks = (0..64)
        .map(|bit| 1 << bit)
        .chain([0, u64::MAX, 0x5555_5555_5555_5555]);
    let keeping = masks.flat_map(|mask: u64| [mask, !mask]);
    [Crash::Process, Crash::PowerLost]
        .into_iter()
        .chain(keeping.map(Crash::PowerLostKeeping))
}

#[test]
fn a_machine_that_stops_at_any_operation_leaves_what_was_synced() {
    for at in 0..operations(options()) {
        for crash in crashes() {
            match failing_at(at, Fault::Stop, options()) {
                Ok(harness) => {
                    let mut harness = harness.crash(crash);
                    // What was found counts as durable, whatever an earlier process had left undone.
                    let sequence = harness.model.next_sequence;
                    let record = accepted(sequence, QoS::AtLeastOnce);
                    harness.append(&[record]).expect("room");
                    harness.sync().expect("no fault");
                    harness.crash(Crash::PowerLost);
                }
                Err(disk) => {
                    let opened = Harness::on(disk.after(crash), options());
                    let harness = opened.expect("none, or an empty one");
                    assert_eq!(harness.model.next_sequence, 0);
                    harness.crash(Crash::PowerLost);
                }
            }
        }
    }
}

#[test]
fn a_process_that_ends_at_any_operation_leaves_all_that_was_appended_without_syncs_too() {
    let options = OutboxOptions {
        durability: Durability::Os,
        ..options()
    };
    for at in 0..operations(options) {
        if let Ok(harness) = failing_at(at, Fault::Stop, options) {
            harness.crash(Crash::Process);
        }
    }
}

#[test]
fn an_operation_that_fails_once_loses_nothing_that_was_accepted() {
    for fault in [Fault::Error, Fault::ShortWrite, Fault::LateWrite] {
        for at in 0..operations(options()) {
            for crash in [Crash::Process, Crash::PowerLost] {
                if let Ok(harness) = failing_at(at, fault, options()) {
                    harness.crash(crash);
                }
            }
        }
    }
}

#[test]
fn a_failed_write_leaves_the_outbox_as_it_was() {
    for fault in [Fault::Error, Fault::ShortWrite, Fault::LateWrite] {
        let mut harness = Harness::new(options());
        harness
            .append(&[accepted(0, QoS::AtLeastOnce)])
            .expect("room");
        let image = harness.disk.image(path());
        harness.disk.fail(0, fault);
        let failed = harness.append(&[accepted(1, QoS::AtLeastOnce), sent(0, 1)]);
        assert!(matches!(failed, Err(AppendError::Io { .. })), "{failed:?}");
        assert_eq!(harness.disk.image(path()), image);
        harness
            .append(&[accepted(1, QoS::AtLeastOnce), sent(0, 1)])
            .expect("the disk works again");
        harness.crash(Crash::Process);
    }
}

#[test]
fn a_write_that_is_taken_back_does_not_return_after_a_loss_of_power() {
    let mut harness = Harness::new(options());
    harness.disk.fail(0, Fault::LateWrite);
    let failed = harness.append(&[accepted(0, QoS::AtLeastOnce)]);
    assert!(matches!(failed, Err(AppendError::Io { .. })), "{failed:?}");
    harness.crash(Crash::PowerLostKeeping(u64::MAX));
}

#[test]
fn a_full_disk_says_which_file_and_what_to_do() {
    let mut harness = Harness::new(options());
    harness.disk.fail(0, Fault::ShortWrite);
    let failed = harness.append(&[accepted(0, QoS::AtLeastOnce)]);
    assert_eq!(
        failed.expect_err("no room").to_string(),
        "can't write to outbox: make room on its disk; what was accepted before is still there"
    );
}

#[test]
fn an_outbox_that_cannot_take_a_failed_write_back_is_poisoned() {
    let mut harness = Harness::new(options());
    harness.disk.fail(0, Fault::Stop);
    let failed = harness.append(&[accepted(0, QoS::AtLeastOnce)]);
    assert!(matches!(failed, Err(AppendError::Io { .. })));
    let after = harness.append(&[accepted(0, QoS::AtLeastOnce)]);
    assert!(matches!(after, Err(AppendError::Poisoned)));
    assert!(matches!(harness.sync(), Err(OutboxError::Poisoned)));
    assert!(matches!(harness.maintain(), Err(OutboxError::Poisoned)));
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let mut harness = Harness::new(options());
    harness
        .append(&[accepted(0, QoS::AtLeastOnce)])
        .expect("room");
    harness.disk.fail(0, Fault::Error);
    assert!(matches!(harness.sync(), Err(OutboxError::Io { .. })));
    assert!(matches!(harness.sync(), Err(OutboxError::Poisoned)));
    harness.crash(Crash::PowerLost);
}

#[test]
fn a_sync_without_news_asks_nothing_of_the_disk() {
    let mut harness = Harness::new(options());
    let before = harness.disk.operations();
    harness.sync().expect("nothing to do");
    assert_eq!(harness.disk.operations(), before);
    harness
        .append(&[accepted(0, QoS::AtLeastOnce)])
        .expect("room");
    harness.sync().expect("no fault");
    assert_eq!(harness.disk.operations(), before + 2, "a write and a sync");
}

#[test]
fn a_compaction_that_fails_is_tried_again_when_the_file_has_grown() {
    let mut harness = Harness::new(options());
    let mut sequence = 0;
    let mut fill = |harness: &mut Harness| {
        for _ in 0..8 {
            let large = Record::Accepted(message(sequence, QoS::AtLeastOnce, &[0; 100]));
            let done = Record::Done { sequence };
            harness.append(&[large, done]).expect("room");
            sequence += 1;
        }
    };
    fill(&mut harness);
    // The file that it creates.
    harness.disk.fail(0, Fault::Error);
    assert!(matches!(harness.maintain(), Err(OutboxError::Io { .. })));
    assert_eq!(harness.disk.names(), [path()]);
    let before = harness.disk.operations();
    assert!(!harness.maintain().expect("not yet"));
    assert_eq!(harness.disk.operations(), before);
    fill(&mut harness);
    assert!(harness.maintain().expect("the disk works again"));
    harness.crash(Crash::PowerLost);
}

#[test]
fn compaction_does_not_carry_damage_over() {
    let mut harness = Harness::new(options());
    let begin = harness.outbox.file_bytes() as usize;
    harness
        .append(&[accepted(0, QoS::AtLeastOnce)])
        .expect("room");
    for sequence in 1..9 {
        let large = Record::Accepted(message(sequence, QoS::AtLeastOnce, &[0; 100]));
        harness
            .append(&[large, Record::Done { sequence }])
            .expect("room");
    }
    harness.disk.flip(path(), begin + 40);
    assert!(matches!(
        harness.maintain(),
        Err(OutboxError::Damaged { .. })
    ));
    assert_eq!(harness.disk.names(), [path()]);
}
