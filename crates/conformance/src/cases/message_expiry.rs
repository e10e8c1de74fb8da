//! Message expiry: what is dropped in time, and what is told to the subscriber.

use std::time::Instant;

use whimbrel_codec::{Ack, MessageProperties, Packet, PacketId, Publish, QoS};

use super::pair::{Pair, resume, text, wait};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        expired_message_is_not_delivered_to_a_session_that_was_away,
        [V5],
        ["5:MQTT-3.3.2-5"]
    ),
    case!(
        expired_message_is_not_delivered_when_the_window_opens,
        [V5],
        ["5:MQTT-3.3.2-5", "U5-107"]
    ),
    case!(
        expiry_is_passed_on_less_the_time_in_the_broker,
        [V5],
        ["5:MQTT-3.3.2-6"]
    ),
    case!(
        message_delivered_at_once_has_its_expiry,
        [V5],
        ["5:MQTT-3.3.2-6"]
    ),
    case!(retained_message_expires, [V5], ["5:MQTT-3.3.2-5", "U5-040"]),
    case!(
        expiry_of_a_retained_message_counts_down,
        [V5],
        ["5:MQTT-3.3.2-6"]
    ),
    case!(
        expired_message_is_still_sent_again_once_it_was_sent,
        [V5],
        ["5:MQTT-4.3.3-7", "5:MQTT-4.4.0-1"]
    ),
    case!(
        delivery_of_an_expired_message_is_finished,
        [V5],
        ["5:MQTT-4.3.3-7"]
    ),
    case!(
        taking_of_an_expired_message_is_finished,
        [V5],
        ["5:MQTT-4.3.3-13"]
    ),
];

fn expiring(message: Message, secs: u32) -> Message {
    let properties = MessageProperties::builder()
        .message_expiry_secs(secs)
        .build();
    // Only strings and binary data can be too long.
    message.properties(properties.unwrap_or_default())
}

/// Shows that `publish` has an expiry of `sent` seconds less those since `start`, give or take the broker's rounding.
fn check_left(
    context: &Context,
    publish: &Publish,
    sent: u32,
    waited: u32,
    start: Instant,
) -> Outcome {
    let left = publish.properties().message_expiry_secs();
    // A clock of whole seconds may be one behind at either end.
    let spent = u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX);
    let lowest = sent.saturating_sub(spent + 2);
    let highest = sent - waited.saturating_sub(1);
    context.check(
        left.is_some_and(|left| (lowest..=highest).contains(&left)),
        format!("a message expiry of {lowest} to {highest} s"),
        format!("{left:?}"),
    )
}

async fn expired_message_is_not_delivered_to_a_session_that_was_away(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub").persistent();
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    pair.subscriber.disconnect().await?;
    for (payload, secs) in [("a", 600), ("short", 1), ("b", 600)] {
        let message = Message::new(&pair.topic, payload).qos(QoS::AtLeastOnce);
        pair.publisher.publish(&expiring(message, secs)).await?;
    }
    wait(EXPIRED_SECS).await;
    let mut subscriber = resume(&options).await?;
    subscriber.receive_message(&pair.topic, "a").await?;
    subscriber.receive_message(&pair.topic, "b").await?;
    subscriber.expect_no_publish().await
}

async fn expired_message_is_not_delivered_when_the_window_opens(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    let open = pair.start(QoS::AtLeastOnce, "open").await?;
    let short = pair.message("short", QoS::AtLeastOnce);
    pair.publisher.publish(&expiring(short, 1)).await?;
    pair.publish(QoS::AtLeastOnce, &["last"]).await?;
    wait(EXPIRED_SECS).await;
    pair.subscriber.acknowledge(&open).await?;
    pair.subscriber.receive_message(&pair.topic, "last").await?;
    pair.subscriber.expect_no_publish().await
}

async fn expiry_is_passed_on_less_the_time_in_the_broker(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub").persistent();
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    pair.subscriber.disconnect().await?;
    let start = Instant::now();
    let message = Message::new(&pair.topic, "m").qos(QoS::AtLeastOnce);
    pair.publisher.publish(&expiring(message, 100)).await?;
    wait(COUNTED_SECS).await;
    let mut subscriber = resume(&options).await?;
    let publish = subscriber.receive_message(&pair.topic, "m").await?;
    check_left(&context, &publish, 100, 3, start)
}

async fn message_delivered_at_once_has_its_expiry(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    let start = Instant::now();
    let message = pair.message("m", QoS::AtMostOnce);
    pair.publisher.publish(&expiring(message, 100)).await?;
    let publish = pair.subscriber.receive_message(&pair.topic, "m").await?;
    check_left(&context, &publish, 100, 0, start)?;
    pair.publish(QoS::AtMostOnce, &["forever"]).await?;
    let publish = pair
        .subscriber
        .receive_message(&pair.topic, "forever")
        .await?;
    let expiry = publish.properties().message_expiry_secs();
    context.check_eq("message expiry", &None, &expiry)
}

async fn retained_message_expires(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = |payload: &'static str| Message::new(&topic, payload).qos(QoS::AtLeastOnce);
    publisher.publish(&message("long").retained()).await?;
    let short = expiring(message("short"), 2).retained();
    publisher.publish(&short).await?;
    let mut early = Client::connect(&context, "early").await?;
    early.subscribe(&topic, QoS::AtLeastOnce).await?;
    early.receive_message(&topic, "short").await?;
    wait(EXPIRED_SECS + 1.0).await;
    // The message it replaced does not come back.
    let mut late = Client::connect(&context, "late").await?;
    late.subscribe(&topic, QoS::AtLeastOnce).await?;
    late.expect_no_publish().await?;
    publisher.publish(&message("live")).await?;
    late.receive_message(&topic, "live").await.map(drop)
}

async fn expiry_of_a_retained_message_counts_down(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let start = Instant::now();
    let message = Message::new(&topic, "kept").qos(QoS::AtLeastOnce);
    let message = expiring(message, 100).retained();
    publisher.publish(&message).await?;
    wait(COUNTED_SECS).await;
    let mut subscriber = Client::connect(&context, "sub").await?;
    subscriber.subscribe(&topic, QoS::AtLeastOnce).await?;
    let publish = subscriber.receive_message(&topic, "kept").await?;
    check_left(&context, &publish, 100, 3, start)
}

async fn expired_message_is_still_sent_again_once_it_was_sent(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub").persistent();
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    let message = pair.message("sent", QoS::ExactlyOnce);
    pair.publisher.publish(&expiring(message, 1)).await?;
    let first = pair.subscriber.expect_publish().await?.delivery();
    pair.subscriber.cut();
    wait(EXPIRED_SECS).await;
    let mut subscriber = resume(&options).await?;
    let publish = subscriber.receive_message(&pair.topic, "sent").await?;
    context.check_eq("delivery", &first.repeated(), &publish.delivery())
}

async fn delivery_of_an_expired_message_is_finished(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let message = pair.message("sent", QoS::ExactlyOnce);
    pair.publisher.publish(&expiring(message, 1)).await?;
    let publish = pair.subscriber.expect_publish().await?;
    context.check_eq("payload", "sent", &text(&publish))?;
    wait(EXPIRED_SECS).await;
    pair.subscriber.acknowledge(&publish).await?;
    pair.subscriber.expect_alive().await
}

async fn taking_of_an_expired_message_is_finished(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = PacketId::new(7).unwrap_or(PacketId::MIN);
    let message = expiring(pair.message("held", QoS::ExactlyOnce), 1);
    pair.publisher.send(&message.packet(id)).await?;
    pair.publisher.expect_pubrec(id).await?;
    wait(EXPIRED_SECS).await;
    pair.publisher
        .send(&Packet::PubRel(Ack::success(id)))
        .await?;
    pair.publisher.expect_pubcomp(id).await?;
    pair.publisher.expect_alive().await
}

/// After it a message of one second has expired, also by a clock of whole seconds.
const EXPIRED_SECS: f32 = 2.6;
/// Three whole seconds of the three that are counted, and a little.
const COUNTED_SECS: f32 = 3.2;
