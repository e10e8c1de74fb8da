//! Shared subscriptions with a journal: what is recorded at two shards, and what a crash between them leaves.

mod support;

use support::{Client, Rig, V5, persistent};
use whimbrel_broker_core::session::codec::{Ack, Packet, QoS, ReasonCode};
use whimbrel_broker_core::{CoreConfig, DropCause, Replayed, ShardId};

const SHARED: &str = "$share/g/t";

fn journaled(change: impl FnOnce(&mut CoreConfig)) -> Rig {
    Rig::with(|config| {
        config.journal = true;
        config.limits.queue_window_messages = 10;
        change(config);
    })
}

/// The shard that owns the group of [`SHARED`], found by the record of one.
fn owner() -> usize {
    let mut rig = journaled(|_| {});
    let member = rig.connect_with(persistent(V5, "m")).client;
    rig.subscribe(member, SHARED, QoS::AtLeastOnce);
    let group = rig
        .journal
        .replay()
        .into_iter()
        .find_map(|replayed| match replayed {
            Replayed::Group(record) => Some(record.group),
            _ => None,
        });
    let shard = group.expect("a group").get() % 64;
    let shard = usize::try_from(shard).expect("one of two");
    assert!(ShardId::new(shard).is_some());
    shard
}

fn numbers_in_use(rig: &Rig) -> Vec<u64> {
    let mut queues: Vec<_> = rig
        .journal
        .replay()
        .into_iter()
        .filter_map(|replayed| match replayed {
            Replayed::Session(record) => Some(record.session.get()),
            Replayed::Group(record) => Some(record.group.get()),
            _ => None,
        })
        .collect();
    queues.sort_unstable();
    queues
}

#[test]
fn a_group_whose_record_was_lost_gets_a_queue_of_its_own() {
    let owner = owner();
    let mut rig = journaled(|_| {});
    let other = rig.id_on(owner, "other");
    rig.connect_with(persistent(V5, &other));
    let id = rig.id_on(1 - owner, "m");
    let member = rig.connect_with(persistent(V5, &id)).client;
    rig.hold_commits = true;
    rig.subscribe_with_no_answer(member, SHARED);
    // The subscription is committed at the member's shard, the group at its owner is not.
    rig.commit_of(1 - owner);
    rig.hold_commits = false;
    rig.restart();
    let queues = numbers_in_use(&rig);
    assert_eq!(queues.len(), 3);
    let mut distinct = queues.clone();
    distinct.dedup();
    assert_eq!(queues, distinct, "two queues have one number");
}

#[test]
fn messages_on_the_disk_take_no_room_from_groups() {
    let mut rig = journaled(|config| {
        config.shards = 1;
        config.limits.queue_bytes_total_max = 10_000;
    });
    let away = rig.connect_with(persistent(V5, "away")).client;
    rig.subscribe(away, "u", QoS::AtLeastOnce);
    rig.cut(away);
    let member = rig.connect_with(persistent(V5, "m")).client;
    rig.subscribe(member, SHARED, QoS::AtLeastOnce);
    rig.cut(member);
    let publisher = rig.connect(V5, "p");
    queue_up(&mut rig, publisher, "u", 200);
    let stats = rig.stats();
    assert!(stats.queued_bytes - stats.queued_disk_bytes < 5_000);
    let reason = rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    assert_eq!(reason, ReasonCode::Success);
    assert_eq!(rig.stats().dropped_by(DropCause::QueueTotal), 0);
    let member = rig.connect_with_messages(persistent(V5, "m"));
    assert_eq!(rig.payloads(member), ["x"]);
}

fn queue_up(rig: &mut Rig, publisher: Client, topic: &str, count: usize) {
    for number in 0..count {
        let payload = format!("{number:0100}");
        rig.publish(publisher, topic, &payload, QoS::AtLeastOnce);
    }
}

#[test]
fn what_a_full_group_has_already_pushes_nothing_out() {
    let mut rig = journaled(|config| {
        config.shards = 1;
        config.limits.queue_messages_max = 2;
    });
    let member = rig.connect_with(persistent(V5, "m")).client;
    rig.subscribe(member, SHARED, QoS::ExactlyOnce);
    rig.cut(member);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    rig.publish(publisher, "t", "1", QoS::AtLeastOnce);
    // Taken over and not released: it is routed again after a restart.
    let publish = support::message("t", "2", QoS::ExactlyOnce);
    rig.send(publisher, Packet::Publish(publish));
    assert!(matches!(&rig.take(publisher)[..], [Packet::PubRec(_)]));
    rig.restart();
    let member = rig.connect_with_messages(persistent(V5, "m"));
    assert_eq!(rig.payloads(member), ["1", "2"]);
}

#[test]
fn a_shared_message_of_qos_2_that_a_member_has_comes_to_nobody_again() {
    // [5:MQTT-4.3.3-8]: exactly once, whichever of the two shards was committed, and whether or not PUBCOMP came.
    let owner = owner();
    let member_shard = 1 - owner;
    for completed in [false, true] {
        for committed in [owner, member_shard] {
            let mut rig = journaled(|_| {});
            let ids = [rig.id_on(member_shard, "m"), rig.id_on(member_shard, "n")];
            let member = rig.connect_with(persistent(V5, &ids[0])).client;
            rig.subscribe(member, SHARED, QoS::ExactlyOnce);
            let other = rig.connect_with(persistent(V5, &ids[1])).client;
            rig.subscribe(other, SHARED, QoS::ExactlyOnce);
            rig.cut(other);
            let publisher = rig.connect(V5, "p");
            rig.publish(publisher, "t", "x", QoS::ExactlyOnce);
            let packets = rig.take(member);
            let [Packet::Publish(publish)] = &packets[..] else {
                panic!("{packets:?}");
            };
            let id = publish.delivery().packet_id().expect("QoS 2");
            let received = Packet::PubRec(Ack::success(id));
            let complete = Packet::PubComp(Ack::success(id));
            if completed {
                rig.send(member, received);
                assert!(matches!(&rig.take(member)[..], [Packet::PubRel(_)]));
                rig.hold_commits = true;
                rig.send(member, complete.clone());
            } else {
                rig.hold_commits = true;
                rig.send(member, received);
            }
            rig.commit_of(committed);
            rig.hold_commits = false;
            rig.restart();
            let detail = format!("completed: {completed}, committed: shard {committed}");
            let other = rig.connect_with_messages(persistent(V5, &ids[1]));
            assert_eq!(rig.payloads(other), [""; 0], "{detail}");
            let member = rig.connect_with_messages(persistent(V5, &ids[0]));
            let packets = rig.take(member);
            let is_pubrel = |packet: &Packet| matches!(packet, Packet::PubRel(_));
            let is_again = |packet: &Packet| match packet {
                // Its PUBREC is lost with what was not committed.
                Packet::Publish(publish) => !completed && publish.delivery().dup(),
                packet => is_pubrel(packet),
            };
            assert!(packets.len() <= 1, "{detail}: {packets:?}");
            assert!(packets.iter().all(is_again), "{detail}: {packets:?}");
            if packets.first().is_some_and(is_pubrel) {
                // The owner hears of it anew, before PUBCOMP comes and is all that is committed.
                rig.hold_commits = true;
                rig.send(member, complete);
                rig.commit_of(member_shard);
                rig.hold_commits = false;
                rig.restart();
                let other = rig.connect_with_messages(persistent(V5, &ids[1]));
                assert_eq!(rig.payloads(other), [""; 0], "{detail}, once more");
            }
        }
    }
}
