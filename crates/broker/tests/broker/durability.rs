//! The broker with a journal: what waits for it, and what happens when it fails.

use std::time::Duration;

use whimbrel_broker::codec::{
    Packet, ProtocolVersion, PublishProperties, QoS, ReasonCode, SubscriptionOptions,
};
use whimbrel_broker::core::{
    Form, Holder, MessageParts, MsgId, Position, QueueId, Record, Replayed, RetainedChange,
    SessionRecord, SubscriptionRecord, UnixMillis,
};
use whimbrel_broker::{Broker, Durability, Message, StartError, Stopped};

use crate::held_journal::{Hand, HeldJournal, INCARNATION, Mood};
use crate::support::{
    Client, builder, client_id_per_shard, config, connect, start, topic_name, until_stats, within,
};

/// A broker with a journal, a subscriber whose session outlives its connection, and a publisher; on different shards.
struct Scene {
    broker: Broker,
    hand: Hand,
    subscriber: Client,
    publisher: Client,
}

impl Scene {
    async fn new(durability: Durability) -> Self {
        let mut config = config();
        config.durability = durability;
        config.close_timeout = Duration::from_millis(50);
        let (journal, hand) = HeldJournal::new();
        let broker = start(builder().config(config).journal(journal)).await;
        let ids = client_id_per_shard();
        let mut subscriber = persistent(&broker, &ids[0]).await;
        subscriber.subscribe("kept", QoS::AtLeastOnce).await;
        let publisher = Client::connect(&broker, &ids[1]).await;
        Self {
            broker,
            hand,
            subscriber,
            publisher,
        }
    }

    /// Publishes what has to be kept, and does not wait for the answer.
    async fn send(&mut self, payload: &[u8]) {
        let publish = self.publisher.message("kept", payload);
        self.publisher.send(Packet::Publish(publish)).await;
    }

    async fn expect_puback(&mut self) {
        match self.publisher.receive().await {
            Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::Success),
            other => panic!("not a PUBACK: {other:?}"),
        }
    }

    /// Waits for one more commit to begin than have so far.
    async fn until_begun_after(&self, before: u64) {
        let begun = self.hand.until("a commit", |seen| seen.begun > before);
        begun.await;
    }
}

/// A client whose session outlives its connection.
async fn persistent(broker: &Broker, client_id: &str) -> Client {
    let mut connect = connect(client_id);
    connect.properties.session_expiry_secs = 100;
    let (client, _) = Client::connect_with(broker, connect).await;
    client
}

#[tokio::test]
async fn puback_waits_for_the_commit_of_what_a_persistent_session_is_to_have() {
    for durability in [Durability::Sync, Durability::Os] {
        let mut scene = Scene::new(durability).await;
        scene.hand.set(Mood::Holds);
        let before = scene.hand.seen().begun;
        scene.send(b"1").await;
        scene.until_begun_after(before).await;
        scene.publisher.expect_silence().await;
        scene.hand.set(Mood::Commits);
        scene.expect_puback().await;
        assert_eq!(scene.subscriber.expect_publish().await.payload(), b"1");
    }
}

#[tokio::test]
async fn connack_and_suback_of_a_persistent_session_wait_for_their_commit() {
    let Scene { broker, hand, .. } = Scene::new(Durability::Sync).await;
    hand.set(Mood::Holds);
    let before = hand.seen().begun;
    let connecting = tokio::spawn({
        let broker = broker.clone();
        async move { persistent(&broker, "late").await }
    });
    hand.until("a commit", |seen| seen.begun > before).await;
    assert!(!connecting.is_finished());
    hand.set(Mood::Commits);
    let mut late = within("CONNACK", connecting).await.expect("no panic");

    hand.set(Mood::Holds);
    let before = hand.seen().begun;
    let subscribing = tokio::spawn(async move { late.subscribe("a", QoS::AtMostOnce).await });
    hand.until("a commit", |seen| seen.begun > before).await;
    assert!(!subscribing.is_finished());
    hand.set(Mood::Commits);
    within("SUBACK", subscribing).await.expect("no panic");
}

#[tokio::test]
async fn what_no_persistent_session_is_to_have_waits_for_no_commit() {
    let Scene { broker, hand, .. } = Scene::new(Durability::Sync).await;
    hand.set(Mood::Holds);
    let mut client = Client::connect(&broker, "clean").await;
    client.subscribe("not kept", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    let reason = publisher.publish("not kept", b"1").await;
    assert_eq!(reason, ReasonCode::Success);
    assert_eq!(client.expect_publish().await.payload(), b"1");
    hand.set(Mood::Commits);
}

#[tokio::test]
async fn records_that_come_during_a_commit_are_committed_together() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set(Mood::Holds);
    let before = scene.hand.seen();
    scene.send(b"first").await;
    scene.until_begun_after(before.begun).await;
    for _ in 0..100 {
        scene.send(b"next").await;
    }
    scene.publisher.expect_silence().await;
    scene.hand.set(Mood::Commits);
    for _ in 0..101 {
        scene.expect_puback().await;
    }
    // The first, what gathered meanwhile, and what the other shard was still about to post.
    let commits = scene.hand.seen().committed - before.committed;
    assert!(commits < 20, "{commits} commits");
}

#[tokio::test]
async fn without_durability_one_batch_is_acknowledged_before_it_is_written_and_no_second() {
    let mut scene = Scene::new(Durability::None).await;
    scene.hand.set(Mood::Holds);
    let before = scene.hand.seen().begun;
    scene.send(b"1").await;
    scene.expect_puback().await;
    scene.until_begun_after(before).await;
    scene.send(b"2").await;
    scene.publisher.expect_silence().await;
    scene.hand.set(Mood::Commits);
    scene.expect_puback().await;
}

#[tokio::test]
async fn a_disk_that_fails_stops_the_broker_and_nothing_more_is_acknowledged() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set(Mood::Breaks);
    scene.send(b"1").await;
    scene.publisher.expect_end().await;
    let stopped = within("the end", scene.broker.stopped()).await;
    assert_eq!(stopped, Stopped::Failed);
    assert!(scene.hand.seen().is_dropped);
    assert_eq!(scene.broker.shutdown().await, Stopped::Failed);
}

#[tokio::test]
async fn a_journal_that_panics_stops_the_broker_and_nothing_more_is_acknowledged() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set(Mood::Panics);
    scene.send(b"1").await;
    scene.publisher.expect_end().await;
    let stopped = within("the end", scene.broker.stopped()).await;
    assert_eq!(stopped, Stopped::Failed);
    assert!(scene.hand.seen().is_dropped);
}

#[tokio::test]
async fn a_commit_without_room_is_tried_again_until_there_is_room() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set(Mood::Full);
    let before = scene.hand.seen();
    scene.send(b"1").await;
    // The first try, and one more half a second later.
    scene.until_begun_after(before.begun + 1).await;
    scene.publisher.expect_silence().await;
    let is_full = |broker: &Broker| {
        let broker = broker.clone();
        async move { broker.stats().await.journal.expect("there is one").is_full }
    };
    assert!(is_full(&scene.broker).await);
    scene.hand.set(Mood::Commits);
    scene.expect_puback().await;
    assert!(!is_full(&scene.broker).await);
}

#[tokio::test]
async fn a_full_disk_is_noticed_after_a_commit_and_room_without_one() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set_full(true);
    scene.send(b"1").await;
    scene.expect_puback().await;
    let fullness = |wanted: bool| {
        let broker = scene.broker.clone();
        async move {
            until_stats(&broker, |stats| {
                stats
                    .journal
                    .is_some_and(|journal| journal.is_full == wanted)
            })
            .await
        }
    };
    fullness(true).await;
    scene.hand.set_full(false);
    fullness(false).await;
}

#[tokio::test]
async fn a_full_disk_refuses_what_has_to_be_stored_and_nothing_else_until_there_is_room() {
    let mut scene = Scene::new(Durability::Sync).await;
    let mut clean = Client::connect(&scene.broker, "clean").await;
    clean.subscribe("not kept", QoS::AtLeastOnce).await;
    scene.hand.set_full(true);
    scene.send(b"1").await;
    scene.expect_puback().await;
    // The shard of the publisher hears of it with the commit, or shortly after.
    while scene.publisher.publish("kept", b"2").await != ReasonCode::QuotaExceeded {}
    let reason = scene.publisher.publish("not kept", b"3").await;
    assert_eq!(reason, ReasonCode::Success);
    assert_eq!(clean.expect_publish().await.payload(), b"3");
    scene.hand.set_full(false);
    while scene.publisher.publish("kept", b"4").await != ReasonCode::Success {}
}

#[tokio::test]
async fn an_orderly_stop_commits_all_that_was_posted_before_it_ends() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set(Mood::Holds);
    let before = scene.hand.seen();
    scene.send(b"1").await;
    scene.until_begun_after(before.begun).await;
    scene.send(b"2").await;
    scene.publisher.expect_silence().await;
    let broker = scene.broker.clone();
    let shutdown = tokio::spawn(async move { broker.shutdown().await });
    scene.publisher.expect_disconnect().await;
    assert!(!shutdown.is_finished());
    scene.hand.set(Mood::Commits);
    let stopped = within("the shutdown", shutdown).await.expect("no panic");
    assert_eq!(stopped, Stopped::Orderly);
    let is_dropped = scene.hand.seen().is_dropped;
    assert!(is_dropped, "who waited may open the journal again");
    assert_eq!(enqueued(&scene.hand), [b"1", b"2"]);
}

/// Payloads of the messages that were committed for queues.
fn enqueued(hand: &Hand) -> Vec<Vec<u8>> {
    let payload = |record: &Record| match record {
        Record::Enqueued { message, .. } => Some(message.payload().to_vec()),
        _ => None,
    };
    hand.records().iter().filter_map(payload).collect()
}

#[tokio::test]
async fn a_broker_that_is_told_to_stop_on_a_full_disk_stops_as_failed() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.hand.set(Mood::Full);
    let before = scene.hand.seen().begun;
    scene.send(b"1").await;
    scene.until_begun_after(before).await;
    let stopped = within("the shutdown", scene.broker.shutdown()).await;
    assert_eq!(stopped, Stopped::Failed);
}

#[tokio::test]
async fn a_journal_that_can_not_be_read_back_keeps_the_broker_from_starting() {
    let (journal, hand) = HeldJournal::new();
    hand.set(Mood::Breaks);
    let error = builder().journal(journal).start().await;
    let error = error.expect_err("it is damaged");
    assert!(matches!(error, StartError::Journal { .. }), "{error:?}");
    hand.until("the end", |seen| seen.is_dropped).await;
}

#[tokio::test]
async fn a_broker_that_can_not_listen_has_let_go_of_its_journal_when_it_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", taken.local_addr().expect("bound"));
    let (journal, hand) = HeldJournal::new();
    let listening = builder().listen(address.parse().expect("an address"));
    let error = listening.journal(journal).start().await;
    let error = error.expect_err("the port is taken");
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    assert!(hand.seen().is_dropped);
}

/// What a journal tells of a session that is subscribed to `filter`.
fn told_session(client_id: &str, filter: &str) -> Vec<Replayed> {
    let session = QueueId::new(64).expect("not 0");
    vec![
        Replayed::Session(SessionRecord {
            session,
            client_id: client_id.into(),
            version: ProtocolVersion::V5,
            expiry_secs: u32::MAX,
            disconnected_at: None,
            will: None,
        }),
        Replayed::Subscriptions {
            session,
            subscriptions: vec![SubscriptionRecord {
                filter: filter.into(),
                options: SubscriptionOptions::new(QoS::AtLeastOnce),
                subscription_id: None,
            }],
        },
    ]
}

/// A message of an earlier start.
fn old_message(topic: &str, payload: &[u8], retain: bool, expires_at: UnixMillis) -> Message {
    Message::new(&MessageParts {
        id: MsgId {
            node: 0,
            incarnation: INCARNATION - 1,
            sequence: 1,
        },
        topic: &topic_name(topic),
        qos: QoS::ExactlyOnce,
        retain,
        expires_at,
        properties: PublishProperties::default(),
        payload,
    })
}

#[tokio::test]
async fn sessions_and_what_they_are_owed_are_there_after_a_start() {
    let mut told = told_session("away", "kept");
    told.push(Replayed::Message {
        position: Position::new(64).expect("not 0"),
        message: old_message("kept", b"owed", false, UnixMillis::NEVER),
        holders: vec![Holder {
            queue: QueueId::new(64).expect("not 0"),
            form: Form::new(QoS::AtLeastOnce, false, &[]),
        }],
    });
    let (journal, _hand) = HeldJournal::with(told);
    let broker = start(builder().journal(journal)).await;
    let mut connect = connect("away");
    connect.clean_start = false;
    connect.properties.session_expiry_secs = 100;
    let (mut client, connack) = Client::connect_with(&broker, connect).await;
    assert!(connack.session_present);
    assert_eq!(client.expect_publish().await.payload(), b"owed");
}

#[tokio::test]
async fn what_was_taken_over_before_the_start_is_routed_and_recorded_before_any_client_comes() {
    let mut told = told_session("away", "kept");
    told.push(Replayed::Inbound {
        session: QueueId::new(1_000).expect("not 0"),
        packet_id: 0,
        message: old_message("kept", b"taken over", false, UnixMillis::NEVER),
    });
    let (journal, hand) = HeldJournal::with(told);
    let _broker = start(builder().journal(journal)).await;
    let is_released =
        |record: &Record| matches!(record, Record::InboundReleased { packet_id: 0, .. });
    hand.until("the release", |_| hand.records().iter().any(is_released))
        .await;
    assert_eq!(enqueued(&hand), [b"taken over"]);
}

#[tokio::test]
async fn a_retained_message_that_expired_meanwhile_is_removed_from_the_journal_too() {
    let told = vec![Replayed::Retained(old_message(
        "old",
        b"1",
        true,
        UnixMillis(1),
    ))];
    let (journal, hand) = HeldJournal::with(told);
    let broker = start(builder().journal(journal)).await;
    let is_deleted = |change: &RetainedChange| matches!(change, RetainedChange::Deleted { topic } if topic.as_str() == "old");
    hand.until("its removal", |_| hand.retained().iter().any(is_deleted))
        .await;
    assert_eq!(broker.stats().await.retained_messages, 0);
}

#[tokio::test]
async fn messages_carry_the_incarnation_that_the_journal_counts() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.send(b"1").await;
    scene.expect_puback().await;
    let incarnation = |record: &Record| match record {
        Record::Enqueued { message, .. } => Some(message.id().incarnation),
        _ => None,
    };
    let records = scene.hand.records();
    let found: Vec<_> = records.iter().filter_map(incarnation).collect();
    assert_eq!(found, [INCARNATION]);
}

#[tokio::test]
async fn stats_say_what_the_journal_has_done() {
    let mut scene = Scene::new(Durability::Sync).await;
    scene.send(b"1").await;
    scene.expect_puback().await;
    let journal = scene.broker.stats().await.journal.expect("there is one");
    assert!(journal.figures.commits > 0 && journal.figures.records > 0);
    let broker = start(builder()).await;
    assert_eq!(broker.stats().await.journal, None);
}
