//! Maximum Packet Size: what the broker sends, and what it takes.

use std::num::NonZeroU32;

use whimbrel_codec::{Ack, AckType, MessageProperties, Packet, PacketId, QoS, ReasonCode};

use super::pair::{Pair, resume, subscribe};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, ConnectOptions, Message};
use crate::context::Context;
use crate::proof::MALFORMED;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        message_above_the_clients_packet_size_is_not_sent,
        [V5],
        ["5:MQTT-3.1.2-24", "5:MQTT-3.1.2-25", "U5-007"]
    ),
    case!(
        message_that_is_too_large_counts_as_delivered,
        [V5],
        ["5:MQTT-3.1.2-25"]
    ),
    case!(
        properties_of_a_message_are_not_cut_to_the_packet_size,
        [V5],
        ["5:MQTT-3.1.2-24", "5:MQTT-3.1.2-25", "5:MQTT-3.3.2-17"]
    ),
    case!(
        puback_keeps_to_the_packet_size,
        [V5],
        ["5:MQTT-3.1.2-24", "5:MQTT-3.4.2-2", "5:MQTT-3.4.2-3"]
    ),
    case!(
        pubrec_keeps_to_the_packet_size,
        [V5],
        ["5:MQTT-3.1.2-24", "5:MQTT-3.5.2-2", "5:MQTT-3.5.2-3"]
    ),
    case!(
        pubrel_keeps_to_the_packet_size,
        [V5],
        ["5:MQTT-3.1.2-24", "5:MQTT-3.6.2-2", "5:MQTT-3.6.2-3"]
    ),
    case!(
        pubcomp_keeps_to_the_packet_size,
        [V5],
        ["5:MQTT-3.1.2-24", "5:MQTT-3.7.2-2", "5:MQTT-3.7.2-3"]
    ),
    case!(
        broker_takes_packets_up_to_its_maximum_and_not_above,
        [V5],
        ["U5-041", "U5-007"]
    ),
];

/// Bytes that the packets of these cases may have without their payload; a client's CONNACK has to fit as well.
const SIZE_MAX: u32 = 400;

/// The bytes of a PUBLISH to a subscriber above its payload, as this broker sends it to one without a limit.
async fn overhead(context: &Context, qos: QoS, topic: &str) -> Outcome<usize> {
    let mut pair = Pair::connect(context, qos).await?;
    pair.subscriber.subscribe(topic, qos).await?;
    // Long enough that the remaining length has as many bytes as near the limit.
    let payload = vec![b'x'; 200];
    let message = Message::new(topic, payload.clone()).qos(qos);
    pair.publisher.publish(&message).await?;
    let publish = pair.subscriber.expect_publish().await?;
    let size = pair.subscriber.last_bytes().len();
    pair.subscriber.acknowledge(&publish).await?;
    Ok(size - payload.len())
}

/// A client that takes packets of [`SIZE_MAX`] bytes, if the broker's CONNACK fits into one.
fn limited(context: &Context) -> ConnectOptions {
    Client::options(context, "sub").packet_size_max(SIZE_MAX)
}

async fn message_above_the_clients_packet_size_is_not_sent(context: Context) -> Outcome {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        if context.need_qos(qos).is_err() {
            continue;
        }
        let topic = context.topic("t");
        let room = usize::try_from(SIZE_MAX).unwrap_or(0) - overhead(&context, qos, &topic).await?;
        let mut pair = Pair::with_subscriber(&context, qos, &limited(&context)).await?;
        for (size, fits) in [
            (room, true),
            (room + 1, false),
            (room * 20, false),
            (room, true),
        ] {
            let message = Message::new(&topic, vec![b'x'; size]).qos(qos);
            pair.publisher.publish(&message).await?;
            if fits {
                let publish = pair.subscriber.receive_on(&topic).await?;
                context.check_eq("payload bytes", &size, &publish.payload().len())?;
            } else {
                pair.subscriber.expect_no_publish().await?;
            }
        }
        pair.subscriber.expect_alive().await?;
    }
    Ok(())
}

async fn message_that_is_too_large_counts_as_delivered(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = limited(&context).persistent().receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    // It does not take up the window of one.
    for payload in ["before", "after"] {
        pair.publish(QoS::AtLeastOnce, &[payload]).await?;
        pair.subscriber
            .receive_message(&pair.topic, payload)
            .await?;
        let large = Message::new(&pair.topic, vec![b'x'; 4_000]);
        pair.publisher.publish(&large.qos(QoS::AtLeastOnce)).await?;
        pair.subscriber.expect_no_publish().await?;
    }
    pair.subscriber.expect_alive().await?;
    pair.subscriber.cut();
    // And it does not come later, when there would be room for it.
    let unlimited = Client::options(&context, "sub").persistent();
    let mut subscriber = resume(&unlimited).await?;
    subscriber.expect_no_publish().await?;
    let last = Message::new(&pair.topic, "last").qos(QoS::AtLeastOnce);
    pair.publisher.publish(&last).await?;
    let topic = pair.topic;
    subscriber.receive_message(&topic, "last").await.map(drop)
}

async fn properties_of_a_message_are_not_cut_to_the_packet_size(context: Context) -> Outcome {
    let mut pair = Pair::with_subscriber(&context, QoS::AtMostOnce, &limited(&context)).await?;
    let long = "x".repeat(600);
    let properties = MessageProperties::builder().user_property("long", &long);
    let properties = properties.build().unwrap_or_default();
    let message = pair.message("m", QoS::AtMostOnce).properties(properties);
    pair.publisher.publish(&message).await?;
    pair.subscriber.expect_no_publish().await?;
    pair.publish(QoS::AtMostOnce, &["small"]).await?;
    pair.subscriber
        .receive_message(&pair.topic, "small")
        .await?;
    Ok(())
}

/// Gets an acknowledgement of this kind, such that a broker has something to say in it if it ever does: to a topic without
/// subscribers, or of an exchange that is not there. Returns it with its size in bytes.
async fn provoke(client: &mut Client, kind: AckType) -> Outcome<(Ack, usize)> {
    let context = client.context().clone();
    let id = PacketId::new(7).unwrap_or(PacketId::MIN);
    let nobody = RawPublish::new(&context, context.topic("nobody")).id(7);
    let ack = match kind {
        AckType::PubAck => {
            client.send_bytes(&nobody.flags(2).build()).await?;
            client.expect_puback(id).await?
        }
        AckType::PubRec => {
            client.send_bytes(&nobody.flags(4).build()).await?;
            client.expect_pubrec(id).await?
        }
        AckType::PubComp => {
            client.send(&Packet::PubRel(Ack::success(id))).await?;
            client.expect_pubcomp(id).await?
        }
        AckType::PubRel => {
            let topic = context.topic("own");
            subscribe(client, &topic, QoS::ExactlyOnce).await?;
            let message = Message::new(&topic, "m").qos(QoS::ExactlyOnce);
            client.publish(&message).await?;
            let publish = client.expect_publish().await?;
            let id = publish.packet_id().unwrap_or(PacketId::MIN);
            client.send(&Packet::PubRec(Ack::success(id))).await?;
            client.expect_pubrel(id).await?
        }
    };
    Ok((ack, client.last_bytes().len()))
}

async fn keeps_to_the_packet_size(context: &Context, kind: AckType) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    let mut free = Client::connect(context, "free").await?;
    let connack = free.last_bytes().len();
    let (ack, size) = provoke(&mut free, kind).await?;
    // The PUBLISH and SUBACK of these exchanges have to fit too; topics have fewer than 60 bytes.
    let room = u32::try_from(connack).unwrap_or(u32::MAX).max(80);
    let limit = usize::try_from(room).unwrap_or(usize::MAX);
    let talks = !ack.properties.is_empty() && size > limit;
    let options = Client::options(context, "small").packet_size_max(room);
    let mut client = options.connect().await?;
    let (_, size) = provoke(&mut client, kind).await?;
    let expected = format!("a packet of at most {limit} bytes");
    context.check(size <= limit, expected, format!("one of {size}"))?;
    context.need(
        talks,
        "the broker puts no Reason String or User Property into this packet that would be too long",
    )
}

async fn puback_keeps_to_the_packet_size(context: Context) -> Outcome {
    keeps_to_the_packet_size(&context, AckType::PubAck).await
}

async fn pubrec_keeps_to_the_packet_size(context: Context) -> Outcome {
    keeps_to_the_packet_size(&context, AckType::PubRec).await
}

async fn pubrel_keeps_to_the_packet_size(context: Context) -> Outcome {
    keeps_to_the_packet_size(&context, AckType::PubRel).await
}

async fn pubcomp_keeps_to_the_packet_size(context: Context) -> Outcome {
    keeps_to_the_packet_size(&context, AckType::PubComp).await
}

async fn broker_takes_packets_up_to_its_maximum_and_not_above(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    let maximum = context.announced().properties.packet_size_max;
    let maximum = maximum.map_or(u32::MAX, NonZeroU32::get);
    context.need(
        (100..=SENT_MAX).contains(&maximum),
        "the broker announces no Maximum Packet Size, or a larger one than is sent here",
    )?;
    let maximum = usize::try_from(maximum).unwrap_or(usize::MAX);
    let publish = RawPublish::new(&context, context.topic("t")).flags(2).id(7);
    let of_size = |size: usize| {
        let around = publish.clone().payload(vec![0; size / 2]).build().len() - size / 2;
        // The remaining length may have one byte more for the whole than for the half.
        let mut payload = size.saturating_sub(around);
        let mut bytes = publish.clone().payload(vec![0; payload]).build();
        while bytes.len() > size && payload > 0 {
            payload -= 1;
            bytes = publish.clone().payload(vec![0; payload]).build();
        }
        bytes
    };
    let mut client = Client::connect(&context, "c").await?;
    client.send_bytes(&of_size(maximum)).await?;
    let id = PacketId::new(7).unwrap_or(PacketId::MIN);
    // Whether it has room for the message is another matter: it takes the packet.
    client.expect_puback(id).await?;
    client.send_bytes(&of_size(maximum + 1)).await?;
    let codes = [MALFORMED, &[ReasonCode::PacketTooLarge]].concat();
    client.expect_closed_with(&codes).await
}

/// Larger ones take a machine's time and memory, and say no more.
const SENT_MAX: u32 = 4 * 1_024 * 1_024;
