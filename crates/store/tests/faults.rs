//! What the store does when the disk does not do what it should.

use std::fs;
use std::io::Write;
use std::path::Path;

use whimbrel_store::broker_core::{Batch, Journal, JournalError};
use whimbrel_store::suite::{
    Told, at, batch, done, enqueued, enqueued_as, message, queue, session,
};
use whimbrel_store::{
    Crash, DiskCall, DiskFault, Durability, MemoryDisk, OpenError, OpenOptions, RedbStore,
};

const MIB: u64 = 1024 * 1024;

fn open(disk: &MemoryDisk) -> Result<RedbStore, OpenError> {
    RedbStore::on_backend(disk.storage(), disk.room(), OpenOptions::default())
}

fn opened(disk: &MemoryDisk) -> RedbStore {
    let mut store = open(disk).expect("a store");
    Told::by(&mut store).expect("undamaged");
    store
}

fn places(disk: &MemoryDisk) -> Vec<u64> {
    let (told, _) = Told::by(&mut open(disk).expect("a store")).expect("undamaged");
    told.owed.keys().map(|place| place.get()).collect()
}

#[test]
fn a_failed_sync_is_the_end_and_is_not_tried_again() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk);
    store.commit(&batch(vec![session(1)])).expect("room");
    disk.fail(DiskCall::Sync, 0, 1, DiskFault::Broken);
    let before = disk.syncs();
    let failed = store.commit(&batch(vec![enqueued(1, &[1])]));
    assert!(matches!(failed, Err(JournalError::Failed(_))));
    // The disk would answer well from now on.
    for _ in 0..3 {
        assert!(store.commit(&batch(vec![enqueued(2, &[1])])).is_err());
        assert!(store.read(queue(1), &[at(1)]).is_err());
        assert!(store.maintain().is_err());
        assert!(store.replay(&mut |_| Ok(())).is_err());
    }
    drop(store);
    assert_eq!(disk.syncs(), before + 1);
    disk.crash(Crash::Power, &mut || 0);
    assert_eq!(places(&disk), [0; 0]);
}

/// Some file systems find out late that there is no room: what is on the disk is not known then.
#[test]
fn no_room_that_a_sync_reports_is_the_end_too() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk);
    disk.fail(DiskCall::Sync, 0, 1, DiskFault::Full);
    let failed = store.commit(&batch(vec![session(1)]));
    assert!(matches!(failed, Err(JournalError::Failed(_))));
    assert!(store.commit(&batch(vec![session(1)])).is_err());
}

#[test]
fn a_broken_write_is_the_end() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk);
    disk.fail(DiskCall::Write, 0, 1, DiskFault::Broken);
    let failed = store.commit(&batch(vec![session(1)]));
    assert!(matches!(failed, Err(JournalError::Failed(_))));
    assert!(store.commit(&batch(vec![session(1)])).is_err());
}

#[test]
fn a_batch_that_found_no_room_can_be_tried_again_at_any_write() {
    for after in 0..30 {
        let disk = MemoryDisk::new();
        let mut store = opened(&disk);
        let first = vec![
            session(1),
            session(2),
            enqueued(1, &[1, 2]),
            enqueued(2, &[1]),
        ];
        store.commit(&batch(first)).expect("room");
        disk.fail(DiskCall::Write, after, 1, DiskFault::Full);
        let second = batch(vec![
            enqueued_as(3, message(3, "a", 30_000), &[1, 2]),
            done(1, &[1, 2]),
        ]);
        for batch in [second, batch(vec![done(2, &[1])])] {
            while let Err(error) = store.commit(&batch) {
                assert!(matches!(error, JournalError::Full), "{error}");
                assert!(store.is_full());
            }
        }
        assert!(store.read(queue(2), &[at(1)]).is_err(), "{after}");
        assert!(store.read(queue(2), &[at(3)]).is_ok(), "{after}");
        drop(store);
        assert_eq!(places(&disk), [3], "{after}");
    }
}

#[test]
fn a_disk_that_fills_is_full_before_a_commit_fails_and_has_room_again_after() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(20 * MIB));
    let mut options = OpenOptions::default();
    options.full_below_bytes = 2 * MIB;
    options.room_again_bytes = 4 * MIB;
    let mut store = RedbStore::on_backend(disk.storage(), disk.room(), options).expect("new");
    store.commit(&batch(vec![session(1)])).expect("room");
    assert!(!store.is_full());
    let mut place = 0;
    while !store.is_full() {
        place += 1;
        let large = enqueued_as(place, message(place, "a", 200_000), &[1]);
        store.commit(&batch(vec![large])).expect("room");
    }
    let free = disk.room().free_bytes().expect("bounded");
    assert!((MIB..2 * MIB).contains(&free), "{free}");
    // Between the two bounds nothing changes.
    disk.set_capacity(Some(22 * MIB));
    assert!(store.is_full());
    disk.set_capacity(Some(24 * MIB));
    assert!(!store.is_full());
    disk.set_capacity(Some(22 * MIB));
    assert!(!store.is_full());
}

#[test]
fn acknowledgements_go_on_from_the_reserve() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(100 * MIB));
    let mut store = opened(&disk);
    let queued = (1..400).map(|place| enqueued(place, &[1]));
    store
        .commit(&batch([session(1)].into_iter().chain(queued).collect()))
        .expect("room");
    // Somebody else took all the room but what is set aside.
    let free = disk.room().free_bytes().expect("bounded");
    disk.set_capacity(Some(100 * MIB - free));
    let large = batch(vec![enqueued_as(5000, message(1, "a", 10_000_000), &[1])]);
    for _ in 0..2 {
        assert!(matches!(store.commit(&large), Err(JournalError::Full)));
    }
    for place in 1..400 {
        store
            .commit(&batch(vec![done(1, &[place])]))
            .expect("the reserve's room");
    }
    assert!(store.is_full());
    drop(store);
    assert_eq!(places(&disk), [0; 0]);
}

#[test]
fn a_store_opens_on_a_full_disk() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(100 * MIB));
    let mut store = opened(&disk);
    store
        .commit(&batch(vec![session(1), enqueued(1, &[1])]))
        .expect("room");
    drop(store);
    let free = disk.room().free_bytes().expect("bounded");
    disk.set_capacity(Some(100 * MIB - free));
    assert_eq!(places(&disk), [1]);
    // Without a reserve there is nothing to be given up.
    disk.room().give_up_reserve();
    disk.set_capacity(Some(0));
    disk.fail(DiskCall::Write, 0, u64::MAX, DiskFault::Full);
    assert!(matches!(open(&disk), Err(OpenError::Full)));
    disk.mend();
    disk.set_capacity(None);
    assert_eq!(places(&disk), [1]);
}

#[test]
fn without_syncs_everything_is_written_when_a_commit_answers() {
    let disk = MemoryDisk::new();
    let mut options = OpenOptions::default();
    options.durability = Durability::Os;
    let mut store = RedbStore::on_backend(disk.storage(), disk.room(), options).expect("new");
    for place in 1..50 {
        let records = vec![session(1), enqueued(place, &[1])];
        store.commit(&batch(records)).expect("room");
        let copy = MemoryDisk::with_image(disk.image());
        assert_eq!(places(&copy).len() as u64, place);
    }
    assert_eq!(store.figures().syncs, 0);
}

#[test]
fn a_batch_that_was_refused_is_in_no_later_commit() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk);
    store.commit(&batch(vec![session(1)])).expect("room");
    disk.fail(DiskCall::Write, 0, 1, DiskFault::Full);
    let refused = store.commit(&batch(vec![enqueued(1, &[1])]));
    assert!(matches!(refused, Err(JournalError::Full)));
    store.commit(&batch(vec![enqueued(2, &[1])])).expect("room");
    drop(store);
    assert_eq!(places(&disk), [2]);
}

fn new_store(path: &Path) {
    let mut store = RedbStore::open(path, OpenOptions::default()).expect("a new store");
    let first = Batch {
        records: vec![session(1)],
        retained: Vec::new(),
    };
    store.commit(&first).expect("room");
}

fn refused(path: &Path) -> String {
    let refused = RedbStore::open(path, OpenOptions::default());
    refused.expect_err("it is no store").to_string()
}

#[test]
fn a_file_of_somebody_else_is_no_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("whimbrel.redb");
    let mut file = fs::File::create(&path).expect("room");
    file.write_all(&[b'x'; 8192]).expect("room");
    let text = refused(directory.path());
    assert!(text.contains("is not a store"), "{text}");
    assert_eq!(fs::read(&path).expect("a file"), [b'x'; 8192]);
}

#[test]
fn a_database_of_another_program_is_no_store_and_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("whimbrel.redb");
    let other = redb::TableDefinition::<u64, u64>::new("other");
    let database = redb::Database::create(&path).expect("a database");
    let transaction = database.begin_write().expect("room");
    transaction
        .open_table(other)
        .expect("a table")
        .insert(1, 2)
        .expect("room");
    transaction.commit().expect("room");
    drop(database);
    let text = refused(directory.path());
    assert!(text.contains("a database of another program"), "{text}");
    let database = redb::Database::open(&path).expect("a database");
    let transaction = database.begin_write().expect("room");
    assert_eq!(transaction.list_tables().expect("tables").count(), 1);
}

#[test]
fn an_empty_file_is_damage_and_names_what_helps() {
    let directory = tempfile::tempdir().expect("a directory");
    new_store(directory.path());
    fs::File::create(directory.path().join("whimbrel.redb")).expect("room");
    let text = refused(directory.path());
    for word in ["damaged", "whimbrel store check", "whimbrel store salvage"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_store_that_was_not_finished_is_begun_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("whimbrel.redb.new"), b"half").expect("room");
    new_store(directory.path());
    assert!(!directory.path().join("whimbrel.redb.new").exists());
    let store = RedbStore::open(directory.path(), OpenOptions::default()).expect("a store");
    assert_eq!(store.incarnation(), 2);
}

#[test]
fn a_new_directory_has_a_reserve() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("deep").join("data");
    new_store(&path);
    let reserve = fs::metadata(path.join("reserve")).expect("room for a reserve");
    assert_eq!(reserve.len(), 8 * MIB);
}

#[test]
fn a_directory_that_is_a_file_can_not_be_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    fs::write(&path, b"file").expect("room");
    let opened = RedbStore::open(&path, OpenOptions::default());
    assert!(matches!(opened, Err(OpenError::Io { .. })), "{opened:?}");
}

#[test]
fn a_store_that_opens_between_the_bounds_is_not_full() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(48 * MIB));
    let mut store = opened(&disk);
    assert!(!store.is_full());
    drop(store);
    disk.set_capacity(Some(24 * MIB));
    assert!(opened(&disk).is_full());
}

#[test]
fn the_reserve_is_made_anew_when_there_is_room() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk);
    store.commit(&batch(vec![session(1)])).expect("room");
    disk.fail(DiskCall::Write, 0, 1, DiskFault::Full);
    store.commit(&batch(vec![session(2)])).expect_err("full");
    assert!(!disk.room().give_up_reserve(), "it was given up");
    store.commit(&batch(vec![session(2)])).expect("room");
    assert!(!store.is_full());
    assert!(disk.room().give_up_reserve(), "it was made anew");
}
