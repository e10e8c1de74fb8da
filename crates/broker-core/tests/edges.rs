//! Timers, back-pressure, verdicts, takeovers and in-process clients at their edges.

mod support;

use std::num::{NonZeroU16, NonZeroU32};

use support::pieces::{
    attach, encoded, first, publication, publish_inside, subscribe, subscribe_inside, unsubscribe,
    will,
};
use support::{Client, Rig, V5, V311, clean, persistent};
use whimbrel_broker_core::Verdict;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, SubscriptionOptions, Unsubscribe,
    UserProperties,
};

#[test]
fn a_client_that_falls_silent_after_it_was_held_back_is_still_noticed() {
    // [3:MQTT-3.1.2-24]: the pause outlasts the armed deadline.
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
        config.connection.receive_maximum = NonZeroU16::MIN;
    });
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let mut connect = clean(V311, "p");
    connect.keep_alive_secs = 10;
    let publisher = rig.connect_with(connect).client;
    rig.hold_commits = true;
    for id in 1..=2 {
        let publish = publication("t", "x", first(QoS::AtLeastOnce, id));
        rig.send(publisher, Packet::Publish(publish));
    }
    assert!(rig.is_blocked(publisher));
    rig.advance_secs(60);
    assert!(rig.is_open(publisher), "its bytes wait here, unread");
    rig.hold_commits = false;
    rig.commit();
    assert_eq!(rig.take(publisher).len(), 2);
    rig.advance_secs(60);
    assert!(!rig.is_open(publisher));
}

#[test]
fn a_shard_that_is_behind_with_wide_fan_outs_holds_publishers_of_other_shards_back() {
    let rig = Rig::with(|config| {
        config.limits.step_budget = 2;
        config.limits.shard_window_bytes = 4_000;
    });
    for number in 0..3 {
        let key = attach(&rig, 1, &format!("s{number}"));
        subscribe_inside(&rig, 1, key, "t");
    }
    let publisher = attach(&rig, 0, "p");
    for _ in 0..100 {
        if rig.shards[0].borrow().is_congested() {
            break;
        }
        publish_inside(&rig, 0, publisher, &"x".repeat(1_000), QoS::AtMostOnce);
        for (from, to) in [(0, 1), (1, 0)] {
            let mut from = rig.shards[from].borrow_mut();
            let mut to = rig.shards[to].borrow_mut();
            for forward in std::mem::take(&mut from.effects().forward) {
                to.handle_message(rig.env(), from.id(), forward.message);
            }
        }
    }
    let waiting = rig.shards[1].borrow().residue().jobs;
    assert!(
        waiting <= 5,
        "{waiting} messages wait in a shard that does not keep up"
    );
}

#[test]
fn an_in_process_client_publishes_while_the_records_of_others_wait() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    rig.hold_commits = true;
    let other = rig.open(V5);
    rig.send(other, Packet::Connect(Box::new(persistent(V5, "other"))));
    let inside = attach(&rig, 0, "inside");
    publish_inside(&rig, 0, inside, "x", QoS::AtLeastOnce);
    let mut shard = rig.shards[0].borrow_mut();
    let refused = shard
        .effects()
        .local
        .iter()
        .any(|outcome| outcome.reasons.iter().any(|reason| reason.is_error()));
    assert!(!refused, "{:?}", shard.effects().local);
}

#[test]
fn every_request_of_an_in_process_client_has_an_outcome_even_after_its_end() {
    let rig = Rig::with(|config| config.shards = 1);
    let inside = attach(&rig, 0, "inside");
    rig.shards[0].borrow_mut().detach(rig.env(), inside);
    subscribe_inside(&rig, 0, inside, "t");
    publish_inside(&rig, 0, inside, "x", QoS::AtLeastOnce);
    let mut shard = rig.shards[0].borrow_mut();
    shard.local_unsubscribe(rig.env(), inside, &[ByteStr::from("t")], 2);
    let requests: Vec<_> = shard
        .effects()
        .local
        .iter()
        .map(|outcome| outcome.request)
        .collect();
    assert_eq!(requests, [0, 1, 2]);
}

/// Hands a PUBLISH to the only shard under a verdict.
fn publish_under(
    rig: &mut Rig,
    version: ProtocolVersion,
    client: Client,
    publish: Publish,
    verdict: Verdict,
) {
    let key = rig.key(client);
    let input = encoded(version, &[Packet::Publish(publish)]);
    {
        let mut shard = rig.shards[0].borrow_mut();
        let received = shard.receive(rig.env(), key, &input);
        let event = received.event.expect("a PUBLISH");
        shard.apply(rig.env(), key, event, verdict);
    }
    rig.run();
}

#[test]
fn a_qos_2_message_that_a_hook_cut_off_is_new_when_it_comes_again() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let subscriber = rig.connect(V5, "s");
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let delivery = first(QoS::ExactlyOnce, 1);
    let verdict = Verdict::Disconnect(ReasonCode::QuotaExceeded);
    publish_under(
        &mut rig,
        V5,
        publisher,
        publication("t", "x", delivery),
        verdict,
    );
    assert!(!rig.is_open(publisher));
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let again = publication("t", "x", delivery.repeated());
    assert_eq!(rig.publish_packet(publisher, again), ReasonCode::Success);
    assert_eq!(rig.payloads(subscriber), ["x"]);
}

#[test]
fn a_packet_that_a_hook_can_not_handle_now_closes_its_connection() {
    // [3:MQTT-4.8.0-2]
    for version in [V311, V5] {
        let mut rig = Rig::with(|config| config.shards = 1);
        let subscriber = rig.connect(version, "s");
        rig.subscribe(subscriber, "t", QoS::AtMostOnce);
        let publisher = rig.connect(version, "p");
        let publish = publication("t", "x", first(QoS::AtLeastOnce, 1));
        let verdict = Verdict::Disconnect(ReasonCode::ServerBusy);
        publish_under(&mut rig, version, publisher, publish, verdict);
        assert!(!rig.is_open(publisher));
        let acknowledged = |packet: &Packet| matches!(packet, Packet::PubAck(_));
        assert!(!rig.take(publisher).iter().any(acknowledged));
        assert!(rig.is_open(subscriber));
        assert_eq!(rig.payloads(subscriber), [""; 0]);
    }
}

#[test]
fn a_refusal_that_puback_has_no_code_for_does_not_hold_later_acknowledgements_back() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let publisher = rig.connect(V5, "p");
    let refused = publication("t", "x", first(QoS::AtLeastOnce, 1));
    let verdict = Verdict::Refuse(ReasonCode::ServerBusy);
    publish_under(&mut rig, V5, publisher, refused, verdict);
    let publish = publication("t", "x", first(QoS::AtLeastOnce, 2));
    rig.send(publisher, Packet::Publish(publish));
    assert_eq!(rig.take(publisher).len(), 2);
}

#[test]
fn a_reason_that_disconnect_has_no_code_for_still_closes_the_connection() {
    for reason in [ReasonCode::BadUserNameOrPassword, ReasonCode::Success] {
        let mut rig = Rig::with(|config| config.shards = 1);
        let publisher = rig.connect(V5, "p");
        let publish = publication("t", "x", first(QoS::AtLeastOnce, 1));
        publish_under(
            &mut rig,
            V5,
            publisher,
            publish,
            Verdict::Disconnect(reason),
        );
        assert!(!rig.is_open(publisher));
        let packets = rig.take(publisher);
        assert!(
            matches!(&packets[..], [Packet::Disconnect(said)] if said.reason == ReasonCode::UnspecifiedError),
            "{packets:?}"
        );
    }
}

#[test]
fn an_mqtt_3_client_that_a_hook_refuses_gets_a_plain_acknowledgement_whatever_the_reason() {
    // D2, and the promise of `Verdict::Refuse`.
    for reason in [ReasonCode::NotAuthorized, ReasonCode::QuotaExceeded] {
        let mut rig = Rig::with(|config| config.shards = 1);
        let publisher = rig.connect(V311, "p");
        let publish = publication("t", "x", first(QoS::AtLeastOnce, 1));
        publish_under(&mut rig, V311, publisher, publish, Verdict::Refuse(reason));
        assert!(
            matches!(&rig.take(publisher)[..], [Packet::PubAck(_)]),
            "{reason}"
        );
    }
}

#[test]
fn a_will_beyond_what_connack_announces_is_refused() {
    // [5:MQTT-3.2.2-12] [5:MQTT-3.2.2-13]
    let cases = [
        (QoS::ExactlyOnce, false, ReasonCode::QosNotSupported),
        (QoS::AtMostOnce, true, ReasonCode::RetainNotSupported),
    ];
    for (qos, retain, expected) in cases {
        let mut rig = Rig::with(|config| {
            config.connection.maximum_qos = QoS::AtLeastOnce;
            config.connection.retain_available = false;
        });
        let mut connect = clean(V5, "c");
        connect.will = Some(will(qos, retain));
        let client = rig.open(V5);
        rig.send(client, Packet::Connect(Box::new(connect)));
        let packets = rig.take(client);
        assert!(
            matches!(&packets[..], [Packet::ConnAck(connack)] if connack.reason == expected),
            "{packets:?}"
        );
        assert!(!rig.is_open(client));
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_escape_its_keep_alive() {
    // [3:MQTT-3.1.2-24]: its input is held back by output that it alone can take.
    let mut rig = Rig::with(|config| config.connection.output_bytes_max = 64);
    let mut connect = clean(V311, "c");
    connect.keep_alive_secs = 10;
    let client = rig.connect_with(connect).client;
    rig.stop_reading(client);
    let pings = encoded(V311, &vec![Packet::PingReq; 10_000]);
    rig.send_raw(client, &pings);
    assert!(rig.is_blocked(client));
    rig.advance_secs(3_600);
    assert_eq!(rig.stats().keep_alive_closes, 1);
}

#[test]
fn a_client_that_takes_no_suback_or_unsuback_of_its_size_is_closed() {
    // [5:MQTT-3.1.2-24]
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let unsubscribe = Unsubscribe {
        id: PacketId::MIN,
        filters: vec![ByteStr::from("t"); 200],
        user_properties: UserProperties::new(),
    };
    for request in [
        support::subscribe(&[("t", options); 200], None),
        Packet::Unsubscribe(unsubscribe),
    ] {
        let mut rig = Rig::new();
        let mut connect = clean(V5, "c");
        connect.properties.packet_size_max = NonZeroU32::new(100);
        let client = rig.connect_with(connect).client;
        rig.send(client, request);
        let packets = rig.take(client);
        assert!(
            matches!(&packets[..], [Packet::Disconnect(_)]),
            "{packets:?}"
        );
        assert!(!rig.is_open(client));
        rig.assert_empty();
    }
}

#[test]
fn a_filter_answered_with_an_error_is_not_subscribed() {
    let mut rig = Rig::with(|config| config.limits.subscriptions_per_session_max = 1);
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filter = ("t", options);
    rig.send(client, support::subscribe(&[filter, filter, filter], None));
    let packets = rig.take(client);
    let Some(Packet::SubAck(suback)) = packets.first() else {
        panic!("a SUBACK first");
    };
    assert!(
        suback.codes.iter().all(|code| !code.is_error()),
        "the subscription is there: {:?}",
        suback.codes
    );
}

#[test]
fn a_takeover_while_connack_waits_keeps_the_session_and_answers_the_last_only() {
    let mut rig = Rig::with(|config| config.journal = true);
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "in flight", QoS::AtLeastOnce);
    assert_eq!(rig.take(subscriber).len(), 1);
    rig.cut(subscriber);
    rig.publish(publisher, "t", "queued", QoS::AtLeastOnce);
    rig.hold_commits = true;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let client = rig.open(V5);
            rig.send(client, Packet::Connect(Box::new(persistent(V5, "s"))));
            client
        })
        .collect();
    rig.hold_commits = false;
    rig.commit();
    assert!(rig.take(waiting[0]).is_empty());
    assert!(!rig.is_open(waiting[0]));
    let packets = rig.take(waiting[1]);
    let payloads: Vec<_> = packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some((publish.payload(), publish.delivery().dup())),
            _ => None,
        })
        .collect();
    assert!(matches!(&packets[0], Packet::ConnAck(connack) if connack.session_present));
    assert_eq!(payloads, [(&b"in flight"[..], true), (b"queued", false)]);
}

#[test]
fn a_session_that_ends_while_a_message_is_under_way_leaves_its_publisher_nothing_to_wait_for() {
    let mut rig = Rig::new();
    let id = rig.id_on(1, "s");
    let subscriber = rig.connect_with(persistent(V5, &id)).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.subscribe(subscriber, "$share/g/t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let inside = attach(&rig, 0, "inside");
    publish_inside(&rig, 0, inside, "x", QoS::AtLeastOnce);
    // Handled at its shard before the message arrives.
    let discarded = rig.open(V5);
    rig.send(discarded, Packet::Connect(Box::new(clean(V5, &id))));
    rig.cut(discarded);
    rig.shards[0].borrow_mut().detach(rig.env(), inside);
    rig.run();
    rig.assert_empty();
}

#[test]
fn whether_a_publisher_waits_follows_the_durability_and_qos_of_the_subscription() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let publisher = rig.connect(V5, "p");
    let ending = {
        let mut connect = persistent(V5, "s");
        connect.properties.session_expiry_secs = 0;
        connect
    };
    let steps = [
        (persistent(V5, "s"), QoS::AtLeastOnce, true),
        (persistent(V5, "s"), QoS::AtMostOnce, false),
        (persistent(V5, "s"), QoS::ExactlyOnce, true),
        (ending, QoS::ExactlyOnce, false),
    ];
    for (step, (connect, qos, waits)) in steps.into_iter().enumerate() {
        let subscriber = rig.connect_with_messages(connect);
        rig.subscribe(subscriber, "t", qos);
        rig.hold_commits = true;
        let publish = publication("t", "x", first(QoS::AtLeastOnce, 1));
        rig.send(publisher, Packet::Publish(publish));
        assert_eq!(rig.take(publisher).is_empty(), waits, "step {step}");
        rig.hold_commits = false;
        rig.commit();
        rig.take(publisher);
        assert_eq!(rig.payloads(subscriber), ["x"], "step {step}");
    }
}

#[test]
fn unsubscribing_before_the_owner_of_the_group_has_answered_ends_unsubscribed() {
    for shard in 0..2 {
        let mut rig = Rig::new();
        let id = rig.id_on(shard, "c");
        let client = rig.connect(V5, &id);
        let packets = [subscribe("$share/g/t"), unsubscribe("$share/g/t")];
        rig.send_raw(client, &encoded(V5, &packets));
        assert_eq!(rig.take(client).len(), 2);
        assert_eq!(rig.stats().subscriptions, 0);
        rig.cut(client);
        rig.assert_empty();
    }
}
