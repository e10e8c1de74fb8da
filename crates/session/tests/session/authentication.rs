//! Enhanced authentication: AUTH before CONNACK and after it, from both sides.

use std::num::NonZeroU32;

use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    AckProperties, Auth, Authentication, ConnAck, Connect, Packet, ProtocolVersion, QoS,
    ReasonCode, UserProperty,
};
use whimbrel_session::{
    Accept, ClientConfig, ClientConnection, ClientEvent, Epoch, ProtocolError, ServerConfig,
    ServerConnection, ServerEvent, Tick, TimeoutKind, UsageError,
};

use crate::support::{Driven, NOW, Role, Seen, Setup, decoded, encoded, pub_ack, publish};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn authentication(method: &str, data: &'static [u8]) -> Authentication {
    Authentication {
        method: ByteStr::from(method),
        data: Some(Bytes::from_static(data)),
    }
}

fn auth(reason: ReasonCode, method: &str, data: &'static [u8]) -> Packet {
    Packet::Auth(Box::new(Auth {
        reason,
        authentication: authentication(method, data),
        properties: AckProperties::new(),
    }))
}

fn data(data: &'static [u8]) -> Option<Bytes> {
    Some(Bytes::from_static(data))
}

fn connect_with(method: &str) -> Connect {
    let mut connect = Connect::new(V5, "c");
    connect.keep_alive_secs = 0;
    connect.properties.authentication = Some(authentication(method, b"first"));
    connect
}

/// A server before CONNACK.
struct Greeting {
    server: ServerConnection<u32>,
}

/// What the server makes of a packet, with its name for an event.
type Handled = Result<Option<Seen>, ProtocolError>;

impl Greeting {
    fn new(connect: Connect) -> Self {
        let mut server = ServerConnection::new(NOW, Epoch(1), ServerConfig::default());
        let bytes = encoded(&Packet::Connect(Box::new(connect)), V5);
        let input = server.handle_input(NOW, &bytes).expect("a valid CONNECT");
        assert!(matches!(input.event, Some(ServerEvent::Connect(_))));
        Self { server }
    }

    fn feed(&mut self, packet: &Packet) -> Handled {
        let bytes = encoded(packet, V5);
        let input = self.server.handle_input(NOW, &bytes)?;
        Ok(input.event.map(|event| match event {
            ServerEvent::Auth(auth) => Seen::Auth(auth.into_owned()),
            ServerEvent::Disconnect(disconnect) => Seen::Disconnect(disconnect.into_owned()),
            other => panic!("{other:?}"),
        }))
    }

    fn sent(&mut self) -> Vec<Packet> {
        let output = self.server.output();
        let bytes = output.chunk().to_vec();
        output.advance(bytes.len());
        decoded(&bytes, V5)
    }

    fn challenge(&mut self, bytes: &'static [u8]) {
        let properties = AckProperties::new();
        let challenged = self.server.challenge(data(bytes), properties);
        challenged.expect("the client waits");
    }
}

fn refusal(packets: &[Packet]) -> Option<ReasonCode> {
    match packets {
        [Packet::ConnAck(connack)] => Some(connack.reason),
        _ => None,
    }
}

/// A connection that was authenticated by the method "m".
fn authenticated(role: Role) -> Driven {
    let mut setup = Setup::new(V5);
    setup.connect.properties.authentication = Some(authentication("m", b"first"));
    setup.connack.properties.authentication = Some(authentication("m", b"last"));
    setup.connect(role)
}

#[test]
fn a_server_asks_until_it_is_content() {
    // [5:MQTT-4.12.0-2] [5:MQTT-4.12.0-3] [5:MQTT-4.12.0-5] [5:MQTT-3.2.0-1]
    let mut greeting = Greeting::new(connect_with("m"));
    for step in [&b"one"[..], b"two"] {
        greeting.challenge(step);
        match &greeting.sent()[..] {
            [Packet::Auth(auth)] => {
                assert_eq!(auth.reason, ReasonCode::ContinueAuthentication);
                assert_eq!(&*auth.authentication.method, "m");
                assert_eq!(auth.authentication.data.as_deref(), Some(step));
            }
            other => panic!("{other:?}"),
        }
        let answer = auth(ReasonCode::ContinueAuthentication, "m", b"answer");
        match greeting.feed(&answer) {
            Ok(Some(Seen::Auth(auth))) => {
                assert_eq!(auth.authentication, authentication("m", b"answer"));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut accept = Accept::new_session();
    // The caller's method does not count.
    accept.properties.authentication = Some(authentication("other", b"last"));
    greeting.server.accept(NOW, accept).expect("CONNECT waits");
    match &greeting.sent()[..] {
        [Packet::ConnAck(connack)] => {
            let said = connack.properties.authentication.clone();
            assert_eq!(said, Some(authentication("m", b"last")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_method_in_connect_a_server_names_none() {
    // [5:MQTT-4.12.0-6]
    let mut connect = connect_with("m");
    connect.properties.authentication = None;
    let mut greeting = Greeting::new(connect);
    let challenged = greeting.server.challenge(None, AckProperties::new());
    assert_eq!(challenged, Err(UsageError::NoAuthenticationStep));
    let mut accept = Accept::new_session();
    accept.properties.authentication = Some(authentication("m", b"last"));
    greeting.server.accept(NOW, accept).expect("CONNECT waits");
    match &greeting.sent()[..] {
        [Packet::ConnAck(connack)] => assert_eq!(connack.properties.authentication, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rejected_client_hears_it_in_connack_and_is_closed() {
    // [5:MQTT-4.12.0-1] [5:MQTT-4.12.0-4] [5:MQTT-3.1.4-2]
    for reason in [
        ReasonCode::BadAuthenticationMethod,
        ReasonCode::NotAuthorized,
    ] {
        let mut greeting = Greeting::new(connect_with("m"));
        greeting.challenge(b"one");
        greeting.sent();
        let answer = auth(ReasonCode::ContinueAuthentication, "m", b"wrong");
        greeting.feed(&answer).expect("in turn");
        greeting.server.refuse(reason).expect("CONNECT waits");
        assert_eq!(refusal(&greeting.sent()), Some(reason));
        assert!(greeting.server.is_closing());
    }
}

#[test]
fn nothing_but_auth_and_disconnect_is_taken_before_connack() {
    // [5:MQTT-3.1.2-30]
    let mut greeting = Greeting::new(connect_with("m"));
    greeting.challenge(b"one");
    greeting.sent();
    let error = greeting.feed(&Packet::PingReq).expect_err("too early");
    let packet_type = Packet::PingReq.packet_type();
    assert_eq!(error, ProtocolError::NotAuthenticated { packet_type });
    assert_eq!(refusal(&greeting.sent()), Some(ReasonCode::ProtocolError));
    assert!(greeting.server.is_closing());

    let mut greeting = Greeting::new(connect_with("m"));
    greeting.challenge(b"one");
    greeting.sent();
    let bye = Packet::Disconnect(Box::default());
    assert!(matches!(greeting.feed(&bye), Ok(Some(Seen::Disconnect(_)))));
    assert!(greeting.server.is_closing());
    assert_eq!(greeting.sent(), []);
}

#[test]
fn a_step_with_another_method_or_reason_ends_the_connection() {
    // [U5-090] [5:MQTT-4.12.0-5] [5:MQTT-4.12.0-3]
    let wrong = [
        (
            auth(ReasonCode::ContinueAuthentication, "other", b""),
            ProtocolError::AuthenticationMethod,
        ),
        (
            auth(ReasonCode::ReAuthenticate, "m", b""),
            ProtocolError::AuthReason {
                reason: ReasonCode::ReAuthenticate,
            },
        ),
        (
            auth(ReasonCode::Success, "m", b""),
            ProtocolError::AuthReason {
                reason: ReasonCode::Success,
            },
        ),
    ];
    for (packet, error) in wrong {
        let mut greeting = Greeting::new(connect_with("m"));
        greeting.challenge(b"one");
        greeting.sent();
        assert_eq!(greeting.feed(&packet).err(), Some(error));
        assert_eq!(refusal(&greeting.sent()), Some(ReasonCode::ProtocolError));
    }
}

#[test]
fn a_client_that_does_not_go_on_is_refused_in_time() {
    let mut greeting = Greeting::new(connect_with("m"));
    greeting.challenge(b"one");
    greeting.sent();
    let deadline = greeting.server.poll_timeout().expect("armed");
    assert_eq!(deadline, Tick(NOW.0 + 10_000));
    let kind = greeting.server.handle_timeout(deadline);
    assert_eq!(kind, Some(TimeoutKind::Connect));
    assert_eq!(refusal(&greeting.sent()), Some(ReasonCode::NotAuthorized));
}

#[test]
fn an_auth_larger_than_the_client_takes_is_not_written() {
    let mut connect = connect_with("m");
    connect.properties.packet_size_max = NonZeroU32::new(20);
    let mut greeting = Greeting::new(connect);
    let long = data(b"twenty bytes and more");
    let challenged = greeting.server.challenge(long, AckProperties::new());
    assert_eq!(challenged, Err(UsageError::TooLarge));
    assert_eq!(greeting.sent(), []);
    // The caller can still do without.
    greeting.challenge(b"x");
}

#[test]
fn words_give_way_to_the_size_of_an_auth_and_to_the_clients_wish() {
    // [5:MQTT-3.15.2-2] [5:MQTT-3.15.2-3] [5:MQTT-3.1.2-29]
    let words = || {
        let mut properties = AckProperties::new();
        properties.reason_string = Some(ByteStr::from("because"));
        properties
            .user_properties
            .push(UserProperty::new("name", "value"));
        properties
    };
    let said = |connect: Connect| {
        let mut greeting = Greeting::new(connect);
        let challenged = greeting.server.challenge(None, words());
        challenged.expect("the client waits");
        match greeting.sent().remove(0) {
            Packet::Auth(auth) => auth.properties,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said(connect_with("m")), words());
    // Fixed header 2, reason 1, property length 1, method 4, reason string 10, user property 14.
    let mut connect = connect_with("m");
    connect.properties.packet_size_max = NonZeroU32::new(31);
    assert_eq!(said(connect).reason_string, Some(ByteStr::from("because")));
    let mut connect = connect_with("m");
    connect.properties.packet_size_max = NonZeroU32::new(17);
    assert_eq!(said(connect), AckProperties::new());
    let mut connect = connect_with("m");
    connect.properties.request_problem_information = false;
    assert_eq!(said(connect), AckProperties::new());
}

#[test]
fn a_client_answers_until_connack() {
    // [5:MQTT-4.12.0-3] [5:MQTT-4.12.0-5] [5:MQTT-3.1.2-30]
    let mut client = ClientConnection::<u32>::new(Epoch(1), &ClientConfig::default());
    client.connect(NOW, connect_with("m"), None).expect("first");
    let taken = |client: &mut ClientConnection<u32>| {
        let bytes = client.output().chunk().to_vec();
        client.output().advance(bytes.len());
        decoded(&bytes, V5)
    };
    taken(&mut client);
    let early = client.authenticate(NOW, None, AckProperties::new());
    assert_eq!(early, Err(UsageError::NoAuthenticationStep));
    let step = encoded(&auth(ReasonCode::ContinueAuthentication, "m", b"one"), V5);
    let input = client.handle_input(NOW, &step).expect("in turn");
    assert!(matches!(input.event, Some(ClientEvent::Auth(_))));
    let answered = client.authenticate(NOW, data(b"answer"), AckProperties::new());
    answered.expect("the server waits");
    let answer = auth(ReasonCode::ContinueAuthentication, "m", b"answer");
    assert_eq!(taken(&mut client), [answer]);
    let mut connack = ConnAck::new(ReasonCode::Success);
    connack.properties.authentication = Some(authentication("m", b"last"));
    let bytes = encoded(&Packet::ConnAck(Box::new(connack)), V5);
    let input = client.handle_input(NOW, &bytes).expect("valid");
    assert!(matches!(input.event, Some(ClientEvent::ConnAck(_))));
    assert!(client.is_connected());
}

#[test]
fn a_connack_that_names_another_method_is_refused() {
    // [5:MQTT-4.12.0-5] [5:MQTT-4.12.0-6]
    let named = |text: Option<&str>| text.map(|text| authentication(text, b""));
    for (asked, said) in [
        (Some("m"), Some("other")),
        (Some("m"), None),
        (None, Some("m")),
    ] {
        let mut connect = Connect::new(V5, "c");
        connect.properties.authentication = named(asked);
        let mut client = ClientConnection::<u32>::new(Epoch(1), &ClientConfig::default());
        client.connect(NOW, connect, None).expect("first");
        let mut connack = ConnAck::new(ReasonCode::Success);
        connack.properties.authentication = named(said);
        let bytes = encoded(&Packet::ConnAck(Box::new(connack)), V5);
        let error = client.handle_input(NOW, &bytes).err();
        assert_eq!(
            error,
            Some(ProtocolError::AuthenticationMethod),
            "{asked:?} {said:?}"
        );
    }
}

#[test]
fn a_new_authentication_goes_on_beside_other_traffic() {
    // [U5-093] [5:MQTT-4.12.1-1]
    let mut side = authenticated(Role::Server);
    let seen = side.feed_one(&auth(ReasonCode::ReAuthenticate, "m", b"again"));
    assert!(matches!(seen, Seen::Auth(auth) if auth.reason == ReasonCode::ReAuthenticate));
    let token = side
        .feed_one(&publish(QoS::AtLeastOnce, 1, "meanwhile"))
        .token();
    side.ack(token);
    assert_eq!(side.sent(), [pub_ack(1)]);
    let challenged = side.server().challenge(data(b"one"), AckProperties::new());
    challenged.expect("the client waits");
    let one = auth(ReasonCode::ContinueAuthentication, "m", b"one");
    assert_eq!(side.sent(), [one]);
    side.feed_one(&auth(ReasonCode::ContinueAuthentication, "m", b"answer"));
    assert!(side.poll_timeout().is_some());
    let confirmed = side
        .server()
        .confirm_authentication(None, AckProperties::new());
    confirmed.expect("the client waits");
    match side.sent_one() {
        Packet::Auth(auth) => assert_eq!(auth.reason, ReasonCode::Success),
        other => panic!("{other:?}"),
    }
    assert_eq!(side.poll_timeout(), None);
    // And once more.
    side.feed_one(&auth(ReasonCode::ReAuthenticate, "m", b"again"));
}

#[test]
fn a_client_authenticates_itself_anew() {
    // [5:MQTT-4.12.1-1]
    let mut side = authenticated(Role::Client);
    let now = side.now;
    let begun = side
        .client()
        .reauthenticate(now, data(b"again"), AckProperties::new());
    begun.expect("connected");
    assert_eq!(
        side.sent(),
        [auth(ReasonCode::ReAuthenticate, "m", b"again")]
    );
    let twice = side
        .client()
        .reauthenticate(now, None, AckProperties::new());
    assert_eq!(twice, Err(UsageError::NoAuthenticationStep));
    side.feed_one(&auth(ReasonCode::ContinueAuthentication, "m", b"one"));
    side.feed_one(&publish(QoS::AtMostOnce, 1, "meanwhile"));
    let answered = side
        .client()
        .authenticate(now, data(b"answer"), AckProperties::new());
    answered.expect("the server waits");
    let answer = auth(ReasonCode::ContinueAuthentication, "m", b"answer");
    assert_eq!(side.sent(), [answer]);
    let seen = side.feed_one(&auth(ReasonCode::Success, "m", b""));
    assert!(matches!(seen, Seen::Auth(auth) if auth.reason == ReasonCode::Success));
    assert_eq!(side.poll_timeout(), None);
}

#[test]
fn a_client_without_a_method_sends_no_auth() {
    // [5:MQTT-4.12.0-7]
    let mut side = Driven::connected(Role::Client, V5);
    let now = side.now;
    let begun = side
        .client()
        .reauthenticate(now, None, AckProperties::new());
    assert_eq!(begun, Err(UsageError::NoAuthenticationStep));
    let answered = side.client().authenticate(now, None, AckProperties::new());
    assert_eq!(answered, Err(UsageError::NoAuthenticationStep));
    assert_eq!(side.sent(), []);
}

#[test]
fn an_auth_that_nobody_waits_for_ends_the_connection() {
    // [U5-090] [5:MQTT-4.12.0-7]
    for role in [Role::Client, Role::Server] {
        let mut side = Driven::connected(role, V5);
        let error = side.feed(&auth(ReasonCode::ContinueAuthentication, "m", b""));
        assert_eq!(error.err(), Some(ProtocolError::UnexpectedAuth));

        let mut side = authenticated(role);
        let error = side.feed(&auth(ReasonCode::ContinueAuthentication, "m", b""));
        assert_eq!(error.err(), Some(ProtocolError::UnexpectedAuth));

        let mut side = authenticated(role);
        let reason = match role {
            Role::Client => ReasonCode::ReAuthenticate,
            Role::Server => ReasonCode::Success,
        };
        let error = side.feed(&auth(reason, "m", b""));
        assert_eq!(error.err(), Some(ProtocolError::AuthReason { reason }));
    }
    let mut side = authenticated(Role::Server);
    side.feed_one(&auth(ReasonCode::ReAuthenticate, "m", b""));
    let error = side.feed(&auth(ReasonCode::ReAuthenticate, "m", b""));
    assert_eq!(error.err(), Some(ProtocolError::UnexpectedAuth));
}

#[test]
fn a_new_authentication_that_fails_or_takes_too_long_ends_the_connection() {
    // [5:MQTT-4.12.1-2]
    let mut side = authenticated(Role::Server);
    side.feed_one(&auth(ReasonCode::ReAuthenticate, "m", b""));
    let ended = side.server().disconnect(ReasonCode::NotAuthorized);
    ended.expect("a code of a server");
    assert!(side.is_closing());
    assert!(matches!(
        side.sent_one(),
        Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::NotAuthorized
    ));

    let mut side = authenticated(Role::Server);
    side.feed_one(&auth(ReasonCode::ReAuthenticate, "m", b""));
    let deadline = side.poll_timeout().expect("armed");
    assert_eq!(side.wait_until(deadline), Some(TimeoutKind::Authentication));
    assert!(side.is_closing());
    assert!(matches!(
        side.sent_one(),
        Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::NotAuthorized
    ));

    let mut side = authenticated(Role::Client);
    let now = side.now;
    let begun = side
        .client()
        .reauthenticate(now, None, AckProperties::new());
    begun.expect("connected");
    let deadline = side.poll_timeout().expect("armed");
    assert_eq!(side.wait_until(deadline), Some(TimeoutKind::Authentication));
    assert!(side.is_closing());
}

#[test]
fn a_new_authentication_has_its_time_while_the_client_is_read() {
    let mut side = authenticated(Role::Server);
    side.feed_one(&auth(ReasonCode::ReAuthenticate, "m", b""));
    let challenged = side.server().challenge(None, AckProperties::new());
    challenged.expect("the client waits");
    side.sent();
    // What the client says may wait unseen.
    side.server().pause_input(NOW);
    let later = Tick(NOW.0 + 60_000);
    assert_eq!(side.wait_until(later), None);
    side.server().resume_input(later);
    let deadline = Tick(later.0 + 10_000);
    assert_eq!(side.poll_timeout(), Some(deadline));
    side.feed_one(&auth(ReasonCode::ContinueAuthentication, "m", b""));
    let confirmed = side
        .server()
        .confirm_authentication(None, AckProperties::new());
    confirmed.expect("the client waits");
    side.server().pause_input(later);
    side.server().resume_input(later);
    assert_eq!(side.poll_timeout(), None);
}

#[test]
fn before_mqtt_5_a_method_in_connect_means_nothing() {
    let mut setup = Setup::new(ProtocolVersion::V311);
    setup.connect.properties.authentication = Some(authentication("m", b""));
    let mut side = setup.connect(Role::Client);
    let now = side.now;
    let begun = side
        .client()
        .reauthenticate(now, None, AckProperties::new());
    assert_eq!(begun, Err(UsageError::NoAuthenticationStep));
}

#[test]
fn response_information_is_told_to_those_that_asked() {
    // [5:MQTT-3.1.2-28]
    for asks in [false, true] {
        let mut connect = Connect::new(V5, "c");
        connect.properties.request_response_information = asks;
        let mut greeting = Greeting::new(connect);
        let mut accept = Accept::new_session();
        accept.properties.response_information = Some(ByteStr::from("answers/c"));
        greeting.server.accept(NOW, accept).expect("CONNECT waits");
        match &greeting.sent()[..] {
            [Packet::ConnAck(connack)] => {
                assert_eq!(connack.properties.response_information.is_some(), asks);
            }
            other => panic!("{other:?}"),
        }
    }
}
