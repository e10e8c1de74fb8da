//! PUBLISH: what is delivered, and which packets are refused.

use std::num::NonZeroU32;

use whimbrel_codec::{Delivery, Packet, PacketId, PropertyId, QoS, ReasonCode, SubscriptionId};

use super::pair::{Pair, subscribe, text};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Answer, MALFORMED, Twin, refuses, refuses_on, serves};
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        qos_0_is_delivered_without_identifier_and_not_answered,
        [V31, V311, V5],
        [
            "3:MQTT-2.3.1-5",
            "3:MQTT-3.3.1-2",
            "3:MQTT-3.3.4-1",
            "3:MQTT-4.3.1-1",
            "5:MQTT-2.2.1-2",
            "5:MQTT-3.3.1-2",
            "5:MQTT-3.3.4-1",
            "5:MQTT-4.3.1-1"
        ]
    ),
    case!(
        payload_arrives_unchanged,
        [V31, V311, V5],
        ["3:MQTT-4.5.0-1", "5:MQTT-4.5.0-1"]
    ),
    case!(
        packets_at_the_edges_of_the_length_field_arrive,
        [V31, V311, V5],
        [
            "3:MQTT-4.5.0-1",
            "5:MQTT-1.5.5-1",
            "5:MQTT-4.5.0-1",
            "U311-001",
            "U5-007"
        ]
    ),
    case!(
        packets_are_told_apart_however_the_stream_is_cut,
        [V31, V311, V5],
        ["3:MQTT-4.5.0-1", "5:MQTT-4.5.0-1"]
    ),
    case!(
        delivery_has_the_topic_it_was_published_to,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.2-1",
            "3:MQTT-3.3.2-3",
            "5:MQTT-3.3.2-1",
            "5:MQTT-3.3.2-3"
        ]
    ),
    case!(
        publish_without_properties_is_delivered_with_a_property_length,
        [V5],
        ["5:MQTT-2.2.2-1"]
    ),
    case!(
        every_matching_session_gets_the_message,
        [V31, V311, V5],
        ["3:MQTT-4.5.0-1", "5:MQTT-4.5.0-1"]
    ),
    case!(
        dup_of_the_publisher_is_not_passed_on,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.1-3",
            "3:MQTT-4.3.2-2",
            "5:MQTT-3.3.1-3",
            "5:MQTT-4.3.2-4",
            "U311-012",
            "U31-006"
        ]
    ),
    case!(
        dup_with_qos_0_is_refused_or_has_no_effect,
        [V311, V5],
        ["3:MQTT-3.3.1-2", "5:MQTT-3.3.1-2"]
    ),
    case!(
        qos_3_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.3.1-4",
            "3:MQTT-4.8.0-1",
            "5:MQTT-3.3.1-4",
            "5:MQTT-4.13.1-1"
        ]
    ),
    case!(
        packet_identifier_0_is_refused,
        [V311, V5],
        ["3:MQTT-2.3.1-1", "3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        wildcard_in_a_topic_name_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.3.2-2",
            "3:MQTT-4.7.1-1",
            "5:MQTT-3.3.2-2",
            "5:MQTT-4.7.0-1"
        ]
    ),
    case!(
        empty_topic_name_is_refused,
        [V311, V5],
        ["3:MQTT-4.7.3-1", "5:MQTT-4.7.3-1", "U5-044"]
    ),
    case!(
        topic_name_that_is_no_utf8_is_refused,
        [V311, V5],
        [
            "3:MQTT-1.5.3-1",
            "3:MQTT-3.3.2-1",
            "5:MQTT-1.5.4-1",
            "5:MQTT-3.3.2-1",
            "U5-001"
        ]
    ),
    case!(
        nul_in_a_topic_name_is_refused,
        [V311, V5],
        [
            "3:MQTT-1.5.3-2",
            "3:MQTT-4.7.3-2",
            "5:MQTT-1.5.4-2",
            "5:MQTT-4.7.3-2",
            "U5-001"
        ]
    ),
    case!(
        publish_that_ends_early_is_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        any_of_several_errors_may_be_reported,
        [V5],
        ["U5-113", "5:MQTT-4.13.1-1"]
    ),
    case!(
        subscription_identifier_from_a_client_is_refused,
        [V5],
        ["5:MQTT-3.3.4-6"]
    ),
    case!(
        subscription_identifier_0_in_a_publish_is_refused,
        [V5],
        ["U5-047"]
    ),
    case!(
        publish_that_may_be_forbidden_is_acknowledged_or_ends_the_connection,
        [V31, V311],
        ["3:MQTT-3.3.5-2"]
    ),
    case!(publish_above_the_maximum_qos_is_refused, [V5], ["U5-038"]),
];

async fn qos_0_is_delivered_without_identifier_and_not_answered(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    // Were there an identifier, the first two bytes of the payload would be lost.
    pair.publish(QoS::AtMostOnce, &["first", "second"]).await?;
    for payload in ["first", "second"] {
        let publish = pair.subscriber.expect_publish().await?;
        let delivery = publish.delivery();
        context.check_eq("delivery", &Delivery::AtMostOnce, &delivery)?;
        context.check_eq("payload", payload, &text(&publish))?;
    }
    pair.publisher.expect_silence().await?;
    pair.subscriber.expect_silence().await
}

async fn payload_arrives_unchanged(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let size_max = context.announced().properties.packet_size_max;
    let size_max = size_max.map_or(u32::MAX, NonZeroU32::get);
    // The largest is one for which the remaining length needs three bytes.
    let long = every_byte.repeat(if size_max > 20_000 { 70 } else { 1 });
    for payload in [Vec::new(), vec![0], every_byte, long] {
        let message = Message::new(&pair.topic, payload.clone());
        pair.publisher.publish(&message).await?;
        let publish = pair.subscriber.expect_publish().await?;
        let same = publish.payload() == payload.as_slice();
        context.check(
            same,
            format!("the payload of {} bytes unchanged", payload.len()),
            format!("another of {} bytes", publish.payload().len()),
        )?;
    }
    Ok(())
}

async fn packets_at_the_edges_of_the_length_field_arrive(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    let size_max = context.announced().properties.packet_size_max;
    let size_max = size_max.map_or(u32::MAX, NonZeroU32::get);
    let empty = RawPublish::new(&context, pair.topic.clone()).payload("");
    // First byte and length are two bytes: the rest is what the length counts.
    let counted = empty.build().len() - 2;
    for length in [127, 128, 16_383, 16_384] {
        if size_max < 16_400 && length > 128 {
            break;
        }
        let payload = vec![b'x'; length - counted];
        let bytes = empty.clone().payload(payload.clone()).build();
        pair.publisher.send_bytes(&bytes).await?;
        let publish = pair.subscriber.expect_publish().await?;
        let received = publish.payload().len();
        context.check_eq("payload bytes", &payload.len(), &received)?;
    }
    pair.publisher.expect_alive().await
}

async fn packets_are_told_apart_however_the_stream_is_cut(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    let publish = RawPublish::new(&context, pair.topic.clone());
    let publish = |payload: &str| publish.clone().payload(payload).build();
    for byte in publish("in single bytes") {
        pair.publisher.send_bytes(&[byte]).await?;
        // Lets each byte go as a segment of its own.
        tokio::task::yield_now().await;
    }
    let (second, third) = (publish("at once"), publish("and a part"));
    let (start, end) = third.split_at(third.len() / 2);
    let joined = [&second, start].concat();
    pair.publisher.send_bytes(&joined).await?;
    let topic = pair.topic.clone();
    for payload in ["in single bytes", "at once"] {
        pair.subscriber.receive_message(&topic, payload).await?;
    }
    pair.publisher.send_bytes(end).await?;
    pair.subscriber
        .receive_message(&topic, "and a part")
        .await?;
    pair.publisher.expect_alive().await
}

async fn delivery_has_the_topic_it_was_published_to(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut subscriber = Client::connect(&context, "sub").await?;
    subscriber
        .subscribe(&context.topic("+/x"), QoS::AtMostOnce)
        .await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let topics = ["a/x", "x", "b/x/y", "b/y", "Ä ö/x"];
    for name in topics {
        let message = Message::new(&context.topic(name), name.to_owned());
        publisher.publish(&message).await?;
    }
    for name in ["a/x", "Ä ö/x"] {
        subscriber
            .receive_message(&context.topic(name), name)
            .await?;
    }
    subscriber.expect_no_publish().await
}

async fn publish_without_properties_is_delivered_with_a_property_length(
    context: Context,
) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    let bytes = RawPublish::new(&context, pair.topic.clone()).build();
    pair.publisher.send_bytes(&bytes).await?;
    // A packet without property length does not decode, or loses a byte of its payload.
    let publish = pair.subscriber.expect_publish().await?;
    context.check_eq("payload", "raw", &text(&publish))
}

async fn every_matching_session_gets_the_message(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    context.need_sessions(60)?;
    let topic = context.topic("t");
    let offline = Client::options(&context, "off").persistent();
    let mut client = offline.connect().await?;
    subscribe(&mut client, &topic, QoS::AtLeastOnce).await?;
    client.disconnect().await?;
    let mut online = Vec::new();
    for name in ["a", "b", "c"] {
        let mut client = Client::connect(&context, name).await?;
        client.subscribe(&topic, QoS::AtLeastOnce).await?;
        online.push(client);
    }
    // The publisher subscribes too: a broker sends it its own message as to anybody else.
    let mut publisher = Client::connect(&context, "pub").await?;
    publisher.subscribe(&topic, QoS::AtMostOnce).await?;
    let message = Message::new(&topic, "to all").qos(QoS::AtLeastOnce);
    publisher.publish(&message).await?;
    publisher.receive_message(&topic, "to all").await?;
    online.push(offline.connect().await?);
    for client in &mut online {
        client.receive_message(&topic, "to all").await?;
    }
    Ok(())
}

async fn dup_of_the_publisher_is_not_passed_on(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    let id = pair.publisher.packet_id();
    let message = pair.message("again", QoS::AtLeastOnce);
    let repeated = Delivery::first(QoS::AtLeastOnce, id).repeated();
    let packet = Packet::Publish(message.publish(repeated));
    pair.publisher.send(&packet).await?;
    let ack = pair.publisher.expect_puback(id).await?;
    let accepted = !ack.reason.is_error();
    context.check(accepted, "a positive PUBACK", ack.reason.to_string())?;
    let publish = pair.subscriber.receive().await?;
    context.check_eq("payload", "again", &text(&publish))?;
    context.check_eq("DUP", &false, &publish.delivery().dup())
}

async fn dup_with_qos_0_is_refused_or_has_no_effect(context: Context) -> Outcome {
    let mut publisher = Client::connect(&context, "pub").await?;
    serves(&mut publisher, &Twin::publish(&context)).await?;
    let illegal = RawPublish::new(&context, context.topic("twin")).flags(8);
    publisher.send_bytes(&illegal.build()).await?;
    let silence = context.timing().silence;
    match publisher.next(silence).await {
        Event::Closed | Event::Silence => Ok(()),
        // Passed on, it is as if DUP had not been there: the packet does not decode with it.
        Event::Packet(Packet::Publish(_) | Packet::Disconnect(_)) => Ok(()),
        event => {
            Err(publisher.fail_with("the connection closed, or a PUBLISH without DUP", &event))
        }
    }
}

async fn qos_3_is_refused(context: Context) -> Outcome {
    for flags in [6, 14] {
        let illegal = RawPublish::new(&context, context.topic("t")).flags(flags);
        let illegal = illegal.id(7).build();
        refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn packet_identifier_0_is_refused(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    let publish = |flags| RawPublish::new(&context, context.topic("t")).flags(flags);
    let seven = PacketId::new(7).unwrap_or(PacketId::MIN);
    let mut packets = vec![(2, Answer::PubAck(seven))];
    if context.need_qos(QoS::ExactlyOnce).is_ok() {
        packets.push((4, Answer::PubRec(seven)));
    }
    for (flags, answer) in packets {
        let twin = Twin::new(publish(flags).id(7).build(), answer);
        refuses(&context, &twin, publish(flags).id(0).build(), MALFORMED).await?;
    }
    Ok(())
}

async fn wildcard_in_a_topic_name_is_refused(context: Context) -> Outcome {
    let codes = &[MALFORMED, &[ReasonCode::TopicNameInvalid]].concat();
    for name in ["+", "#", "a/+/b", "a/#", "a+", "a#b"] {
        let illegal = RawPublish::new(&context, context.topic(name)).build();
        refuses(&context, &Twin::publish(&context), illegal, codes).await?;
    }
    Ok(())
}

async fn empty_topic_name_is_refused(context: Context) -> Outcome {
    let codes = &[MALFORMED, &[ReasonCode::TopicNameInvalid]].concat();
    let illegal = RawPublish::new(&context, "").build();
    refuses(&context, &Twin::publish(&context), illegal, codes).await
}

async fn topic_name_that_is_no_utf8_is_refused(context: Context) -> Outcome {
    let codes = &[MALFORMED, &[ReasonCode::TopicNameInvalid]].concat();
    let ill_formed: [&[u8]; 5] = [
        &[0xFF],
        // A continuation byte too few, an over-long form, a surrogate, a code point above U+10FFFF.
        &[0xC3],
        &[0xC0, 0xAF],
        &[0xED, 0xA0, 0x80],
        &[0xF4, 0x90, 0x80, 0x80],
    ];
    for bytes in ill_formed {
        let topic = [context.topic("t").as_bytes(), bytes].concat();
        let illegal = RawPublish::new(&context, topic).build();
        refuses(&context, &Twin::publish(&context), illegal, codes).await?;
    }
    Ok(())
}

async fn nul_in_a_topic_name_is_refused(context: Context) -> Outcome {
    let codes = &[MALFORMED, &[ReasonCode::TopicNameInvalid]].concat();
    let illegal = RawPublish::new(&context, context.topic("a\0b")).build();
    refuses(&context, &Twin::publish(&context), illegal, codes).await
}

async fn publish_that_ends_early_is_refused(context: Context) -> Outcome {
    let whole = RawPublish::new(&context, context.topic("t")).flags(2).id(7);
    let whole = whole.payload("").build();
    let body = whole.get(2..).unwrap_or_default();
    let id_start = 2 + context.topic("t").len();
    // The remaining length ends the packet in the topic's length, in the topic, before the identifier, and in it.
    for length in [0, 1, id_start - 1, id_start, id_start + 1] {
        let illegal = crate::wire::packet(0x32, &[body.get(..length).unwrap_or_default()]);
        refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn any_of_several_errors_may_be_reported(context: Context) -> Outcome {
    let codes = &[
        MALFORMED,
        &[ReasonCode::TopicNameInvalid, ReasonCode::TopicAliasInvalid],
    ]
    .concat();
    // A wildcard, a topic alias of 0, and a payload format there twice.
    let illegal = RawPublish::new(&context, context.topic("#"))
        .alias(0)
        .property(PropertyId::PayloadFormat, [0])
        .property(PropertyId::PayloadFormat, [0]);
    refuses(&context, &Twin::publish(&context), illegal.build(), codes).await
}

async fn subscription_identifier_from_a_client_is_refused(context: Context) -> Outcome {
    // Also of a subscription that the client has.
    let mut client = Client::connect(&context, "c").await?;
    if context.need_subscription_ids().is_ok() {
        let options = whimbrel_codec::SubscriptionOptions::new(QoS::AtMostOnce);
        let filter = context.topic("s");
        client
            .subscribe_with(&filter, options, SubscriptionId::new(1))
            .await?;
    }
    let twin = Twin::publish(&context);
    let illegal = with_subscription_id(&context, 1);
    refuses_on(&mut client, &twin, illegal, MALFORMED).await
}

async fn subscription_identifier_0_in_a_publish_is_refused(context: Context) -> Outcome {
    let illegal = with_subscription_id(&context, 0);
    refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await
}

fn with_subscription_id(context: &Context, id: u8) -> Vec<u8> {
    let publish = RawPublish::new(context, context.topic("t"));
    publish.property(PropertyId::SubscriptionId, [id]).build()
}

async fn publish_that_may_be_forbidden_is_acknowledged_or_ends_the_connection(
    context: Context,
) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let id = client.packet_id();
    let allowed = Message::new(&context.topic("t"), "m").qos(QoS::AtLeastOnce);
    let twin = Twin::packet(&context, &allowed.packet(id), Answer::PubAck(id));
    serves(&mut client, &twin).await?;
    // Topics of the server are what brokers forbid most. Whether this one does can't be seen: in both cases there are the
    // same two answers, and none is not one of them.
    let id = client.packet_id();
    let topic = format!("$SYS/{}", context.topic("t"));
    let message = Message::new(&topic, "m").qos(QoS::AtLeastOnce);
    client.send(&message.packet(id)).await?;
    match client.next(context.timing().answer).await {
        Event::Closed => Ok(()),
        Event::Packet(Packet::PubAck(ack)) if ack.id == id => client.expect_alive().await,
        event => Err(client.fail_with("PUBACK or the connection closed", &event)),
    }
}

async fn publish_above_the_maximum_qos_is_refused(context: Context) -> Outcome {
    let maximum = context.announced().properties.maximum_qos;
    context.need(maximum < QoS::ExactlyOnce, "the broker takes every QoS")?;
    let codes = &[MALFORMED, &[ReasonCode::QosNotSupported]].concat();
    let flags = (maximum.bits() + 1) * 2;
    let illegal = RawPublish::new(&context, context.topic("t")).flags(flags);
    let illegal = illegal.id(7).build();
    refuses(&context, &Twin::publish(&context), illegal, codes).await
}
