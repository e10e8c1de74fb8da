//! Enhanced authentication, and what CONNACK tells.

use std::future::{pending, ready};

use whimbrel_broker::bytes::Bytes;
use whimbrel_broker::codec::{
    AckProperties, Auth, Authentication, ConnAck, Connect, MessageProperties, Packet,
    PayloadFormat, ProtocolVersion, QoS, ReasonCode, UserProperty,
};
use whimbrel_broker::{
    Acceptance, Admission, AuthenticationExchange, AuthenticationStep, Authenticator, Broker,
    ClientInfo, ConnectRequest, Deciding, Refusal,
};

use crate::connecting::will;
use crate::support::{Client, builder, config, connect, start};

/// Lets everybody in who doubles the number it asks; has words for some client ids.
struct Doubling;

struct Exchange {
    asked: bool,
}

impl Authenticator for Doubling {
    async fn authenticate(&self, request: &ConnectRequest) -> Admission {
        match &*request.client_id {
            "temporary" => {
                Admission::RefuseWith(Box::new(Refusal::use_another_server("a.example b.example")))
            }
            "moved" => {
                let mut refusal = Refusal::server_moved("c.example:1884");
                refusal.reason_string = Some("we have moved".into());
                Admission::RefuseWith(Box::new(refusal))
            }
            "unsayable" => Admission::RefuseWith(Box::new(Refusal::new(ReasonCode::Success))),
            "welcome" => {
                let mut acceptance = Acceptance::default();
                acceptance.server_keep_alive_secs = Some(7);
                acceptance.response_information = Some("answers".into());
                acceptance.reason_string = Some("nice to see you".into());
                acceptance
                    .user_properties
                    .push(UserProperty::new("region", "north"));
                Admission::AcceptWith(Box::new(acceptance))
            }
            _ => Admission::Accept,
        }
    }

    fn begin_exchange(
        &self,
        method: &str,
        client: &ClientInfo,
    ) -> Option<Box<dyn AuthenticationExchange>> {
        assert!(client.peer.is_some());
        (method == "double").then(|| Box::new(Exchange { asked: false }) as Box<_>)
    }
}

impl AuthenticationExchange for Exchange {
    fn step(&mut self, data: Option<Bytes>) -> Deciding<'_> {
        let step = match data.as_deref() {
            Some(b"panic") => panic!("on purpose"),
            Some(b"never") => return Box::pin(pending()),
            Some(b"elsewhere") => {
                let mut refusal = Refusal::server_moved("c.example");
                refusal.reason_string = Some("we have moved".into());
                AuthenticationStep::Decide(Admission::RefuseWith(Box::new(refusal)))
            }
            Some(b"yield") => {
                return Box::pin(async {
                    tokio::task::yield_now().await;
                    AuthenticationStep::Continue(None)
                });
            }
            _ if !self.asked => {
                self.asked = true;
                AuthenticationStep::Continue(Some(Bytes::from_static(b"21")))
            }
            Some(b"42") => {
                let mut acceptance = Acceptance::default();
                acceptance.authentication_data = Some(Bytes::from_static(b"well done"));
                AuthenticationStep::Decide(Admission::AcceptWith(Box::new(acceptance)))
            }
            _ => AuthenticationStep::Decide(Admission::Refuse(ReasonCode::BadUserNameOrPassword)),
        };
        Box::pin(ready(step))
    }
}

fn method_with(data: &'static [u8]) -> Authentication {
    Authentication {
        method: "double".into(),
        data: Some(Bytes::from_static(data)),
    }
}

fn auth(reason: ReasonCode, data: &'static [u8]) -> Packet {
    Packet::Auth(Box::new(Auth {
        reason,
        authentication: method_with(data),
        properties: AckProperties::new(),
    }))
}

fn enhanced(data: &'static [u8]) -> Connect {
    let mut connect = connect("client");
    connect.properties.authentication = Some(method_with(data));
    connect
}

async fn broker() -> Broker {
    start(builder().authenticator(Doubling)).await
}

async fn open(broker: &Broker, connect: Connect) -> Client {
    let mut client = Client::open(broker, ProtocolVersion::V5).await;
    client.send(Packet::Connect(Box::new(connect))).await;
    client
}

async fn connack(client: &mut Client) -> ConnAck {
    match client.receive().await {
        Packet::ConnAck(connack) => *connack,
        other => panic!("not a CONNACK: {other:?}"),
    }
}

async fn refused(client: &mut Client) -> ReasonCode {
    let reason = connack(client).await.reason;
    client.expect_end().await;
    reason
}

/// The data of the AUTH that comes next, and its reason code.
async fn asked(client: &mut Client) -> (ReasonCode, Option<Bytes>) {
    match client.receive().await {
        Packet::Auth(auth) => {
            assert_eq!(&*auth.authentication.method, "double");
            (auth.reason, auth.authentication.data)
        }
        other => panic!("not an AUTH: {other:?}"),
    }
}

async fn let_in(broker: &Broker) -> Client {
    let mut client = open(broker, enhanced(b"hello")).await;
    let (reason, data) = asked(&mut client).await;
    assert_eq!(reason, ReasonCode::ContinueAuthentication);
    assert_eq!(data.as_deref(), Some(&b"21"[..]));
    client
        .send(auth(ReasonCode::ContinueAuthentication, b"42"))
        .await;
    let connack = connack(&mut client).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    let said = connack.properties.authentication;
    assert_eq!(said, Some(method_with(b"well done")));
    client
}

#[tokio::test]
async fn a_client_is_let_in_step_by_step() {
    // [5:MQTT-4.12.0-2] [5:MQTT-4.12.0-5]
    let broker = broker().await;
    let mut client = let_in(&broker).await;
    client.subscribe("t", QoS::AtLeastOnce).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn a_wrong_answer_is_refused_in_connack() {
    // [5:MQTT-4.12.0-4]
    let broker = broker().await;
    let mut client = open(&broker, enhanced(b"hello")).await;
    asked(&mut client).await;
    client
        .send(auth(ReasonCode::ContinueAuthentication, b"43"))
        .await;
    let reason = refused(&mut client).await;
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
}

#[tokio::test]
async fn an_unknown_method_is_refused() {
    // [5:MQTT-4.12.0-1]
    let mut connect = enhanced(b"hello");
    connect.properties.authentication = Some(Authentication {
        method: "unknown".into(),
        data: None,
    });
    for broker in [broker().await, start(builder()).await] {
        let mut client = open(&broker, connect.clone()).await;
        let reason = refused(&mut client).await;
        assert_eq!(reason, ReasonCode::BadAuthenticationMethod);
    }
}

#[tokio::test]
async fn an_exchange_that_panics_refuses() {
    let broker = broker().await;
    let mut client = open(&broker, enhanced(b"panic")).await;
    assert_eq!(refused(&mut client).await, ReasonCode::UnspecifiedError);
    let_in(&broker).await;
}

#[tokio::test]
async fn an_answer_sent_ahead_waits_for_its_question() {
    let broker = broker().await;
    let mut client = open(&broker, enhanced(b"yield")).await;
    client
        .send(auth(ReasonCode::ContinueAuthentication, b"ahead"))
        .await;
    let (_, data) = asked(&mut client).await;
    assert_eq!(data, None);
    let (_, data) = asked(&mut client).await;
    assert_eq!(data.as_deref(), Some(&b"21"[..]));
    client
        .send(auth(ReasonCode::ContinueAuthentication, b"42"))
        .await;
    assert_eq!(connack(&mut client).await.reason, ReasonCode::Success);
}

#[tokio::test]
async fn a_packet_out_of_turn_ends_the_exchange() {
    // [5:MQTT-3.1.2-30]
    let broker = broker().await;
    let mut client = open(&broker, enhanced(b"hello")).await;
    asked(&mut client).await;
    client.send(Packet::PingReq).await;
    assert_eq!(refused(&mut client).await, ReasonCode::ProtocolError);
    let mut client = open(&broker, enhanced(b"hello")).await;
    asked(&mut client).await;
    client.send(Packet::Disconnect(Box::default())).await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_client_authenticates_itself_anew_while_it_is_served() {
    // [U5-093] [5:MQTT-4.12.1-1]
    let broker = broker().await;
    let mut client = let_in(&broker).await;
    for _ in 0..2 {
        client
            .send(auth(ReasonCode::ReAuthenticate, b"again"))
            .await;
        client
            .expect_asked(ReasonCode::ContinueAuthentication)
            .await;
        client.expect_silence().await;
        client
            .send(auth(ReasonCode::ContinueAuthentication, b"42"))
            .await;
        client.expect_asked(ReasonCode::Success).await;
    }
    // A step that takes its time does not hold up the rest.
    client
        .send(auth(ReasonCode::ReAuthenticate, b"never"))
        .await;
    client.expect_silence().await;
}

#[tokio::test]
async fn a_new_authentication_that_fails_ends_the_connection() {
    // [5:MQTT-4.12.1-2]
    let broker = broker().await;
    let mut client = let_in(&broker).await;
    client
        .send(auth(ReasonCode::ReAuthenticate, b"again"))
        .await;
    asked(&mut client).await;
    client
        .send(auth(ReasonCode::ContinueAuthentication, b"43"))
        .await;
    // CONNACK's code for it can't stand in DISCONNECT.
    let reason = client.expect_disconnect().await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

#[tokio::test]
async fn a_new_authentication_may_end_with_another_server_to_use() {
    // [5:MQTT-4.12.1-2] [U5-109]
    let broker = broker().await;
    let mut client = let_in(&broker).await;
    client
        .send(auth(ReasonCode::ReAuthenticate, b"elsewhere"))
        .await;
    match client.receive().await {
        Packet::Disconnect(disconnect) => {
            assert_eq!(disconnect.reason, ReasonCode::ServerMoved);
            assert_eq!(disconnect.server_reference.as_deref(), Some("c.example"));
            let words = disconnect.reason_string.as_deref();
            assert_eq!(words, Some("we have moved"));
        }
        other => panic!("not a DISCONNECT: {other:?}"),
    }
    client.expect_end().await;
}

#[tokio::test]
async fn a_step_that_is_never_decided_ends_with_the_connect_timeout() {
    let mut config = config();
    config.core.connection.handshake_timeout_ms = 300;
    let broker = start(builder().config(config).authenticator(Doubling)).await;
    let mut client = let_in(&broker).await;
    client
        .send(auth(ReasonCode::ReAuthenticate, b"never"))
        .await;
    let reason = client.expect_disconnect().await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

#[tokio::test]
async fn a_client_that_does_not_go_on_is_refused_in_time() {
    let mut config = config();
    config.core.connection.handshake_timeout_ms = 300;
    let broker = start(builder().config(config).authenticator(Doubling)).await;
    let mut client = open(&broker, enhanced(b"hello")).await;
    asked(&mut client).await;
    assert_eq!(refused(&mut client).await, ReasonCode::NotAuthorized);
    assert_eq!(broker.stats().await.handshake_timeouts, 1);
}

#[tokio::test]
async fn clients_are_sent_to_another_server() {
    // [U5-109]
    let broker = broker().await;
    let mut client = open(&broker, connect("temporary")).await;
    let said = connack(&mut client).await;
    assert_eq!(said.reason, ReasonCode::UseAnotherServer);
    let server = said.properties.server_reference;
    assert_eq!(server.as_deref(), Some("a.example b.example"));
    let mut client = open(&broker, connect("moved")).await;
    let said = connack(&mut client).await;
    assert_eq!(said.reason, ReasonCode::ServerMoved);
    assert_eq!(
        said.properties.server_reference.as_deref(),
        Some("c.example:1884")
    );
    assert_eq!(
        said.properties.reason_string.as_deref(),
        Some("we have moved")
    );
    let reason = Client::refused(&broker, connect("unsayable")).await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

#[tokio::test]
async fn connack_tells_what_the_authenticator_has_to_say() {
    let broker = broker().await;
    let mut asks = connect("welcome");
    asks.properties.request_response_information = true;
    let mut client = open(&broker, asks).await;
    let said = connack(&mut client).await.properties;
    assert_eq!(said.server_keep_alive_secs, Some(7));
    assert_eq!(said.response_information.as_deref(), Some("answers"));
    assert_eq!(said.reason_string.as_deref(), Some("nice to see you"));
    let region = UserProperty::new("region", "north");
    assert_eq!(said.user_properties.as_slice(), [region]);
}

#[tokio::test]
async fn response_topics_are_made_from_the_client_id() {
    // [5:MQTT-3.1.2-28]
    let mut config = config();
    config.response_topic_prefix = Some("answers/".to_owned());
    let broker = start(builder().config(config)).await;
    for (id, asks, told) in [
        ("c", true, Some("answers/c")),
        ("c", false, None),
        ("not/+/a/topic", true, None),
    ] {
        let mut connect = connect(id);
        connect.properties.request_response_information = asks;
        let mut client = open(&broker, connect).await;
        let said = connack(&mut client).await.properties.response_information;
        assert_eq!(said.as_deref(), told);
    }
}

#[tokio::test]
async fn a_will_that_is_not_what_it_is_said_to_be_is_refused() {
    // [U5-031]
    let connect = || {
        let mut will = will("t", b"\xff");
        let properties = MessageProperties::builder().payload_format(PayloadFormat::Utf8);
        will.properties = properties.build().expect("valid");
        let mut connect = connect("client");
        connect.will = Some(will);
        connect
    };
    Client::connect_with(&start(builder()).await, connect()).await;
    let mut config = config();
    config.core.payload_format_checked = true;
    let broker = start(builder().config(config)).await;
    let reason = Client::refused(&broker, connect()).await;
    assert_eq!(reason, ReasonCode::PayloadFormatInvalid);
}

impl Client {
    /// The next packet is an AUTH with this reason code.
    async fn expect_asked(&mut self, reason: ReasonCode) {
        assert_eq!(asked(self).await.0, reason);
    }
}
