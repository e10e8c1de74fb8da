//! What the QoS levels promise, under loss of the connection at any byte.

use proptest::prelude::*;
use whimbrel_session::codec::{ProtocolVersion, QoS};

use crate::pair::{Message, Pair, Terms};
use crate::support::{Role, VERSIONS};

#[derive(Clone, Copy, Debug)]
enum Op {
    Publish { role: Role, qos: QoS },
    Acknowledge { role: Role, nth: usize },
    Commit { count: usize },
    Wait { milliseconds: u64 },
    Cut { to_server: usize, to_client: usize },
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        1 => Just(QoS::AtMostOnce),
        3 => Just(QoS::AtLeastOnce),
        3 => Just(QoS::ExactlyOnce),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (role(), qos()).prop_map(|(role, qos)| Op::Publish { role, qos }),
        6 => (role(), 0..8_usize).prop_map(|(role, nth)| Op::Acknowledge { role, nth }),
        3 => (1..4_usize).prop_map(|count| Op::Commit { count }),
        4 => (0..40_u64).prop_map(|milliseconds| Op::Wait { milliseconds }),
        1 => (0..120_usize, 0..120_usize)
            .prop_map(|(to_server, to_client)| Op::Cut { to_server, to_client }),
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    let version = prop_oneof![
        Just(ProtocolVersion::V31),
        Just(ProtocolVersion::V311),
        Just(ProtocolVersion::V5),
    ];
    let output_bytes_max = prop_oneof![Just(24_usize), Just(64 * 1024)];
    (
        version,
        0..20_u64,
        1..6_u16,
        output_bytes_max,
        any::<bool>(),
    )
        .prop_map(
            |(version, latency_ms, window, output_bytes_max, prepares)| Terms {
                version,
                latency_ms,
                window,
                output_bytes_max,
                keep_alive_secs: 30,
                prepares,
            },
        )
}

/// Runs `ops`, then lets everything settle; what was published by whom, in order.
fn run(terms: Terms, ops: &[Op]) -> (Pair, [Vec<Message>; 2]) {
    let mut pair = Pair::new(terms);
    let mut published = [Vec::new(), Vec::new()];
    let mut item = 0;
    for &op in ops {
        match op {
            Op::Publish { role, qos } => {
                item += 1;
                let message = Message { qos, item };
                pair.app(role).outbox.push_back(message);
                published[role as usize].push(message);
            }
            Op::Acknowledge { role, nth } => pair.acknowledge(role, nth),
            Op::Commit { count } => pair.commit(count),
            Op::Wait { milliseconds } => pair.wait(milliseconds),
            Op::Cut {
                to_server,
                to_client,
            } => pair.cut(to_server, to_client),
        }
    }
    pair.settle();
    (pair, published)
}

fn items_of(messages: &[Message], qos: QoS) -> Vec<u32> {
    let messages = messages.iter().filter(|message| message.qos == qos);
    messages.map(|message| message.item).collect()
}

fn first_occurrences(items: &[u32]) -> Vec<u32> {
    let mut seen = Vec::new();
    for &item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // [3:MQTT-4.3.2-1] [3:MQTT-4.3.2-2] [3:MQTT-4.3.3-1] [3:MQTT-4.3.3-2] [3:MQTT-4.4.0-1]
    // [3:MQTT-4.6.0-1] [5:MQTT-4.3.2-3] [5:MQTT-4.3.3-10] [5:MQTT-4.4.0-1] [5:MQTT-4.6.0-1]
    #[test]
    fn qos_1_arrives_at_least_once_and_qos_2_exactly_once_in_order(
        terms in terms(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let (mut pair, published) = run(terms, &ops);
        for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
            let published = &published[sender as usize];
            let exactly = pair.app(receiver).taken_of(QoS::ExactlyOnce);
            prop_assert_eq!(exactly, items_of(published, QoS::ExactlyOnce));

            let at_least = pair.app(receiver).taken_of(QoS::AtLeastOnce);
            let at_least = first_occurrences(&at_least);
            prop_assert_eq!(at_least, items_of(published, QoS::AtLeastOnce));

            let at_most = pair.app(receiver).taken_of(QoS::AtMostOnce);
            prop_assert_eq!(&first_occurrences(&at_most), &at_most);
            let sent = items_of(published, QoS::AtMostOnce);
            prop_assert!(at_most.iter().all(|item| sent.contains(item)));

            let mut delivered = pair.app(sender).delivered.clone();
            delivered.sort_unstable();
            let acknowledged = published.iter().filter(|message| message.qos > QoS::AtMostOnce);
            let acknowledged: Vec<u32> = acknowledged.map(|message| message.item).collect();
            prop_assert_eq!(delivered, acknowledged, "every exchange ends once");
        }
        for session in pair.into_sessions() {
            prop_assert!(session.is_empty(), "nothing is left open");
        }
    }
}

#[test]
fn without_loss_every_message_arrives_once() {
    let versions = VERSIONS.into_iter();
    for (version, prepares) in versions.flat_map(|version| [(version, false), (version, true)]) {
        let terms = Terms {
            version,
            latency_ms: 7,
            window: 3,
            output_bytes_max: 64 * 1024,
            keep_alive_secs: 30,
            prepares,
        };
        let mut pair = Pair::new(terms);
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        for item in 0..300 {
            let message = Message {
                qos: qos[item as usize % 3],
                item,
            };
            pair.client_app.outbox.push_back(message);
            pair.server_app.outbox.push_back(message);
        }
        pair.settle();
        for role in [Role::Client, Role::Server] {
            for (first, &qos) in qos.iter().enumerate() {
                let expected: Vec<u32> = (first as u32..300).step_by(3).collect();
                assert_eq!(pair.app(role).taken_of(qos), expected);
            }
        }
    }
}

#[test]
fn an_idle_pair_stays_connected_by_pings() {
    // [3:MQTT-3.1.2-23] [3:MQTT-3.1.2-24] [5:MQTT-3.1.2-20] [5:MQTT-3.1.2-22]
    for version in VERSIONS {
        let terms = Terms {
            version,
            latency_ms: 300,
            window: 3,
            output_bytes_max: 64 * 1024,
            keep_alive_secs: 1,
            prepares: false,
        };
        let mut pair = Pair::new(terms);
        // `wait` fails if any timer ends the connection.
        pair.wait(3_600_000);
        assert!(pair.client.is_connected());
    }
}

#[test]
fn ids_wrap_in_a_long_session() {
    let terms = Terms {
        version: ProtocolVersion::V5,
        latency_ms: 0,
        window: 64,
        output_bytes_max: 64 * 1024,
        keep_alive_secs: 0,
        prepares: false,
    };
    let mut pair = Pair::new(terms);
    let count = 70_000;
    for item in 0..count {
        let qos = QoS::AtLeastOnce;
        pair.client_app.outbox.push_back(Message { qos, item });
    }
    pair.settle();
    let taken = pair.server_app.taken_of(QoS::AtLeastOnce);
    assert!(taken.into_iter().eq(0..count));
    let [client, _] = pair.into_sessions();
    assert_eq!(u32::from(client.next_packet_id().get()), count - 65_535 + 1);
}
