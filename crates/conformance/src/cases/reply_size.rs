//! What SUBACK and UNSUBACK leave out: what the client has no room for, or does not want.

use whimbrel_codec::{AckProperties, QoS, SubscriptionOptions};

use super::request::{SUBSCRIBE, UNSUBSCRIBE, filter_with_options, packet_id, request};
use crate::case::{Case, case};
use crate::client::Client;
use crate::context::Context;
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        suback_keeps_to_the_maximum_packet_size,
        [V5],
        ["5:MQTT-3.9.2-1", "5:MQTT-3.9.2-2", "5:MQTT-3.1.2-24"]
    ),
    case!(
        unsuback_keeps_to_the_maximum_packet_size,
        [V5],
        ["5:MQTT-3.11.2-1", "5:MQTT-3.11.2-2", "5:MQTT-3.1.2-24"]
    ),
    case!(
        suback_and_unsuback_say_no_more_than_is_asked_for,
        [V5],
        ["5:MQTT-3.1.2-29"]
    ),
];

/// A client with room for a CONNACK and not much more: its Maximum Packet Size in bytes.
async fn narrow_client(context: &Context) -> Outcome<(Client, usize)> {
    let client = Client::connect(context, "c").await?;
    let room = client.last_bytes().len().max(ROOM_MIN);
    client.disconnect().await?;
    let limit = u32::try_from(room).unwrap_or(u32::MAX);
    let options = Client::options(context, "c").packet_size_max(limit);
    Ok((options.connect().await?, room))
}

/// So many filters that their codes, and nothing else, fill a packet of `room` bytes.
fn filters_that_fill(room: usize) -> usize {
    // First byte, remaining length, identifier, property length. Where CONNACK is very long there is room left.
    room.saturating_sub(5).min(FILTERS_MAX)
}

fn check_room(client: &Client, room: usize) -> Outcome {
    let size = client.last_bytes().len();
    client.context().check(
        size <= room,
        format!("a packet of at most {room} bytes"),
        format!("{size} bytes"),
    )
}

async fn suback_keeps_to_the_maximum_packet_size(context: Context) -> Outcome {
    let (mut client, room) = narrow_client(&context).await?;
    let count = filters_that_fill(room);
    let filters = (0..count).map(|n| filter_with_options(context.topic(&format!("f{n}")), 0));
    let payload = filters.collect::<Vec<_>>().concat();
    client
        .send_bytes(&request(&context, SUBSCRIBE, 1, &[], &payload))
        .await?;
    let suback = client.expect_suback(packet_id(1)).await?;
    check_room(&client, room)?;
    context.check_eq("codes for each filter", &count, &suback.codes.len())?;
    client.disconnect().await
}

async fn unsuback_keeps_to_the_maximum_packet_size(context: Context) -> Outcome {
    let (mut client, room) = narrow_client(&context).await?;
    let count = filters_that_fill(room);
    // None of them is there, which a broker might have words for.
    let filters = (0..count).map(|n| wire::field(context.topic(&format!("f{n}"))));
    let payload = filters.collect::<Vec<_>>().concat();
    client
        .send_bytes(&request(&context, UNSUBSCRIBE, 1, &[], &payload))
        .await?;
    let unsuback = client.expect_unsuback(packet_id(1)).await?;
    check_room(&client, room)?;
    context.check_eq("codes for each filter", &count, &unsuback.codes.len())?;
    client.disconnect().await
}

async fn suback_and_unsuback_say_no_more_than_is_asked_for(context: Context) -> Outcome {
    let options = Client::options(&context, "c")
        .with(|connect| connect.properties.request_problem_information = false);
    let mut client = options.connect().await?;
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    let nothing = AckProperties::new();
    let suback = client
        .subscribe_all(&[(&context.topic("a"), plain)], None)
        .await?;
    context.check_eq("SUBACK properties", &nothing, &suback.properties)?;
    let never = context.topic("never");
    let unsuback = client.unsubscribe(&[&never]).await?;
    context.check_eq("UNSUBACK properties", &nothing, &unsuback.properties)?;
    client.disconnect().await
}

/// With more, the remaining length would take a second byte.
const FILTERS_MAX: usize = 120;
/// Room for a SUBACK with three codes, should CONNACK need less.
const ROOM_MIN: usize = 8;
