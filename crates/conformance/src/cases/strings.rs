//! UTF-8 strings: what is none is refused in every field, and what is one passes unchanged.

use whimbrel_codec::{Packet, QoS, ReasonCode};

use super::request::{publish, request, subscribe, subscribe_twin, unsubscribe, unsubscribe_twin};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::{Event, Link};
use crate::proof::{Answer, MALFORMED, Twin, refuses, refuses_connect, refuses_on, serves};
use crate::verdict::{Outcome, Stop};
use crate::wire::{self, RawConnect};

pub(crate) const CASES: &[Case] = &[
    case!(
        a_topic_name_of_ill_formed_utf_8_is_refused,
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
        a_topic_name_with_nul_is_refused,
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
        a_filter_of_ill_formed_utf_8_is_refused,
        [V311, V5],
        [
            "3:MQTT-1.5.3-1",
            "3:MQTT-3.8.3-1",
            "5:MQTT-1.5.4-1",
            "5:MQTT-3.8.3-1",
            "U5-001"
        ]
    ),
    case!(
        a_filter_with_nul_is_refused,
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
        an_unsubscribe_filter_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-1.5.3-1",
            "3:MQTT-1.5.3-2",
            "3:MQTT-3.10.3-1",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2",
            "5:MQTT-3.10.3-1",
            "U5-001"
        ]
    ),
    case!(
        a_client_id_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.3-4",
            "3:MQTT-1.5.3-1",
            "5:MQTT-3.1.3-4",
            "5:MQTT-1.5.4-1",
            "U5-001"
        ]
    ),
    case!(
        a_will_topic_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.3-10",
            "3:MQTT-1.5.3-1",
            "5:MQTT-3.1.3-11",
            "5:MQTT-1.5.4-1",
            "U5-001"
        ]
    ),
    case!(
        a_user_name_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.3-11",
            "3:MQTT-1.5.3-1",
            "5:MQTT-3.1.3-12",
            "5:MQTT-1.5.4-1",
            "U5-001"
        ]
    ),
    case!(
        a_string_that_overruns_its_packet_is_refused,
        [V311, V5],
        ["3:MQTT-4.8.0-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        a_zero_width_no_break_space_passes_unchanged,
        [V311, V5],
        ["3:MQTT-1.5.3-3", "5:MQTT-1.5.4-3"]
    ),
    case!(
        characters_of_every_length_pass_unchanged,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.2-1",
            "3:MQTT-4.7.3-4",
            "5:MQTT-3.3.2-1",
            "5:MQTT-4.7.3-4"
        ]
    ),
    case!(control_characters_pass_or_are_refused, [V5], ["U5-002"]),
    case!(
        a_user_property_whose_name_is_no_string_is_refused,
        [V5],
        [
            "5:MQTT-1.5.7-1",
            "U5-004",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2"
        ]
    ),
    case!(
        a_user_property_whose_value_is_no_string_is_refused,
        [V5],
        [
            "5:MQTT-1.5.7-1",
            "U5-004",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2"
        ]
    ),
    case!(
        a_response_topic_that_is_no_string_is_refused,
        [V5],
        ["5:MQTT-3.3.2-13"]
    ),
    case!(
        a_response_topic_with_a_wildcard_is_refused,
        [V5],
        ["5:MQTT-3.3.2-14"]
    ),
    case!(
        a_content_type_that_is_no_string_is_refused,
        [V5],
        ["5:MQTT-3.3.2-19"]
    ),
    case!(
        a_reason_string_that_is_no_string_is_refused,
        [V5],
        ["5:MQTT-1.5.4-1", "5:MQTT-1.5.4-2", "U5-001"]
    ),
];

/// Bytes that no UTF-8 string contains: a stray continuation, a start without its rest, an over-long NUL, an over-long
/// slash, both ends of the surrogates, a surrogate pair, and what lies above U+10FFFF.
const ILL_FORMED: [&[u8]; 10] = [
    b"\x80",
    b"\xC3",
    b"\xC3/",
    b"\xC0\x80",
    b"\xE0\x80\xAF",
    b"\xED\xA0\x80",
    b"\xED\xBF\xBF",
    b"\xED\xA0\xBD\xED\xB8\x80",
    b"\xF4\x90\x80\x80",
    b"\xFF",
];
const NUL: &[u8] = b"\0";

/// Every string that is none: all of the above, and U+0000.
fn no_strings() -> impl Iterator<Item = &'static [u8]> {
    ILL_FORMED.into_iter().chain([NUL])
}

/// A topic of the case with `bytes` inside.
fn topic_with(context: &Context, bytes: &[u8]) -> Vec<u8> {
    [context.topic("s").as_bytes(), bytes, b"z"].concat()
}

async fn a_topic_name_of_ill_formed_utf_8_is_refused(context: Context) -> Outcome {
    for bytes in ILL_FORMED {
        let illegal = publish(&context, topic_with(&context, bytes), &[], "one");
        refuses(&context, &Twin::publish(&context), illegal, TOPIC).await?;
    }
    Ok(())
}

async fn a_topic_name_with_nul_is_refused(context: Context) -> Outcome {
    let illegal = publish(&context, topic_with(&context, NUL), &[], "one");
    refuses(&context, &Twin::publish(&context), illegal, TOPIC).await
}

async fn a_filter_of_ill_formed_utf_8_is_refused(context: Context) -> Outcome {
    for bytes in ILL_FORMED {
        let illegal = subscribe(&context, 2, topic_with(&context, bytes), 0);
        refuses(&context, &subscribe_twin(&context), illegal, FILTER).await?;
    }
    Ok(())
}

async fn a_filter_with_nul_is_refused(context: Context) -> Outcome {
    let illegal = subscribe(&context, 2, topic_with(&context, NUL), 0);
    refuses(&context, &subscribe_twin(&context), illegal, FILTER).await
}

async fn an_unsubscribe_filter_that_is_no_string_is_refused(context: Context) -> Outcome {
    for bytes in no_strings() {
        let illegal = unsubscribe(&context, 2, topic_with(&context, bytes));
        refuses(&context, &unsubscribe_twin(&context), illegal, FILTER).await?;
    }
    Ok(())
}

async fn a_client_id_that_is_no_string_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "id");
    for bytes in no_strings() {
        let mut illegal = twin.clone();
        illegal.client_id = Some([b"id", bytes].concat());
        let codes = [MALFORMED, &[ReasonCode::ClientIdentifierNotValid]].concat();
        refuses_connect(&context, twin.build(), illegal.build(), &codes).await?;
    }
    Ok(())
}

async fn a_will_topic_that_is_no_string_is_refused(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "will");
    let twin = plain.clone().with_will(context.topic("will"), "gone");
    for bytes in no_strings() {
        let topic = topic_with(&context, bytes);
        let illegal = plain.clone().with_will(topic, "gone");
        refuses_connect(&context, twin.build(), illegal.build(), TOPIC).await?;
    }
    Ok(())
}

async fn a_user_name_that_is_no_string_is_refused(context: Context) -> Outcome {
    let mut twin = RawConnect::new(&context, "user");
    twin.flags |= wire::USER_NAME;
    twin.user_name = twin.user_name.or_else(|| Some(b"conformance".to_vec()));
    let mut link = Link::open(&context, "probe").await?;
    link.send_bytes(&twin.build()).await?;
    if let Event::Packet(Packet::ConnAck(connack)) = link.next(context.timing().answer).await {
        context.need(
            !connack.reason.is_error(),
            "the broker knows no user of this name; give credentials with the target",
        )?;
    }
    drop(link);
    let codes = [
        MALFORMED,
        &[ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized],
    ];
    for bytes in no_strings() {
        let mut illegal = twin.clone();
        illegal.user_name = Some([b"user", bytes].concat());
        refuses_connect(&context, twin.build(), illegal.build(), &codes.concat()).await?;
    }
    Ok(())
}

async fn a_string_that_overruns_its_packet_is_refused(context: Context) -> Outcome {
    let topic = context.topic("overrun");
    let mut name = wire::field(&topic);
    // Two bytes longer than what there is.
    if let Some(low) = name.get_mut(1) {
        *low += 2;
    }
    let overrun = wire::packet(0x30, &[&name]);
    refuses(&context, &Twin::publish(&context), overrun, TOPIC).await?;
    let overrun = request(&context, super::request::SUBSCRIBE, 2, &[], &name);
    refuses(&context, &subscribe_twin(&context), overrun, MALFORMED).await?;
    let overrun = request(&context, super::request::UNSUBSCRIBE, 2, &[], &name);
    refuses(&context, &unsubscribe_twin(&context), overrun, MALFORMED).await?;
    let cut = request(&context, super::request::UNSUBSCRIBE, 2, &[], &[0]);
    refuses(&context, &unsubscribe_twin(&context), cut, MALFORMED).await
}

/// Shows that a message on this topic comes as it was sent, and one on `other` does not, or meets the next expectation:
/// a case ends with a silence.
async fn passes_unchanged(client: &mut Client, topic: &str, other: &str) -> Outcome {
    client.subscribe(topic, QoS::AtMostOnce).await?;
    client.publish(&Message::new(other, "other")).await?;
    client.publish(&Message::new(topic, "one")).await?;
    client.receive_message(topic, "one").await?;
    client.unsubscribe(&[topic]).await?;
    Ok(())
}

async fn a_zero_width_no_break_space_passes_unchanged(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let plain = context.topic("bom");
    for topic in [
        format!("\u{feff}{plain}"),
        format!("{plain}\u{feff}"),
        context.topic("b\u{feff}om"),
    ] {
        passes_unchanged(&mut client, &topic, &plain).await?;
    }
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn characters_of_every_length_pass_unchanged(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let plain = context.topic("plain");
    // The edges of two, three and four bytes, and both sides of the surrogates.
    for text in [
        " !~",
        "\u{a1}\u{7ff}",
        "\u{800}\u{d7ff}\u{e000}\u{fffd}",
        "\u{10000}\u{10fffd}",
        "\u{1f600}\u{2764}\u{fe0f}",
    ] {
        passes_unchanged(&mut client, &context.topic(text), &plain).await?;
    }
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn control_characters_pass_or_are_refused(context: Context) -> Outcome {
    for character in [
        '\u{1}', '\u{1f}', '\u{7f}', '\u{9f}', '\u{fdd0}', '\u{ffff}',
    ] {
        let mut client = Client::connect(&context, "c").await?;
        let filter = context.topic("control");
        client.subscribe(&filter, QoS::AtMostOnce).await?;
        let twin = publish(&context, &filter, &[&wire::user_property("k", "v")], "twin");
        client.send_bytes(&twin).await?;
        client.receive_message(&filter, "twin").await?;
        let value = format!("v{character}");
        let property = wire::user_property("k", &value);
        client
            .send_bytes(&publish(&context, &filter, &[&property], "one"))
            .await?;
        match client.next(context.timing().answer).await {
            Event::Packet(Packet::Publish(received)) => {
                let properties = received.properties();
                let mut received = properties.user_properties();
                let unchanged = received.any(|property| property.value == value);
                context.check(unchanged, "the user property unchanged", "another")?;
            }
            Event::Closed => {}
            Event::Packet(Packet::Disconnect(disconnect))
                if MALFORMED.contains(&disconnect.reason) =>
            {
                client.expect_closed_with(&[]).await?;
            }
            event => return Err(client.fail_with("the message, or the end", &event)),
        }
    }
    Ok(())
}

/// A property of each string that is none.
fn of_no_strings(property: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut properties = Vec::new();
    for bytes in no_strings() {
        properties.push(property(bytes));
    }
    properties
}

/// A PUBLISH with one property, which is delivered.
fn publish_twin(context: &Context, property: &[u8]) -> Twin {
    let topic = context.topic("twin");
    let bytes = publish(context, &topic, &[property], "twin");
    Twin::new(bytes, Answer::Delivery(topic))
}

/// Shows that a PUBLISH with `good` is served, and one with each of `bad` refused.
async fn refuses_properties(
    context: &Context,
    good: &[u8],
    bad: Vec<Vec<u8>>,
    codes: &[ReasonCode],
) -> Outcome {
    let twin = publish_twin(context, good);
    for property in bad {
        let illegal = publish(context, context.topic("bad"), &[&property], "one");
        refuses(context, &twin, illegal, codes).await?;
    }
    Ok(())
}

async fn a_user_property_whose_name_is_no_string_is_refused(context: Context) -> Outcome {
    let good = wire::user_property("name", "value");
    let bad = of_no_strings(|bytes| wire::user_property(bytes, "value"));
    refuses_properties(&context, &good, bad, MALFORMED).await
}

async fn a_user_property_whose_value_is_no_string_is_refused(context: Context) -> Outcome {
    let good = wire::user_property("name", "value");
    let bad = of_no_strings(|bytes| wire::user_property("name", bytes));
    refuses_properties(&context, &good, bad, MALFORMED).await
}

async fn a_response_topic_that_is_no_string_is_refused(context: Context) -> Outcome {
    let good = wire::string_property(RESPONSE_TOPIC, "answer");
    let bad = of_no_strings(|bytes| wire::string_property(RESPONSE_TOPIC, bytes));
    refuses_properties(&context, &good, bad, TOPIC).await
}

async fn a_response_topic_with_a_wildcard_is_refused(context: Context) -> Outcome {
    let good = wire::string_property(RESPONSE_TOPIC, "answer/here");
    let bad = ["answer/+", "answer/#", "#"];
    let bad = bad.map(|topic| wire::string_property(RESPONSE_TOPIC, topic));
    refuses_properties(&context, &good, bad.to_vec(), TOPIC).await
}

async fn a_content_type_that_is_no_string_is_refused(context: Context) -> Outcome {
    let good = wire::string_property(CONTENT_TYPE, "text/plain");
    let bad = of_no_strings(|bytes| wire::string_property(CONTENT_TYPE, bytes));
    refuses_properties(&context, &good, bad, MALFORMED).await
}

async fn a_reason_string_that_is_no_string_is_refused(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    let topic = context.topic("reason");
    for bytes in no_strings() {
        let mut client = Client::connect(&context, "c").await?;
        client.subscribe(&topic, QoS::AtLeastOnce).await?;
        let message = Message::new(&topic, "one").qos(QoS::AtLeastOnce);
        // A well-formed acknowledgement is taken: the connection goes on.
        client.publish(&message).await?;
        let publish = client.expect_publish().await?;
        let Some(id) = publish.packet_id() else {
            return Err(Stop::skip("the broker grants a lower QoS"));
        };
        let puback = |reason: &[u8]| {
            let property = wire::string_property(REASON_STRING, reason);
            let section = wire::properties(&[&property]);
            wire::packet(0x40, &[&id.get().to_be_bytes(), &[0], &section])
        };
        let twin = Twin::new(puback(b"taken"), Answer::Alive);
        serves(&mut client, &twin).await?;
        client.publish(&message).await?;
        client.expect_publish().await?;
        refuses_on(&mut client, &Twin::ping(), puback(bytes), MALFORMED).await?;
    }
    Ok(())
}

/// For topic names: the special code, too (D13).
const TOPIC: &[ReasonCode] = &[
    ReasonCode::TopicNameInvalid,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
];
/// For filters: the special code, too (E2).
const FILTER: &[ReasonCode] = &[
    ReasonCode::TopicFilterInvalid,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
];
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const REASON_STRING: u8 = 0x1F;
