//! UNSUBSCRIBE and UNSUBACK.

use whimbrel_codec::{Ack, Packet, QoS, ReasonCode, SubscriptionOptions};

use super::request::{UNSUBSCRIBE, packet_id, request, subscribe, unsubscribe, unsubscribe_twin};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::{Context, SESSION_EXPIRY_SECS};
use crate::link::Event;
use crate::proof::{Answer, MALFORMED, Twin, refuses, serves};
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        each_unsubscribe_gets_an_unsuback_with_its_identifier,
        [V31, V311, V5],
        [
            "3:MQTT-3.10.4-4",
            "3:MQTT-3.10.4-5",
            "3:MQTT-2.3.1-7",
            "5:MQTT-3.10.4-4",
            "5:MQTT-3.10.4-5",
            "5:MQTT-2.2.1-6"
        ]
    ),
    case!(
        unsubscribing_stops_new_messages,
        [V31, V311, V5],
        [
            "3:MQTT-3.10.4-1",
            "3:MQTT-3.10.4-2",
            "5:MQTT-3.10.4-1",
            "5:MQTT-3.10.4-2"
        ]
    ),
    case!(
        unsubscribe_compares_character_by_character,
        [V31, V311, V5],
        ["3:MQTT-3.10.4-1", "5:MQTT-3.10.4-1"]
    ),
    case!(
        several_filters_in_one_unsubscribe_all_count,
        [V31, V311, V5],
        ["3:MQTT-3.10.4-6", "5:MQTT-3.10.4-6"]
    ),
    case!(
        unsuback_has_one_code_for_each_filter_in_their_order,
        [V5],
        ["5:MQTT-3.10.4-6", "5:MQTT-3.11.3-1", "5:MQTT-3.11.3-2"]
    ),
    case!(
        identifiers_are_free_again_after_suback_and_unsuback,
        [V5],
        ["U5-009"]
    ),
    case!(
        a_qos_2_delivery_under_way_is_finished_after_unsubscribe,
        [V31, V311, V5],
        ["3:MQTT-3.10.4-3", "5:MQTT-3.10.4-3"]
    ),
    case!(
        a_qos_1_delivery_under_way_is_finished_after_unsubscribe,
        [V311, V5],
        ["3:MQTT-3.10.4-3", "5:MQTT-3.10.4-3"]
    ),
    case!(
        unsubscribe_with_other_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.10.1-1",
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-3.10.1-1",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
    case!(unsubscribe_may_have_dup_in_3_1, [V31], ["U31-005"]),
    case!(
        unsubscribe_without_filters_is_refused,
        [V311, V5],
        ["3:MQTT-3.10.3-2", "5:MQTT-3.10.3-2", "U5-065"]
    ),
    case!(
        unsubscribe_with_identifier_0_is_refused,
        [V311, V5],
        ["3:MQTT-2.3.1-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        unsubscribe_of_an_invalid_filter_removes_nothing,
        [V5],
        ["5:MQTT-4.7.1-1", "5:MQTT-4.7.1-2"]
    ),
];

async fn each_unsubscribe_gets_an_unsuback_with_its_identifier(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client
        .subscribe(&context.topic("there"), QoS::AtMostOnce)
        .await?;
    // Something is removed by the first only.
    for id in [1, 0x0100, 0xFFFF] {
        let bytes = unsubscribe(&context, id, context.topic("there"));
        let twin = Twin::new(bytes, Answer::UnsubAck(packet_id(id)));
        serves(&mut client, &twin).await?;
    }
    let at_once = [7, 9, 8].map(|id| unsubscribe(&context, id, context.topic("never")));
    client.send_bytes(&at_once.concat()).await?;
    for id in [7, 9, 8] {
        client.expect_unsuback(packet_id(id)).await?;
    }
    client.expect_silence().await?;
    client.disconnect().await
}

async fn unsubscribing_stops_new_messages(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let mut other = Client::connect(&context, "other").await?;
    let (left, kept) = (context.topic("left"), context.topic("kept"));
    client.subscribe(&left, QoS::AtMostOnce).await?;
    other.subscribe(&left, QoS::AtMostOnce).await?;
    client.subscribe(&kept, QoS::AtMostOnce).await?;
    client.publish(&Message::new(&left, "before")).await?;
    client.receive_message(&left, "before").await?;
    other.receive_message(&left, "before").await?;
    client.unsubscribe(&[&left]).await?;
    client.publish(&Message::new(&left, "after")).await?;
    client.publish(&Message::new(&kept, "other")).await?;
    client.receive_message(&kept, "other").await?;
    // The subscription of another client stays.
    other.receive_message(&left, "after").await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn unsubscribe_compares_character_by_character(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    let filter = context.topic("Level/+");
    let topic = context.topic("Level/name");
    client.subscribe(&filter, QoS::AtMostOnce).await?;
    for other in [
        "Level/name",
        "Level/#",
        "level/+",
        "Level/+/",
        "Level",
        "+/+",
        "#",
    ] {
        let other = context.topic(other);
        client.unsubscribe(&[&other]).await?;
        client.publish(&Message::new(&topic, other.clone())).await?;
        client.receive_message(&topic, &other).await?;
    }
    client.unsubscribe(&[&filter]).await?;
    client.publish(&Message::new(&topic, "late")).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn several_filters_in_one_unsubscribe_all_count(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let names = ["a", "b", "c", "d"].map(|name| context.topic(name));
    let [a, b, c, d] = names.each_ref().map(String::as_str);
    for name in [a, b, c, d] {
        client.subscribe(name, QoS::AtMostOnce).await?;
    }
    client
        .unsubscribe(&[a, &context.topic("never"), b, c])
        .await?;
    for name in [a, b, c, d] {
        client.publish(&Message::new(name, "one")).await?;
    }
    client.receive_message(d, "one").await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn unsuback_has_one_code_for_each_filter_in_their_order(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let (there, also) = (context.topic("there"), context.topic("also"));
    let never = context.topic("never");
    client.subscribe(&there, QoS::AtMostOnce).await?;
    client.subscribe(&also, QoS::AtMostOnce).await?;
    // The last names again what the first has removed.
    let unsuback = client.unsubscribe(&[&there, &never, &also, &there]).await?;
    context.check_eq("codes for each filter", &4, &unsuback.codes.len())?;
    // Success for a filter that was not there is clumsy, but no statement forbids it.
    let missing = [ReasonCode::NoSubscriptionExisted, ReasonCode::Success];
    let existed = [ReasonCode::Success];
    let expected: [&[ReasonCode]; 4] = [&existed, &missing, &existed, &missing];
    let right = unsuback.codes.iter().zip(expected);
    let right = right.into_iter().all(|(code, codes)| codes.contains(code));
    context.check(
        right,
        format!("codes out of {expected:?}"),
        format!("{:?}", unsuback.codes),
    )?;
    client.disconnect().await
}

async fn identifiers_are_free_again_after_suback_and_unsuback(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("same");
    let id = packet_id(77);
    for _ in 0..2 {
        let bytes = subscribe(&context, 77, &topic, 0);
        serves(&mut client, &Twin::new(bytes, Answer::SubAck(id))).await?;
        let bytes = unsubscribe(&context, 77, &topic);
        serves(&mut client, &Twin::new(bytes, Answer::UnsubAck(id))).await?;
    }
    if context.need_qos(QoS::AtLeastOnce).is_ok() {
        let packet = Message::new(&topic, "one").qos(QoS::AtLeastOnce).packet(id);
        let twin = Twin::packet(&context, &packet, Answer::PubAck(id));
        serves(&mut client, &twin).await?;
    }
    client.disconnect().await
}

async fn a_qos_2_delivery_under_way_is_finished_after_unsubscribe(context: Context) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("open");
    let granted = client.subscribe(&topic, QoS::ExactlyOnce).await?;
    context.need(
        granted == ReasonCode::GrantedQos2,
        "the broker grants a lower QoS",
    )?;
    client
        .publish(&Message::new(&topic, "one").qos(QoS::ExactlyOnce))
        .await?;
    let publish = client.expect_publish().await?;
    client.unsubscribe(&[&topic]).await?;
    let Some(id) = publish.packet_id() else {
        return Err(client.fail("a PUBLISH of QoS 2", "one without identifier"));
    };
    client.send(&Packet::PubRec(Ack::success(id))).await?;
    client.expect_pubrel(id).await?;
    client.send(&Packet::PubComp(Ack::success(id))).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn a_qos_1_delivery_under_way_is_finished_after_unsubscribe(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    context.need_sessions(SESSION_EXPIRY_SECS / 10)?;
    let options = Client::options(&context, "c").persistent();
    let mut client = options.connect().await?;
    let topic = context.topic("open");
    let granted = client.subscribe(&topic, QoS::AtLeastOnce).await?;
    context.need(
        granted == ReasonCode::GrantedQos1,
        "the broker grants a lower QoS",
    )?;
    client
        .publish(&Message::new(&topic, "one").qos(QoS::AtLeastOnce))
        .await?;
    client.expect_publish().await?;
    client.unsubscribe(&[&topic]).await?;
    // Not acknowledged: the delivery goes on with the session.
    client.disconnect().await?;
    let mut client = options.connect().await?;
    client.receive_message(&topic, "one").await?;
    client.publish(&Message::new(&topic, "late")).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn unsubscribe_with_other_flags_is_refused(context: Context) -> Outcome {
    let payload = wire::field(context.topic("flags"));
    for flags in [0x0, 0x1, 0x3, 0x4, 0x6, 0xA, 0xF] {
        let illegal = request(&context, 0xA0 | flags, 2, &[], &payload);
        refuses(&context, &unsubscribe_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn unsubscribe_may_have_dup_in_3_1(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    serves(&mut client, &unsubscribe_twin(&context)).await?;
    let payload = wire::field(context.topic("again"));
    let bytes = request(&context, UNSUBSCRIBE | 0x08, 2, &[], &payload);
    let resent = Twin::new(bytes, Answer::UnsubAck(packet_id(2)));
    serves(&mut client, &resent).await?;
    client.disconnect().await
}

async fn unsubscribe_without_filters_is_refused(context: Context) -> Outcome {
    let illegal = request(&context, UNSUBSCRIBE, 2, &[], &[]);
    refuses(&context, &unsubscribe_twin(&context), illegal, MALFORMED).await
}

async fn unsubscribe_with_identifier_0_is_refused(context: Context) -> Outcome {
    let illegal = unsubscribe(&context, 0, context.topic("zero"));
    refuses(&context, &unsubscribe_twin(&context), illegal, MALFORMED).await
}

async fn unsubscribe_of_an_invalid_filter_removes_nothing(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("there");
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    client.subscribe_with(&topic, plain, None).await?;
    serves(&mut client, &unsubscribe_twin(&context)).await?;
    let illegal = unsubscribe(&context, 2, context.topic("#/there"));
    client.send_bytes(&illegal).await?;
    match client.next(context.timing().answer).await {
        Event::Closed => return Ok(()),
        Event::Packet(Packet::Disconnect(_)) => return client.expect_closed_with(&[]).await,
        Event::Packet(Packet::UnsubAck(unsuback))
            if unsuback.id == packet_id(2) && unsuback.codes != [ReasonCode::Success] => {}
        event => {
            let expected = "UNSUBACK with a code other than success, or the connection closed";
            return Err(client.fail_with(expected, &event));
        }
    }
    client.publish(&Message::new(&topic, "still")).await?;
    client.receive_message(&topic, "still").await?;
    client.disconnect().await
}
