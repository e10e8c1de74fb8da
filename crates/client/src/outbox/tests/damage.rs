//! Files that are not as they were written.

use proptest::prelude::*;
use whimbrel_session::codec::QoS;

use super::super::faulty::{Crash, FaultyDisk};
use super::super::frame::{self, Header};
use super::super::record::Line;
use super::super::salvage::salvage_on;
use super::super::{Contradiction, Damage, Durability, OutboxError, OutboxOptions, Record};
use super::model::Model;
use super::{CLIENT_ID, accepted, id, open, open_with, options, path};

/// An outbox of three messages, each synced, and where its batches begin and the last one ends.
fn three_messages() -> (Vec<u8>, [u64; 4]) {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let mut bounds = [outbox.file_bytes(); 4];
    for sequence in 0..3 {
        outbox
            .append(&[accepted(sequence, QoS::AtLeastOnce)])
            .expect("room");
        outbox.sync().expect("no fault");
        bounds[sequence as usize + 1] = outbox.file_bytes();
    }
    (disk.image(path()).expect("there"), bounds)
}

fn unsent(image: Vec<u8>) -> Result<(Vec<u64>, u64), OutboxError> {
    let disk = FaultyDisk::with_file(path(), image);
    let (outbox, restored) = open(&disk)?;
    assert_eq!(
        disk.image(path()).map(|image| image.len() as u64),
        Some(outbox.file_bytes())
    );
    let unsent = restored.unsent.iter().map(|message| message.sequence);
    Ok((unsent.collect(), restored.torn_bytes))
}

#[test]
fn a_file_that_is_cut_anywhere_in_its_last_batch_loses_that() {
    let (image, [_, _, last, end]) = three_messages();
    for length in last..end {
        let told = unsent(image[..length as usize].to_vec()).expect("a torn tail");
        assert_eq!(told, (vec![0, 1], length - last));
    }
}

#[test]
fn a_last_batch_with_any_flipped_bit_is_dropped() {
    let (image, [_, _, last, end]) = three_messages();
    for bit in last * 8..end * 8 {
        let mut changed = image.clone();
        changed[bit as usize / 8] ^= 1 << (bit % 8);
        let told = unsent(changed).expect("a torn tail");
        assert_eq!(told, (vec![0, 1], end - last), "bit {bit}");
    }
}

#[test]
fn an_earlier_batch_with_any_flipped_bit_is_damage_and_says_where() {
    let (image, [_, begin, end, _]) = three_messages();
    for bit in begin * 8..end * 8 {
        let mut changed = image.clone();
        changed[bit as usize / 8] ^= 1 << (bit % 8);
        let error = unsent(changed.clone()).expect_err("damage");
        assert!(
            matches!(error, OutboxError::Damaged { at, damage: Damage::Checksum, .. } if at == begin),
            "bit {bit}: {error}"
        );
    }
}

#[test]
fn damage_says_what_to_do() {
    let (mut image, [_, begin, ..]) = three_messages();
    image[begin as usize + 25] ^= 1;
    let error = unsent(image).expect_err("damage");
    assert_eq!(
        error.to_string(),
        format!(
            "outbox is damaged at byte {begin}: bytes are not what was written, and valid records follow; \
             `Outbox::salvage` keeps what is readable, says what it left out, and leaves a copy of the damaged file"
        )
    );
}

#[test]
fn a_damaged_outbox_is_left_as_it_is() {
    let (mut image, [_, begin, ..]) = three_messages();
    image[begin as usize + 25] ^= 1;
    let disk = FaultyDisk::with_file(path(), image.clone());
    assert!(open(&disk).is_err());
    assert_eq!(disk.image(path()), Some(image));
    assert_eq!(disk.names(), [path()]);
}

#[test]
fn a_header_with_any_flipped_bit_is_an_error() {
    let (image, [begin, ..]) = three_messages();
    for bit in 0..begin * 8 {
        let mut changed = image.clone();
        changed[bit as usize / 8] ^= 1 << (bit % 8);
        assert!(unsent(changed).is_err(), "bit {bit}");
    }
}

#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    let (mut image, _) = three_messages();
    image.extend([0; 5_000]);
    let told = unsent(image).expect("a torn tail");
    assert_eq!(told, (vec![0, 1, 2], 5_000));
}

#[test]
fn of_batches_that_were_never_synced_those_before_a_torn_one_are_kept() {
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let mut begin = 0;
    for sequence in 0..3 {
        if sequence == 1 {
            begin = outbox.file_bytes() as usize;
        }
        outbox
            .append(&[accepted(sequence, QoS::AtLeastOnce)])
            .expect("room");
    }
    let mut image = disk.image(path()).expect("there");
    image[begin + 25] ^= 1;
    let (told, _) = unsent(image).expect("a torn tail");
    assert_eq!(told, [0]);
}

#[test]
fn without_syncs_a_bad_batch_before_others_is_damage() {
    let options = OutboxOptions {
        durability: Durability::Os,
        ..options()
    };
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open_with(&disk, options).expect("a new outbox");
    let begin = outbox.file_bytes() as usize;
    for sequence in 0..2 {
        outbox
            .append(&[accepted(sequence, QoS::AtLeastOnce)])
            .expect("room");
    }
    let mut image = disk.image(path()).expect("there");
    image[begin + 25] ^= 1;
    let opened = open_with(&FaultyDisk::with_file(path(), image), options);
    assert!(matches!(opened, Err(OutboxError::Damaged { .. })));
}

#[test]
fn a_payload_that_looks_like_an_outbox_is_no_record() {
    let (inner, _) = three_messages();
    let disk = FaultyDisk::default();
    let (mut outbox, _) = open(&disk).expect("a new outbox");
    let begin = outbox.file_bytes() as usize;
    let record = super::message(0, QoS::AtLeastOnce, &inner);
    outbox.append(&[Record::Accepted(record)]).expect("room");
    let mut image = disk.after(Crash::Process).image(path()).expect("there");
    image[begin + 25] ^= 1;
    let (told, _) = unsent(image).expect("a torn tail");
    assert!(told.is_empty());
}

/// A file whose checksums fit, whatever the records are.
fn forged(batches: &[Vec<u8>]) -> Vec<u8> {
    let header = Header {
        number: 7,
        client_id: CLIENT_ID.to_owned(),
    };
    let mut image = header.encode();
    for records in batches {
        let mut batch = Vec::new();
        frame::begin(&mut batch);
        batch.extend(records);
        let offset = image.len() as u64;
        frame::finish(&mut batch, offset, header.number, offset);
        image.extend(batch);
    }
    image
}

fn encoded(line: Line<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    line.encode(&mut bytes);
    bytes
}

#[test]
fn a_last_batch_whose_checksum_fits_is_never_a_torn_tail() {
    let message = encoded(accepted(0, QoS::AtLeastOnce).line());
    let unknown = encoded(Record::Done { sequence: 9 }.line());
    let at = forged(std::slice::from_ref(&message)).len() as u64 + frame::HEAD_BYTES as u64;
    for (last, expected) in [
        (unknown, Contradiction::MessageUnknown(9).into()),
        (vec![10, 0, 0], Damage::Record),
    ] {
        let opened = unsent(forged(&[message.clone(), last]));
        assert!(
            matches!(opened, Err(OutboxError::Damaged { at: found, damage, .. }) if found == at && damage == expected),
            "{opened:?}"
        );
    }
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let sequence = || prop_oneof![8 => 0..6_u64, 1 => Just(u64::MAX)];
    let packet_id = || prop_oneof![4 => 1..5_u16, 1 => 65_533..=u16::MAX].prop_map(id);
    let rank = || prop_oneof![6 => 0..9_u64, 1 => Just(u64::MAX)];
    let qos = prop_oneof![1 => Just(QoS::AtMostOnce), 4 => Just(QoS::AtLeastOnce), 8 => Just(QoS::ExactlyOnce)];
    prop_oneof![
        4 => (sequence(), qos).prop_map(|(sequence, qos)| encoded(accepted(sequence, qos).line())),
        4 => (sequence(), packet_id())
            .prop_map(|(sequence, packet_id)| encoded(Line::Sent { sequence, packet_id })),
        2 => packet_id().prop_map(|packet_id| encoded(Line::Received { packet_id })),
        1 => sequence().prop_map(|sequence| encoded(Line::Done { sequence })),
        1 => packet_id().prop_map(|packet_id| encoded(Line::Held { packet_id })),
        1 => packet_id().prop_map(|packet_id| encoded(Line::Released { packet_id })),
        1 => Just(encoded(Line::SessionBegan)),
        2 => (sequence(), packet_id(), rank())
            .prop_map(|(sequence, packet_id, rank)| encoded(Line::Taken { sequence, packet_id, rank })),
        1 => (sequence(), packet_id())
            .prop_map(|(sequence, packet_id)| encoded(Line::Next { sequence, packet_id })),
        1 => prop::collection::vec(any::<u8>(), 1..30),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_behind_a_header_give_an_error_or_a_session(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (image, [begin, ..]) = three_messages();
        let mut changed = image[..begin as usize].to_vec();
        changed.extend(bytes);
        let (told, _) = unsent(changed).expect("a torn tail: no checksum fits");
        prop_assert!(told.is_empty());
    }

    /// What opens is a session, and is the same when it was written anew; the rest is salvaged.
    #[test]
    fn any_records_give_an_error_or_a_session(
        batches in prop::collection::vec(prop::collection::vec(any_line(), 1..4), 0..8),
    ) {
        let batches: Vec<_> = batches.iter().map(|lines| lines.concat()).collect();
        let disk = FaultyDisk::with_file(path(), forged(&batches));
        if open(&disk).is_err() {
            salvage_on(&disk, path(), CLIENT_ID).expect("each batch is readable");
        }
        let (mut outbox, restored) = open(&disk).expect("it was salvaged");
        outbox.compact().expect("no fault");
        let (_, again) = open(&disk.after(Crash::PowerLost)).expect("an outbox");
        prop_assert_eq!(Model::of(&again), Model::of(&restored));
    }

    #[test]
    fn any_bytes_give_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(unsent(bytes).is_err());
    }

    /// Nothing that was synced is lost without an error, and what comes back is a session.
    #[test]
    fn changed_bytes_give_an_error_or_what_was_there(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (mut image, bounds) = three_messages();
        for (place, change) in changes {
            let at = place.index(image.len());
            image[at] ^= change;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        let length = image.len() as u64;
        let disk = FaultyDisk::with_file(path(), image);
        if let Ok((_, restored)) = open(&disk) {
            let _ = Model::of(&restored);
            let count = restored.unsent.len();
            prop_assert_eq!(length - bounds[count], restored.torn_bytes);
            for (sequence, told) in restored.unsent.iter().enumerate() {
                prop_assert_eq!(told, &super::message(sequence as u64, QoS::AtLeastOnce, b"payload"));
            }
        }
    }
}
