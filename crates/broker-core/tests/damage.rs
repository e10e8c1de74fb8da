//! What a journal tells may contradict itself, since it comes from a disk: that is damage, and never a panic.

mod support;

use support::{V5, name};
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{PacketId, PublishProperties, QoS};
use whimbrel_broker_core::session::{Stage, Tick};
use whimbrel_broker_core::{
    CoreConfig, ExchangeRecord, Form, GroupRecord, Holder, Index, JournalError, Message,
    MessageParts, MsgId, Now, Position, QueueId, Recovery, Replayed, SessionRecord, UnixMillis,
    WindowRecord,
};

fn queue(number: u64) -> QueueId {
    QueueId::new(number).expect("not 0")
}

fn at(number: u64) -> Position {
    Position::new(number).expect("not 0")
}

fn session(number: u64, client_id: &str) -> Replayed {
    Replayed::Session(SessionRecord {
        session: queue(number),
        client_id: ByteStr::from(client_id),
        version: V5,
        expiry_secs: 3_600,
        disconnected_at: None,
        will: None,
    })
}

fn group(number: u64) -> Replayed {
    Replayed::Group(GroupRecord {
        group: queue(number),
        share: ByteStr::from("g"),
        filter: ByteStr::from("t"),
    })
}

fn message(position: u64, queues: &[u64], qos: QoS) -> Replayed {
    let topic = name("t");
    let message = Message::new(&MessageParts {
        id: MsgId {
            node: 0,
            incarnation: 0,
            sequence: position,
        },
        topic: &topic,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: UnixMillis::NEVER,
        properties: PublishProperties::EMPTY,
        payload: b"x",
    });
    let holder = |&number: &u64| Holder {
        queue: queue(number),
        form: Form::new(qos, false, &[]),
    };
    Replayed::Message {
        position: at(position),
        message,
        holders: queues.iter().map(holder).collect(),
    }
}

fn window(session: u64, cursor: u64, stages: &[Stage]) -> Replayed {
    let exchange = |(index, &stage): (usize, &Stage)| ExchangeRecord {
        packet_id: PacketId::new(u16::try_from(index + 1).expect("few")).expect("not 0"),
        stage,
        position: None,
        group: None,
        form: Form::new(QoS::ExactlyOnce, false, &[]),
    };
    Replayed::Window(WindowRecord {
        session: queue(session),
        cursor: at(cursor),
        next_packet_id: PacketId::new(100).expect("not 0"),
        exchanges: stages.iter().enumerate().map(exchange).collect(),
    })
}

/// What a start makes of it; what it goes on with must be of use.
fn recover(told: Vec<Replayed>) -> Result<(), JournalError> {
    let mut config = CoreConfig::default();
    config.journal = true;
    config.limits.queue_window_messages = 1;
    let config = std::sync::Arc::new(config);
    let index = Index::new(0, &config.limits).journaled();
    let now = Now {
        tick: Tick(1_000),
        wall: UnixMillis(1_700_000_000_000),
    };
    let mut recovery = Recovery::new(&config, &index, now);
    for replayed in told {
        recovery.apply(replayed)?;
    }
    recovery.finish().map(drop)
}

#[track_caller]
fn is_damage(told: Vec<Replayed>) {
    let recovered = recover(told);
    assert!(
        matches!(recovered, Err(JournalError::Damaged { .. })),
        "{recovered:?}"
    );
}

#[test]
fn what_fits_is_taken() {
    let told = vec![
        group(64),
        session(128, "a"),
        window(128, 1, &[]),
        message(64, &[128], QoS::AtLeastOnce),
        message(128, &[128, 64], QoS::AtLeastOnce),
        message(192, &[128], QoS::AtLeastOnce),
    ];
    assert!(recover(told).is_ok());
}

#[test]
fn places_that_do_not_rise_are_damage() {
    for places in [[64, 64, 64], [192, 128, 64], [64, 192, 128]] {
        let mut told = vec![session(128, "a")];
        let messages = places.map(|place| message(place, &[128], QoS::AtLeastOnce));
        told.extend(messages);
        is_damage(told);
    }
}

#[test]
fn a_queue_that_holds_a_message_twice_is_damage() {
    let told = vec![
        session(128, "a"),
        message(64, &[128], QoS::AtLeastOnce),
        message(128, &[128, 128, 128], QoS::AtLeastOnce),
    ];
    is_damage(told);
}

#[test]
fn a_stored_message_of_qos_0_is_damage() {
    let told = vec![session(128, "a"), message(64, &[128], QoS::AtMostOnce)];
    is_damage(told);
}

#[test]
fn one_queue_of_two_owners_is_damage() {
    is_damage(vec![session(128, "a"), session(128, "b")]);
    is_damage(vec![group(128), group(128)]);
    is_damage(vec![group(128), session(128, "a")]);
}

#[test]
fn a_window_without_a_session_is_damage() {
    is_damage(vec![group(64), window(64, 1, &[])]);
    is_damage(vec![window(128, 1, &[])]);
    is_damage(vec![
        session(128, "a"),
        window(128, 1, &[]),
        window(128, 1, &[]),
    ]);
}

#[test]
fn a_rank_that_cannot_be_counted_on_from_is_damage() {
    let told = vec![
        session(128, "a"),
        window(
            128,
            1,
            &[Stage::AwaitPubComp { rank: u64::MAX }, Stage::AwaitPubRec],
        ),
    ];
    is_damage(told);
    let told = vec![
        session(128, "a"),
        window(
            128,
            1,
            &[
                Stage::AwaitPubComp { rank: u64::MAX - 1 },
                Stage::AwaitPubRec,
                Stage::AwaitPubRec,
            ],
        ),
    ];
    is_damage(told);
}

#[test]
fn numbers_that_leave_no_room_above_them_are_damage() {
    for number in [u64::MAX, u64::MAX - 64, 1 << 63, 1 << 62] {
        is_damage(vec![session(number, "a")]);
        is_damage(vec![group(number)]);
        is_damage(vec![
            session(128, "a"),
            message(number, &[128], QoS::AtLeastOnce),
        ]);
        is_damage(vec![
            session(128, "a"),
            message(64, &[128, number], QoS::AtLeastOnce),
        ]);
        is_damage(vec![session(128, "a"), window(128, number, &[])]);
        is_damage(vec![Replayed::Used {
            position: Some(at(number)),
            queue: None,
        }]);
        is_damage(vec![Replayed::Used {
            position: None,
            queue: Some(queue(number)),
        }]);
    }
}
