//! QoS 2: PUBLISH, PUBREC, PUBREL and PUBCOMP, in both directions.

use whimbrel_codec::{
    Ack, Delivery, Packet, PacketId, PropertyId, ProtocolVersion, QoS, ReasonCode,
};

use super::pair::{Pair, text};
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
        qos_2_is_taken_with_pubrec_and_pubcomp_and_delivered_once,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-6",
            "3:MQTT-3.3.4-1",
            "3:MQTT-4.3.3-2",
            "5:MQTT-2.2.1-5",
            "5:MQTT-3.3.4-1",
            "5:MQTT-3.5.2-1",
            "5:MQTT-3.7.2-1",
            "5:MQTT-4.3.3-8",
            "5:MQTT-4.3.3-11"
        ]
    ),
    case!(
        repeat_before_pubrel_is_not_delivered_again,
        [V31, V311, V5],
        ["3:MQTT-4.3.3-2", "5:MQTT-4.3.3-10", "U31-006", "U311-012"]
    ),
    case!(
        repeat_without_dup_is_not_delivered_again,
        [V31, V311, V5],
        ["3:MQTT-4.3.3-2", "5:MQTT-4.3.3-10"]
    ),
    case!(
        identifier_is_free_after_pubcomp,
        [V31, V311, V5],
        ["3:MQTT-4.3.3-2", "5:MQTT-4.3.3-12", "U5-009"]
    ),
    case!(
        dup_with_a_new_identifier_is_delivered,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.1-3",
            "3:MQTT-4.5.0-1",
            "5:MQTT-3.3.1-3",
            "5:MQTT-4.3.3-8",
            "5:MQTT-4.5.0-1"
        ]
    ),
    case!(
        every_pubrel_gets_a_pubcomp,
        [V31, V311, V5],
        ["3:MQTT-4.3.3-2", "5:MQTT-4.3.3-11", "5:MQTT-3.7.2-1"]
    ),
    case!(
        exchanges_end_in_any_order,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-6",
            "3:MQTT-4.3.3-2",
            "5:MQTT-2.2.1-5",
            "5:MQTT-4.3.3-11"
        ]
    ),
    case!(
        identifiers_of_two_clients_are_apart,
        [V31, V311, V5],
        ["3:MQTT-4.3.3-2", "5:MQTT-4.3.3-8"]
    ),
    case!(
        identifier_is_free_after_a_negative_pubrec,
        [V5],
        ["5:MQTT-4.3.3-9", "U5-009", "U5-112"]
    ),
    case!(
        qos_2_is_delivered_with_publish_and_pubrel,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-1",
            "3:MQTT-2.3.1-6",
            "3:MQTT-3.3.1-3",
            "3:MQTT-3.6.1-1",
            "3:MQTT-4.3.3-1",
            "5:MQTT-2.2.1-4",
            "5:MQTT-2.2.1-5",
            "5:MQTT-3.3.1-3",
            "5:MQTT-3.6.1-1",
            "5:MQTT-3.6.2-1",
            "5:MQTT-4.3.3-1",
            "5:MQTT-4.3.3-2",
            "5:MQTT-4.3.3-4"
        ]
    ),
    case!(
        repeated_pubrec_gets_pubrel_again,
        [V311, V5],
        ["3:MQTT-4.3.3-1", "5:MQTT-4.3.3-4"]
    ),
    case!(
        open_qos_2_keeps_its_identifier_until_pubcomp,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-4",
            "3:MQTT-4.3.3-1",
            "5:MQTT-2.2.1-4",
            "5:MQTT-4.3.3-3",
            "5:MQTT-4.3.3-5"
        ]
    ),
    case!(
        negative_pubrec_ends_the_delivery_without_pubrel,
        [V5],
        ["5:MQTT-4.4.0-2", "U5-009", "U5-054", "U5-112"]
    ),
    case!(
        pubrel_with_other_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "3:MQTT-3.6.1-1",
            "5:MQTT-2.1.3-1",
            "5:MQTT-3.6.1-1",
            "U5-006"
        ]
    ),
    case!(pubrel_with_dup_is_taken, [V31], ["U31-005"]),
    case!(
        pubrec_and_pubcomp_with_flags_are_refused,
        [V311, V5],
        [
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
    case!(
        pubrel_without_identifier_is_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        pubrec_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.5.2-1"]
    ),
    case!(
        pubrel_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.6.2-1"]
    ),
    case!(
        pubcomp_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.7.2-1"]
    ),
];

async fn qos_2_is_taken_with_pubrec_and_pubcomp_and_delivered_once(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    for id in [1, 256, 42, 65_535] {
        let payload = format!("m{id}");
        let id = PacketId::new(id).unwrap_or(PacketId::MIN);
        let message = pair.message(&payload, QoS::ExactlyOnce);
        let twin = Twin::packet(&context, &message.packet(id), Answer::PubRec(id));
        serves(&mut pair.publisher, &twin).await?;
        pair.subscriber
            .receive_message(&pair.topic, &payload)
            .await?;
    }
    let message = Message::new(&context.topic("nobody"), "m").qos(QoS::ExactlyOnce);
    pair.publisher.publish(&message).await?;
    pair.publisher.expect_silence().await?;
    pair.subscriber.expect_no_publish().await
}

async fn repeat_before_pubrel_is_not_delivered_again(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = pair.publisher.packet_id();
    let message = pair.message("once", QoS::ExactlyOnce);
    let mut delivery = Delivery::first(QoS::ExactlyOnce, id);
    for _ in 0..3 {
        let publish = Packet::Publish(message.publish(delivery));
        pair.publisher.send(&publish).await?;
        let ack = pair.publisher.expect_pubrec(id).await?;
        let accepted = !ack.reason.is_error();
        context.check(accepted, "a positive PUBREC", ack.reason.to_string())?;
        delivery = delivery.repeated();
    }
    release(&mut pair.publisher, id).await?;
    pair.subscriber.receive_message(&pair.topic, "once").await?;
    pair.subscriber.expect_no_publish().await
}

async fn repeat_without_dup_is_not_delivered_again(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = pair.publisher.packet_id();
    let message = pair.message("once", QoS::ExactlyOnce).packet(id);
    pair.publisher.send(&message).await?;
    pair.publisher.expect_pubrec(id).await?;
    pair.publisher.send(&message).await?;
    // With which code is not said: some brokers take 0x91, which is about an identifier in use (D9).
    pair.publisher.expect_pubrec(id).await?;
    release(&mut pair.publisher, id).await?;
    pair.subscriber.receive_message(&pair.topic, "once").await?;
    pair.subscriber.expect_no_publish().await
}

async fn identifier_is_free_after_pubcomp(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = pair.publisher.packet_id();
    let first = Delivery::first(QoS::ExactlyOnce, id);
    for (payload, delivery) in [("a", first), ("b", first), ("c", first.repeated())] {
        let publish = pair.message(payload, QoS::ExactlyOnce).publish(delivery);
        pair.publisher.send(&Packet::Publish(publish)).await?;
        pair.publisher.expect_pubrec(id).await?;
        release(&mut pair.publisher, id).await?;
        pair.subscriber
            .receive_message(&pair.topic, payload)
            .await?;
    }
    pair.subscriber.expect_no_publish().await
}

async fn dup_with_a_new_identifier_is_delivered(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = pair.publisher.packet_id();
    let delivery = Delivery::first(QoS::ExactlyOnce, id).repeated();
    let publish = pair.message("late", QoS::ExactlyOnce).publish(delivery);
    pair.publisher.send(&Packet::Publish(publish)).await?;
    pair.publisher.expect_pubrec(id).await?;
    release(&mut pair.publisher, id).await?;
    let publish = pair.subscriber.receive().await?;
    context.check_eq("payload", "late", &text(&publish))?;
    context.check_eq("DUP", &false, &publish.delivery().dup())
}

async fn every_pubrel_gets_a_pubcomp(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = pair.publisher.packet_id();
    let message = pair.message("once", QoS::ExactlyOnce).packet(id);
    pair.publisher.send(&message).await?;
    pair.publisher.expect_pubrec(id).await?;
    // A PUBREL again, as after a PUBCOMP that was lost; then one of an exchange that never was.
    release(&mut pair.publisher, id).await?;
    release(&mut pair.publisher, id).await?;
    let unknown = pair.publisher.packet_id();
    release(&mut pair.publisher, unknown).await?;
    pair.subscriber.receive_message(&pair.topic, "once").await?;
    pair.subscriber.expect_no_publish().await
}

/// PUBREL, to its PUBCOMP.
async fn release(publisher: &mut Client, id: PacketId) -> Outcome {
    let pubrel = Packet::PubRel(Ack::success(id));
    publisher.send(&pubrel).await?;
    publisher.expect_pubcomp(id).await.map(drop)
}

async fn exchanges_end_in_any_order(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let window = context.announced().properties.receive_maximum.get();
    context.need(window >= 3, "the broker takes fewer than three at a time")?;
    let mut ids = Vec::new();
    for payload in ["0", "1", "2"] {
        let id = pair.publisher.packet_id();
        let message = pair.message(payload, QoS::ExactlyOnce);
        pair.publisher.send(&message.packet(id)).await?;
        pair.publisher.expect_pubrec(id).await?;
        ids.push(id);
    }
    ids.rotate_left(2);
    for id in ids {
        release(&mut pair.publisher, id).await?;
    }
    // Passed on at PUBLISH or at PUBREL, as the broker likes, and so in either order.
    let mut payloads = Vec::new();
    for _ in 0..3 {
        payloads.push(text(&pair.subscriber.receive().await?));
    }
    payloads.sort();
    let expected = ["0", "1", "2"].map(str::to_owned);
    context.check_eq("messages", expected.as_slice(), payloads.as_slice())?;
    pair.subscriber.expect_no_publish().await
}

async fn identifiers_of_two_clients_are_apart(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let mut other = Client::connect(&context, "other").await?;
    let id = PacketId::new(7).unwrap_or(PacketId::MIN);
    for (payload, client) in [("a", &mut pair.publisher), ("b", &mut other)] {
        let message = Message::new(&pair.topic, payload).qos(QoS::ExactlyOnce);
        client.send(&message.packet(id)).await?;
        client.expect_pubrec(id).await?;
    }
    release(&mut pair.publisher, id).await?;
    release(&mut other, id).await?;
    let mut payloads = Vec::new();
    for _ in 0..2 {
        payloads.push(text(&pair.subscriber.receive().await?));
    }
    payloads.sort();
    let expected = ["a", "b"].map(str::to_owned);
    context.check_eq("messages", expected.as_slice(), payloads.as_slice())
}

async fn identifier_is_free_after_a_negative_pubrec(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let id = pair.publisher.packet_id();
    // A topic of the server, and a payload that is not of its format: brokers may refuse either, and need not.
    let own = RawPublish::new(&context, format!("$SYS/{}", context.topic("t")));
    let format = RawPublish::new(&context, context.topic("other"));
    let format = format.property(PropertyId::PayloadFormat, [1]);
    let mut refused = false;
    for publish in [own, format.payload([0xFF])] {
        let publish = publish.flags(4).id(id.get()).build();
        pair.publisher.send_bytes(&publish).await?;
        let ack = match pair.publisher.next(context.timing().answer).await {
            Event::Packet(Packet::PubRec(ack)) if ack.id == id => ack,
            // Some end the connection instead, as they may.
            Event::Packet(Packet::Disconnect(_)) | Event::Closed => {
                pair.publisher = Client::connect(&context, "pub").await?;
                continue;
            }
            event => return Err(pair.publisher.fail_with("PUBREC", &event)),
        };
        refused = ack.reason.is_error();
        if refused {
            break;
        }
        release(&mut pair.publisher, id).await?;
    }
    context.need(refused, "the broker refuses none of the messages tried")?;
    let message = pair.message("new", QoS::ExactlyOnce).packet(id);
    let twin = Twin::packet(&context, &message, Answer::PubRec(id));
    serves(&mut pair.publisher, &twin).await?;
    pair.subscriber.receive_message(&pair.topic, "new").await?;
    pair.subscriber.expect_no_publish().await
}

async fn qos_2_is_delivered_with_publish_and_pubrel(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let publish = pair.start(QoS::ExactlyOnce, "m").await?;
    context.check_eq("DUP", &false, &publish.delivery().dup())?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    let subscriber = &mut pair.subscriber;
    subscriber.expect_silence().await?;
    subscriber.send(&Packet::PubRec(Ack::success(id))).await?;
    let pubrel = subscriber.expect_pubrel(id).await?;
    context.check_eq("PUBREL", &ReasonCode::Success, &pubrel.reason)?;
    let first_byte = subscriber.last_bytes().first().copied();
    if context.version() != ProtocolVersion::V31 {
        context.check_eq("first byte of PUBREL", &Some(0x62), &first_byte)?;
    }
    subscriber.send(&Packet::PubComp(Ack::success(id))).await?;
    subscriber.expect_silence().await
}

async fn repeated_pubrec_gets_pubrel_again(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let publish = pair.start(QoS::ExactlyOnce, "m").await?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    let subscriber = &mut pair.subscriber;
    for _ in 0..2 {
        subscriber.send(&Packet::PubRec(Ack::success(id))).await?;
        subscriber.expect_pubrel(id).await?;
    }
    subscriber.send(&Packet::PubComp(Ack::success(id))).await?;
    subscriber.expect_silence().await
}

async fn open_qos_2_keeps_its_identifier_until_pubcomp(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    // One delivery waits for PUBREC, one for PUBCOMP.
    let waiting = pair.start(QoS::ExactlyOnce, "a").await?;
    let id = waiting.packet_id().unwrap_or(PacketId::MIN);
    pair.publish(QoS::ExactlyOnce, &["b"]).await?;
    let silence = context.timing().silence;
    let second = match pair.subscriber.next(silence).await {
        Event::Packet(Packet::Publish(publish)) => publish,
        Event::Silence => {
            context.need(false, "the broker has one delivery under way at a time")?;
            return Ok(());
        }
        event => return Err(pair.subscriber.fail_with("a PUBLISH", &event)),
    };
    let released = second.packet_id().unwrap_or(PacketId::MIN);
    context.check(released != id, "another identifier", released.to_string())?;
    let pubrec = Packet::PubRec(Ack::success(released));
    pair.subscriber.send(&pubrec).await?;
    pair.subscriber.expect_pubrel(released).await?;
    for payload in ["c", "d", "e", "f"] {
        // A broker may hold them back: then there is no identifier to look at.
        pair.publish(QoS::ExactlyOnce, &[payload]).await?;
        match pair.subscriber.next(silence).await {
            Event::Packet(Packet::Publish(publish)) => {
                let taken = publish.packet_id().unwrap_or(PacketId::MIN);
                let free = taken != id && taken != released;
                context.check(free, "a free identifier", taken.to_string())?;
                pair.subscriber.acknowledge(&publish).await?;
            }
            Event::Silence => break,
            event => return Err(pair.subscriber.fail_with("a PUBLISH", &event)),
        }
    }
    // Both exchanges still come to their end.
    let pubcomp = Packet::PubComp(Ack::success(released));
    pair.subscriber.send(&pubcomp).await?;
    pair.subscriber.acknowledge(&waiting).await
}

async fn negative_pubrec_ends_the_delivery_without_pubrel(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    for code in [ReasonCode::UnspecifiedError, ReasonCode::QuotaExceeded] {
        let publish = pair.start(QoS::ExactlyOnce, "refused").await?;
        let id = publish.packet_id().unwrap_or(PacketId::MIN);
        let pubrec = Packet::PubRec(Ack::new(id, code));
        pair.subscriber.send(&pubrec).await?;
        pair.subscriber.expect_silence().await?;
    }
    // The window of one is free again, and the connection goes on.
    pair.publish(QoS::ExactlyOnce, &["taken"]).await?;
    pair.subscriber
        .receive_message(&pair.topic, "taken")
        .await?;
    pair.subscriber.expect_alive().await
}

/// Shows that a PUBREL which ends one exchange is served, and then `illegal`, about another with identifier 7, is refused.
async fn refuses_release(context: &Context, illegal: &[u8]) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    let mut client = Client::connect(context, "c").await?;
    for id in [7, 8] {
        let publish = RawPublish::new(context, context.topic("t")).flags(4);
        client.send_bytes(&publish.id(id).build()).await?;
        let id = PacketId::new(id).unwrap_or(PacketId::MIN);
        client.expect_pubrec(id).await?;
    }
    let eight = PacketId::new(8).unwrap_or(PacketId::MIN);
    let twin = Twin::new([0x62, 2, 0, 8], Answer::PubComp(eight));
    refuses_on(&mut client, &twin, illegal, MALFORMED).await
}

async fn pubrel_with_other_flags_is_refused(context: Context) -> Outcome {
    for first_byte in [0x60, 0x61, 0x63, 0x66, 0x6A] {
        let illegal = wire::packet(first_byte, &[&[0, 7]]);
        refuses_release(&context, &illegal).await?;
    }
    Ok(())
}

async fn pubrel_with_dup_is_taken(context: Context) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let id = PacketId::new(7).unwrap_or(PacketId::MIN);
    let publish = RawPublish::new(&context, context.topic("t")).flags(4);
    client.send_bytes(&publish.id(7).build()).await?;
    client.expect_pubrec(id).await?;
    client.send_bytes(&wire::packet(0x6A, &[&[0, 7]])).await?;
    client.expect_pubcomp(id).await?;
    client.expect_alive().await
}

async fn pubrec_and_pubcomp_with_flags_are_refused(context: Context) -> Outcome {
    let (mut pair, id) = open_delivery(&context).await?;
    let illegal = wire::packet(0x52, &[&id]);
    refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    let (mut pair, id) = released_delivery(&context).await?;
    let illegal = wire::packet(0x72, &[&id]);
    refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await
}

async fn pubrel_without_identifier_is_refused(context: Context) -> Outcome {
    for body in [&[][..], &[0][..]] {
        let illegal = wire::packet(0x62, &[body]);
        refuses_release(&context, &illegal).await?;
    }
    Ok(())
}

/// A subscriber has finished one QoS 2 delivery as it should, and has another of which it has the PUBLISH only.
async fn open_delivery(context: &Context) -> Outcome<(Pair, [u8; 2])> {
    let mut pair = Pair::connect(context, QoS::ExactlyOnce).await?;
    let publish = pair.start(QoS::ExactlyOnce, "taken").await?;
    pair.subscriber.acknowledge(&publish).await?;
    let publish = pair.start(QoS::ExactlyOnce, "open").await?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    Ok((pair, id.get().to_be_bytes()))
}

/// As [`open_delivery`], with the PUBREL.
async fn released_delivery(context: &Context) -> Outcome<(Pair, [u8; 2])> {
    let (mut pair, bytes) = open_delivery(context).await?;
    let id = PacketId::new(u16::from_be_bytes(bytes)).unwrap_or(PacketId::MIN);
    let pubrec = Packet::PubRec(Ack::success(id));
    pair.subscriber.send(&pubrec).await?;
    pair.subscriber.expect_pubrel(id).await?;
    Ok((pair, bytes))
}

async fn pubrec_with_a_code_of_another_packet_is_refused(context: Context) -> Outcome {
    for code in [0x01, 0x92, 0xFF] {
        let (mut pair, id) = open_delivery(&context).await?;
        let illegal = wire::packet(0x50, &[&id, &[code]]);
        refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn pubrel_with_a_code_of_another_packet_is_refused(context: Context) -> Outcome {
    for code in [0x01, 0x10, 0x80, 0xFF] {
        let illegal = wire::packet(0x62, &[&[0, 7, code]]);
        refuses_release(&context, &illegal).await?;
    }
    Ok(())
}

async fn pubcomp_with_a_code_of_another_packet_is_refused(context: Context) -> Outcome {
    for code in [0x01, 0x80, 0xFF] {
        let (mut pair, id) = released_delivery(&context).await?;
        let illegal = wire::packet(0x70, &[&id, &[code]]);
        refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}
