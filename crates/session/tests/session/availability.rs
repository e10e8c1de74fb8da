//! What a server says it does not have, and who asks for it all the same.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Connect, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionId, SubscriptionOptions, UserProperties,
};
use whimbrel_session::{Accept, Epoch, ProtocolError, ServerConfig, ServerConnection, ServerEvent};

use crate::support::{NOW, Role, Seen, Setup, decoded, encoded};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn subscribe(filter: &str, subscription_id: Option<SubscriptionId>) -> Packet {
    Packet::Subscribe(Subscribe {
        id: PacketId::MIN,
        filters: vec![SubscribeFilter {
            filter: ByteStr::from(filter),
            options: SubscriptionOptions::new(QoS::AtMostOnce),
        }],
        subscription_id,
        user_properties: UserProperties::new(),
    })
}

fn without(change: impl FnOnce(&mut ServerConfig), version: ProtocolVersion) -> Setup {
    let mut setup = Setup::new(version);
    change(&mut setup.server);
    setup
}

#[test]
fn connack_says_what_is_not_available() {
    // [5:MQTT-3.2.2-9]
    let mut config = ServerConfig::default();
    config.maximum_qos = QoS::AtLeastOnce;
    config.retain_available = false;
    config.wildcard_subscription_available = false;
    config.subscription_id_available = false;
    config.shared_subscription_available = false;
    let mut server = ServerConnection::<u32>::new(NOW, Epoch(1), config);
    let connect = Packet::Connect(Box::new(Connect::new(V5, "c")));
    let bytes = encoded(&connect, V5);
    let input = server.handle_input(NOW, &bytes).expect("valid");
    assert!(matches!(input.event, Some(ServerEvent::Connect(_))));
    server.accept(NOW, Accept::new_session()).expect("waits");
    let sent = decoded(server.output().chunk(), V5);
    let [Packet::ConnAck(connack)] = &sent[..] else {
        panic!("{sent:?}");
    };
    let said = &connack.properties;
    assert_eq!(said.maximum_qos, QoS::AtLeastOnce);
    assert!(!said.retain_available);
    assert!(!said.wildcard_subscription_available);
    assert!(!said.subscription_id_available);
    assert!(!said.shared_subscription_available);
}

#[test]
fn who_asks_for_what_is_not_available_is_disconnected_with_its_code() {
    // [U5-042] E5
    let mut side =
        without(|config| config.wildcard_subscription_available = false, V5).connect(Role::Server);
    side.feed_one(&subscribe("a/b", None));
    let error = side.feed(&subscribe("a/+", None)).expect_err("a wildcard");
    assert_eq!(error, ProtocolError::WildcardNotSupported);
    assert_eq!(
        error.reason_code(),
        ReasonCode::WildcardSubscriptionsNotSupported
    );

    let mut side =
        without(|config| config.subscription_id_available = false, V5).connect(Role::Server);
    side.feed_one(&subscribe("a/+", None));
    let error = side.feed(&subscribe("a", Some(SubscriptionId::MIN)));
    let error = error.expect_err("an identifier");
    assert_eq!(error, ProtocolError::SubscriptionIdNotSupported);
    assert_eq!(
        error.reason_code(),
        ReasonCode::SubscriptionIdentifiersNotSupported
    );

    let mut side =
        without(|config| config.shared_subscription_available = false, V5).connect(Role::Server);
    side.feed_one(&subscribe("#", Some(SubscriptionId::MIN)));
    let error = side
        .feed(&subscribe("$share/g/a", None))
        .expect_err("shared");
    assert_eq!(error, ProtocolError::SharedNotSupported);
    assert_eq!(
        error.reason_code(),
        ReasonCode::SharedSubscriptionsNotSupported
    );
    assert!(matches!(
        side.sent().pop(),
        Some(Packet::Disconnect(disconnect))
            if disconnect.reason == ReasonCode::SharedSubscriptionsNotSupported
    ));
}

#[test]
fn the_wildcard_of_a_shared_filter_counts() {
    let mut side =
        without(|config| config.wildcard_subscription_available = false, V5).connect(Role::Server);
    let error = side.feed(&subscribe("$share/g/#", None));
    assert_eq!(error.err(), Some(ProtocolError::WildcardNotSupported));
}

#[test]
fn clients_that_are_not_told_are_left_to_suback() {
    // [3:MQTT-3.8.3-2]
    let restricted = |config: &mut ServerConfig| {
        config.wildcard_subscription_available = false;
        config.shared_subscription_available = false;
    };
    let mut side = without(restricted, ProtocolVersion::V311).connect(Role::Server);
    for filter in ["#", "$share/g/a"] {
        let seen = side.feed_one(&subscribe(filter, None));
        assert!(matches!(seen, Seen::Subscribe { .. }));
    }
}

#[test]
fn a_server_says_in_words_what_was_wrong_only_if_told_to_and_asked() {
    // [U5-111] [5:MQTT-3.14.2-3]
    for (is_on, asks) in [(false, true), (true, false), (true, true)] {
        let mut setup = without(|config| config.reason_strings = is_on, V5);
        setup.connect.properties.request_problem_information = asks;
        let mut side = setup.connect(Role::Server);
        side.feed(&Packet::PingResp).expect_err("of a server");
        let Packet::Disconnect(disconnect) = side.sent_one() else {
            panic!("no DISCONNECT");
        };
        assert_eq!(disconnect.reason, ReasonCode::ProtocolError);
        let words = disconnect.reason_string.as_deref();
        let expected = (is_on && asks).then_some("PINGRESP goes the other way [MQTT-4.8.0-1]");
        assert_eq!(words, expected);
    }
}

#[test]
fn a_refused_connect_is_explained_in_connack() {
    let mut config = ServerConfig::default();
    config.reason_strings = true;
    let mut server = ServerConnection::<u32>::new(NOW, Epoch(1), config);
    // The reserved connect flag is set.
    let bytes = b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01c";
    server.handle_input(NOW, bytes).expect_err("malformed");
    let sent = decoded(server.output().chunk(), V5);
    let [Packet::ConnAck(connack)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(connack.reason, ReasonCode::MalformedPacket);
    let words = connack.properties.reason_string.as_deref();
    assert!(
        words.is_some_and(|words| words.ends_with("[MQTT-3.1.2-3]")),
        "{words:?}"
    );
}
