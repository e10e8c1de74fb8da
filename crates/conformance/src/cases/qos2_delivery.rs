//! QoS 2 from the broker to a client: PUBLISH, PUBREC, PUBREL and PUBCOMP.

use whimbrel_codec::{Ack, Packet, PacketId, ProtocolVersion, QoS, ReasonCode};

use super::pair::Pair;
use crate::case::{Case, case};
use crate::client::Client;
use crate::context::Context;
use crate::link::Event;
use crate::proof::{MALFORMED, Twin, refuses_on};
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
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
        ["U5-009", "U5-054", "U5-107", "U5-112"]
    ),
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
        pubrec_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.5.2-1"]
    ),
    case!(
        pubcomp_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.7.2-1"]
    ),
];

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

async fn pubrec_and_pubcomp_with_flags_are_refused(context: Context) -> Outcome {
    let (mut pair, id) = open_delivery(&context).await?;
    let illegal = wire::packet(0x52, &[&id]);
    refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    let (mut pair, id) = released_delivery(&context).await?;
    let illegal = wire::packet(0x72, &[&id]);
    refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await
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

async fn pubcomp_with_a_code_of_another_packet_is_refused(context: Context) -> Outcome {
    for code in [0x01, 0x80, 0xFF] {
        let (mut pair, id) = released_delivery(&context).await?;
        let illegal = wire::packet(0x70, &[&id, &[code]]);
        refuses_on(&mut pair.subscriber, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}
