//! On a real file system.

use std::fs;
use std::path::Path;

use whimbrel_session::codec::QoS;

use super::super::{Durability, Outbox, OutboxError, OutboxOptions, Record};
use super::{CLIENT_ID, accepted, message};

fn options() -> OutboxOptions {
    OutboxOptions {
        durability: Durability::Os,
        ..OutboxOptions::default()
    }
}

fn open(path: &Path) -> Result<Outbox, OutboxError> {
    Outbox::open(path, CLIENT_ID, options()).map(|(outbox, _)| outbox)
}

#[test]
fn a_second_client_is_refused_until_the_first_has_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut first = open(&path).expect("a new outbox");
    assert!(matches!(open(&path), Err(OutboxError::Locked { .. })));
    let salvaged = Outbox::salvage(&path, CLIENT_ID);
    assert!(matches!(salvaged, Err(OutboxError::Locked { .. })));
    // The lock does not stay behind with the old file.
    let filling = (0..100).flat_map(|sequence| {
        let large = message(sequence, QoS::AtLeastOnce, &[0; 4_000]);
        [Record::Accepted(large), Record::Done { sequence }]
    });
    first.append(&filling.collect::<Vec<_>>()).expect("room");
    assert!(first.maintain().expect("a disk that works"));
    assert!(matches!(open(&path), Err(OutboxError::Locked { .. })));
    drop(first);
    open(&path).expect("it is closed");
}

#[test]
fn compaction_leaves_one_file_with_what_is_live() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut outbox = open(&path).expect("a new outbox");
    outbox
        .append(&[accepted(0, QoS::ExactlyOnce)])
        .expect("room");
    for sequence in 1..100 {
        let large = message(sequence, QoS::AtLeastOnce, &[0; 4_000]);
        let records = [Record::Accepted(large), Record::Done { sequence }];
        outbox.append(&records).expect("room");
    }
    assert!(outbox.maintain().expect("a disk that works"));
    outbox
        .append(&[accepted(100, QoS::AtLeastOnce)])
        .expect("room");
    outbox.sync().expect("a disk that works");
    let bytes = fs::metadata(&path).expect("there").len();
    assert!(bytes == outbox.file_bytes() && bytes < 1_000, "{bytes}");
    drop(outbox);
    let (_, restored) = Outbox::open(&path, CLIENT_ID, options()).expect("an outbox");
    let unsent: Vec<_> = restored
        .unsent
        .iter()
        .map(|message| message.sequence)
        .collect();
    assert_eq!(unsent, [0, 100]);
    assert!(!directory.path().join("outbox.new").exists());
}

#[test]
fn a_damaged_file_is_salvaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut outbox = open(&path).expect("a new outbox");
    let begin = outbox.file_bytes() as usize;
    for sequence in 0..3 {
        outbox
            .append(&[accepted(sequence, QoS::AtLeastOnce)])
            .expect("room");
    }
    drop(outbox);
    let mut image = fs::read(&path).expect("there");
    image[begin + 30] ^= 1;
    fs::write(&path, &image).expect("room");
    assert!(matches!(open(&path), Err(OutboxError::Damaged { .. })));
    let salvaged = Outbox::salvage(&path, CLIENT_ID).expect("two are readable");
    assert_eq!(salvaged.messages, 2);
    open(&path).expect("an outbox");
    let copy = fs::read(directory.path().join("outbox.damaged")).expect("there");
    assert_eq!(copy, image);
}

#[test]
fn a_torn_tail_is_cut_off_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut outbox = open(&path).expect("a new outbox");
    outbox
        .append(&[accepted(0, QoS::AtLeastOnce)])
        .expect("room");
    let whole = outbox.file_bytes();
    drop(outbox);
    let mut image = fs::read(&path).expect("there");
    image.extend([7; 50]);
    fs::write(&path, image).expect("room");
    let (_, restored) = Outbox::open(&path, CLIENT_ID, options()).expect("a torn tail");
    assert_eq!(restored.torn_bytes, 50);
    assert_eq!(fs::metadata(&path).expect("there").len(), whole);
}

#[test]
fn a_directory_that_is_not_there_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("missing").join("outbox");
    let error = open(&path).expect_err("no directory");
    assert_eq!(
        error.to_string(),
        format!(
            "can't lock {}: make sure that the directory is there, that this user may write to it, and that the \
             disk has room",
            path.display()
        )
    );
}
