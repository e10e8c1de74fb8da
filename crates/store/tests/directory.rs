//! A store in a directory: what one process wrote, the next one reads.

use whimbrel_broker_core::session::codec::topic::TopicName;
use whimbrel_broker_core::session::codec::{ProtocolVersion, PublishProperties, QoS};
use whimbrel_broker_core::{
    Batch, Form, Holder, Holders, Journal, Message, MessageParts, MsgId, Position, QueueId, Record,
    Replayed, RetainedChange, SessionRecord, UnixMillis,
};
use whimbrel_store::{OpenError, OpenOptions, RedbStore};

fn queue(number: u64) -> QueueId {
    QueueId::new(number).expect("not 0")
}

fn at(number: u64) -> Position {
    Position::new(number).expect("not 0")
}

fn message(sequence: u64) -> Message {
    Message::new(&MessageParts {
        id: MsgId {
            node: 0,
            incarnation: 1,
            sequence,
        },
        topic: TopicName::new("a/b").expect("valid"),
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: UnixMillis::NEVER,
        properties: PublishProperties::EMPTY,
        payload: &[7; 64],
    })
}

fn session(number: u64) -> Record {
    Record::Session(Box::new(SessionRecord {
        session: queue(number),
        client_id: "client".into(),
        version: ProtocolVersion::V5,
        expiry_secs: 60,
        disconnected_at: None,
        will: None,
    }))
}

fn enqueued(position: u64, queues: &[u64]) -> Record {
    let holders: Vec<Holder> = queues
        .iter()
        .map(|&number| Holder {
            queue: queue(number),
            form: Form::new(QoS::AtLeastOnce, false, &[]),
        })
        .collect();
    Record::Enqueued {
        position: at(position),
        message: message(position),
        holders: Holders::of(&holders),
    }
}

fn done(number: u64, position: u64) -> Record {
    Record::Done {
        queue: queue(number),
        positions: [at(position)].into(),
    }
}

fn batch(records: Vec<Record>) -> Batch {
    Batch {
        records,
        retained: Vec::new(),
    }
}

fn positions(store: &mut RedbStore) -> Vec<u64> {
    let mut positions = Vec::new();
    store
        .replay(&mut |replayed| {
            if let Replayed::Message { position, .. } = replayed {
                positions.push(position.get());
            }
            Ok(())
        })
        .expect("undamaged");
    positions
}

#[test]
fn what_was_committed_is_there_after_a_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    let mut store = RedbStore::open(&path, OpenOptions::default()).expect("a new store");
    assert_eq!(store.incarnation(), 1);
    let records = vec![
        session(1),
        session(2),
        enqueued(64, &[1, 2]),
        enqueued(128, &[1]),
    ];
    let mut first = batch(records);
    first.retained.push(RetainedChange::Set(message(9)));
    store.commit(&first).expect("room");
    store.commit(&batch(vec![done(1, 64)])).expect("room");
    drop(store);

    let mut store = RedbStore::open(&path, OpenOptions::default()).expect("a store");
    assert_eq!(store.incarnation(), 2);
    assert_eq!(positions(&mut store), [64, 128]);
    let read = store.read(queue(2), &[at(64)]).expect("held");
    assert_eq!(read.len(), 1);
    assert_eq!(
        read.first().map(|read| read.message.clone()),
        Some(message(64))
    );
    store
        .commit(&batch(vec![done(2, 64), done(1, 64), done(1, 128)]))
        .expect("room");
    drop(store);

    let mut store = RedbStore::open(&path, OpenOptions::default()).expect("a store");
    assert!(positions(&mut store).is_empty());
}

/// redb makes one more when the file grows, which it does by doubling.
#[test]
fn a_commit_is_one_sync() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = RedbStore::open(directory.path(), OpenOptions::default()).expect("new");
    positions(&mut store);
    let before = store.figures().syncs;
    for position in 1..=100 {
        let records = vec![session(1), enqueued(position, &[1])];
        store.commit(&batch(records)).expect("room");
    }
    let syncs = store.figures().syncs - before;
    assert!((100..=103).contains(&syncs), "{syncs}");
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let _store = RedbStore::open(directory.path(), OpenOptions::default()).expect("new");
    let second = RedbStore::open(directory.path(), OpenOptions::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
}
