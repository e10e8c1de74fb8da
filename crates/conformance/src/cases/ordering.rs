//! The order in which messages of one publisher reach a subscriber.

use whimbrel_codec::{Ack, Packet, PacketId, Publish, QoS};

use super::pair::{Pair, collect, numbered, receive_in_order, resume, subscribe, text, topic_of};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        qos_0_messages_arrive_in_order,
        [V31, V311, V5],
        [
            "3:MQTT-4.6.0-5",
            "3:MQTT-4.6.0-6",
            "5:MQTT-4.6.0-5",
            "5:MQTT-4.6.0-6"
        ]
    ),
    case!(
        qos_1_messages_arrive_in_order,
        [V31, V311, V5],
        [
            "3:MQTT-4.6.0-5",
            "3:MQTT-4.6.0-6",
            "5:MQTT-4.6.0-5",
            "5:MQTT-4.6.0-6"
        ]
    ),
    case!(
        qos_2_messages_arrive_in_order,
        [V31, V311, V5],
        [
            "3:MQTT-4.6.0-5",
            "3:MQTT-4.6.0-6",
            "5:MQTT-4.6.0-5",
            "5:MQTT-4.6.0-6"
        ]
    ),
    case!(
        queued_messages_arrive_in_order,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-5",
            "3:MQTT-4.6.0-6",
            "5:MQTT-4.6.0-5",
            "5:MQTT-4.5.0-1"
        ]
    ),
    case!(
        messages_of_several_topics_and_publishers_arrive_in_order_each,
        [V31, V311, V5],
        ["3:MQTT-4.6.0-6", "5:MQTT-4.6.0-5"]
    ),
    case!(
        pubrels_follow_the_order_of_pubrecs,
        [V311],
        ["3:MQTT-4.6.0-6"]
    ),
];

/// Publishes without waiting for acknowledgements, up to what any broker takes at a time.
async fn arrive_in_order(context: &Context, qos: QoS) -> Outcome {
    let mut pair = Pair::connect(context, qos).await?;
    let window = context.announced().properties.receive_maximum.get();
    let window = usize::from(window).min(WINDOW_MAX);
    let payloads = numbered("m", MESSAGES);
    for round in payloads.chunks(window) {
        let mut ids = Vec::new();
        for payload in round {
            let id = pair.publisher.packet_id();
            let packet = pair.message(payload, qos).packet(id);
            pair.publisher.send(&packet).await?;
            ids.push(id);
        }
        for id in ids {
            finish(&mut pair.publisher, qos, id).await?;
        }
    }
    receive_in_order(&mut pair.subscriber, &payloads).await?;
    pair.subscriber.expect_no_publish().await
}

/// Takes the acknowledgements of a PUBLISH that was sent.
async fn finish(publisher: &mut Client, qos: QoS, id: PacketId) -> Outcome {
    match qos {
        QoS::AtMostOnce => Ok(()),
        QoS::AtLeastOnce => publisher.expect_puback(id).await.map(drop),
        QoS::ExactlyOnce => {
            publisher.expect_pubrec(id).await?;
            publisher.send(&Packet::PubRel(Ack::success(id))).await?;
            publisher.expect_pubcomp(id).await.map(drop)
        }
    }
}

async fn qos_0_messages_arrive_in_order(context: Context) -> Outcome {
    arrive_in_order(&context, QoS::AtMostOnce).await
}

async fn qos_1_messages_arrive_in_order(context: Context) -> Outcome {
    arrive_in_order(&context, QoS::AtLeastOnce).await
}

async fn qos_2_messages_arrive_in_order(context: Context) -> Outcome {
    arrive_in_order(&context, QoS::ExactlyOnce).await
}

async fn queued_messages_arrive_in_order(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub").persistent();
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    pair.subscriber.disconnect().await?;
    let payloads = numbered("m", MESSAGES);
    for payload in &payloads {
        let message = Message::new(&pair.topic, payload.clone());
        pair.publisher
            .publish(&message.qos(QoS::AtLeastOnce))
            .await?;
    }
    let mut subscriber = resume(&options).await?;
    receive_in_order(&mut subscriber, &payloads).await?;
    subscriber.expect_no_publish().await
}

async fn messages_of_several_topics_and_publishers_arrive_in_order_each(
    context: Context,
) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    context.need_wildcards()?;
    let mut subscriber = Client::connect(&context, "sub").await?;
    subscribe(&mut subscriber, &context.topic("#"), QoS::AtLeastOnce).await?;
    let mut publishers = Vec::new();
    for name in ["a", "b"] {
        publishers.push((name, Client::connect(&context, name).await?));
    }
    let mut expected = Vec::new();
    for number in 0..15 {
        for (name, publisher) in &mut publishers {
            for topic in ["x", "y"] {
                let (topic, payload) = (context.topic(topic), format!("{name}{number}"));
                let message = Message::new(&topic, payload.clone());
                publisher.publish(&message.qos(QoS::AtLeastOnce)).await?;
                expected.push((topic, payload));
            }
        }
    }
    // Of each topic and publisher the next one that is missing has to be the one that comes.
    while !expected.is_empty() {
        let publish = subscriber.receive().await?;
        let (topic, payload) = (topic_of(&publish), text(&publish));
        let publisher = payload.get(..1).unwrap_or_default().to_owned();
        let same = |other: &(String, String)| other.0 == topic && other.1.starts_with(&publisher);
        let index = expected.iter().position(same);
        let next = index.map(|index| expected.remove(index).1);
        context.check_eq("next of its topic and publisher", &next, &Some(payload))?;
    }
    Ok(())
}

async fn pubrels_follow_the_order_of_pubrecs(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    for payload in numbered("m", 5) {
        pair.publish(QoS::ExactlyOnce, &[&payload]).await?;
    }
    let publishes = collect(&mut pair.subscriber, 5).await?;
    context.need(
        publishes.len() > 1,
        "the broker has one delivery under way at a time",
    )?;
    let ids: Vec<PacketId> = publishes.iter().filter_map(Publish::packet_id).collect();
    for id in &ids {
        let pubrec = Packet::PubRec(Ack::success(*id));
        pair.subscriber.send(&pubrec).await?;
    }
    let take = |packet: &Packet| match packet {
        Packet::PubRel(ack) => Some(ack.id),
        _ => None,
    };
    for id in &ids {
        let released = pair.subscriber.expect("PUBREL", take).await?;
        context.check_eq("in order, PUBREL", id, &released)?;
    }
    Ok(())
}

const MESSAGES: usize = 60;
const WINDOW_MAX: usize = 20;
