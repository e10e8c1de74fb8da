//! Fixed headers, remaining lengths, packets cut and joined, packets in the wrong direction.

use whimbrel_codec::{QoS, ReasonCode};

use super::request::{packet_id, publish, request, subscribe, subscribe_twin};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::proof::{Answer, MALFORMED, Twin, refuses, refuses_on, serves};
use crate::verdict::{Outcome, Stop};
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        reserved_packet_types_are_refused,
        [V311, V5],
        ["U311-002", "3:MQTT-4.8.0-1", "U5-005", "5:MQTT-4.13.1-1"]
    ),
    case!(
        acknowledgements_with_flags_are_refused,
        [V311, V5],
        [
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
    case!(
        pubrel_with_other_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.6.1-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-3.6.1-1",
            "5:MQTT-2.1.3-1"
        ]
    ),
    case!(
        publish_with_qos_3_is_refused,
        [V311, V5],
        ["3:MQTT-3.3.1-4", "5:MQTT-3.3.1-4"]
    ),
    case!(
        codes_of_other_packets_are_refused_in_acknowledgements,
        [V5],
        [
            "5:MQTT-3.4.2-1",
            "5:MQTT-3.5.2-1",
            "5:MQTT-3.6.2-1",
            "5:MQTT-3.7.2-1"
        ]
    ),
    case!(
        a_remaining_length_of_five_bytes_is_refused,
        [V311, V5],
        ["U311-001", "3:MQTT-4.8.0-1", "U5-003", "5:MQTT-4.13.1-1"]
    ),
    case!(
        remaining_lengths_of_up_to_three_bytes_are_read,
        [V31, V311, V5],
        ["U311-001", "U5-007", "3:MQTT-3.3.2-1", "5:MQTT-1.5.5-1"]
    ),
    case!(
        an_over_long_remaining_length_is_refused,
        [V5],
        ["5:MQTT-1.5.5-1"]
    ),
    case!(
        an_over_long_property_length_is_refused,
        [V5],
        ["5:MQTT-1.5.5-1"]
    ),
    case!(
        an_over_long_subscription_identifier_is_refused,
        [V5],
        ["5:MQTT-1.5.5-1"]
    ),
    case!(
        packets_may_be_cut_and_joined_anywhere,
        [V311, V5],
        ["U311-001", "U5-007"]
    ),
    case!(
        a_packet_that_ends_too_early_is_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        a_packet_with_bytes_left_over_is_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1", "U5-007"]
    ),
    case!(
        packets_that_only_servers_send_are_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        a_packet_with_several_errors_is_refused_with_one_of_their_codes,
        [V5],
        ["U5-113", "5:MQTT-4.13.1-1"]
    ),
    case!(
        an_error_is_named_in_disconnect_before_the_end,
        [V5],
        ["U5-111", "5:MQTT-4.13.2-1"]
    ),
    case!(
        an_error_of_one_connection_leaves_others_alone,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
];

async fn reserved_packet_types_are_refused(context: Context) -> Outcome {
    let mut first_bytes = vec![0x00, 0x02, 0x0F];
    if !context.is_v5() {
        // AUTH is new in 5.0.
        first_bytes.push(0xF0);
    }
    for first_byte in first_bytes {
        let illegal = wire::packet(first_byte, &[]);
        refuses(&context, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

/// A client with an unacknowledged delivery of this QoS, and its identifier.
async fn open_delivery(context: &Context, qos: QoS) -> Outcome<(Client, [u8; 2])> {
    context.need_qos(qos)?;
    let mut client = Client::connect(context, "c").await?;
    let topic = context.topic("open");
    client.subscribe(&topic, qos).await?;
    client
        .publish(&Message::new(&topic, "one").qos(qos))
        .await?;
    let publish = client.expect_publish().await?;
    let granted = publish.qos() == qos;
    let id = publish.packet_id().filter(|_| granted);
    let id = id.ok_or_else(|| Stop::skip("the broker grants a lower QoS"))?;
    Ok((client, id.get().to_be_bytes()))
}

async fn acknowledgements_with_flags_are_refused(context: Context) -> Outcome {
    // The well-formed twins are served.
    let (mut client, id) = open_delivery(&context, QoS::AtLeastOnce).await?;
    serves(
        &mut client,
        &Twin::new(wire::packet(0x40, &[&id]), Answer::Alive),
    )
    .await?;
    let (mut client, id) = open_delivery(&context, QoS::ExactlyOnce).await?;
    client.send_bytes(&wire::packet(0x50, &[&id])).await?;
    client
        .expect_pubrel(packet_id(u16::from_be_bytes(id)))
        .await?;
    serves(
        &mut client,
        &Twin::new(wire::packet(0x70, &[&id]), Answer::Alive),
    )
    .await?;
    for flags in [0x1, 0x2, 0x8, 0xF] {
        let (mut client, id) = open_delivery(&context, QoS::AtLeastOnce).await?;
        let illegal = wire::packet(0x40 | flags, &[&id]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
        let (mut client, id) = open_delivery(&context, QoS::ExactlyOnce).await?;
        let illegal = wire::packet(0x50 | flags, &[&id]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
        let (mut client, id) = open_delivery(&context, QoS::ExactlyOnce).await?;
        client.send_bytes(&wire::packet(0x50, &[&id])).await?;
        client
            .expect_pubrel(packet_id(u16::from_be_bytes(id)))
            .await?;
        let illegal = wire::packet(0x70 | flags, &[&id]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn pubrel_with_other_flags_is_refused(context: Context) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    for flags in [0x0, 0x1, 0x3, 0x4, 0x6, 0xA, 0xF] {
        let mut client = Client::connect(&context, "c").await?;
        let message = Message::new(&context.topic("x"), "one").qos(QoS::ExactlyOnce);
        client.publish(&message).await?;
        let id = client.packet_id();
        client.send(&message.packet(id)).await?;
        client.expect_pubrec(id).await?;
        let illegal = wire::packet(0x60 | flags, &[&id.get().to_be_bytes()]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn publish_with_qos_3_is_refused(context: Context) -> Outcome {
    let name = wire::field(context.topic("x"));
    let section = super::request::section(&context, &[]);
    for flags in [0x6, 0x7, 0xE] {
        let illegal = wire::packet(0x30 | flags, &[&name, &[0, 1], &section, b"one"]);
        refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn codes_of_other_packets_are_refused_in_acknowledgements(context: Context) -> Outcome {
    // The well-formed twins, with the code written out, are served.
    let (mut client, id) = open_delivery(&context, QoS::AtLeastOnce).await?;
    let puback = wire::packet(0x40, &[&id, &[0]]);
    serves(&mut client, &Twin::new(puback, Answer::Alive)).await?;
    let (mut client, id) = open_delivery(&context, QoS::ExactlyOnce).await?;
    client.send_bytes(&wire::packet(0x50, &[&id, &[0]])).await?;
    client
        .expect_pubrel(packet_id(u16::from_be_bytes(id)))
        .await?;
    let pubcomp = wire::packet(0x70, &[&id, &[0]]);
    serves(&mut client, &Twin::new(pubcomp, Answer::Alive)).await?;
    // A code that SUBSCRIBE knows, one that DISCONNECT knows, and one that nothing knows.
    for code in [0x01, 0x8E, 0xFF] {
        let (mut client, id) = open_delivery(&context, QoS::AtLeastOnce).await?;
        let illegal = wire::packet(0x40, &[&id, &[code]]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
        let (mut client, id) = open_delivery(&context, QoS::ExactlyOnce).await?;
        let illegal = wire::packet(0x50, &[&id, &[code]]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
        let (mut client, id) = open_delivery(&context, QoS::ExactlyOnce).await?;
        client.send_bytes(&wire::packet(0x50, &[&id])).await?;
        client
            .expect_pubrel(packet_id(u16::from_be_bytes(id)))
            .await?;
        let illegal = wire::packet(0x70, &[&id, &[code]]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
        let mut client = Client::connect(&context, "c").await?;
        let id = client.packet_id();
        let message = Message::new(&context.topic("x"), "one").qos(QoS::ExactlyOnce);
        client.send(&message.packet(id)).await?;
        client.expect_pubrec(id).await?;
        let illegal = wire::packet(0x62, &[&id.get().to_be_bytes(), &[code]]);
        refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn a_remaining_length_of_five_bytes_is_refused(context: Context) -> Outcome {
    // The fourth byte decides, but nothing says that a broker may not wait for the fifth.
    let starts: [&[u8]; 3] = [
        &[0xC0, 0x80, 0x80, 0x80, 0x80, 0x00],
        &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    let codes = [MALFORMED, &[ReasonCode::PacketTooLarge]].concat();
    for illegal in starts {
        refuses(&context, &Twin::ping(), illegal, &codes).await?;
    }
    Ok(())
}

async fn remaining_lengths_of_up_to_three_bytes_are_read(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("sizes");
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    let around = publish(&context, &topic, &[], "").len() - 2;
    // Both sides of each edge. Four bytes start at two million, more than many a broker takes.
    for remaining in [127, 128, 16_383, 16_384, 20_000] {
        let limit = context.announced().properties.packet_size_max;
        let fits = limit.is_none_or(|limit| limit.get() > remaining + 5);
        context.need(fits, "the broker takes no packets of that size")?;
        let length = usize::try_from(remaining).unwrap_or(0) - around;
        let payload = "x".repeat(length);
        client
            .publish(&Message::new(&topic, payload.clone()))
            .await?;
        let received = client.receive_on(&topic).await?;
        let same = received.payload() == payload.as_bytes();
        let got = format!("{} bytes", received.payload().len());
        context.check(same, format!("a payload of {length} bytes"), got)?;
    }
    client.disconnect().await
}

async fn an_over_long_remaining_length_is_refused(context: Context) -> Outcome {
    for illegal in [&[0xC0, 0x80, 0x00][..], &[0xC0, 0x80, 0x80, 0x80, 0x00]] {
        refuses(&context, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn an_over_long_property_length_is_refused(context: Context) -> Outcome {
    let name = wire::field(context.topic("x"));
    let illegal = wire::packet(0x30, &[&name, &[0x80, 0x00], b"one"]);
    refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await
}

async fn an_over_long_subscription_identifier_is_refused(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let payload = super::request::filter_with_options(context.topic("x"), 0);
    let numbered = |id, value: &[u8]| {
        let property = wire::property(0x0B, value);
        let first_byte = super::request::SUBSCRIBE;
        request(&context, first_byte, id, &[&property], &payload)
    };
    let twin = Twin::new(numbered(1, &[0x05]), Answer::SubAck(packet_id(1)));
    let illegal = numbered(2, &[0x85, 0x00]);
    refuses(&context, &twin, illegal, MALFORMED).await
}

async fn packets_may_be_cut_and_joined_anywhere(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("cut");
    for byte in subscribe(&context, 1, &topic, 0) {
        client.send_bytes(&[byte]).await?;
        // The task yields, so that the bytes leave one by one as far as the system lets them.
        tokio::task::yield_now().await;
    }
    client.expect_suback(packet_id(1)).await?;
    let first = publish(&context, &topic, &[], "first");
    let second = publish(&context, &topic, &[], "second");
    let joined = [first, vec![0xC0, 0x00], second, vec![0xC0]].concat();
    client.send_bytes(&joined).await?;
    client.receive_message(&topic, "first").await?;
    client.expect_pingresp().await?;
    client.receive_message(&topic, "second").await?;
    client.expect_silence().await?;
    client.send_bytes(&[0x00]).await?;
    client.expect_pingresp().await?;
    client.disconnect().await
}

async fn a_packet_that_ends_too_early_is_refused(context: Context) -> Outcome {
    let mut illegal = vec![
        wire::packet(0x30, &[]),
        wire::packet(0x30, &[&[0]]),
        wire::packet(super::request::SUBSCRIBE, &[&[0, 2]]),
        wire::packet(super::request::SUBSCRIBE, &[&[0]]),
        wire::packet(super::request::UNSUBSCRIBE, &[]),
        wire::packet(0x40, &[&[0]]),
        wire::packet(0x62, &[]),
    ];
    if context.need_qos(QoS::AtLeastOnce).is_ok() {
        // QoS 1, and no room for the identifier.
        let name = wire::field(context.topic("x"));
        illegal.push(wire::packet(0x32, &[&name]));
        illegal.push(wire::packet(0x32, &[&name, &[0]]));
    }
    for illegal in illegal {
        refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn a_packet_with_bytes_left_over_is_refused(context: Context) -> Outcome {
    let illegal = wire::packet(0xC0, &[&[0]]);
    refuses(&context, &Twin::ping(), illegal, MALFORMED).await?;
    let mut acknowledgement = vec![0, 1];
    if context.is_v5() {
        // Reason, no properties, and a byte that belongs to nothing.
        acknowledgement.extend([0, 0]);
    }
    acknowledgement.push(0);
    let illegal = wire::packet(0x62, &[&acknowledgement]);
    refuses(&context, &Twin::ping(), illegal, MALFORMED).await
}

async fn packets_that_only_servers_send_are_refused(context: Context) -> Outcome {
    let section = super::request::section(&context, &[]);
    let connack = wire::packet(0x20, &[&[0, 0], &section]);
    let suback = wire::packet(0x90, &[&[0, 1], &section, &[0]]);
    let codes: &[u8] = if context.is_v5() { &[0] } else { &[] };
    let unsuback = wire::packet(0xB0, &[&[0, 1], &section, codes]);
    let pingresp = wire::packet(0xD0, &[]);
    for illegal in [connack, suback, unsuback, pingresp] {
        refuses(&context, &Twin::ping(), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn a_packet_with_several_errors_is_refused_with_one_of_their_codes(
    context: Context,
) -> Outcome {
    // Identifier 0, a property that is none of SUBSCRIBE's, an invalid filter, reserved option bits.
    let property = wire::string_property(0x03, "text/plain");
    let payload = super::request::filter_with_options(context.topic("#/a"), 0xC3);
    let first_byte = super::request::SUBSCRIBE;
    let illegal = request(&context, first_byte, 0, &[&property], &payload);
    let codes = [MALFORMED, &[ReasonCode::TopicFilterInvalid]].concat();
    refuses(&context, &subscribe_twin(&context), illegal, &codes).await
}

async fn an_error_is_named_in_disconnect_before_the_end(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    serves(&mut client, &subscribe_twin(&context)).await?;
    let illegal = request(&context, super::request::SUBSCRIBE, 2, &[], &[]);
    client.send_bytes(&illegal).await?;
    let disconnect = client.expect_disconnect().await?;
    let Some(disconnect) = disconnect else {
        let reason = "the broker closes without DISCONNECT, which it only should send";
        return Err(Stop::skip(reason));
    };
    let codes = [MALFORMED, &[ReasonCode::UnspecifiedError]].concat();
    context.check(
        codes.contains(&disconnect.reason),
        format!("DISCONNECT with one of {codes:?}"),
        disconnect.reason.to_string(),
    )
}

async fn an_error_of_one_connection_leaves_others_alone(context: Context) -> Outcome {
    let mut other = Client::connect(&context, "other").await?;
    let topic = context.topic("other");
    other.subscribe(&topic, QoS::AtMostOnce).await?;
    let illegal = wire::packet(0x00, &[]);
    refuses(&context, &Twin::ping(), illegal, MALFORMED).await?;
    other.expect_silence().await?;
    other.publish(&Message::new(&topic, "one")).await?;
    other.receive_message(&topic, "one").await?;
    other.disconnect().await
}
