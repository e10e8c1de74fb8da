//! The will: when it is published, when not, and as what.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use whimbrel_codec::topic::TopicName;
use whimbrel_codec::{Disconnect, MessageProperties, PayloadFormat, Publish, QoS, ReasonCode};

use crate::case::{Case, case};
use crate::client::{Client, ConnectOptions, Message};
use crate::context::Context;
use crate::link::{Event, Link};
use crate::proof::malformed_connect;
use crate::verdict::{Outcome, Stop};
use crate::wire::RawConnect;

pub(crate) const CASES: &[Case] = &[
    case!(
        will_is_published_when_the_connection_is_cut,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-8",
            "3:MQTT-3.1.2-9",
            "3:MQTT-3.1.3-1",
            "5:MQTT-3.1.2-7",
            "5:MQTT-3.1.2-8",
            "5:MQTT-3.1.2-9",
            "5:MQTT-3.1.3-1",
            "U5-083"
        ]
    ),
    case!(
        will_is_not_published_after_a_normal_disconnect,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-8",
            "3:MQTT-3.1.2-10",
            "3:MQTT-3.14.4-3",
            "5:MQTT-3.1.2-8",
            "5:MQTT-3.1.2-10",
            "5:MQTT-3.14.4-3"
        ]
    ),
    case!(
        will_is_published_once_only,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-10", "3:MQTT-3.1.2-12", "5:MQTT-3.1.2-10"]
    ),
    case!(
        will_is_published_when_the_broker_closes_for_an_error,
        [V311, V5],
        ["3:MQTT-3.1.2-8", "5:MQTT-3.1.2-8", "U5-083"]
    ),
    case!(
        will_is_published_when_the_connection_is_taken_over,
        [V311, V5],
        ["3:MQTT-3.1.2-8", "5:MQTT-3.1.2-8", "U5-083"]
    ),
    case!(
        will_of_a_session_that_goes_on_is_published_when_it_is_taken_over,
        [V311, V5],
        ["3:MQTT-3.1.2-8", "5:MQTT-3.1.2-8", "U5-083"]
    ),
    case!(
        delayed_will_is_published_when_the_takeover_finds_no_session,
        [V5],
        ["5:MQTT-3.1.2-8", "U5-030"]
    ),
    case!(
        will_of_a_refused_connect_is_not_published,
        [V311, V5],
        ["3:MQTT-3.1.2-8", "3:MQTT-3.1.4-5", "5:MQTT-3.1.4-6"]
    ),
    case!(
        will_without_retain_is_an_ordinary_message,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-16", "5:MQTT-3.1.2-14"]
    ),
    case!(
        will_with_retain_is_retained,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-17", "5:MQTT-3.1.2-15"]
    ),
    case!(
        disconnect_with_will_publishes_it,
        [V5],
        ["5:MQTT-3.1.2-8", "U5-083"]
    ),
    case!(
        disconnect_with_an_error_publishes_the_will,
        [V5],
        ["5:MQTT-3.1.2-8", "U5-083"]
    ),
    case!(will_waits_for_its_delay, [V5], ["5:MQTT-3.1.2-8", "U5-030"]),
    case!(
        will_is_published_when_the_session_ends_before_the_delay,
        [V5],
        ["5:MQTT-3.1.2-8", "U5-030"]
    ),
    case!(
        will_is_cancelled_when_the_client_returns_within_the_delay,
        [V5],
        ["5:MQTT-3.1.2-8", "5:MQTT-3.1.3-9"]
    ),
    case!(
        will_is_published_when_a_clean_start_ends_the_session_within_the_delay,
        [V5],
        ["5:MQTT-3.1.2-8", "U5-030"]
    ),
    case!(
        will_properties_are_those_of_the_message,
        [V5],
        [
            "5:MQTT-3.1.3-10",
            "5:MQTT-3.3.2-4",
            "5:MQTT-3.3.2-15",
            "5:MQTT-3.3.2-16",
            "5:MQTT-3.3.2-20"
        ]
    ),
    case!(
        message_expiry_of_the_will_runs_from_its_publication,
        [V5],
        ["U5-032"]
    ),
    case!(
        will_payload_that_is_no_string_may_be_refused,
        [V5],
        ["U5-031"]
    ),
];

async fn will_is_published_when_the_connection_is_cut(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    for qos in [QoS::AtMostOnce, context.announced().properties.maximum_qos] {
        let client = world.with_will(|will| will.qos(qos)).connect().await?;
        client.cut();
        let will = world.published().await?;
        context.check_eq("a will of QoS", &qos, &will.qos())?;
    }
    Ok(())
}

async fn will_is_not_published_after_a_normal_disconnect(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    world.plain().connect().await?.cut();
    world.published().await?;
    world.plain().connect().await?.disconnect().await?;
    world.not_published().await
}

async fn will_is_published_once_only(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    world.plain().connect().await?.cut();
    world.published().await?;
    // The next connection of the client has none.
    Client::connect(&context, "c").await?.cut();
    world.not_published().await
}

async fn will_is_published_when_the_broker_closes_for_an_error(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let mut client = world.plain().connect().await?;
    client.expect_alive().await?;
    // Packet type 0.
    client.send_bytes(&[0x00, 0x00]).await?;
    client.expect_closed().await?;
    world.published().await.map(drop)
}

/// In 5.0 the note in 3.1.3.2.2 says so for a delay of 0 (C1); in 3.1.1 no DISCONNECT has come (C3).
async fn will_is_published_when_the_connection_is_taken_over(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let old = world.plain().connect().await?;
    let new = Client::connect(&context, "c").await?;
    world.published().await?;
    drop(old);
    new.disconnect().await
}

/// The same with a session that both connections share.
async fn will_of_a_session_that_goes_on_is_published_when_it_is_taken_over(
    context: Context,
) -> Outcome {
    context.need_sessions(60)?;
    let mut world = World::new(&context).await?;
    let old = world.plain().persistent().connect().await?;
    let options = Client::options(&context, "c").persistent();
    let new = options.connect().await?;
    world.published().await?;
    drop(old);
    new.disconnect().await
}

/// Without an expiry the old session ends with its connection, whatever the new one asks for (C2).
async fn delayed_will_is_published_when_the_takeover_finds_no_session(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let old = world.delayed(60).connect().await?;
    let options = Client::options(&context, "c").clean_start(false);
    let new = options.connect().await?;
    world.published().await?;
    drop(old);
    new.disconnect().await
}

async fn will_of_a_refused_connect_is_not_published(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let topic = world.topic.clone();
    let legal = RawConnect::new(&context, "c").with_will(topic, "will");
    let mut link = Link::open(&context, "twin").await?;
    link.send_bytes(&legal.build()).await?;
    link.expect_accepted().await?;
    drop(link);
    world.published().await?;
    let refused = RawConnect {
        flags: legal.flags | 0x01,
        ..legal
    };
    let mut link = Link::open(&context, "refused").await?;
    link.send_bytes(&refused.build()).await?;
    link.expect_connect_refused(malformed_connect(&context))
        .await?;
    world.not_published().await
}

async fn will_without_retain_is_an_ordinary_message(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    world.plain().connect().await?.cut();
    let will = world.published().await?;
    context.check_eq("RETAIN", &false, &will.retain())?;
    let mut later = Client::connect(&context, "l").await?;
    later.subscribe(&world.topic, QoS::AtMostOnce).await?;
    later.expect_no_publish().await
}

async fn will_with_retain_is_retained(context: Context) -> Outcome {
    context.need_retain()?;
    let mut world = World::new(&context).await?;
    world.with_will(Message::retained).connect().await?.cut();
    world.published().await?;
    let mut later = Client::connect(&context, "l").await?;
    later.subscribe(&world.topic, QoS::AtMostOnce).await?;
    let will = later.receive_message(&world.topic, "will").await?;
    context.check_eq("RETAIN", &true, &will.retain())
}

async fn disconnect_with_will_publishes_it(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let client = world.plain().connect().await?;
    let with_will = Disconnect::new(ReasonCode::DisconnectWithWill);
    client.disconnect_with(with_will).await?;
    world.published().await.map(drop)
}

/// Only 0x00 removes the will (C6).
async fn disconnect_with_an_error_publishes_the_will(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    for reason in [ReasonCode::UnspecifiedError, ReasonCode::ProtocolError] {
        let client = world.plain().connect().await?;
        client.disconnect_with(Disconnect::new(reason)).await?;
        world.published().await?;
    }
    Ok(())
}

async fn will_waits_for_its_delay(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let mut world = World::new(&context).await?;
    let client = world.delayed(2).session_expiry_secs(60).connect().await?;
    let cut = Instant::now();
    client.cut();
    let will = world
        .published_within(Duration::from_secs(2) + SLACK)
        .await?;
    let waited = cut.elapsed();
    drop(will);
    // A second may be counted as soon as its number changes.
    let early = waited < Duration::from_secs(1);
    context.check(
        !early,
        "the will 2 s after the end",
        format!("after {} ms", waited.as_millis()),
    )
}

async fn will_is_published_when_the_session_ends_before_the_delay(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    // Without an expiry the session ends at once.
    world.delayed(60).connect().await?.cut();
    world.published().await?;
    context.need_sessions(1)?;
    world
        .delayed(60)
        .session_expiry_secs(1)
        .connect()
        .await?
        .cut();
    world
        .published_within(Duration::from_secs(1) + SLACK)
        .await
        .map(drop)
}

async fn will_is_cancelled_when_the_client_returns_within_the_delay(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let mut world = World::new(&context).await?;
    // The twin: nobody returns.
    world.delayed(1).persistent().connect().await?.cut();
    world
        .published_within(Duration::from_secs(1) + SLACK)
        .await?;
    world.delayed(2).persistent().connect().await?.cut();
    sleep(Duration::from_millis(300)).await;
    let returned = Client::options(&context, "c")
        .persistent()
        .connect()
        .await?;
    let present = returned.connack.session_present;
    context.check_eq("session present", &true, &present)?;
    sleep(Duration::from_secs(3)).await;
    world.not_published().await?;
    returned.disconnect().await
}

async fn will_is_published_when_a_clean_start_ends_the_session_within_the_delay(
    context: Context,
) -> Outcome {
    context.need_sessions(60)?;
    let mut world = World::new(&context).await?;
    world.delayed(60).persistent().connect().await?.cut();
    world.not_published().await?;
    let new = Client::connect(&context, "c").await?;
    world.published().await?;
    new.disconnect().await
}

async fn will_properties_are_those_of_the_message(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let response = context.topic("response");
    let response_topic = TopicName::new(&response);
    let response_topic = response_topic.expect("topics of a case are valid");
    let properties = MessageProperties::builder()
        .payload_format(PayloadFormat::Utf8)
        .content_type("text/plain")
        .response_topic(response_topic)
        .correlation_data(b"\x00\xFF")
        .user_property("b", "1")
        .user_property("a", "2")
        .user_property("b", "3")
        .build();
    let properties = properties.expect("short strings can be encoded");
    world
        .with_will(|will| will.properties(properties))
        .connect()
        .await?
        .cut();
    let will = world.published().await?;
    let found = will.properties();
    context.check_eq(
        "payload format",
        &PayloadFormat::Utf8,
        &found.payload_format(),
    )?;
    context.check_eq("content type", &Some("text/plain"), &found.content_type())?;
    let topic = found.response_topic().map(TopicName::as_str);
    context.check_eq("response topic", &Some(response.as_str()), &topic)?;
    let data = found.correlation_data();
    context.check_eq("correlation data", &Some(b"\x00\xFF".as_slice()), &data)?;
    let user = found
        .user_properties()
        .map(|property| (property.name, property.value));
    let user: Vec<_> = user.collect();
    context.check_eq(
        "user properties",
        &vec![("b", "1"), ("a", "2"), ("b", "3")],
        &user,
    )
}

async fn message_expiry_of_the_will_runs_from_its_publication(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let mut world = World::new(&context).await?;
    let properties = MessageProperties::builder().message_expiry_secs(60).build();
    let properties = properties.expect("a number can be encoded");
    let message = Message::new(&world.topic, "will").properties(properties);
    let client = Client::options(&context, "c").persistent();
    client.will(message.will(2)).connect().await?.cut();
    let will = world
        .published_within(Duration::from_secs(2) + SLACK)
        .await?;
    let expiry = will.properties().message_expiry_secs();
    // The second in which it waits in the broker may be counted; the two of the delay must not.
    let right = matches!(expiry, Some(59..=60));
    context.check(right, "a message expiry of 60 s", format!("{expiry:?}"))
}

async fn will_payload_that_is_no_string_may_be_refused(context: Context) -> Outcome {
    let mut world = World::new(&context).await?;
    let properties = MessageProperties::builder()
        .payload_format(PayloadFormat::Utf8)
        .build();
    let properties = properties.expect("a number can be encoded");
    let with = |payload: &'static [u8]| {
        let message = Message::new(&world.topic, payload).properties(properties.clone());
        Client::options(&context, "c").will(message.will(0))
    };
    let invalid = with(b"\xC0\xAF");
    let valid = with(b"will");
    valid.connect().await?.cut();
    world.published().await?;
    let mut link = invalid.send().await?;
    match link.next(context.timing().answer).await {
        Event::Packet(crate::codec::Packet::ConnAck(connack)) => match connack.reason {
            ReasonCode::PayloadFormatInvalid => link.expect_closed_with(&[]).await,
            reason if reason.is_error() => Err(context.fail("CONNACK 0x99", reason.to_string())),
            _ => Err(Stop::skip(
                "the broker does not look at the payload, as it may",
            )),
        },
        Event::Closed => Ok(()),
        event => Err(link.fail_with("CONNACK or the connection closed", &event)),
    }
}

/// Somebody who waits for the will of client `c`.
struct World {
    context: Context,
    topic: String,
    watcher: Client,
}

impl World {
    async fn new(context: &Context) -> Outcome<World> {
        let topic = context.topic("will");
        let mut watcher = Client::connect(context, "w").await?;
        watcher.subscribe(&topic, QoS::ExactlyOnce).await?;
        Ok(World {
            context: context.clone(),
            topic,
            watcher,
        })
    }

    fn message(&self) -> Message {
        Message::new(&self.topic, "will")
    }

    fn plain(&self) -> ConnectOptions {
        self.with_will(|will| will)
    }

    fn with_will(&self, change: impl FnOnce(Message) -> Message) -> ConnectOptions {
        let will = change(self.message()).will(0);
        Client::options(&self.context, "c").will(will)
    }

    fn delayed(&self, secs: u32) -> ConnectOptions {
        Client::options(&self.context, "c").will(self.message().will(secs))
    }

    async fn published(&mut self) -> Outcome<Publish> {
        self.watcher.receive_message(&self.topic, "will").await
    }

    /// Waits longer than for an answer. The watcher is silent meanwhile, well within its keep alive.
    async fn published_within(&mut self, within: Duration) -> Outcome<Publish> {
        match self.watcher.next(within).await {
            Event::Packet(crate::codec::Packet::Publish(publish)) => {
                self.watcher.acknowledge(&publish).await?;
                Ok(publish)
            }
            event => {
                let expected = format!("the will within {} ms", within.as_millis());
                Err(self.watcher.fail_with(&expected, &event))
            }
        }
    }

    async fn not_published(&mut self) -> Outcome {
        self.watcher.expect_no_publish().await
    }
}

/// Brokers look at whole seconds, or once in some.
const SLACK: Duration = Duration::from_secs(4);
