//! QoS 1: PUBLISH and PUBACK, in both directions.

use std::collections::HashSet;
use std::time::Duration;

use whimbrel_codec::{Ack, Delivery, Packet, PacketId, Publish, QoS, ReasonCode};

use super::pair::{Pair, collect, numbered, receive_in_order, resume, text};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Answer, MALFORMED, Twin, refuses_on, serves};
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        qos_1_gets_a_puback_with_its_identifier,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-6",
            "3:MQTT-3.3.4-1",
            "3:MQTT-4.3.2-2",
            "5:MQTT-2.2.1-5",
            "5:MQTT-3.3.4-1",
            "5:MQTT-3.4.2-1",
            "5:MQTT-4.3.2-4"
        ]
    ),
    case!(
        identifier_is_free_after_puback_whatever_dup_says,
        [V31, V311, V5],
        ["3:MQTT-4.3.2-2", "5:MQTT-4.3.2-5", "U5-009"]
    ),
    case!(
        qos_1_is_delivered_with_an_identifier_and_without_dup,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-1",
            "3:MQTT-3.3.1-3",
            "3:MQTT-4.3.2-1",
            "5:MQTT-2.2.1-4",
            "5:MQTT-3.3.1-3",
            "5:MQTT-4.3.2-1",
            "5:MQTT-4.3.2-2"
        ]
    ),
    case!(
        identifiers_of_open_deliveries_differ,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-4",
            "3:MQTT-4.3.2-1",
            "5:MQTT-2.2.1-4",
            "5:MQTT-4.3.2-1",
            "5:MQTT-4.3.2-3",
            "5:MQTT-4.3.3-1"
        ]
    ),
    case!(
        open_qos_1_is_not_sent_again_while_connected,
        [V5],
        ["5:MQTT-4.4.0-1"]
    ),
    case!(
        negative_puback_ends_the_delivery_and_nothing_else,
        [V5],
        ["5:MQTT-4.4.0-2", "U5-009", "U5-013", "U5-112"]
    ),
    case!(
        puback_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.4.2-1"]
    ),
    case!(
        puback_with_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
    case!(
        puback_without_identifier_is_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        both_directions_have_identifiers_of_their_own,
        [V311, V5],
        ["3:MQTT-2.3.1-6", "5:MQTT-2.2.1-5", "U311-003", "U5-008"]
    ),
];

async fn qos_1_gets_a_puback_with_its_identifier(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    for id in [1, 256, 42, 65_535] {
        let id = PacketId::new(id).unwrap_or(PacketId::MIN);
        let message = pair.message("m", QoS::AtLeastOnce);
        pair.publisher.send(&message.packet(id)).await?;
        let ack = pair.publisher.expect_puback(id).await?;
        let accepted = !ack.reason.is_error();
        context.check(accepted, "a positive PUBACK", ack.reason.to_string())?;
        pair.subscriber.receive_message(&pair.topic, "m").await?;
    }
    // To a topic without subscribers it is the same, in 5.0 perhaps with 0x10.
    let message = Message::new(&context.topic("nobody"), "m").qos(QoS::AtLeastOnce);
    pair.publisher.publish(&message).await?;
    pair.publisher.expect_silence().await
}

async fn identifier_is_free_after_puback_whatever_dup_says(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    let id = pair.publisher.packet_id();
    let first = Delivery::first(QoS::AtLeastOnce, id);
    let payloads = [("a", first), ("b", first), ("c", first.repeated())];
    for (payload, delivery) in payloads {
        let publish = pair.message(payload, QoS::AtLeastOnce).publish(delivery);
        pair.publisher.send(&Packet::Publish(publish)).await?;
        pair.publisher.expect_puback(id).await?;
        pair.subscriber
            .receive_message(&pair.topic, payload)
            .await?;
    }
    pair.subscriber.expect_no_publish().await
}

async fn qos_1_is_delivered_with_an_identifier_and_without_dup(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    // An identifier of 0 does not decode.
    let publish = pair.start(QoS::AtLeastOnce, "m").await?;
    context.check_eq("DUP", &false, &publish.delivery().dup())?;
    pair.subscriber.acknowledge(&publish).await?;
    pair.subscriber.expect_no_publish().await
}

async fn identifiers_of_open_deliveries_differ(context: Context) -> Outcome {
    let qos = context.announced().properties.maximum_qos;
    let mut pair = Pair::connect(&context, qos).await?;
    context.need(qos > QoS::AtMostOnce, "the broker's maximum QoS is 0")?;
    for payload in numbered("m", 8) {
        pair.publish(QoS::AtLeastOnce, &[&payload]).await?;
        pair.publish(qos, &[&payload]).await?;
    }
    let publishes = collect(&mut pair.subscriber, 16).await?;
    let ids: HashSet<_> = publishes.iter().filter_map(Publish::packet_id).collect();
    context.need(
        publishes.len() > 1,
        "the broker has one delivery under way at a time",
    )?;
    context.check_eq("identifiers", &publishes.len(), &ids.len())?;
    // The rest comes as the first are acknowledged; those still open keep their identifiers.
    let mut open: HashSet<_> = ids;
    let mut left = 16 - publishes.len();
    for publish in publishes {
        pair.subscriber.acknowledge(&publish).await?;
        if let Some(id) = publish.packet_id() {
            open.remove(&id);
        }
        if left > 0 {
            let next = pair.subscriber.expect_publish().await?;
            left -= 1;
            let id = next.packet_id();
            let free = id.is_some_and(|id| !open.contains(&id));
            context.check(
                free,
                format!("an identifier not of {open:?}"),
                format!("{id:?}"),
            )?;
            pair.subscriber.acknowledge(&next).await?;
        }
    }
    Ok(())
}

async fn open_qos_1_is_not_sent_again_while_connected(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    let publish = pair.start(QoS::AtLeastOnce, "m").await?;
    match pair.subscriber.next(RESEND_WAIT).await {
        Event::Silence => {}
        event => return Err(pair.subscriber.fail_with("nothing", &event)),
    }
    pair.subscriber.acknowledge(&publish).await?;
    pair.subscriber.expect_alive().await
}

async fn negative_puback_ends_the_delivery_and_nothing_else(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub")
        .persistent()
        .receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    let codes = [
        ReasonCode::UnspecifiedError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::NotAuthorized,
        ReasonCode::QuotaExceeded,
    ];
    for code in codes {
        let publish = pair.start(QoS::AtLeastOnce, "refused").await?;
        let id = publish.packet_id().unwrap_or(PacketId::MIN);
        let ack = Packet::PubAck(Ack::new(id, code));
        pair.subscriber.send(&ack).await?;
    }
    // The window of one is free again, and the connection goes on.
    pair.publish(QoS::AtLeastOnce, &["taken"]).await?;
    pair.subscriber
        .receive_message(&pair.topic, "taken")
        .await?;
    pair.subscriber.expect_alive().await?;
    pair.subscriber.cut();
    let mut subscriber = resume(&options).await?;
    subscriber.expect_no_publish().await
}

/// A subscriber has acknowledged one QoS 1 delivery as it should, and has another open.
async fn open_delivery(context: &Context) -> Outcome<(Pair, [u8; 2])> {
    let mut pair = Pair::connect(context, QoS::AtLeastOnce).await?;
    let publish = pair.start(QoS::AtLeastOnce, "taken").await?;
    pair.subscriber.acknowledge(&publish).await?;
    let publish = pair.start(QoS::AtLeastOnce, "open").await?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    Ok((pair, id.get().to_be_bytes()))
}

async fn puback_with_a_code_of_another_packet_is_refused(context: Context) -> Outcome {
    // Granted QoS 1, Packet Identifier not found, and one that is no code.
    for code in [0x01, 0x92, 0xFF] {
        let (mut pair, id) = open_delivery(&context).await?;
        let illegal = wire::packet(0x40, &[&id, &[code]]);
        refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn puback_with_flags_is_refused(context: Context) -> Outcome {
    for first_byte in [0x41, 0x42, 0x48] {
        let (mut pair, id) = open_delivery(&context).await?;
        let illegal = wire::packet(first_byte, &[&id]);
        refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn puback_without_identifier_is_refused(context: Context) -> Outcome {
    for body in [&[][..], &[0][..]] {
        let (mut pair, _) = open_delivery(&context).await?;
        let illegal = wire::packet(0x40, &[body]);
        refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn both_directions_have_identifiers_of_their_own(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    let open = pair.start(QoS::AtLeastOnce, "open").await?;
    let id = open.packet_id().unwrap_or(PacketId::MIN);
    // The subscriber publishes with the identifier that the broker has in use.
    let other = context.topic("other");
    let publish = |flags| RawPublish::new(&context, other.clone()).flags(flags);
    let publish = |flags: u8| publish(flags).id(id.get()).build();
    let twin = Twin::new(publish(2), Answer::PubAck(id));
    serves(&mut pair.subscriber, &twin).await?;
    if context.need_qos(QoS::ExactlyOnce).is_ok() {
        let twin = Twin::new(publish(4), Answer::PubRec(id));
        serves(&mut pair.subscriber, &twin).await?;
    }
    pair.subscriber.acknowledge(&open).await?;
    pair.publish(QoS::AtLeastOnce, &["a", "b"]).await?;
    let payloads = ["a".to_owned(), "b".to_owned()];
    receive_in_order(&mut pair.subscriber, &payloads).await?;
    context.check_eq("payload", "open", &text(&open))
}

/// Longer than the usual timers of brokers that send again in spite of it, and still bearable.
const RESEND_WAIT: Duration = Duration::from_secs(6);
