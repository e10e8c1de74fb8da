//! The offline tools, on sound stores and on deliberately damaged ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whimbrel_store::broker_core::{Batch, Journal};
use whimbrel_store::suite::{
    Told, batch, done, enqueued, enqueued_as, group, inbound_stored, message, retained_set,
    session, session_left_at, subscribed, window,
};
use whimbrel_store::tools::{self, Progress, ToolError};
use whimbrel_store::{OpenError, OpenOptions, RedbStore, Table};

/// A directory with some of everything.
fn store_with(messages: u64) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    let mut store = RedbStore::open(&path, OpenOptions::default()).expect("a new store");
    let taken_over = message(9000, "q/2", 50);
    let records = vec![
        group(10),
        session(1),
        session_left_at(2, Some(5)),
        session(3),
        subscribed(1, &["a/#", "$share/x/b"]),
        subscribed(2, &["ü/+"]),
        window(1, 3, &[1]),
        inbound_stored(1, 5, taken_over.clone()),
        enqueued_as(1, message(1, "a/b", 20_000), &[1, 2]),
        enqueued_as(2, taken_over, &[2]),
        window(2, 3, &[1]),
        done(2, &[2]),
    ];
    store.commit(&batch(records)).expect("room");
    let queued = (10..10 + messages).map(|place| enqueued(place, &[3 - place % 2, 10]));
    store.commit(&batch(queued.collect())).expect("room");
    let retained = (0..messages / 10).map(|place| retained_set(place, &format!("r/{place}")));
    store
        .commit(&Batch {
            records: Vec::new(),
            retained: retained.collect(),
        })
        .expect("room");
    (directory, path)
}

fn silent(_: Progress) {}

fn told(path: &Path) -> Told {
    let mut store = RedbStore::open(path, OpenOptions::default()).expect("a store");
    Told::by(&mut store).expect("undamaged").0
}

fn database(path: &Path) -> PathBuf {
    path.join("whimbrel.redb")
}

fn exported(path: &Path) -> String {
    let mut out = Vec::new();
    tools::export(path, &mut out, &mut silent).expect("a sound store");
    String::from_utf8(out).expect("JSON")
}

#[test]
fn check_counts_the_rows_of_a_sound_store_and_changes_nothing() {
    let (_directory, path) = store_with(500);
    let before = fs::read(database(&path)).expect("a file");
    let mut last = Progress::default();
    let report = tools::check(&path, &mut |progress| last = progress).expect("a store");
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!((report.format, report.incarnation), (Some(1), Some(1)));
    let rows = [
        (Table::Meta, 2),
        (Table::Groups, 1),
        (Table::Sessions, 3),
        (Table::Subscriptions, 3),
        (Table::Windows, 2),
        (Table::Inbound, 1),
        (Table::Known, 1),
        (Table::Messages, 501),
        (Table::Retained, 50),
    ];
    assert_eq!(report.rows, BTreeMap::from(rows));
    assert_eq!((last.done, last.total), (564, Some(564)));
    assert_eq!(fs::read(database(&path)).expect("a file"), before);
}

#[test]
fn stats_name_the_longest_queues() {
    let (_directory, path) = store_with(500);
    let stats = tools::stats(&path, &mut silent).expect("a sound store");
    assert_eq!((stats.format, stats.incarnation), (1, 1));
    assert_eq!(stats.sessions_connected, 2);
    assert_eq!(stats.wills, 1);
    assert_eq!(stats.tables[&Table::Messages].rows, 501);
    let queues: Vec<(&str, u64)> = stats
        .longest_queues
        .iter()
        .map(|queue| (&*queue.name, queue.messages))
        .collect();
    let expected = [
        ("$share/share-10/a/#", 500),
        ("client-2", 251),
        ("client-3", 250),
        ("client-1", 1),
    ];
    assert_eq!(queues, expected);
}

#[test]
fn what_was_exported_and_imported_exports_the_same() {
    let (directory, path) = store_with(300);
    let first = exported(&path);
    let copy = directory.path().join("copy");
    let report = tools::import(&copy, &mut first.as_bytes(), &mut silent).expect("lines");
    assert_eq!(report.lines, first.lines().count() as u64);
    assert_eq!(exported(&copy), first);
    assert_eq!(told(&copy), told(&path));
    // Starts go on counting, so that identities are not given twice.
    let store = RedbStore::open(&copy, OpenOptions::default()).expect("a store");
    assert_eq!(store.incarnation(), 3);
}

#[test]
fn an_export_is_lines_of_json_with_payloads_in_base64() {
    let (_directory, path) = store_with(10);
    let text = exported(&path);
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some(r#"{"type":"store","format":1,"incarnation":1}"#)
    );
    assert_eq!(
        lines.next(),
        Some(r##"{"type":"group","queue":10,"share":"share-10","filter":"a/#"}"##)
    );
    let retained = text.lines().last().expect("lines");
    assert_eq!(
        retained,
        r#"{"type":"retained","message":{"id":{"node":0,"incarnation":1,"sequence":0},"topic":"r/0","qos":2,"retain":false,"expires_at_millis":0,"properties":[{"content_type":"text/plain"},{"user_property":["n","0"]}],"payload":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#
    );
}

#[test]
fn a_directory_that_has_a_store_is_not_imported_into() {
    let (_directory, path) = store_with(10);
    let text = exported(&path);
    let refused = tools::import(&path, &mut text.as_bytes(), &mut silent);
    assert!(matches!(refused, Err(ToolError::NotEmpty { .. })));
}

#[test]
fn a_line_that_can_not_be_is_named_and_nothing_is_imported() {
    let (directory, path) = store_with(10);
    let text = exported(&path);
    let bad = [
        (text.replace(r#""cursor":3"#, r#""cursor":0"#), 9),
        (text.replace(r#""topic":"q/2""#, r##""topic":"q/#""##), 11),
        (text.replace("\"type\":\"group\"", "\"type\":\"what\""), 2),
        (text.replace(r#""format":1"#, r#""format":2"#), 1),
        (
            text.replace(
                r#""type":"session","queue":1,"#,
                r#""type":"session","queue":7,"#,
            ),
            6,
        ),
        (text.lines().skip(1).collect(), 1),
    ];
    for (number, (bad, line)) in bad.into_iter().enumerate() {
        let into = directory.path().join(number.to_string());
        let refused = tools::import(&into, &mut bad.as_bytes(), &mut silent);
        assert!(
            matches!(&refused, Err(ToolError::Line { line: at, .. }) if *at == line),
            "{number}: {refused:?}"
        );
        assert!(!database(&into).exists());
    }
}

#[test]
fn a_store_in_use_is_refused() {
    let (_directory, path) = store_with(10);
    let _store = RedbStore::open(&path, OpenOptions::default()).expect("a store");
    let refused = tools::check(&path, &mut silent);
    let locked = ToolError::Open(OpenError::Locked {
        path: database(&path),
    });
    assert_eq!(refused.expect_err("in use").to_string(), locked.to_string());
}

#[test]
fn salvage_of_a_sound_store_is_a_copy() {
    let (directory, path) = store_with(300);
    let into = directory.path().join("salvaged");
    let report = tools::salvage(&path, &into, &mut silent).expect("a store");
    assert!(report.left_out.is_empty());
    assert_eq!(exported(&into), exported(&path));
    assert_eq!(told(&into), told(&path));
}

/// Whatever byte is changed: check and a start agree, salvage keeps what can be kept and touches nothing, and what it
/// wrote is sound and tells nothing that was not there.
#[test]
fn any_flipped_byte_is_found_or_does_no_harm() {
    let (directory, path) = store_with(200);
    let sound = fs::read(database(&path)).expect("a file");
    let before = told(&path);
    fs::write(database(&path), &sound).expect("room");
    let mut damaged = 0;
    // A prime, so that all parts of pages are hit.
    for (number, at) in (0..sound.len()).step_by(4801).enumerate() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x41;
        damaged += u32::from(is_found(&directory, &path, &bytes, &before, number, 0));
    }
    assert!(damaged >= 8, "{damaged}");
}

#[test]
fn a_cut_file_is_found() {
    let (directory, path) = store_with(200);
    let sound = fs::read(database(&path)).expect("a file");
    let before = told(&path);
    let mut damaged = 0;
    for (number, kept) in (0..sound.len()).step_by(30_011).enumerate() {
        let bytes = &sound[..kept];
        damaged += u32::from(is_found(&directory, &path, bytes, &before, number, kept));
    }
    assert!(damaged > 5, "{damaged}");
}

fn is_found(
    directory: &TempDir,
    path: &Path,
    bytes: &[u8],
    before: &Told,
    number: usize,
    context: usize,
) -> bool {
    fs::write(database(path), bytes).expect("room");
    let report = tools::check(path, &mut silent);
    let into = directory.path().join(format!("salvaged-{number}"));
    let salvaged = tools::salvage(path, &into, &mut silent);
    assert_eq!(fs::read(database(path)).expect("a file"), bytes);
    let is_sound = report.is_ok_and(|report| report.is_sound());
    if let Ok(report) = salvaged {
        let check = tools::check(&into, &mut silent).expect("a store");
        assert!(check.is_sound(), "{number} {context}: {:?}", check.damage);
        assert_eq!(is_sound, report.left_out.is_empty(), "{number} {context}");
        let kept = told(&into);
        for (position, (message, _)) in &kept.owed {
            assert_eq!(
                before.owed.get(position).map(|(message, _)| message),
                Some(message)
            );
        }
        for (topic, message) in &kept.retained {
            assert_eq!(before.retained.get(topic), Some(message));
        }
    } else {
        assert!(!is_sound);
        assert!(!database(&into).exists());
    }
    let opened = RedbStore::open(path, OpenOptions::default());
    let told = opened.ok().and_then(|mut store| Told::by(&mut store).ok());
    assert_eq!(told.is_some(), is_sound, "{number} {context}");
    if let Some((told, _)) = told {
        let difference = told.difference(before);
        assert!(difference.is_empty(), "{number} {context}: {difference}");
    }
    !is_sound
}

#[test]
fn of_a_damaged_page_the_other_pages_are_salvaged() {
    let (directory, path) = store_with(2000);
    let mut bytes = fs::read(database(&path)).expect("a file");
    let before = told(&path);
    // A payload in the middle of the file.
    let needle = message(1000, "a/b", 32);
    let needle = needle.as_image();
    let at = bytes.windows(needle.len()).position(|part| part == needle);
    bytes[at.expect("stored") + needle.len() - 1] ^= 1;
    fs::write(database(&path), &bytes).expect("room");
    let report = tools::check(&path, &mut silent).expect("readable");
    assert_eq!(report.damage.count, 2, "{:?}", report.damage);
    let rows: Vec<String> = report
        .damage
        .listed
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        rows[0].starts_with("the database can't be opened: "),
        "{rows:?}"
    );
    assert_eq!(
        rows[1],
        "table messages, key e803000000000000: the checksum does not hold"
    );
    let refused = RedbStore::open(&path, OpenOptions::default()).expect_err("damaged");
    assert!(
        refused.to_string().contains("whimbrel store salvage"),
        "{refused}"
    );
    let into = directory.path().join("salvaged");
    tools::salvage(&path, &into, &mut silent).expect("readable");
    let kept = told(&into);
    assert_eq!(kept.owed.len(), before.owed.len() - 1);
    assert_eq!(kept.sessions, before.sessions);
    assert_eq!(kept.retained, before.retained);
}
