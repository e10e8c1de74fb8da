//! Queues that are partly on the disk only.

mod support;

use std::num::NonZeroU16;

use support::pieces::numbers;
use support::{Rig, V5, persistent};
use whimbrel_broker_core::session::codec::QoS;

fn rig() -> Rig {
    Rig::with(|config| {
        config.journal = true;
        config.limits.queue_window_messages = 10;
    })
}

#[test]
fn a_session_that_will_end_with_its_connection_keeps_the_order_of_what_is_on_the_disk() {
    // [5:MQTT-4.6.0-6]
    let mut rig = rig();
    let client = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(client, "t", QoS::AtLeastOnce);
    rig.cut(client);
    let publisher = rig.connect(V5, "p");
    let expected = numbers(401);
    for number in &expected[..400] {
        rig.publish(publisher, "t", number, QoS::AtLeastOnce);
    }
    let mut connect = persistent(V5, "s");
    connect.properties.session_expiry_secs = 0;
    connect.properties.receive_maximum = NonZeroU16::MIN;
    let client = rig.connect_with_messages(connect);
    rig.publish(publisher, "t", &expected[400], QoS::AtLeastOnce);
    assert_eq!(rig.payloads(client), expected);
    rig.cut(client);
    rig.cut(publisher);
    assert!(rig.journal.is_empty(), "{:?}", rig.journal);
    rig.assert_empty();
}

#[test]
fn what_is_read_back_counts_against_the_memory_of_all_queues() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
        config.limits.queue_window_messages = 1;
        config.limits.queue_bytes_total_max = 20_000;
    });
    let ids = numbers(20);
    for id in &ids {
        let client = rig.connect_with(persistent(V5, id)).client;
        rig.subscribe(client, "t", QoS::AtLeastOnce);
        rig.cut(client);
    }
    let publisher = rig.connect(V5, "p");
    let expected: Vec<_> = (0..20).map(|number| format!("{number:0200}")).collect();
    for payload in &expected {
        rig.publish(publisher, "t", payload, QoS::AtLeastOnce);
    }
    let in_memory = |rig: &Rig| {
        let stats = rig.stats();
        stats.queued_bytes - stats.queued_disk_bytes
    };
    let mut clients = Vec::new();
    for id in &ids {
        let mut connect = persistent(V5, id);
        connect.properties.receive_maximum = NonZeroU16::MIN;
        clients.push(rig.connect_with_messages(connect));
        // Each may have one message beyond the bound, or it would get none.
        assert!(in_memory(&rig) < 20_000 + 20 * 400, "{}", in_memory(&rig));
    }
    for client in clients {
        assert_eq!(rig.payloads(client), expected);
    }
    assert_eq!(in_memory(&rig), 0);
}
