//! One behaviour of a journal each.

use whimbrel_broker_core::{Batch, Journal, JournalError, Maintenance, Record};

use super::{
    Fixture, Told, at, batch, done, enqueued, enqueued_as, form, group, group_ended, id,
    inbound_released, inbound_stored, message, queue, retained_deleted, retained_set, session,
    session_ended, session_left_at, subscribed, unsubscribed, window,
};

/// Opens the journal and commits these batches.
fn commit_all(fixture: &mut dyn Fixture, batches: Vec<Vec<Record>>) -> Box<dyn Journal> {
    let mut journal = fixture.open();
    told(&mut *journal);
    for records in batches {
        journal.commit(&batch(records)).expect("a commit");
    }
    journal
}

/// What the journal tells when it is opened.
fn reopened(fixture: &mut dyn Fixture) -> Told {
    told(&mut *fixture.open())
}

fn told(journal: &mut dyn Journal) -> Told {
    Told::by(journal).expect("undamaged").0
}

fn positions(told: &Told) -> Vec<u64> {
    told.owed.keys().map(|position| position.get()).collect()
}

fn maintain_all(journal: &mut dyn Journal) -> u32 {
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 10_000, "there is no end to it");
        if journal.maintain().expect("a step") == Maintenance::Done {
            return steps;
        }
    }
}

/// Nothing is told, twice.
pub fn a_new_journal_is_empty(fixture: &mut dyn Fixture) {
    assert_eq!(reopened(fixture), Told::default());
    assert_eq!(reopened(fixture), Told::default());
}

/// Records of every kind.
pub fn every_record_is_told_again(fixture: &mut dyn Fixture) {
    let taken_over = message(900, "q/2", 10);
    let mut journal = commit_all(
        fixture,
        vec![vec![
            group(10),
            session(1),
            session(2),
            subscribed(1, &["a/#", "$share/x/b", "c"]),
            subscribed(2, &["a/+"]),
            unsubscribed(1, &["c", "never"]),
            enqueued(64, &[1, 2]),
            enqueued(65, &[10]),
            enqueued(128, &[2]),
            window(1, 64, &[]),
            inbound_stored(1, 5, taken_over.clone()),
            session_left_at(2, Some(77)),
            Record::Retained,
        ]],
    );
    let retained = Batch {
        records: Vec::new(),
        retained: vec![retained_set(901, "r/1")],
    };
    journal.commit(&retained).expect("a commit");
    drop(journal);
    let told = reopened(fixture);
    assert_eq!(told.groups.len(), 1);
    assert_eq!(told.sessions.len(), 2);
    assert_eq!(
        told.sessions[&queue(2)].disconnected_at.map(|at| at.0),
        Some(77)
    );
    assert!(told.sessions[&queue(2)].will.is_some());
    let filters: Vec<&str> = told
        .subscriptions
        .keys()
        .map(|(_, filter)| &**filter)
        .collect();
    assert_eq!(filters, ["$share/x/b", "a/#", "a/+"]);
    assert_eq!(told.windows.len(), 1);
    assert_eq!(told.inbound[&id(900)], (queue(1), 5, taken_over));
    assert_eq!(positions(&told), [64, 65, 128]);
    let (both, holders) = &told.owed[&at(64)];
    assert_eq!(*both, message(64, "a/b", 32));
    assert_eq!(holders.len(), 2);
    assert!(
        holders
            .iter()
            .all(|holder| holder.form == form(holder.queue.get()))
    );
    assert_eq!(told.retained["r/1"], message(901, "r/1", 16));
}

/// Each opening has a number of its own, also without a commit.
pub fn a_start_is_counted(fixture: &mut dyn Fixture) {
    for start in 1..4 {
        let (_, replay) = Told::by(&mut *fixture.open()).expect("undamaged");
        assert_eq!(replay.incarnation, start);
    }
}

/// As after a commit of which the answer was lost.
pub fn a_batch_that_is_committed_twice_changes_nothing(fixture: &mut dyn Fixture) {
    let records = || {
        vec![
            session(1),
            session(2),
            subscribed(1, &["a"]),
            enqueued(64, &[1, 2]),
            enqueued(65, &[1]),
            inbound_stored(1, 5, message(900, "q/2", 10)),
        ]
    };
    drop(commit_all(fixture, vec![records()]));
    let once = reopened(fixture);
    drop(commit_all(fixture, vec![records()]));
    assert_eq!(reopened(fixture), once);
}

/// Subscriptions, window and queue go with a session; a group's queue goes with it.
pub fn what_ends_takes_everything_along(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![
                group(10),
                session(1),
                session(2),
                subscribed(1, &["a", "b"]),
                subscribed(2, &["a"]),
                window(1, 64, &[]),
                enqueued(64, &[1]),
                enqueued(65, &[10]),
                enqueued(66, &[1, 2]),
            ],
            vec![session_ended(1), group_ended(10)],
            // What came late for it is nobody's.
            vec![window(1, 70, &[]), subscribed(1, &["late"])],
        ],
    ));
    let told = reopened(fixture);
    assert_eq!(told.sessions.len(), 1);
    assert!(told.groups.is_empty() && told.windows.is_empty());
    assert_eq!(told.subscriptions.len(), 1);
    assert_eq!(positions(&told), [66]);
    assert_eq!(told.owed[&at(66)].1.len(), 1);
}

/// Also when a start is between the holders.
pub fn a_message_goes_with_its_last_holder(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![session(1), session(2), session(3), enqueued(64, &[1, 2, 3])],
            vec![window(1, 65, &[]), done(1, &[64])],
        ],
    ));
    let told = reopened(fixture);
    let left: Vec<u64> = told.owed[&at(64)]
        .1
        .iter()
        .map(|holder| holder.queue.get())
        .collect();
    assert_eq!(left, [2, 3]);
    drop(commit_all(
        fixture,
        vec![vec![window(2, 65, &[]), done(2, &[64])]],
    ));
    assert_eq!(positions(&reopened(fixture)), [64]);
    let mut journal = commit_all(fixture, vec![vec![window(3, 65, &[]), done(3, &[64])]]);
    let gone = journal.read(queue(3), &[at(64)]);
    assert!(matches!(gone, Err(JournalError::Damaged { .. })));
    drop(journal);
    assert!(reopened(fixture).owed.is_empty());
}

/// A queue that is no holder, and one that says it again, take no message from those that are.
pub fn done_by_others_changes_nothing(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![
                session(1),
                session(2),
                enqueued(64, &[1, 2]),
                enqueued(65, &[1]),
            ],
            vec![done(9, &[64, 65]), done(2, &[65, 66])],
            vec![done(1, &[64]), done(1, &[64]), done(1, &[64])],
        ],
    ));
    assert_eq!(positions(&reopened(fixture)), [64, 65]);
}

/// Whatever the order they were committed in: shards count on their own.
pub fn messages_are_told_by_ascending_position(fixture: &mut dyn Fixture) {
    let first = (1..50)
        .map(|place| enqueued(place * 64 + 1, &[1]))
        .collect();
    let second = (1..50)
        .map(|place| enqueued(place * 64, &[1]))
        .rev()
        .collect();
    drop(commit_all(fixture, vec![vec![session(1)], first, second]));
    let told = reopened(fixture);
    assert_eq!(told.owed.len(), 98);
}

/// As for a subscriber that is connected and quick.
pub fn a_message_that_comes_and_goes_in_one_batch_is_not_stored(fixture: &mut dyn Fixture) {
    let mut journal = commit_all(
        fixture,
        vec![vec![
            session(1),
            session(2),
            enqueued(64, &[1]),
            enqueued(65, &[1, 2]),
            enqueued(66, &[1, 2]),
            done(1, &[64, 65, 66]),
            done(2, &[65]),
            window(1, 67, &[]),
        ]],
    );
    for gone in [64, 65] {
        assert!(journal.read(queue(1), &[at(gone)]).is_err());
    }
    drop(journal);
    assert_eq!(positions(&reopened(fixture)), [66]);
}

/// In the order asked for, each with the queue's own form.
pub fn a_queue_reads_its_messages_back(fixture: &mut dyn Fixture) {
    let mut journal = commit_all(
        fixture,
        vec![
            vec![session(1), session(3)],
            (1..300).map(|place| enqueued(place, &[1, 3])).collect(),
        ],
    );
    let read = journal.read(queue(3), &[at(200), at(7), at(299)]);
    let read = read.expect("they are there");
    let places: Vec<u64> = read.iter().map(|stored| stored.position.get()).collect();
    assert_eq!(places, [200, 7, 299]);
    for stored in &read {
        assert_eq!(stored.form, form(3));
        assert_eq!(stored.message, message(stored.position.get(), "a/b", 32));
    }
    assert!(journal.read(queue(1), &[]).expect("nothing").is_empty());
}

/// It is damage: the shard knows what was committed.
pub fn a_message_that_is_not_there_can_not_be_read(fixture: &mut dyn Fixture) {
    let mut journal = commit_all(fixture, vec![vec![session(1), enqueued(64, &[1])]]);
    let read = journal.read(queue(1), &[at(65)]);
    assert!(matches!(read, Err(JournalError::Damaged { .. })));
}

/// It has no window that would say so.
pub fn a_group_that_is_done_is_no_holder_after_a_start(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![
                group(10),
                group(11),
                session(1),
                enqueued(64, &[10]),
                enqueued(65, &[10]),
                enqueued(66, &[10, 11, 1]),
            ],
            vec![done(10, &[65, 66])],
        ],
    ));
    let told = reopened(fixture);
    assert_eq!(positions(&told), [64, 66]);
    let left: Vec<u64> = told.owed[&at(66)]
        .1
        .iter()
        .map(|holder| holder.queue.get())
        .collect();
    assert_eq!(left, [11, 1]);
}

/// So that they do not get it again when a start routes it again.
pub fn an_unreleased_message_stays_known_to_who_had_it(fixture: &mut dyn Fixture) {
    let taken_over = message(900, "q/2", 10);
    drop(commit_all(
        fixture,
        vec![
            vec![
                group(10),
                session(1),
                session(2),
                inbound_stored(3, 5, taken_over.clone()),
                enqueued_as(64, taken_over.clone(), &[1]),
                enqueued_as(65, taken_over.clone(), &[10]),
            ],
            vec![
                window(1, 65, &[]),
                done(1, &[64]),
                done(10, &[65]),
                // One that comes and goes at once.
                enqueued_as(66, taken_over.clone(), &[2]),
                window(2, 67, &[]),
                done(2, &[66]),
            ],
        ],
    ));
    for _ in 0..2 {
        let told = reopened(fixture);
        let known: Vec<u64> = told.known[&id(900)]
            .iter()
            .map(|queue| queue.get())
            .collect();
        assert_eq!(known, [1, 2, 10]);
        assert!(told.owed.is_empty());
    }
}

/// With its release, all that was kept for its sake goes.
pub fn a_released_message_is_known_no_more(fixture: &mut dyn Fixture) {
    let (first, second) = (message(900, "q/2", 10), message(901, "q/2", 10));
    drop(commit_all(
        fixture,
        vec![
            vec![
                session(1),
                inbound_stored(1, 5, first.clone()),
                inbound_stored(1, 6, second.clone()),
                enqueued_as(64, first, &[1]),
                enqueued_as(65, second, &[1]),
            ],
            vec![window(1, 66, &[]), done(1, &[64, 65])],
            vec![inbound_released(1, 5, 900)],
        ],
    ));
    let told = reopened(fixture);
    let known: Vec<u64> = told.known.keys().map(|id| id.sequence).collect();
    assert_eq!(known, [901]);
    let taken_over: Vec<u64> = told.inbound.keys().map(|id| id.sequence).collect();
    assert_eq!(taken_over, [901]);
}

/// Both have packet identifier 0.
pub fn two_wills_of_one_session_are_both_kept(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![session(1), inbound_stored(1, 0, message(900, "w", 10))],
            vec![inbound_stored(1, 0, message(901, "w", 10))],
        ],
    ));
    assert_eq!(reopened(fixture).inbound.len(), 2);
    drop(commit_all(fixture, vec![vec![inbound_released(1, 0, 900)]]));
    let told = reopened(fixture);
    assert_eq!(
        told.inbound
            .keys()
            .map(|id| id.sequence)
            .collect::<Vec<_>>(),
        [901]
    );
}

/// The records of what a session is done with may be lost; what they leave is removed.
pub fn what_a_window_says_is_done_is_not_told(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![session(1), session(2)],
            (1..3000).map(|place| enqueued(place, &[1])).collect(),
            vec![enqueued(3000, &[1, 2]), enqueued(3001, &[2])],
            vec![window(1, 2999, &[5, 7])],
        ],
    ));
    let mut journal = fixture.open();
    assert_eq!(positions(&told(&mut *journal)), [5, 7, 2999, 3000, 3001]);
    assert!(maintain_all(&mut *journal) > 1);
    assert!(journal.read(queue(1), &[at(6)]).is_err());
    assert!(journal.read(queue(1), &[at(7)]).is_ok());
    drop(journal);
    assert_eq!(positions(&reopened(fixture)), [5, 7, 2999, 3000, 3001]);
}

/// What ended may still have rows: its numbers are not to be given again before these are gone.
pub fn the_highest_numbers_are_told_also_of_what_ended(fixture: &mut dyn Fixture) {
    let mut journal = commit_all(
        fixture,
        vec![
            vec![session(1), session(70), group(80), enqueued(640, &[70])],
            vec![enqueued(641, &[80]), session_ended(70), group_ended(80)],
        ],
    );
    journal
        .commit(&batch(vec![done(80, &[641])]))
        .expect("a commit");
    drop(journal);
    let told = reopened(fixture);
    assert!(told.owed.is_empty());
    assert_eq!(told.used, (Some(at(640)), Some(queue(70))));
}

/// A place that was in use by something nobody needs, and is given again all the same.
pub fn a_message_in_the_place_of_one_that_nobody_needs_is_kept(fixture: &mut dyn Fixture) {
    drop(commit_all(
        fixture,
        vec![
            vec![session(1), session(2)],
            (1..10).map(|place| enqueued(place, &[1])).collect(),
            vec![session_ended(1)],
        ],
    ));
    let mut journal = commit_all(fixture, vec![vec![enqueued(1, &[2]), enqueued(5, &[2])]]);
    maintain_all(&mut *journal);
    for (place, is_there) in [(1, true), (4, false), (5, true), (6, false), (9, false)] {
        assert_eq!(
            journal.read(queue(2), &[at(place)]).is_ok(),
            is_there,
            "{place}"
        );
    }
    drop(journal);
    assert_eq!(positions(&reopened(fixture)), [1, 5]);
}

/// While the broker runs, and commits go on.
pub fn ended_queues_are_swept_in_steps(fixture: &mut dyn Fixture) {
    let mut journal = commit_all(
        fixture,
        vec![
            vec![session(1), session(2), session(3)],
            (1..4000)
                .map(|place| enqueued(place, &[1 + place % 2]))
                .collect(),
            (4000..8000)
                .map(|place| enqueued(place, &[1, 2, 3]))
                .collect(),
            (4000..8000).map(|place| done(3, &[place])).collect(),
            vec![window(3, 8000, &[]), session_ended(1)],
        ],
    );
    assert_eq!(journal.maintain().expect("a step"), Maintenance::More);
    let late = vec![enqueued(8000, &[2]), done(2, &[1]), session_ended(2)];
    journal.commit(&batch(late)).expect("a commit");
    assert!(maintain_all(&mut *journal) > 5);
    for place in [1, 2, 3999, 4000, 7999, 8000] {
        for number in 1..4 {
            assert!(
                journal.read(queue(number), &[at(place)]).is_err(),
                "{place}"
            );
        }
    }
    drop(journal);
    let told = reopened(fixture);
    assert_eq!(told.sessions.len(), 1);
    assert!(told.owed.is_empty());
}

/// In the order of their log.
pub fn retained_messages_are_the_last_ones(fixture: &mut dyn Fixture) {
    let mut journal = commit_all(fixture, vec![]);
    for retained in [
        vec![
            retained_set(1, "a"),
            retained_set(2, "a"),
            retained_set(3, "b"),
        ],
        vec![
            retained_deleted("b"),
            retained_deleted("never"),
            retained_set(4, "c"),
        ],
        vec![retained_deleted("c"), retained_set(5, "c")],
    ] {
        let records = Vec::new();
        journal
            .commit(&Batch { records, retained })
            .expect("a commit");
    }
    drop(journal);
    let told = reopened(fixture);
    let retained: Vec<(&str, u64)> = told
        .retained
        .iter()
        .map(|(topic, message)| (&**topic, message.id().sequence))
        .collect();
    assert_eq!(retained, [("a", 2), ("c", 5)]);
}

/// Of many pages, and beside small ones.
pub fn large_messages_are_kept(fixture: &mut dyn Fixture) {
    let sizes = [0, 1, 4000, 5000, 70_000, 3_000_000];
    let records = sizes
        .iter()
        .zip(1..)
        .map(|(&size, place)| enqueued_as(place, message(place, "a/b", size), &[1]));
    drop(commit_all(
        fixture,
        vec![vec![session(1)], records.collect()],
    ));
    let told = reopened(fixture);
    for (&size, place) in sizes.iter().zip(1..) {
        assert_eq!(told.owed[&at(place)].0, message(place, "a/b", size));
    }
}

/// Commits and records are those of the caller.
pub fn figures_count(fixture: &mut dyn Fixture) {
    let journal = commit_all(
        fixture,
        vec![vec![session(1), enqueued(1, &[1])], vec![enqueued(2, &[1])]],
    );
    let figures = journal.figures();
    assert_eq!((figures.commits, figures.records), (2, 3));
    assert!(figures.bytes_stored > 0);
}
