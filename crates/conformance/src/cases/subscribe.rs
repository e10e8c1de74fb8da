//! SUBSCRIBE and SUBACK.

use whimbrel_codec::{Packet, Publish, QoS, ReasonCode, SubscriptionOptions};

use super::request::{
    SUBSCRIBE, filter_with_options, keep_retained, packet_id, qos_up_to, receive_copies, request,
    subscribe, subscribe_twin,
};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Answer, MALFORMED, Twin, refuses, serves};
use crate::verdict::{Outcome, Stop};
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        each_subscribe_gets_a_suback_with_its_identifier,
        [V31, V311, V5],
        [
            "3:MQTT-3.8.4-1",
            "3:MQTT-3.8.4-2",
            "3:MQTT-2.3.1-7",
            "5:MQTT-3.8.4-1",
            "5:MQTT-3.8.4-2",
            "5:MQTT-2.2.1-6"
        ]
    ),
    case!(
        suback_has_one_code_for_each_filter_in_their_order,
        [V31, V311, V5],
        [
            "3:MQTT-3.8.4-5",
            "3:MQTT-3.9.3-1",
            "3:MQTT-3.9.3-2",
            "5:MQTT-3.8.4-6",
            "5:MQTT-3.8.4-7",
            "5:MQTT-3.9.3-1",
            "5:MQTT-3.9.3-2",
            "U31-004"
        ]
    ),
    case!(
        several_filters_in_one_subscribe_all_count,
        [V31, V311, V5],
        ["3:MQTT-3.8.4-4", "5:MQTT-3.8.4-5"]
    ),
    case!(
        the_same_filter_twice_in_one_subscribe_is_one_subscription,
        [V311, V5],
        ["3:MQTT-3.8.4-4", "5:MQTT-3.8.4-5"]
    ),
    case!(
        delivery_has_the_lower_of_published_and_granted_qos,
        [V31, V311, V5],
        ["3:MQTT-3.8.4-6", "5:MQTT-3.8.4-8"]
    ),
    case!(
        subscribing_again_replaces_the_subscription,
        [V31, V311, V5],
        ["3:MQTT-3.8.4-3", "5:MQTT-3.8.4-3"]
    ),
    case!(
        subscribing_again_sends_retained_messages_again,
        [V31, V311, V5],
        ["3:MQTT-3.8.4-3", "5:MQTT-3.8.4-4", "5:MQTT-3.3.1-9"]
    ),
    case!(
        subscribing_again_loses_no_message,
        [V31, V311, V5],
        ["3:MQTT-3.8.4-3", "5:MQTT-3.8.4-4"]
    ),
    case!(
        a_message_may_come_before_or_after_its_suback,
        [V311, V5],
        ["U311-010", "U5-061"]
    ),
    case!(
        any_qos_may_be_requested_below_a_maximum_qos,
        [V5],
        ["5:MQTT-3.2.2-10"]
    ),
    case!(
        a_wildcard_filter_is_served_or_refused,
        [V311],
        ["3:MQTT-3.8.3-2"]
    ),
    case!(
        subscribe_with_other_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.8.1-1",
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-3.8.1-1",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
    case!(subscribe_may_have_dup_in_3_1, [V31], ["U31-005"]),
    case!(
        subscribe_without_filters_is_refused,
        [V311, V5],
        ["3:MQTT-3.8.3-3", "5:MQTT-3.8.3-2", "U5-058"]
    ),
    case!(
        a_filter_without_options_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.8.3-3",
            "3:MQTT-4.8.0-1",
            "5:MQTT-3.8.3-2",
            "5:MQTT-4.13.1-1"
        ]
    ),
    case!(
        reserved_bits_of_the_options_are_refused,
        [V311, V5],
        ["3:MQTT-3.8.3-4", "5:MQTT-3.8.3-5"]
    ),
    case!(
        a_requested_qos_of_3_is_refused,
        [V311, V5],
        ["3:MQTT-3.8.3-4", "U5-059"]
    ),
    case!(a_retain_handling_of_3_is_refused, [V5], ["U5-059"]),
    case!(
        subscribe_with_identifier_0_is_refused,
        [V311, V5],
        ["3:MQTT-2.3.1-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        a_code_that_is_not_about_one_filter_stands_for_each,
        [V5],
        ["U5-064"]
    ),
    case!(
        features_that_are_announced_as_missing_are_refused,
        [V5],
        ["U5-042"]
    ),
];

async fn each_subscribe_gets_a_suback_with_its_identifier(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    for id in [1, 0x0100, 0xFFFF] {
        let bytes = subscribe(&context, id, context.topic("single"), 0);
        let twin = Twin::new(bytes, Answer::SubAck(packet_id(id)));
        serves(&mut client, &twin).await?;
    }
    // Three at once are answered one by one.
    let at_once = [7, 9, 8].map(|id| subscribe(&context, id, context.topic("joint"), 0));
    client.send_bytes(&at_once.concat()).await?;
    for id in [7, 9, 8] {
        client.expect_suback(packet_id(id)).await?;
    }
    client.expect_silence().await?;
    client.disconnect().await
}

async fn suback_has_one_code_for_each_filter_in_their_order(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let requested = [2_u8, 0, 1, 0, 2, 1];
    let filters = requested.iter().zip("abcdef".chars());
    let filters =
        filters.map(|(qos, name)| filter_with_options(context.topic(&name.to_string()), *qos));
    let payload = filters.collect::<Vec<_>>().concat();
    let bytes = request(&context, SUBSCRIBE, 1, &[], &payload);
    client.send_bytes(&bytes).await?;
    let suback = client.expect_suback(packet_id(1)).await?;
    // The codes stand at the end of the packet; in 3.x nothing but they and the identifier are in it.
    let bytes = client.last_bytes().clone();
    let codes = bytes.len().checked_sub(requested.len());
    let codes = codes.and_then(|start| bytes.get(start..)).unwrap_or(&[]);
    context.check_eq(
        "codes for each filter",
        &requested.len(),
        &suback.codes.len(),
    )?;
    for (qos, code) in requested.iter().zip(codes) {
        let granted = *code <= *qos;
        let refused = context.is_v5() && *code >= 0x80 || is_v311(&context) && *code == 0x80;
        context.check(
            granted || refused,
            format!("a code for a request of QoS {qos} that grants at most that"),
            format!("{code:#04x} in {codes:02x?}"),
        )?;
    }
    client.disconnect().await
}

fn is_v311(context: &Context) -> bool {
    context.version() == whimbrel_codec::ProtocolVersion::V311
}

async fn several_filters_in_one_subscribe_all_count(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let names = ["a", "b", "c"].map(|name| context.topic(name));
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    let filters = names.each_ref().map(|name| (name.as_str(), plain));
    let suback = client.subscribe_all(&filters, None).await?;
    let granted = suback.codes.iter().all(|code| !code.is_error());
    context.check(
        granted,
        "all filters granted",
        format!("{:?}", suback.codes),
    )?;
    for name in &names {
        client.publish(&Message::new(name, "one")).await?;
        client.receive_message(name, "one").await?;
    }
    client.disconnect().await
}

async fn the_same_filter_twice_in_one_subscribe_is_one_subscription(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("twice");
    let low = SubscriptionOptions::new(QoS::AtMostOnce);
    let high = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filters = [(topic.as_str(), high), (topic.as_str(), low)];
    let suback = client.subscribe_all(&filters, None).await?;
    context.check_eq("codes for each filter", &2, &suback.codes.len())?;
    client
        .publish(&Message::new(&topic, "one").qos(QoS::AtLeastOnce))
        .await?;
    // The second replaces the first, as in two SUBSCRIBEs one after the other.
    let copies = receive_copies(&mut client).await?;
    let qos: Vec<QoS> = copies.iter().map(Publish::qos).collect();
    context.check_eq("copies with QoS", &vec![QoS::AtMostOnce], &qos)?;
    client.disconnect().await
}

async fn delivery_has_the_lower_of_published_and_granted_qos(context: Context) -> Outcome {
    let mut subscriber = Client::connect(&context, "sub").await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for requested in levels {
        let topic = context.topic(&format!("q{}", requested.bits()));
        let granted = subscriber.subscribe(&topic, requested).await?;
        for published in levels {
            if qos_up_to(&context, published) != published {
                continue;
            }
            publisher
                .publish(&Message::new(&topic, "one").qos(published))
                .await?;
            let received = subscriber.receive_on(&topic).await?;
            let expected = published.bits().min(granted.as_u8());
            context.check_eq(
                &format!("published {published:?}, granted {granted}: QoS"),
                &expected,
                &received.qos().bits(),
            )?;
        }
    }
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

async fn subscribing_again_replaces_the_subscription(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("again");
    for requested in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
        let granted = client.subscribe(&topic, requested).await?;
        client
            .publish(&Message::new(&topic, "one").qos(QoS::AtLeastOnce))
            .await?;
        let copies = receive_copies(&mut client).await?;
        let qos: Vec<u8> = copies.iter().map(|copy| copy.qos().bits()).collect();
        context.check_eq("copies with QoS", &vec![granted.as_u8()], &qos)?;
    }
    // One UNSUBSCRIBE ends it, as there is only one.
    client.unsubscribe(&[&topic]).await?;
    client
        .publish(&Message::new(&topic, "late").qos(QoS::AtLeastOnce))
        .await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn subscribing_again_sends_retained_messages_again(context: Context) -> Outcome {
    let topic = context.topic("again");
    keep_retained(&context, &topic).await?;
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    let mut client = Client::connect(&context, "c").await?;
    for _ in 0..2 {
        client.subscribe(&topic, qos).await?;
        let received = client.receive_message(&topic, "kept").await?;
        context.check_eq("RETAIN", &true, &received.retain())?;
    }
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn subscribing_again_loses_no_message(context: Context) -> Outcome {
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("flow");
    client.subscribe(&topic, qos).await?;
    // All at once, so that a broker that removes before it adds would show it.
    let mut bytes = Vec::new();
    let rounds = ROUNDS.min(context.announced().properties.receive_maximum.get());
    for number in 0..rounds {
        let message = Message::new(&topic, number.to_string()).qos(qos);
        let packet = message.packet(packet_id(100 + number));
        bytes.extend(wire::encoded(&packet, context.version()));
        bytes.extend(subscribe(&context, 200 + number, &topic, qos.bits()));
    }
    client.send_bytes(&bytes).await?;
    for number in 0..rounds {
        client.receive_message(&topic, &number.to_string()).await?;
    }
    for number in 0..rounds {
        client.expect_suback(packet_id(200 + number)).await?;
    }
    client.disconnect().await
}

async fn a_message_may_come_before_or_after_its_suback(context: Context) -> Outcome {
    let topic = context.topic("kept");
    keep_retained(&context, &topic).await?;
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    let mut client = Client::connect(&context, "c").await?;
    client
        .send_bytes(&subscribe(&context, 9, &topic, qos.bits()))
        .await?;
    // Whatever comes first is kept for the other expectation.
    client.expect_suback(packet_id(9)).await?;
    client.receive_message(&topic, "kept").await?;
    client.disconnect().await
}

async fn any_qos_may_be_requested_below_a_maximum_qos(context: Context) -> Outcome {
    let maximum = context.announced().properties.maximum_qos;
    context.need(
        maximum < QoS::ExactlyOnce,
        "the broker serves every QoS, and this is about one that does not",
    )?;
    let mut client = Client::connect(&context, "c").await?;
    for requested in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let granted = client.subscribe(&context.topic("any"), requested).await?;
        context.check(
            granted.as_u8() <= maximum.bits(),
            format!("a grant of at most {maximum:?}"),
            granted.to_string(),
        )?;
    }
    client.disconnect().await
}

async fn a_wildcard_filter_is_served_or_refused(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    for wildcard in ["+", "#"] {
        let filter = context.topic(&format!("wild/{wildcard}"));
        let suback = client.subscribe_all(&[(&filter, plain)], None).await?;
        let topic = context.topic("wild/name");
        client.publish(&Message::new(&topic, wildcard)).await?;
        if suback.codes.iter().any(|code| code.is_error()) {
            client.expect_no_publish().await?;
        } else {
            client.receive_message(&topic, wildcard).await?;
        }
        client.unsubscribe(&[&filter]).await?;
    }
    client.disconnect().await
}

async fn subscribe_with_other_flags_is_refused(context: Context) -> Outcome {
    let payload = filter_with_options(context.topic("flags"), 0);
    for flags in [0x0, 0x1, 0x3, 0x4, 0x6, 0xA, 0xF] {
        let illegal = request(&context, 0x80 | flags, 2, &[], &payload);
        refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn subscribe_may_have_dup_in_3_1(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    serves(&mut client, &subscribe_twin(&context)).await?;
    let payload = filter_with_options(context.topic("again"), 0);
    let bytes = request(&context, SUBSCRIBE | 0x08, 2, &[], &payload);
    let resent = Twin::new(bytes, Answer::SubAck(packet_id(2)));
    serves(&mut client, &resent).await?;
    client.disconnect().await
}

async fn subscribe_without_filters_is_refused(context: Context) -> Outcome {
    let illegal = request(&context, SUBSCRIBE, 2, &[], &[]);
    refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await
}

async fn a_filter_without_options_is_refused(context: Context) -> Outcome {
    let good = filter_with_options(context.topic("good"), 0);
    let cut = wire::field(context.topic("cut"));
    for payload in [cut.clone(), [good, cut].concat()] {
        let illegal = request(&context, SUBSCRIBE, 2, &[], &payload);
        refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn reserved_bits_of_the_options_are_refused(context: Context) -> Outcome {
    let reserved: &[u8] = if context.is_v5() {
        &[0x40, 0x80, 0xC0]
    } else {
        &[0x04, 0x08, 0x10, 0x20, 0x40, 0x80]
    };
    for bits in reserved {
        let illegal = subscribe(&context, 2, context.topic("reserved"), *bits);
        refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn a_requested_qos_of_3_is_refused(context: Context) -> Outcome {
    let illegal = subscribe(&context, 2, context.topic("q3"), 3);
    refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await
}

async fn a_retain_handling_of_3_is_refused(context: Context) -> Outcome {
    let illegal = subscribe(&context, 2, context.topic("rh3"), 0x30);
    refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await
}

async fn subscribe_with_identifier_0_is_refused(context: Context) -> Outcome {
    let illegal = subscribe(&context, 0, context.topic("zero"), 0);
    refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await
}

async fn a_code_that_is_not_about_one_filter_stands_for_each(context: Context) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let id = packet_id(5);
    let message = Message::new(&context.topic("open"), "open").qos(QoS::ExactlyOnce);
    client.send(&message.packet(id)).await?;
    client.expect_pubrec(id).await?;
    // The identifier is in use until PUBCOMP, which a broker may remark, or not.
    let filters = ["a", "b"].map(|name| filter_with_options(context.topic(name), 0));
    let bytes = request(&context, SUBSCRIBE, id.get(), &[], &filters.concat());
    client.send_bytes(&bytes).await?;
    let codes = match client.next(context.timing().answer).await {
        Event::Packet(Packet::SubAck(suback)) => suback.codes,
        Event::Closed | Event::Packet(Packet::Disconnect(_)) => {
            let reason = "the broker ends the connection when an identifier is in use";
            return Err(Stop::skip(reason));
        }
        event => return Err(client.fail_with("SUBACK", &event)),
    };
    let in_use = ReasonCode::PacketIdentifierInUse;
    context.need(
        codes.contains(&in_use),
        "the broker does not mind an identifier in use",
    )?;
    context.check_eq("codes", &vec![in_use; 2], &codes)
}

async fn features_that_are_announced_as_missing_are_refused(context: Context) -> Outcome {
    let announced = &context.announced().properties;
    let number = wire::property(0x0B, [1]);
    let uses = [
        (
            announced.wildcard_subscription_available,
            context.topic("+"),
            None,
            ReasonCode::WildcardSubscriptionsNotSupported,
        ),
        (
            announced.subscription_id_available,
            context.topic("plain"),
            Some(number.as_slice()),
            ReasonCode::SubscriptionIdentifiersNotSupported,
        ),
        (
            announced.shared_subscription_available,
            format!("$share/g/{}", context.topic("plain")),
            None,
            ReasonCode::SharedSubscriptionsNotSupported,
        ),
    ];
    context.need(
        uses.iter().any(|(available, ..)| !available),
        "the broker announces that nothing is missing",
    )?;
    for (available, filter, property, code) in uses {
        if available {
            continue;
        }
        let mut client = Client::connect(&context, "c").await?;
        serves(&mut client, &subscribe_twin(&context)).await?;
        let properties: Vec<&[u8]> = property.into_iter().collect();
        let payload = filter_with_options(filter, 0);
        let bytes = request(&context, SUBSCRIBE, 2, &properties, &payload);
        client.send_bytes(&bytes).await?;
        match client.next(context.timing().answer).await {
            // The code is for SUBACK, too (E5).
            Event::Packet(Packet::SubAck(suback)) if suback.codes == [code] => {}
            Event::Closed => {}
            Event::Packet(Packet::Disconnect(disconnect))
                if [
                    code,
                    ReasonCode::ProtocolError,
                    ReasonCode::UnspecifiedError,
                ]
                .contains(&disconnect.reason) =>
            {
                client.expect_closed_with(&[]).await?;
            }
            event => return Err(client.fail_with(&format!("a refusal with {code}"), &event)),
        }
    }
    Ok(())
}

/// Messages in a row, each with a SUBSCRIBE after it, as far as the broker's receive maximum allows.
const ROUNDS: u16 = 12;
