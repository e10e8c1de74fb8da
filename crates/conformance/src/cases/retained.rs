//! Retained messages. How a subscription asks for them (retain handling, retain as published) is with the subscriptions.

use whimbrel_codec::{MessageProperties, Packet, Publish, QoS, ReasonCode};

use super::pair::{numbered, subscribe, text, topic_of};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{MALFORMED, Twin, refuses};
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        retained_message_reaches_a_later_subscriber_with_retain_set,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.1-5",
            "3:MQTT-3.3.1-6",
            "3:MQTT-3.3.1-8",
            "5:MQTT-3.3.1-5",
            "5:MQTT-3.3.1-9",
            "U5-043"
        ]
    ),
    case!(
        retained_message_replaces_the_one_before,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-5", "3:MQTT-3.3.1-6", "5:MQTT-3.3.1-5"]
    ),
    case!(
        retained_qos_0_message_replaces_the_one_before,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-7", "5:MQTT-3.3.1-5"]
    ),
    case!(
        retained_message_reaches_subscribers_at_once_without_retain,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-9", "5:MQTT-3.3.1-12"]
    ),
    case!(
        empty_retained_message_deletes_and_is_delivered,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.1-10",
            "3:MQTT-3.3.1-11",
            "5:MQTT-3.3.1-6",
            "5:MQTT-3.3.1-7"
        ]
    ),
    case!(
        empty_retained_message_is_not_stored,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-11", "5:MQTT-3.3.1-7"]
    ),
    case!(
        message_without_retain_leaves_the_retained_one_alone,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-12", "5:MQTT-3.3.1-8"]
    ),
    case!(
        retained_message_of_every_matching_topic_is_sent,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-6", "5:MQTT-3.3.1-9"]
    ),
    case!(
        retained_message_has_the_lower_of_stored_and_granted_qos,
        [V31, V311, V5],
        ["3:MQTT-3.8.4-6", "5:MQTT-3.8.4-8", "U311-009"]
    ),
    case!(
        retained_message_outlives_the_session_of_its_publisher,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-7", "5:MQTT-3.3.1-5"]
    ),
    case!(
        retained_message_keeps_its_properties,
        [V5],
        [
            "5:MQTT-3.3.2-4",
            "5:MQTT-3.3.2-15",
            "5:MQTT-3.3.2-16",
            "5:MQTT-3.3.2-17",
            "5:MQTT-3.3.2-18",
            "5:MQTT-3.3.2-20"
        ]
    ),
    case!(
        retained_publish_without_retain_support_is_refused,
        [V5],
        ["U5-039"]
    ),
];

/// Publishes a retained message, to its last acknowledgement. With QoS 0 the broker has it when a PINGREQ is answered.
async fn retain(publisher: &mut Client, message: Message) -> Outcome {
    publisher.publish(&message.retained()).await?;
    publisher.expect_alive().await
}

/// The retained message of `filter` that a new subscriber gets.
async fn retained(context: &Context, filter: &str) -> Outcome<Option<Publish>> {
    let mut client = Client::connect(context, "reader").await?;
    let qos = context.announced().properties.maximum_qos;
    client.subscribe(filter, qos).await?;
    let silence = context.timing().silence;
    let publish = match client.next(silence).await {
        Event::Packet(Packet::Publish(publish)) => Some(publish),
        Event::Silence => None,
        event => return Err(client.fail_with("a retained message, or nothing", &event)),
    };
    if let Some(publish) = &publish {
        client.acknowledge(publish).await?;
        context.check_eq("RETAIN", &true, &publish.retain())?;
        client.expect_no_publish().await?;
    }
    client.disconnect().await?;
    Ok(publish)
}

async fn expect_retained(context: &Context, topic: &str, payload: Option<&str>) -> Outcome {
    let publish = retained(context, topic).await?;
    let found = publish.as_ref().map(text);
    context.check_eq("retained message", &payload, &found.as_deref())
}

async fn retained_message_reaches_a_later_subscriber_with_retain_set(context: Context) -> Outcome {
    context.need_retain()?;
    let mut publisher = Client::connect(&context, "pub").await?;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        if context.need_qos(qos).is_err() {
            continue;
        }
        let topic = context.topic(&format!("t{}", qos.bits()));
        retain(&mut publisher, Message::new(&topic, "kept").qos(qos)).await?;
        // One of QoS 0 may be forgotten at any time.
        if qos == QoS::AtMostOnce && retained(&context, &topic).await?.is_none() {
            continue;
        }
        for _ in 0..2 {
            expect_retained(&context, &topic, Some("kept")).await?;
        }
    }
    Ok(())
}

async fn retained_message_replaces_the_one_before(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    for payload in ["old", "newer", "newest"] {
        let message = Message::new(&topic, payload).qos(QoS::AtLeastOnce);
        retain(&mut publisher, message).await?;
    }
    expect_retained(&context, &topic, Some("newest")).await
}

async fn retained_qos_0_message_replaces_the_one_before(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let old = Message::new(&topic, "old").qos(QoS::AtLeastOnce);
    retain(&mut publisher, old).await?;
    expect_retained(&context, &topic, Some("old")).await?;
    retain(&mut publisher, Message::new(&topic, "new")).await?;
    let found = retained(&context, &topic).await?.as_ref().map(text);
    context.check(
        found.as_deref().is_none_or(|payload| payload == "new"),
        "the newer retained message or none",
        format!("{found:?}"),
    )
}

async fn retained_message_reaches_subscribers_at_once_without_retain(context: Context) -> Outcome {
    context.need_retain()?;
    let topic = context.topic("t");
    let mut subscriber = Client::connect(&context, "sub").await?;
    subscriber.subscribe(&topic, QoS::AtMostOnce).await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    retain(&mut publisher, Message::new(&topic, "live")).await?;
    let publish = subscriber.receive_message(&topic, "live").await?;
    context.check_eq("RETAIN", &false, &publish.retain())?;
    subscriber.expect_no_publish().await
}

async fn empty_retained_message_deletes_and_is_delivered(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = Message::new(&topic, "kept").qos(QoS::AtLeastOnce);
    retain(&mut publisher, message).await?;
    let mut subscriber = Client::connect(&context, "sub").await?;
    subscribe(&mut subscriber, &topic, QoS::AtLeastOnce).await?;
    subscriber.receive_message(&topic, "kept").await?;
    let empty = Message::new(&topic, "").qos(QoS::AtLeastOnce);
    retain(&mut publisher, empty).await?;
    let publish = subscriber.receive_message(&topic, "").await?;
    context.check_eq("RETAIN", &false, &publish.retain())?;
    expect_retained(&context, &topic, None).await
}

async fn empty_retained_message_is_not_stored(context: Context) -> Outcome {
    context.need_retain()?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    retain(&mut publisher, Message::new(&topic, "")).await?;
    expect_retained(&context, &topic, None).await?;
    // The topic is not broken by it.
    let qos = context.announced().properties.maximum_qos;
    context.need_qos(QoS::AtLeastOnce)?;
    retain(&mut publisher, Message::new(&topic, "kept").qos(qos)).await?;
    expect_retained(&context, &topic, Some("kept")).await
}

async fn message_without_retain_leaves_the_retained_one_alone(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = |payload: &'static str| Message::new(&topic, payload).qos(QoS::AtLeastOnce);
    publisher.publish(&message("passing")).await?;
    expect_retained(&context, &topic, None).await?;
    retain(&mut publisher, message("kept")).await?;
    publisher.publish(&message("passing")).await?;
    expect_retained(&context, &topic, Some("kept")).await?;
    publisher.publish(&message("")).await?;
    expect_retained(&context, &topic, Some("kept")).await
}

async fn retained_message_of_every_matching_topic_is_sent(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_wildcards()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let mut names = numbered("a/", 12);
    names.extend(["a".to_owned(), "a/b/c".to_owned()]);
    for name in &names {
        let message = Message::new(&context.topic(name), name.clone());
        retain(&mut publisher, message.qos(QoS::AtLeastOnce)).await?;
    }
    let outside = Message::new(&context.topic("ab"), "outside").qos(QoS::AtLeastOnce);
    retain(&mut publisher, outside).await?;
    let mut subscriber = Client::connect(&context, "sub").await?;
    let filter = context.topic("a/#");
    subscriber.subscribe(&filter, QoS::AtLeastOnce).await?;
    let mut missing = names;
    while !missing.is_empty() {
        let publish = subscriber.receive().await?;
        context.check_eq("RETAIN", &true, &publish.retain())?;
        let name = text(&publish);
        context.check_eq("topic", &context.topic(&name), &topic_of(&publish))?;
        let before = missing.len();
        missing.retain(|other| *other != name);
        let expected = format!("one of {missing:?}");
        context.check(missing.len() < before, expected, name)?;
    }
    subscriber.expect_no_publish().await
}

async fn retained_message_has_the_lower_of_stored_and_granted_qos(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let maximum = context.announced().properties.maximum_qos;
    let mut publisher = Client::connect(&context, "pub").await?;
    for stored in [QoS::AtLeastOnce, maximum] {
        let topic = context.topic(&format!("t{}", stored.bits()));
        retain(&mut publisher, Message::new(&topic, "kept").qos(stored)).await?;
        for requested in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = Client::connect(&context, "reader").await?;
            let granted = client.subscribe(&topic, requested).await?;
            let publish = client.receive().await?;
            let expected = granted.as_u8().min(stored.bits());
            context.check_eq("QoS", &expected, &publish.qos().bits())?;
            client.disconnect().await?;
        }
    }
    Ok(())
}

async fn retained_message_outlives_the_session_of_its_publisher(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = Message::new(&topic, "kept").qos(QoS::AtLeastOnce);
    retain(&mut publisher, message).await?;
    publisher.disconnect().await?;
    // A clean start of the same client drops its session once more.
    Client::connect(&context, "pub").await?.disconnect().await?;
    expect_retained(&context, &topic, Some("kept")).await
}

async fn retained_message_keeps_its_properties(context: Context) -> Outcome {
    context.need_retain()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let properties = super::message_properties::every_property(&context)?;
    let topic = context.topic("t");
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = Message::new(&topic, "kept").qos(QoS::AtLeastOnce);
    retain(&mut publisher, message.properties(properties.clone())).await?;
    let Some(publish) = retained(&context, &topic).await? else {
        return Err(context.fail("a retained message", "nothing"));
    };
    let received = MessageProperties::from_publish(publish.properties());
    super::message_properties::check_same(&context, &properties, &received)
}

async fn retained_publish_without_retain_support_is_refused(context: Context) -> Outcome {
    let available = context.announced().properties.retain_available;
    context.need(!available, "the broker keeps retained messages")?;
    let codes = &[MALFORMED, &[ReasonCode::RetainNotSupported]].concat();
    let illegal = RawPublish::new(&context, context.topic("t")).flags(1);
    refuses(&context, &Twin::publish(&context), illegal.build(), codes).await
}
