//! What is kept of a damaged file.

use proptest::prelude::*;
use whimbrel_session::codec::QoS;

use super::super::faulty::{Crash, Fault, FaultyDisk};
use super::super::salvage::{LeftOut, Salvaged, salvage_on};
use super::super::storage::beside;
use super::super::{OutboxError, Record};
use super::model::Model;
use super::{CLIENT_ID, accepted, open, path, sent};

/// Each record in a batch of its own, synced; where they begin, and the end.
fn outbox(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let mut bounds = vec![outbox.file_bytes() as usize];
    for record in records {
        outbox.append(std::slice::from_ref(record)).expect("room");
        outbox.sync().expect("no fault");
        bounds.push(outbox.file_bytes() as usize);
    }
    (disk.image(path()).expect("there"), bounds)
}

fn salvage(image: Vec<u8>) -> (FaultyDisk, Result<Salvaged, OutboxError>) {
    let disk = FaultyDisk::with_file(path(), image);
    let salvaged = salvage_on(&disk, path(), CLIENT_ID);
    (disk, salvaged)
}

fn unsent(disk: &FaultyDisk) -> Vec<u64> {
    let (_, restored) = open(disk).expect("a salvaged outbox");
    let unsent = restored.unsent.iter().map(|message| message.sequence);
    unsent.collect()
}

fn three_messages() -> (Vec<u8>, Vec<usize>) {
    outbox(&[0, 1, 2].map(|sequence| accepted(sequence, QoS::AtLeastOnce)))
}

#[test]
fn a_salvage_keeps_what_is_readable_and_says_what_it_left_out() {
    let (mut image, bounds) = three_messages();
    image[bounds[1] + 30] ^= 1;
    let (disk, salvaged) = salvage(image.clone());
    let salvaged = salvaged.expect("two are readable");
    let left_out = LeftOut {
        at: bounds[1] as u64,
        bytes: (bounds[2] - bounds[1]) as u64,
    };
    assert_eq!(salvaged.left_out, [left_out]);
    assert_eq!(salvaged.left_out_bytes, left_out.bytes);
    assert_eq!(salvaged.messages, 2);
    assert_eq!(salvaged.records_without_meaning, 0);
    let copy = salvaged.copy.expect("it was damaged");
    assert_eq!(copy, beside(path(), "damaged"));
    assert_eq!(disk.image(&copy), Some(image));
    assert_eq!(unsent(&disk.after(Crash::PowerLost)), [0, 2]);
}

#[test]
fn records_of_a_message_that_is_missing_mean_nothing() {
    let (mut image, bounds) = outbox(&[
        accepted(0, QoS::AtLeastOnce),
        accepted(1, QoS::AtLeastOnce),
        sent(0, 1),
        Record::Done { sequence: 0 },
    ]);
    image[bounds[0] + 30] ^= 1;
    let (disk, salvaged) = salvage(image);
    let salvaged = salvaged.expect("three are readable");
    assert_eq!(salvaged.records_without_meaning, 2);
    assert_eq!(unsent(&disk.after(Crash::PowerLost)), [1]);
}

#[test]
fn a_damaged_header_loses_no_message() {
    let (image, bounds) = three_messages();
    for at in [0, 12, bounds[0] - 1] {
        let mut changed = image.clone();
        changed[at] ^= 1;
        let (disk, salvaged) = salvage(changed);
        let salvaged = salvaged.expect("all are readable");
        assert_eq!(salvaged.left_out_bytes, bounds[0] as u64);
        assert_eq!(unsent(&disk.after(Crash::PowerLost)), [0, 1, 2]);
    }
}

#[test]
fn an_outbox_without_damage_is_left_as_it_is() {
    let (image, _) = three_messages();
    let (disk, salvaged) = salvage(image.clone());
    let salvaged = salvaged.expect("all are readable");
    assert_eq!((salvaged.messages, salvaged.copy), (3, None));
    assert_eq!(disk.image(path()), Some(image));
    assert_eq!(disk.names(), [path()]);
}

#[test]
fn an_earlier_copy_is_never_overwritten() {
    let (mut image, bounds) = three_messages();
    image[bounds[1] + 30] ^= 1;
    let (disk, salvaged) = salvage(image);
    salvaged.expect("two are readable");
    // A byte of the header.
    disk.flip(path(), 12);
    let again = salvage_on(&disk, path(), CLIENT_ID);
    assert!(
        matches!(again, Err(OutboxError::SalvagedBefore { .. })),
        "{again:?}"
    );
}

#[test]
fn a_file_without_one_readable_record_is_no_outbox() {
    let bytes = vec![7; 1_000];
    let (disk, salvaged) = salvage(bytes.clone());
    assert!(matches!(salvaged, Err(OutboxError::NotAnOutbox { .. })));
    assert_eq!(disk.image(path()), Some(bytes));
}

#[test]
fn the_outbox_of_another_client_id_is_not_salvaged() {
    let (image, _) = three_messages();
    let disk = FaultyDisk::with_file(path(), image);
    let salvaged = salvage_on(&disk, path(), "other");
    assert!(matches!(salvaged, Err(OutboxError::OtherClientId { .. })));
}

#[test]
fn a_salvage_that_is_interrupted_anywhere_leaves_the_damaged_file_or_the_salvaged_one() {
    let (mut image, bounds) = three_messages();
    image[bounds[1] + 30] ^= 1;
    let (disk, _) = salvage(image.clone());
    for at in 0..disk.operations() {
        for fault in [Fault::Error, Fault::Stop] {
            for crash in [Crash::Process, Crash::PowerLost, Crash::PowerLostKeeping(0)] {
                let disk = FaultyDisk::with_file(path(), image.clone());
                disk.fail(at, fault);
                let salvaged = salvage_on(&disk, path(), CLIENT_ID);
                let after = disk.after(crash);
                if after.image(path()) == Some(image.clone()) {
                    assert!(salvaged.is_err());
                } else {
                    assert_eq!(unsent(&after), [0, 2]);
                    let copy = after.image(&beside(path(), "damaged"));
                    assert_eq!(copy.as_ref(), Some(&image), "at {at}, {crash:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens to it, what is salvaged opens, with messages that were there.
    #[test]
    fn what_is_salvaged_opens(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 0..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (mut image, _) = outbox(&[
            accepted(0, QoS::ExactlyOnce),
            accepted(1, QoS::ExactlyOnce),
            sent(0, 1),
            Record::Held { packet_id: super::id(7) },
            Record::Received { packet_id: super::id(1) },
            sent(1, 2),
            accepted(2, QoS::AtLeastOnce),
            Record::Done { sequence: 0 },
            Record::SessionBegan,
            sent(1, 1),
        ]);
        for (place, change) in changes {
            let at = place.index(image.len());
            image[at] ^= change;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        let (disk, salvaged) = salvage(image);
        if salvaged.is_ok() {
            let (_, restored) = open(&disk).expect("a salvaged outbox");
            let model = Model::of(&restored);
            for message in model.open {
                let qos = message.qos;
                prop_assert_eq!(&message, &super::message(message.sequence, qos, b"payload"));
            }
        }
    }
}
