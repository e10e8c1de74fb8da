//! SUBSCRIBE, UNSUBSCRIBE and PUBLISH put together byte by byte, and what several cases expect of them.

use whimbrel_codec::{Packet, PacketId, Publish, QoS, ReasonCode};

use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Answer, Twin, serves};
use crate::verdict::Outcome;
use crate::wire;

/// A packet identifier of a case.
pub(super) const fn packet_id(id: u16) -> PacketId {
    match PacketId::new(id) {
        Some(id) => id,
        None => PacketId::MIN,
    }
}

/// A request with any first byte: packet identifier, in 5.0 `properties`, payload.
pub(super) fn request(
    context: &Context,
    first_byte: u8,
    id: u16,
    properties: &[&[u8]],
    payload: &[u8],
) -> Vec<u8> {
    let section = section(context, properties);
    wire::packet(first_byte, &[&id.to_be_bytes(), &section, payload])
}

/// The property section of this version: none before 5.0.
pub(super) fn section(context: &Context, properties: &[&[u8]]) -> Vec<u8> {
    if context.is_v5() {
        wire::properties(properties)
    } else {
        Vec::new()
    }
}

/// The payload of a SUBSCRIBE for one filter.
pub(super) fn filter_with_options(filter: impl AsRef<[u8]>, options: u8) -> Vec<u8> {
    [wire::field(filter), vec![options]].concat()
}

/// A SUBSCRIBE for one filter, options byte given.
pub(super) fn subscribe(
    context: &Context,
    id: u16,
    filter: impl AsRef<[u8]>,
    options: u8,
) -> Vec<u8> {
    let payload = filter_with_options(filter, options);
    request(context, SUBSCRIBE, id, &[], &payload)
}

/// An UNSUBSCRIBE for one filter.
pub(super) fn unsubscribe(context: &Context, id: u16, filter: impl AsRef<[u8]>) -> Vec<u8> {
    request(context, UNSUBSCRIBE, id, &[], &wire::field(filter))
}

/// A PUBLISH of QoS 0 with these properties in 5.0.
pub(super) fn publish(
    context: &Context,
    topic: impl AsRef<[u8]>,
    properties: &[&[u8]],
    payload: &str,
) -> Vec<u8> {
    let section = section(context, properties);
    wire::packet(0x30, &[&wire::field(topic), &section, payload.as_bytes()])
}

/// A SUBSCRIBE for a topic of the case, with the SUBACK it has to get.
pub(super) fn subscribe_twin(context: &Context) -> Twin {
    let bytes = subscribe(context, 1, context.topic("twin"), 0);
    Twin::new(bytes, Answer::SubAck(packet_id(1)))
}

/// An UNSUBSCRIBE for a topic of the case, with the UNSUBACK it has to get.
pub(super) fn unsubscribe_twin(context: &Context) -> Twin {
    let bytes = unsubscribe(context, 1, context.topic("twin"));
    Twin::new(bytes, Answer::UnsubAck(packet_id(1)))
}

/// Shows that a plain filter is granted and `filter` is not.
///
/// The standard lets a broker refuse the filter in SUBACK or end the connection (E2).
///
/// # Errors
/// A failure when either does not hold.
pub(super) async fn refuses_filter(context: &Context, filter: impl AsRef<[u8]>) -> Outcome {
    let mut client = Client::connect(context, "proof").await?;
    serves(&mut client, &subscribe_twin(context)).await?;
    let bytes = subscribe(context, 2, filter, 0);
    client.send_bytes(&bytes).await?;
    match client.next(context.timing().answer).await {
        Event::Closed => Ok(()),
        Event::Packet(Packet::SubAck(suback))
            if suback.id == packet_id(2) && suback.codes.iter().all(|code| code.is_error()) =>
        {
            client.expect_alive().await
        }
        Event::Packet(Packet::Disconnect(disconnect))
            if REFUSED_FILTER.contains(&disconnect.reason) =>
        {
            client.expect_closed_with(&[]).await
        }
        event => {
            let expected = "SUBACK with a failure for the filter, or the connection closed";
            Err(client.fail_with(expected, &event))
        }
    }
}

/// The next message and all further copies of it until nothing more comes, each acknowledged.
///
/// # Errors
/// A failure when none comes, or the connection ends.
pub(super) async fn receive_copies(client: &mut Client) -> Outcome<Vec<Publish>> {
    let mut copies = vec![client.receive().await?];
    let silence = client.context().timing().silence;
    loop {
        match client.next(silence).await {
            Event::Silence => return Ok(copies),
            Event::Packet(Packet::Publish(publish)) if copies.len() < COPIES_MAX => {
                client.acknowledge(&publish).await?;
                copies.push(publish);
            }
            event => return Err(client.fail_with("a bounded number of copies", &event)),
        }
    }
}

/// Has the broker keep "kept" as the retained message of `topic`.
///
/// Waits until another subscription has got it: a broker may acknowledge before it hands a message over, and a
/// subscription made in between gets it as a live one, too.
///
/// # Errors
/// The skip when the broker keeps no retained messages; a failure when the message is not passed on.
pub(super) async fn keep_retained(context: &Context, topic: &str) -> Outcome {
    context.need_retain()?;
    let mut client = Client::connect(context, "keep").await?;
    client.subscribe(topic, QoS::AtMostOnce).await?;
    let qos = qos_up_to(context, QoS::AtLeastOnce);
    client
        .publish(&Message::new(topic, "kept").qos(qos).retained())
        .await?;
    client.receive_message(topic, "kept").await?;
    client.disconnect().await
}

/// The highest QoS that both the broker and a case that asks for `wanted` can use.
pub(super) fn qos_up_to(context: &Context, wanted: QoS) -> QoS {
    wanted.min(context.announced().properties.maximum_qos)
}

/// The first byte of a legal SUBSCRIBE.
pub(super) const SUBSCRIBE: u8 = 0x82;
/// The first byte of a legal UNSUBSCRIBE.
pub(super) const UNSUBSCRIBE: u8 = 0xA2;

/// The codes of a DISCONNECT for a filter that is none.
const REFUSED_FILTER: &[ReasonCode] = &[
    ReasonCode::TopicFilterInvalid,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
];
/// No case has so many subscriptions that match one message.
const COPIES_MAX: usize = 16;
