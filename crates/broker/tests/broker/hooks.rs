//! What an embedder plugs in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};
use whimbrel_broker::codec::{Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode};
use whimbrel_broker::topic::{SubscriptionFilter, TopicName};
use whimbrel_broker::{
    Access, Admission, Authenticator, Authorizer, Broker, ClientInfo, ConnectRequest, Event,
    EventMask, IncomingPublish, Interception, Interceptor, Observer, Refusal,
};

use crate::connecting::will;
use crate::support::{Client, builder, config, connect, start, topic_name, until_stats, within};

/// Lets in who knows the password, panics for one user and never answers another.
struct Passwords {
    gave_up: Arc<Notify>,
}

/// Tells when an unanswered request is dropped.
struct Waiting(Arc<Notify>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Authenticator for Passwords {
    async fn authenticate(&self, request: &ConnectRequest) -> Admission {
        assert!(request.peer.is_some_and(|peer| peer.ip().is_loopback()));
        match request.user_name.as_deref() {
            Some("panics") => panic!("on purpose"),
            Some("unsayable") => Admission::Refuse(ReasonCode::Success),
            Some("waits") => {
                let _waiting = Waiting(Arc::clone(&self.gave_up));
                std::future::pending().await
            }
            Some("alice") if request.password.as_deref() == Some(b"secret") => {
                tokio::task::yield_now().await;
                Admission::Accept
            }
            _ => Admission::Refuse(ReasonCode::BadUserNameOrPassword),
        }
    }
}

fn login(user_name: &str, password: &'static [u8]) -> Connect {
    let mut connect = connect("client");
    connect.user_name = Some(user_name.into());
    connect.password = Some(password.into());
    connect
}

async fn with_passwords() -> (Broker, Arc<Notify>) {
    let gave_up = Arc::new(Notify::new());
    let passwords = Passwords {
        gave_up: Arc::clone(&gave_up),
    };
    (start(builder().authenticator(passwords)).await, gave_up)
}

#[tokio::test]
async fn the_authenticator_decides_who_connects() {
    let (broker, _) = with_passwords().await;
    Client::connect_with(&broker, login("alice", b"secret")).await;
    let reason = Client::refused(&broker, login("alice", b"wrong")).await;
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    let reason = Client::refused(&broker, Connect::new(ProtocolVersion::V311, "old")).await;
    assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    assert_eq!(broker.stats().await.shards.connects, 1);
}

#[tokio::test]
async fn an_authenticator_that_panics_or_says_the_unsayable_refuses() {
    let (broker, _) = with_passwords().await;
    let reason = Client::refused(&broker, login("panics", b"")).await;
    assert_eq!(reason, ReasonCode::UnspecifiedError);
    let reason = Client::refused(&broker, login("unsayable", b"")).await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
    Client::connect_with(&broker, login("alice", b"secret")).await;
}

#[tokio::test]
async fn a_pending_decision_is_dropped_when_the_client_goes() {
    let (broker, gave_up) = with_passwords().await;
    let mut client = Client::open(&broker, ProtocolVersion::V5).await;
    client
        .send(Packet::Connect(Box::new(login("waits", b""))))
        .await;
    drop(client);
    within("the request to be dropped", gave_up.notified()).await;
    let stats = broker.stats().await;
    assert_eq!((stats.shards.connects, stats.handshake_timeouts), (0, 0));
}

#[tokio::test]
async fn a_pending_decision_ends_with_the_connect_timeout() {
    let mut config = config();
    config.core.connection.handshake_timeout_ms = 30;
    let gave_up = Arc::new(Notify::new());
    let passwords = Passwords {
        gave_up: Arc::clone(&gave_up),
    };
    let broker = start(builder().config(config).authenticator(passwords)).await;
    let mut client = Client::open(&broker, ProtocolVersion::V5).await;
    client
        .send(Packet::Connect(Box::new(login("waits", b""))))
        .await;
    match client.receive().await {
        Packet::ConnAck(connack) => assert_eq!(connack.reason, ReasonCode::ServerUnavailable),
        other => panic!("not a CONNACK: {other:?}"),
    }
    client.expect_end().await;
    assert_eq!(broker.stats().await.handshake_timeouts, 1);
}

/// Topics and filters that begin with the client's id are its own; counts how often it is asked.
#[derive(Clone, Default)]
struct OwnTopics {
    asked: Arc<AtomicUsize>,
    generation: Arc<AtomicU64>,
}

impl Authorizer for OwnTopics {
    fn may_publish(&self, client: &ClientInfo, topic: &TopicName) -> Access {
        assert!(topic.as_str() != "panic", "on purpose");
        self.asked.fetch_add(1, Ordering::Relaxed);
        own(client, topic.as_str())
    }

    fn may_subscribe(&self, client: &ClientInfo, filter: SubscriptionFilter<'_>) -> Access {
        own(client, filter.filter().as_str())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

fn own(client: &ClientInfo, text: &str) -> Access {
    if text.starts_with(&*client.client_id) {
        Access::Allow
    } else {
        Access::Deny
    }
}

#[tokio::test]
async fn the_authorizer_decides_on_topics_and_filters() {
    let broker = start(builder().authorizer(OwnTopics::default())).await;
    let mut client = Client::connect(&broker, "alice").await;
    client.subscribe("alice/#", QoS::AtMostOnce).await;
    client
        .subscribe("$share/group/alice/x", QoS::AtMostOnce)
        .await;
    let code = client.try_subscribe("#", QoS::AtMostOnce).await;
    assert_eq!(code, ReasonCode::NotAuthorized);
    let reason = client.publish("bob/x", b"").await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
    let reason = client.publish("panic", b"").await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
    client.expect_silence().await;
}

#[tokio::test]
async fn the_authorizer_is_asked_once_a_topic_until_its_rules_change() {
    let authorizer = OwnTopics::default();
    let broker = start(builder().authorizer(authorizer.clone())).await;
    let mut client = Client::connect(&broker, "alice").await;
    for _ in 0..5 {
        client.publish("alice/x", b"").await;
    }
    assert_eq!(authorizer.asked.load(Ordering::Relaxed), 1);
    authorizer.generation.fetch_add(1, Ordering::Relaxed);
    client.publish("alice/x", b"").await;
    assert_eq!(authorizer.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_will_that_may_not_be_published_is_dropped() {
    let broker = start(builder().authorizer(OwnTopics::default())).await;
    let mut watcher = broker.attach("watcher").await.expect("attached");
    let filter = whimbrel_broker::LocalSubscribe {
        filter: "#".into(),
        options: whimbrel_broker::codec::SubscriptionOptions::new(QoS::AtLeastOnce),
    };
    watcher.subscribe([filter]).await.expect("attached");
    for (id, topic) in [("mallory", "alice/will"), ("alice", "alice/will")] {
        let mut connect = connect(id);
        connect.will = Some(will(topic, b"gone"));
        let (client, _) = Client::connect_with(&broker, connect).await;
        client.abort();
        until_stats(&broker, |stats| stats.shards.connections == 1).await;
    }
    let delivery = within("the will", watcher.recv()).await.expect("a message");
    assert_eq!(delivery.message.topic().as_str(), "alice/will");
    assert_eq!(broker.stats().await.shards.queued_messages, 0);
}

/// Rewrites, drops, refuses, disconnects or panics, as the topic says.
struct ByTopic;

impl Interceptor for ByTopic {
    fn on_publish(&self, client: &ClientInfo, publish: &IncomingPublish<'_>) -> Interception {
        match publish.topic().as_str() {
            "replace" => {
                let payload = [client.client_id.as_bytes(), publish.payload()].concat();
                let replaced = Publish::builder(topic_name("replaced")).payload(payload);
                Interception::Replace(Box::new(replaced.build()))
            }
            "discard" => Interception::Discard,
            "refuse" => Interception::Refuse(ReasonCode::PayloadFormatInvalid),
            "disconnect" => Interception::Disconnect(ReasonCode::AdministrativeAction),
            "redirect" => {
                let refusal = Refusal::use_another_server("a.example b.example");
                Interception::DisconnectWith(Box::new(refusal))
            }
            "panic" => panic!("on purpose"),
            _ => Interception::Pass,
        }
    }
}

#[tokio::test]
async fn the_interceptor_may_send_a_client_to_another_server() {
    // [U5-109]
    let broker = start(builder().interceptor(ByTopic)).await;
    let mut client = Client::connect(&broker, "client").await;
    let publish = client.message("redirect", b"!");
    client.send(Packet::Publish(publish)).await;
    match client.receive().await {
        Packet::Disconnect(disconnect) => {
            assert_eq!(disconnect.reason, ReasonCode::UseAnotherServer);
            let servers = disconnect.server_reference;
            assert_eq!(servers.as_deref(), Some("a.example b.example"));
        }
        other => panic!("not a DISCONNECT: {other:?}"),
    }
    client.expect_end().await;
}

#[tokio::test]
async fn the_interceptor_may_replace_discard_refuse_and_disconnect() {
    let broker = start(builder().interceptor(ByTopic)).await;
    let mut watcher = Client::connect(&broker, "watcher").await;
    watcher.subscribe("#", QoS::AtMostOnce).await;
    let mut client = Client::connect(&broker, "client").await;
    for (topic, reason) in [
        ("replace", ReasonCode::Success),
        ("discard", ReasonCode::Success),
        ("refuse", ReasonCode::PayloadFormatInvalid),
        ("panic", ReasonCode::ImplementationSpecificError),
        ("pass", ReasonCode::Success),
    ] {
        assert_eq!(client.publish(topic, b"!").await, reason, "{topic}");
    }
    let publish = watcher.expect_publish().await;
    assert_eq!(publish.topic().expect("a topic").as_str(), "replaced");
    assert_eq!(publish.payload(), b"client!");
    let publish = watcher.expect_publish().await;
    assert_eq!(publish.topic().expect("a topic").as_str(), "pass");
    let publish = client.message("disconnect", b"");
    client.send(Packet::Publish(publish)).await;
    let reason = client.expect_disconnect().await;
    assert_eq!(reason, ReasonCode::AdministrativeAction);
}

/// Hands the events on, and panics at one.
struct Forwarding(mpsc::Sender<Event>);

impl Observer for Forwarding {
    fn interest(&self) -> EventMask {
        EventMask::CONNECTED | EventMask::SUBSCRIBED | EventMask::SESSION_ENDED
    }

    fn on_events(&self, events: &[Event]) {
        for event in events {
            assert!(
                !matches!(event, Event::Connected { client_id, .. } if client_id == "panics"),
                "on purpose"
            );
            self.0.try_send(event.clone()).expect("room");
        }
    }
}

#[tokio::test]
async fn the_observer_learns_what_it_asked_for_in_order() {
    let (sender, mut events) = mpsc::channel(100);
    let broker = start(builder().observer(Forwarding(sender))).await;
    Client::connect(&broker, "panics").await.disconnect().await;
    let mut client = Client::connect(&broker, "client").await;
    client.subscribe("a/b", QoS::AtMostOnce).await;
    client.disconnect().await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = within("an event", events.recv()).await.expect("an event");
        if !matches!(&event, Event::SessionEnded { client_id } if client_id == "panics") {
            seen.push(event);
        }
    }
    assert_eq!(
        seen,
        [
            Event::Connected {
                client_id: "client".into(),
                session_present: false
            },
            Event::Subscribed {
                client_id: "client".into(),
                filter: "a/b".into()
            },
            Event::SessionEnded {
                client_id: "client".into()
            },
        ]
    );
}
