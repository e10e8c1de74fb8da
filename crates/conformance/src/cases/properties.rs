//! Property sections: what makes one malformed, and what does not.

use whimbrel_codec::{Packet, QoS, ReasonCode};

use super::request::{
    SUBSCRIBE, UNSUBSCRIBE, filter_with_options, packet_id, publish, request, subscribe_twin,
    unsubscribe_twin,
};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Answer, MALFORMED, Twin, refuses, refuses_connect, refuses_on, serves};
use crate::verdict::{Outcome, Stop};
use crate::wire::{self, RawConnect};

pub(crate) const CASES: &[Case] = &[
    case!(
        a_property_length_that_does_not_fit_is_refused,
        [V5],
        ["U5-010", "5:MQTT-4.13.1-1"]
    ),
    case!(
        a_packet_without_property_length_is_refused,
        [V5],
        ["5:MQTT-2.2.2-1", "5:MQTT-4.13.1-1"]
    ),
    case!(
        acknowledgements_have_a_property_length,
        [V5],
        ["5:MQTT-2.2.2-1"]
    ),
    case!(
        unknown_properties_are_refused,
        [V5],
        ["U5-011", "5:MQTT-4.13.1-1"]
    ),
    case!(
        properties_of_other_packets_are_refused_in_publish,
        [V5],
        ["U5-011", "5:MQTT-4.13.1-1"]
    ),
    case!(
        properties_of_other_packets_are_refused_in_subscribe,
        [V5],
        ["U5-011", "5:MQTT-4.13.1-1"]
    ),
    case!(
        properties_of_other_packets_are_refused_in_unsubscribe,
        [V5],
        ["U5-011", "5:MQTT-4.13.1-1"]
    ),
    case!(
        properties_of_other_packets_are_refused_in_connect,
        [V5],
        ["U5-011", "5:MQTT-3.1.4-1"]
    ),
    case!(
        properties_of_other_packets_are_refused_in_a_will,
        [V5],
        ["U5-011", "5:MQTT-3.1.4-1"]
    ),
    case!(
        values_that_are_cut_short_are_refused,
        [V5],
        ["U5-011", "U5-010"]
    ),
    case!(a_payload_format_above_1_is_refused, [V5], ["U5-011"]),
    case!(publish_properties_may_stand_once_only, [V5], ["U5-045"]),
    case!(
        connect_properties_may_stand_once_only,
        [V5],
        [
            "U5-019", "U5-020", "U5-021", "U5-023", "U5-024", "U5-025", "U5-027", "U5-028"
        ]
    ),
    case!(
        connect_properties_have_their_range,
        [V5],
        ["U5-020", "U5-021", "U5-024", "U5-025"]
    ),
    case!(will_properties_may_stand_once_only, [V5], ["U5-029"]),
    case!(a_reason_string_may_stand_once_only, [V5], ["U5-056"]),
    case!(the_order_of_properties_means_nothing, [V5], ["U5-012"]),
    case!(user_properties_may_repeat, [V5], ["U5-045", "U5-029"]),
    case!(acknowledgements_may_be_short, [V5], ["U5-055"]),
    case!(
        a_negative_acknowledgement_is_about_its_packet_only,
        [V5],
        ["U5-112"]
    ),
    case!(codes_below_0x80_are_successes, [V5], ["U5-013"]),
];

/// Properties with a value of their type: identifier, value.
fn valid_property(id: u8) -> Vec<u8> {
    match id {
        PAYLOAD_FORMAT | REQUEST_PROBLEM | REQUEST_RESPONSE => wire::property(id, [0]),
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => wire::property(id, [1]),
        SUBSCRIPTION_ID => wire::property(id, [1]),
        0x13 | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | 0x23 => wire::property(id, [0, 10]),
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | PACKET_SIZE => {
            wire::property(id, [0, 1, 0, 0])
        }
        USER => wire::user_property("name", "value"),
        _ => wire::string_property(id, "text"),
    }
}

fn subscribe_with(context: &Context, id: u16, properties: &[&[u8]]) -> Vec<u8> {
    let payload = filter_with_options(context.topic("x"), 0);
    request(context, SUBSCRIBE, id, properties, &payload)
}

fn unsubscribe_with(context: &Context, id: u16, properties: &[&[u8]]) -> Vec<u8> {
    let payload = wire::field(context.topic("x"));
    request(context, UNSUBSCRIBE, id, properties, &payload)
}

/// PUBLISH, SUBSCRIBE and UNSUBSCRIBE with these properties, each with a twin that is served.
fn with_properties(context: &Context, properties: &[&[u8]]) -> [(Twin, Vec<u8>); 3] {
    [
        (
            Twin::publish(context),
            publish(context, context.topic("x"), properties, "one"),
        ),
        (
            subscribe_twin(context),
            subscribe_with(context, 2, properties),
        ),
        (
            unsubscribe_twin(context),
            unsubscribe_with(context, 2, properties),
        ),
    ]
}

async fn a_property_length_that_does_not_fit_is_refused(context: Context) -> Outcome {
    let property = wire::user_property("name", "value");
    let length = u8::try_from(property.len()).unwrap_or(0);
    let topic = wire::field(context.topic("x"));
    let payload = filter_with_options(context.topic("x"), 0);
    // Longer than the packet, cutting the property, and one byte into it.
    for wrong in [120, length - 1, 1] {
        let section = [&[wrong], property.as_slice()].concat();
        let illegal = wire::packet(0x30, &[&topic, &section]);
        refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await?;
        let illegal = wire::packet(SUBSCRIBE, &[&[0, 2], &section, &payload]);
        refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    }
    // Too long by one: the first byte of what follows is taken for a property.
    let section = [&[length + 1], property.as_slice()].concat();
    let illegal = wire::packet(UNSUBSCRIBE, &[&[0, 2], &section, &topic]);
    refuses(&context, &unsubscribe_twin(&context), illegal, MALFORMED).await?;
    let illegal = RawConnect::new(&context, "long");
    let twin = illegal.clone().with_properties(&[&property]);
    let mut bytes = twin.build();
    // The property length follows the first byte, the remaining length, the name, level, flags and keep alive.
    if let Some(at) = bytes.iter().position(|byte| *byte == length) {
        let wrong = bytes.get_mut(at);
        if let Some(wrong) = wrong {
            *wrong = length - 1;
        }
    }
    refuses_connect(&context, twin.build(), bytes, MALFORMED).await
}

async fn a_packet_without_property_length_is_refused(context: Context) -> Outcome {
    // As in 3.1.1: the first byte of the filter's length becomes the property length, and nothing fits any more.
    let payload = filter_with_options(context.topic("x"), 0);
    let illegal = wire::packet(SUBSCRIBE, &[&[0, 2], &payload]);
    refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    let illegal = wire::packet(0x30, &[&wire::field(context.topic("x"))]);
    refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await
}

async fn acknowledgements_have_a_property_length(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.send_bytes(&subscribe_with(&context, 7, &[])).await?;
    let suback = client.expect_suback(packet_id(7)).await?;
    check_section(&client, suback.codes.len())?;
    client
        .send_bytes(&unsubscribe_with(&context, 8, &[]))
        .await?;
    let unsuback = client.expect_unsuback(packet_id(8)).await?;
    check_section(&client, unsuback.codes.len())?;
    client.disconnect().await
}

/// Checks that between the identifier and the last `codes` bytes there is a section with its length.
fn check_section(client: &Client, codes: usize) -> Outcome {
    let bytes = client.last_bytes();
    let start = 4;
    let end = bytes.len().saturating_sub(codes);
    let section = bytes.get(start..end).unwrap_or(&[]);
    let length = section.first().map(|length| usize::from(*length));
    let context = client.context();
    // Properties of more than 127 bytes have a longer length; no broker says as much here.
    context.check(
        length.is_some_and(|length| length + 1 == section.len() || length >= 0x80),
        "a property length, 0 without properties",
        format!("{section:02x?}"),
    )
}

async fn unknown_properties_are_refused(context: Context) -> Outcome {
    for id in [0x00, 0x04, 0x2B, 0x7F] {
        let property = wire::property(id, [0]);
        for (twin, illegal) in with_properties(&context, &[&property]) {
            refuses(&context, &twin, illegal, MALFORMED).await?;
        }
    }
    // An identifier is a variable byte integer.
    let property = [0xA6, 0x01, 0, 0, 0, 0];
    for (twin, illegal) in with_properties(&context, &[&property]) {
        refuses(&context, &twin, illegal, MALFORMED).await?;
    }
    Ok(())
}

/// Shows that `twin` is served, and what `build` makes of each property that is not `allowed` is refused.
async fn refuses_all_but(
    context: &Context,
    allowed: &[u8],
    twin: &Twin,
    build: impl Fn(&[u8]) -> Vec<u8>,
) -> Outcome {
    for id in ALL.into_iter().filter(|id| !allowed.contains(id)) {
        let illegal = build(&valid_property(id));
        refuses(context, twin, illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn properties_of_other_packets_are_refused_in_publish(context: Context) -> Outcome {
    let twin = Twin::publish(&context);
    let topic = context.topic("x");
    let build = |property: &[u8]| publish(&context, &topic, &[property], "one");
    refuses_all_but(&context, IN_PUBLISH, &twin, build).await
}

async fn properties_of_other_packets_are_refused_in_subscribe(context: Context) -> Outcome {
    let twin = subscribe_twin(&context);
    let build = |property: &[u8]| subscribe_with(&context, 2, &[property]);
    refuses_all_but(&context, IN_SUBSCRIBE, &twin, build).await
}

async fn properties_of_other_packets_are_refused_in_unsubscribe(context: Context) -> Outcome {
    let twin = unsubscribe_twin(&context);
    let build = |property: &[u8]| unsubscribe_with(&context, 2, &[property]);
    refuses_all_but(&context, IN_UNSUBSCRIBE, &twin, build).await
}

async fn properties_of_other_packets_are_refused_in_connect(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    let twin = plain.clone().with_properties(&[&valid_property(USER)]);
    for id in ALL.into_iter().filter(|id| !IN_CONNECT.contains(id)) {
        let illegal = plain.clone().with_properties(&[&valid_property(id)]);
        refuses_connect(&context, twin.build(), illegal.build(), MALFORMED).await?;
    }
    Ok(())
}

fn with_will_properties(context: &Context, properties: &[&[u8]]) -> Vec<u8> {
    let mut connect = RawConnect::new(context, "w").with_will(context.topic("will"), "gone");
    connect.will_properties = Some(properties.concat());
    connect.build()
}

async fn properties_of_other_packets_are_refused_in_a_will(context: Context) -> Outcome {
    let twin = with_will_properties(&context, &[&valid_property(USER)]);
    for id in ALL.into_iter().filter(|id| !IN_WILL.contains(id)) {
        let illegal = with_will_properties(&context, &[&valid_property(id)]);
        refuses_connect(&context, &twin, illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn values_that_are_cut_short_are_refused(context: Context) -> Outcome {
    for id in IN_PUBLISH
        .iter()
        .copied()
        .filter(|id| *id != SUBSCRIPTION_ID)
    {
        let mut cut = valid_property(id);
        cut.pop();
        let illegal = publish(&context, context.topic("x"), &[&cut], "");
        refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await?;
    }
    for cut in [
        &[USER][..],
        &[USER, 0],
        &[USER, 0, 1, b'n', 0],
        &[SUBSCRIPTION_ID],
    ] {
        let illegal = subscribe_with(&context, 2, &[cut]);
        refuses(&context, &subscribe_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn a_payload_format_above_1_is_refused(context: Context) -> Outcome {
    for value in [2, 0xFF] {
        let property = wire::property(PAYLOAD_FORMAT, [value]);
        let illegal = publish(&context, context.topic("x"), &[&property], "one");
        let codes = [MALFORMED, &[ReasonCode::PayloadFormatInvalid]].concat();
        refuses(&context, &Twin::publish(&context), illegal, &codes).await?;
    }
    Ok(())
}

async fn publish_properties_may_stand_once_only(context: Context) -> Outcome {
    for id in [PAYLOAD_FORMAT, MESSAGE_EXPIRY, 0x03, 0x08, 0x09] {
        let property = valid_property(id);
        let topic = context.topic("twin");
        let once = publish(&context, &topic, &[&property], "twin");
        let twin = Twin::new(once, Answer::Delivery(topic.clone()));
        let illegal = publish(&context, &topic, &[&property, &property], "twice");
        refuses(&context, &twin, illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn connect_properties_may_stand_once_only(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    for id in [
        SESSION_EXPIRY,
        REQUEST_PROBLEM,
        REQUEST_RESPONSE,
        RECEIVE_MAXIMUM,
        TOPIC_ALIAS_MAXIMUM,
        PACKET_SIZE,
    ] {
        let property = valid_property(id);
        context.leaves_session(&context.client_id("c"));
        let twin = plain.clone().with_properties(&[&property]);
        let illegal = plain.clone().with_properties(&[&property, &property]);
        refuses_connect(&context, twin.build(), illegal.build(), MALFORMED).await?;
    }
    // Whether a method is known does not matter once there are two.
    let method = wire::string_property(AUTHENTICATION_METHOD, "conformance");
    let data = wire::property(AUTHENTICATION_DATA, wire::field([1, 2]));
    let codes = [
        MALFORMED,
        &[
            ReasonCode::BadAuthenticationMethod,
            ReasonCode::NotAuthorized,
        ],
    ];
    for properties in [&[&method[..], &method][..], &[&method, &data, &data]] {
        let illegal = plain.clone().with_properties(properties);
        refuses_connect(&context, plain.build(), illegal.build(), &codes.concat()).await?;
    }
    Ok(())
}

async fn connect_properties_have_their_range(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    for (id, good, bad) in [
        (REQUEST_PROBLEM, &[1][..], &[2][..]),
        (REQUEST_RESPONSE, &[1], &[2]),
        (RECEIVE_MAXIMUM, &[0, 1], &[0, 0]),
        (PACKET_SIZE, &[0, 1, 0, 0], &[0, 0, 0, 0]),
    ] {
        let twin = plain.clone().with_properties(&[&wire::property(id, good)]);
        let illegal = plain.clone().with_properties(&[&wire::property(id, bad)]);
        refuses_connect(&context, twin.build(), illegal.build(), MALFORMED).await?;
    }
    Ok(())
}

async fn will_properties_may_stand_once_only(context: Context) -> Outcome {
    for id in IN_WILL.iter().copied().filter(|id| *id != USER) {
        let property = valid_property(id);
        let twin = with_will_properties(&context, &[&property]);
        let illegal = with_will_properties(&context, &[&property, &property]);
        refuses_connect(&context, twin, illegal, MALFORMED).await?;
    }
    Ok(())
}

/// A client with an unacknowledged QoS 1 delivery, and its identifier.
async fn open_delivery(context: &Context) -> Outcome<(Client, u16)> {
    context.need_qos(QoS::AtLeastOnce)?;
    let mut client = Client::connect(context, "c").await?;
    let topic = context.topic("open");
    client.subscribe(&topic, QoS::AtLeastOnce).await?;
    let id = deliver(&mut client).await?;
    Ok((client, id))
}

/// One more QoS 1 delivery on the topic of [`open_delivery`].
async fn deliver(client: &mut Client) -> Outcome<u16> {
    let topic = client.context().topic("open");
    client
        .publish(&Message::new(&topic, "one").qos(QoS::AtLeastOnce))
        .await?;
    let publish = client.expect_publish().await?;
    let id = publish.packet_id().map(whimbrel_codec::PacketId::get);
    id.ok_or_else(|| Stop::skip("the broker grants a lower QoS"))
}

fn puback(id: u16, properties: &[&[u8]]) -> Vec<u8> {
    let section = wire::properties(properties);
    wire::packet(0x40, &[&id.to_be_bytes(), &[0], &section])
}

async fn a_reason_string_may_stand_once_only(context: Context) -> Outcome {
    let reason = wire::string_property(REASON_STRING, "taken");
    let (mut client, id) = open_delivery(&context).await?;
    let twin = Twin::new(puback(id, &[&reason]), Answer::Alive);
    serves(&mut client, &twin).await?;
    let id = deliver(&mut client).await?;
    let illegal = puback(id, &[&reason, &reason]);
    refuses_on(&mut client, &Twin::ping(), illegal, MALFORMED).await
}

async fn the_order_of_properties_means_nothing(context: Context) -> Outcome {
    let connect = [
        SESSION_EXPIRY,
        RECEIVE_MAXIMUM,
        PACKET_SIZE,
        USER,
        REQUEST_PROBLEM,
    ];
    let message = [PAYLOAD_FORMAT, MESSAGE_EXPIRY, 0x03, 0x08, 0x09, USER];
    let connect = connect.map(valid_property);
    let message = message.map(valid_property);
    let (mut connect, mut message) = (connect.to_vec(), message.to_vec());
    context.leaves_session(&context.client_id("order"));
    for _ in 0..2 {
        let parts: Vec<&[u8]> = connect.iter().map(Vec::as_slice).collect();
        let bytes = RawConnect::new(&context, "order").with_properties(&parts);
        crate::proof::accepts_connect(&context, bytes.build()).await?;
        let mut client = Client::connect(&context, "c").await?;
        let topic = context.topic("order");
        client.subscribe(&topic, QoS::AtMostOnce).await?;
        let parts: Vec<&[u8]> = message.iter().map(Vec::as_slice).collect();
        client
            .send_bytes(&publish(&context, &topic, &parts, "text"))
            .await?;
        let received = client.receive_message(&topic, "text").await?;
        let properties = received.properties();
        let whole = properties.content_type() == Some("text")
            && properties
                .response_topic()
                .is_some_and(|name| name.as_str() == "text")
            && properties.correlation_data() == Some(b"text")
            && properties.message_expiry_secs().is_some()
            && properties.user_properties().count() == 1;
        context.check(whole, "all properties that were sent", "some are missing")?;
        connect.reverse();
        message.reverse();
    }
    Ok(())
}

async fn user_properties_may_repeat(context: Context) -> Outcome {
    let property = valid_property(USER);
    let twice: [&[u8]; 2] = [&property, &property];
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("twice");
    client
        .send_bytes(&subscribe_with(&context, 7, &twice))
        .await?;
    client.expect_suback(packet_id(7)).await?;
    client
        .send_bytes(&unsubscribe_with(&context, 8, &twice))
        .await?;
    client.expect_unsuback(packet_id(8)).await?;
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    client
        .send_bytes(&publish(&context, &topic, &twice, "one"))
        .await?;
    let received = client.receive_message(&topic, "one").await?;
    let count = received.properties().user_properties().count();
    context.check_eq("user properties", &2, &count)?;
    client.disconnect().await?;
    let connect = RawConnect::new(&context, "twice").with_properties(&twice);
    crate::proof::accepts_connect(&context, connect.build()).await?;
    let will = with_will_properties(&context, &twice);
    crate::proof::accepts_connect(&context, will).await?;
    Ok(())
}

async fn acknowledgements_may_be_short(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    // With room for one message at a time, the next comes only when the one before is acknowledged.
    let options = Client::options(&context, "c").receive_maximum(1);
    let mut client = options.connect().await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let topic = context.topic("short");
    client.subscribe(&topic, QoS::AtLeastOnce).await?;
    let forms: [&[u8]; 3] = [&[], &[0x00], &[0x00, 0x00]];
    for number in 0..=forms.len() {
        let message = Message::new(&topic, number.to_string());
        publisher.publish(&message.qos(QoS::AtLeastOnce)).await?;
    }
    for (number, form) in forms.into_iter().enumerate() {
        let publish = client.expect_publish().await?;
        let payload = String::from_utf8_lossy(publish.payload()).into_owned();
        context.check_eq("payload", &number.to_string(), &payload)?;
        let id = publish.packet_id().map(whimbrel_codec::PacketId::get);
        let id = id.ok_or_else(|| Stop::skip("the broker grants a lower QoS"))?;
        let bytes = wire::packet(0x40, &[&id.to_be_bytes(), form]);
        client.send_bytes(&bytes).await?;
    }
    let last = forms.len().to_string();
    client.receive_message(&topic, &last).await?;
    client.disconnect().await
}

async fn a_negative_acknowledgement_is_about_its_packet_only(context: Context) -> Outcome {
    let (mut client, id) = open_delivery(&context).await?;
    for code in [0x80, 0x83, 0x97] {
        let refusal = wire::packet(0x40, &[&id.to_be_bytes(), &[code]]);
        client.send_bytes(&refusal).await?;
        client.expect_alive().await?;
    }
    let again = deliver(&mut client).await?;
    client.send_bytes(&puback(again, &[])).await?;
    client.expect_alive().await?;
    client.disconnect().await
}

async fn codes_below_0x80_are_successes(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    // One filter is invalid, which a broker may also end the connection for (E2).
    let payload = [
        filter_with_options(context.topic("good"), 0),
        filter_with_options(context.topic("#/bad"), 0),
        filter_with_options(context.topic("also"), 0),
    ];
    let bytes = request(&context, SUBSCRIBE, 3, &[], &payload.concat());
    serves(&mut client, &subscribe_twin(&context)).await?;
    client.send_bytes(&bytes).await?;
    let suback = match client.next(context.timing().answer).await {
        Event::Packet(Packet::SubAck(suback)) => suback,
        Event::Closed | Event::Packet(Packet::Disconnect(_)) => {
            let reason = "the broker ends the connection for an invalid filter";
            return Err(Stop::skip(reason));
        }
        event => return Err(client.fail_with("SUBACK, or the connection closed", &event)),
    };
    let failures: Vec<bool> = suback.codes.iter().map(|code| code.is_error()).collect();
    context.check_eq("failures", &vec![false, true, false], &failures)?;
    for name in ["good", "also"] {
        let topic = context.topic(name);
        client.publish(&Message::new(&topic, "one")).await?;
        client.receive_message(&topic, "one").await?;
    }
    client.disconnect().await
}

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const SUBSCRIPTION_ID: u8 = 0x0B;
const SESSION_EXPIRY: u8 = 0x11;
const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const REQUEST_PROBLEM: u8 = 0x17;
const WILL_DELAY: u8 = 0x18;
const REQUEST_RESPONSE: u8 = 0x19;
const REASON_STRING: u8 = 0x1F;
const RECEIVE_MAXIMUM: u8 = 0x21;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const USER: u8 = 0x26;
const PACKET_SIZE: u8 = 0x27;
/// Every property there is.
const ALL: [u8; 27] = [
    0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C,
    0x1F, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
];
/// Those that PUBLISH may have, from a server at least.
const IN_PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const IN_SUBSCRIBE: &[u8] = &[0x0B, 0x26];
const IN_UNSUBSCRIBE: &[u8] = &[0x26];
const IN_CONNECT: &[u8] = &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
const IN_WILL: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
