//! The properties of PUBLISH that go from the publisher to the subscribers.

use whimbrel_codec::topic::{TopicName, TopicNameBuf};
use whimbrel_codec::{
    MessageProperties, Packet, PayloadFormat, PropertyId, QoS, ReasonCode, UserPropertyRef,
};

use super::pair::{Pair, text};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Answer, MALFORMED, Twin, refuses, serves};
use crate::verdict::{Outcome, Stop};
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        every_message_property_is_passed_on_unchanged,
        [V5],
        [
            "5:MQTT-3.3.2-4",
            "5:MQTT-3.3.2-15",
            "5:MQTT-3.3.2-16",
            "5:MQTT-3.3.2-17",
            "5:MQTT-3.3.2-18",
            "5:MQTT-3.3.2-20"
        ]
    ),
    case!(
        user_properties_keep_order_and_repetition,
        [V5],
        ["5:MQTT-3.3.2-17", "5:MQTT-3.3.2-18"]
    ),
    case!(
        empty_values_of_properties_are_passed_on,
        [V5],
        ["5:MQTT-3.3.2-16", "5:MQTT-3.3.2-17", "5:MQTT-3.3.2-20"]
    ),
    case!(message_properties_are_taken_in_any_order, [V5], ["U5-012"]),
    case!(message_property_there_twice_is_refused, [V5], ["U5-045"]),
    case!(
        response_topic_with_a_wildcard_is_refused,
        [V5],
        ["5:MQTT-3.3.2-14", "5:MQTT-4.7.0-1"]
    ),
    case!(
        response_topic_that_is_no_utf8_is_refused,
        [V5],
        [
            "5:MQTT-3.3.2-13",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2",
            "U5-001"
        ]
    ),
    case!(
        content_type_that_is_no_utf8_is_refused,
        [V5],
        [
            "5:MQTT-3.3.2-19",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2",
            "U5-001"
        ]
    ),
    case!(
        user_property_that_is_no_utf8_is_refused,
        [V5],
        ["5:MQTT-1.5.7-1", "U5-004"]
    ),
    case!(
        payload_that_is_not_of_its_format_may_be_refused,
        [V5],
        ["U5-046"]
    ),
];

/// A value for each property that belongs to the message, but for its expiry, which changes.
pub(crate) fn every_property(context: &Context) -> Outcome<MessageProperties> {
    let response_topic = TopicNameBuf::new(context.topic("answers").as_str().into());
    let response_topic = response_topic.map_err(|error| failed(context, &error))?;
    MessageProperties::builder()
        .payload_format(PayloadFormat::Utf8)
        .content_type("text/plain; charset=utf-8 \u{FEFF}ä")
        .response_topic(&response_topic)
        .correlation_data(&[0, 1, 0xFF, 0])
        .user_property("unit", "kelvin")
        .user_property("a", "2")
        .user_property("a", "1")
        .build()
        .map_err(|error| failed(context, &error))
}

fn failed(context: &Context, error: &impl ToString) -> Stop {
    context.fail("properties that can be built", error.to_string())
}

/// Shows that each property that was sent was received, whatever the order of different ones.
pub(crate) fn check_same(
    context: &Context,
    sent: &MessageProperties,
    received: &MessageProperties,
) -> Outcome {
    let (sent, received) = (sent.as_properties(), received.as_properties());
    context.check_eq(
        "payload format",
        &sent.payload_format(),
        &received.payload_format(),
    )?;
    context.check_eq(
        "content type",
        &sent.content_type(),
        &received.content_type(),
    )?;
    context.check_eq(
        "response topic",
        &sent.response_topic().map(TopicName::as_str),
        &received.response_topic().map(TopicName::as_str),
    )?;
    context.check_eq(
        "correlation data",
        &sent.correlation_data(),
        &received.correlation_data(),
    )?;
    let sent: Vec<UserPropertyRef<'_>> = sent.user_properties().collect();
    let received: Vec<UserPropertyRef<'_>> = received.user_properties().collect();
    context.check_eq("user properties", &sent, &received)
}

async fn passes_on(context: &Context, qos: QoS, properties: &MessageProperties) -> Outcome {
    let mut pair = Pair::connect(context, qos).await?;
    let message = pair.message("m", qos).properties(properties.clone());
    pair.publisher.publish(&message).await?;
    let publish = pair.subscriber.receive_message(&pair.topic, "m").await?;
    let received = MessageProperties::from_publish(publish.properties());
    check_same(context, properties, &received)
}

async fn every_message_property_is_passed_on_unchanged(context: Context) -> Outcome {
    let properties = every_property(&context)?;
    passes_on(&context, QoS::AtMostOnce, &properties).await?;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        if context.need_qos(qos).is_ok() {
            passes_on(&context, qos, &properties).await?;
        }
    }
    // A payload format of bytes may go as itself or be left out.
    let bytes = MessageProperties::builder().payload_format(PayloadFormat::Bytes);
    let bytes = bytes.build().map_err(|error| failed(&context, &error))?;
    passes_on(&context, QoS::AtMostOnce, &bytes).await?;
    passes_on(&context, QoS::AtMostOnce, &MessageProperties::new()).await
}

async fn user_properties_keep_order_and_repetition(context: Context) -> Outcome {
    let names = ["z", "a", "z", "", "m", "a", "z"];
    let values: Vec<String> = (0..28).map(|n| format!("value {n}")).collect();
    let mut builder = MessageProperties::builder();
    for (name, value) in names.iter().cycle().zip(&values) {
        builder = builder.user_property(name, value);
    }
    let properties = builder.user_property("z", "value 0").build();
    let properties = properties.map_err(|error| failed(&context, &error))?;
    passes_on(&context, QoS::AtMostOnce, &properties).await
}

async fn empty_values_of_properties_are_passed_on(context: Context) -> Outcome {
    let properties = MessageProperties::builder()
        .content_type("")
        .correlation_data(&[])
        .user_property("", "")
        .build()
        .map_err(|error| failed(&context, &error))?;
    passes_on(&context, QoS::AtMostOnce, &properties).await
}

async fn message_properties_are_taken_in_any_order(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    let user = wire::user_property("a", "1");
    let user = user.get(1..).unwrap_or_default();
    let response_topic = context.topic("answers");
    let mut properties = vec![
        (PropertyId::UserProperty, user.to_vec()),
        (PropertyId::CorrelationData, wire::field([1, 2])),
        (PropertyId::ResponseTopic, wire::field(&response_topic)),
        (PropertyId::ContentType, wire::field("text")),
        (PropertyId::MessageExpiry, vec![0, 0, 1, 0]),
        (PropertyId::PayloadFormat, vec![1]),
    ];
    for _ in 0..properties.len() {
        properties.rotate_left(1);
        let mut publish = RawPublish::new(&context, pair.topic.clone());
        for (id, value) in &properties {
            publish = publish.property(*id, value);
        }
        pair.publisher.send_bytes(&publish.build()).await?;
        let publish = pair.subscriber.receive_message(&pair.topic, "raw").await?;
        let received = publish.properties();
        context.check_eq("content type", &Some("text"), &received.content_type())?;
        let data = received.correlation_data();
        context.check_eq("correlation data", &Some(&[1, 2][..]), &data)?;
        let format = received.payload_format();
        context.check_eq("payload format", &PayloadFormat::Utf8, &format)?;
    }
    Ok(())
}

async fn message_property_there_twice_is_refused(context: Context) -> Outcome {
    let mut properties = vec![
        (PropertyId::PayloadFormat, vec![0]),
        (PropertyId::MessageExpiry, vec![0, 0, 1, 0]),
        (PropertyId::ContentType, wire::field("text")),
        (PropertyId::ResponseTopic, wire::field(context.topic("r"))),
        (PropertyId::CorrelationData, wire::field([1, 2])),
    ];
    if context.need_topic_aliases(1).is_ok() {
        properties.push((PropertyId::TopicAlias, vec![0, 1]));
    }
    for (id, value) in properties {
        let topic = context.topic("twin");
        let once = RawPublish::new(&context, topic.clone()).property(id, &value);
        let twin = Twin::new(once.build(), Answer::Delivery(topic));
        let twice = once.property(id, &value).build();
        refuses(&context, &twin, twice, MALFORMED).await?;
    }
    Ok(())
}

/// Shows that a PUBLISH with `good` as the value of this property is served, and then one with each of `bad` refused.
async fn refuses_values(
    context: &Context,
    id: PropertyId,
    good: &[u8],
    bad: &[Vec<u8>],
    codes: &[ReasonCode],
) -> Outcome {
    let topic = context.topic("twin");
    let publish = |value: &[u8]| RawPublish::new(context, topic.clone()).property(id, value);
    for value in bad {
        let twin = Twin::new(publish(good).build(), Answer::Delivery(topic.clone()));
        refuses(context, &twin, publish(value).build(), codes).await?;
    }
    Ok(())
}

async fn response_topic_with_a_wildcard_is_refused(context: Context) -> Outcome {
    let codes = &[MALFORMED, &[ReasonCode::TopicNameInvalid]].concat();
    let name = |name: &str| wire::field(context.topic(name));
    let bad = [name("+"), name("#"), name("a/+/b"), wire::field("#")];
    let good = name("r");
    refuses_values(&context, PropertyId::ResponseTopic, &good, &bad, codes).await
}

async fn response_topic_that_is_no_utf8_is_refused(context: Context) -> Outcome {
    let codes = &[MALFORMED, &[ReasonCode::TopicNameInvalid]].concat();
    let good = wire::field(context.topic("r"));
    let bad = ill_formed();
    refuses_values(&context, PropertyId::ResponseTopic, &good, &bad, codes).await
}

async fn content_type_that_is_no_utf8_is_refused(context: Context) -> Outcome {
    let good = wire::field("text");
    let bad = ill_formed();
    refuses_values(&context, PropertyId::ContentType, &good, &bad, MALFORMED).await
}

async fn user_property_that_is_no_utf8_is_refused(context: Context) -> Outcome {
    let good = [wire::field("name"), wire::field("value")].concat();
    let bad = ill_formed().into_iter().flat_map(|field| {
        [
            [field.clone(), wire::field("value")].concat(),
            [wire::field("name"), field].concat(),
        ]
    });
    let bad: Vec<Vec<u8>> = bad.collect();
    refuses_values(&context, PropertyId::UserProperty, &good, &bad, MALFORMED).await
}

/// String fields that are no UTF-8 strings: a stray byte, a surrogate, U+0000.
fn ill_formed() -> Vec<Vec<u8>> {
    let contents: [&[u8]; 3] = [b"a\xFFb", b"a\xED\xA0\x80b", b"a\0b"];
    contents.iter().map(wire::field).collect()
}

async fn payload_that_is_not_of_its_format_may_be_refused(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::AtLeastOnce).await?;
    let publish = RawPublish::new(&context, pair.topic.clone()).flags(2);
    let publish = publish.property(PropertyId::PayloadFormat, [1]);
    let id = pair.publisher.packet_id();
    let good = publish.clone().id(id.get()).payload("ä").build();
    serves(&mut pair.publisher, &Twin::new(good, Answer::PubAck(id))).await?;
    pair.subscriber.receive_message(&pair.topic, "ä").await?;
    let id = pair.publisher.packet_id();
    let bad = publish.id(id.get()).payload([0xFF]).build();
    pair.publisher.send_bytes(&bad).await?;
    let expected = "PUBACK, or DISCONNECT 0x99";
    let answer = context.timing().answer;
    let reason = match pair.publisher.next(answer).await {
        Event::Packet(Packet::PubAck(ack)) if ack.id == id => ack.reason,
        Event::Packet(Packet::Disconnect(disconnect)) => disconnect.reason,
        Event::Closed => ReasonCode::PayloadFormatInvalid,
        event => return Err(pair.publisher.fail_with(expected, &event)),
    };
    if reason.is_error() {
        let right = reason == ReasonCode::PayloadFormatInvalid;
        context.check(right, "0x99 Payload format invalid", reason.to_string())?;
        return pair.subscriber.expect_no_publish().await;
    }
    let publish = pair.subscriber.receive().await?;
    let same = publish.payload() == [0xFF];
    context.check(same, "the payload unchanged", text(&publish))?;
    Err(Stop::skip("the broker does not check payloads, as it may"))
}
