//! The bounds: of messages, and of the file.

use whimbrel_session::codec::QoS;

use super::super::faulty::{Crash, FaultyDisk};
use super::super::{AppendError, OutboxOptions, Record};
use super::harness::Harness;
use super::{id, message, open, open_with, options, sent};

fn large(sequence: u64) -> Record {
    Record::Accepted(message(sequence, QoS::ExactlyOnce, &[7; 600]))
}

#[test]
fn a_full_outbox_says_what_is_needed_and_what_is_left() {
    let mut harness = Harness::new(options());
    let mut sequence = 0;
    let (needed, room) = loop {
        match harness.append(&[large(sequence)]) {
            Ok(()) => sequence += 1,
            Err(AppendError::Full { needed, room }) => break (needed, room),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(needed > room);
    assert_eq!(room, 4_000 - harness.outbox.live_bytes());
    let next = message(sequence, QoS::ExactlyOnce, &[7; 600]);
    assert_eq!(needed, next.encoded_bytes() + 96);
    assert!(!harness.outbox.has_room_for(&next));
    harness.crash(Crash::Process);
}

#[test]
fn a_full_outbox_takes_everything_that_empties_it() {
    let mut harness = Harness::new(options());
    let mut count = 0;
    while harness.append(&[large(count)]).is_ok() {
        count += 1;
    }
    for sequence in 0..count {
        let number = sequence as u16 + 1;
        let received = Record::Received {
            packet_id: id(number),
        };
        harness
            .append(&[sent(sequence, number), received])
            .expect("no message");
        harness
            .append(&[Record::Done { sequence }])
            .expect("no message");
    }
    assert_eq!(harness.outbox.live_bytes(), 0);
    assert!(harness.maintain().expect("no fault"));
    harness.append(&[large(count)]).expect("room again");
}

#[test]
fn a_batch_without_room_is_refused_as_a_whole() {
    let mut harness = Harness::new(options());
    let batch: Vec<_> = (0..10).map(large).collect();
    let refused = harness.append(&batch);
    assert!(matches!(refused, Err(AppendError::Full { .. })));
    assert_eq!(harness.outbox.live_bytes(), 0);
    harness.append(&batch[..5]).expect("room");
}

#[test]
fn without_maintenance_the_file_is_bounded_too() {
    let mut harness = Harness::new(options());
    let mut sequence = 0;
    loop {
        let done = Record::Done { sequence };
        match harness.append(&[large(sequence), done]) {
            Ok(()) => sequence += 1,
            Err(AppendError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(sequence < 100);
    }
    assert!(harness.outbox.file_bytes() < 2 * 4_000 + 500 + 100);
    assert!(harness.maintain().expect("no fault"));
    harness.append(&[large(sequence)]).expect("room again");
}

#[test]
fn a_compacted_file_is_no_longer_than_what_is_live() {
    let mut harness = Harness::new(options());
    for sequence in 0..5 {
        harness.append(&[large(sequence)]).expect("room");
    }
    for sequence in 0..3 {
        harness
            .append(&[sent(sequence, sequence as u16 + 1)])
            .expect("no message");
    }
    let records = [
        Record::Received { packet_id: id(1) },
        Record::Received { packet_id: id(2) },
        Record::Done { sequence: 3 },
        Record::Done { sequence: 4 },
        Record::Held { packet_id: id(1) },
    ];
    harness.append(&records).expect("no message");
    let live = harness.outbox.live_bytes();
    assert!(harness.maintain().expect("no fault"));
    assert_eq!(harness.outbox.live_bytes(), live);
    assert!(
        harness.outbox.file_bytes() <= live + 100,
        "{} for {live}",
        harness.outbox.file_bytes()
    );
    assert!(!harness.maintain().expect("nothing to do"));
    harness.crash(Crash::PowerLost);
}

#[test]
fn an_outbox_with_more_than_its_bound_opens_and_takes_no_more() {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    for sequence in 0..4 {
        outbox.append(&[large(sequence)]).expect("room");
    }
    let smaller = OutboxOptions {
        bytes_max: 1_000,
        ..options()
    };
    let (mut outbox, restored) =
        open_with(&disk.after(Crash::Process), smaller).expect("an outbox");
    assert_eq!(restored.unsent.len(), 4);
    let refused = outbox.append(&[large(4)]);
    assert!(matches!(refused, Err(AppendError::Full { room: 0, .. })));
    outbox
        .append(&[Record::Done { sequence: 0 }])
        .expect("no message");
}
