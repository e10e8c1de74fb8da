//! Shared subscriptions with a journal: what is recorded at two shards, and what a crash between them leaves.

mod support;

use support::{Rig, V5, persistent};
use whimbrel_broker_core::session::codec::QoS;
use whimbrel_broker_core::{CoreConfig, Replayed, ShardId};

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
