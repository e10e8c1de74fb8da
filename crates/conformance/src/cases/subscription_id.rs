//! Subscription identifiers.

use whimbrel_codec::{Publish, QoS, SubscriptionId, SubscriptionOptions};

use super::request::{
    SUBSCRIBE, filter_with_options, keep_retained, packet_id, publish, qos_up_to, request,
};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::{Context, SESSION_EXPIRY_SECS};
use crate::proof::{Answer, MALFORMED, Twin, refuses};
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        a_message_carries_the_identifier_of_its_subscription,
        [V5],
        ["5:MQTT-3.3.4-3"]
    ),
    case!(
        a_retained_message_carries_the_identifier_of_its_subscription,
        [V5],
        ["5:MQTT-3.3.4-3"]
    ),
    case!(
        one_identifier_serves_all_filters_of_a_subscribe,
        [V5],
        ["5:MQTT-3.3.4-3"]
    ),
    case!(
        subscribing_again_replaces_or_removes_the_identifier,
        [V5],
        ["U5-062", "5:MQTT-3.8.4-3"]
    ),
    case!(
        identifiers_are_part_of_the_session,
        [V5],
        ["U5-062", "U5-063", "5:MQTT-3.3.4-3"]
    ),
    case!(
        identifiers_of_other_clients_are_not_sent,
        [V5],
        ["5:MQTT-3.3.4-3"]
    ),
    case!(
        subscription_identifier_0_is_refused,
        [V5],
        ["U5-057", "U5-047"]
    ),
    case!(two_subscription_identifiers_are_refused, [V5], ["U5-057"]),
    case!(
        a_publish_with_a_subscription_identifier_is_refused,
        [V5],
        ["5:MQTT-3.3.4-6", "U5-047"]
    ),
];

fn numbers(publish: &Publish) -> Vec<u32> {
    let properties = publish.properties();
    let identifiers = properties.subscription_ids();
    identifiers.map(SubscriptionId::get).collect()
}

async fn subscribe_as(client: &mut Client, filter: &str, number: Option<u32>) -> Outcome {
    let options = SubscriptionOptions::new(qos_up_to(client.context(), QoS::AtLeastOnce));
    let identifier = number.and_then(SubscriptionId::new);
    client.subscribe_with(filter, options, identifier).await?;
    Ok(())
}

/// Publishes to `topic` and checks the identifiers of the copy that comes back.
async fn check_live(client: &mut Client, topic: &str, expected: &[u32]) -> Outcome {
    client.publish(&Message::new(topic, "live")).await?;
    let received = client.receive_message(topic, "live").await?;
    let context = client.context();
    context.check_eq("subscription identifiers", expected, &numbers(&received))
}

async fn a_message_carries_the_identifier_of_its_subscription(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let mut client = Client::connect(&context, "c").await?;
    // The edges of each length of a variable byte integer.
    for number in [
        1,
        127,
        128,
        16_383,
        16_384,
        2_097_151,
        2_097_152,
        268_435_455,
    ] {
        let topic = context.topic(&number.to_string());
        subscribe_as(&mut client, &topic, Some(number)).await?;
        check_live(&mut client, &topic, &[number]).await?;
    }
    let topic = context.topic("none");
    subscribe_as(&mut client, &topic, None).await?;
    check_live(&mut client, &topic, &[]).await?;
    client.disconnect().await
}

async fn a_retained_message_carries_the_identifier_of_its_subscription(
    context: Context,
) -> Outcome {
    context.need_subscription_ids()?;
    let topic = context.topic("kept");
    keep_retained(&context, &topic).await?;
    let mut client = Client::connect(&context, "c").await?;
    for number in [Some(3), Some(4), None] {
        subscribe_as(&mut client, &topic, number).await?;
        let received = client.receive_message(&topic, "kept").await?;
        let expected: Vec<u32> = number.into_iter().collect();
        context.check_eq("subscription identifiers", &expected, &numbers(&received))?;
    }
    client.disconnect().await
}

async fn one_identifier_serves_all_filters_of_a_subscribe(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let mut client = Client::connect(&context, "c").await?;
    let (a, b) = (context.topic("a"), context.topic("b"));
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    let filters = [(a.as_str(), plain), (b.as_str(), plain)];
    let suback = client
        .subscribe_all(&filters, SubscriptionId::new(9))
        .await?;
    let granted = suback.codes.iter().all(|code| !code.is_error());
    context.check(
        granted,
        "both filters granted",
        format!("{:?}", suback.codes),
    )?;
    check_live(&mut client, &a, &[9]).await?;
    check_live(&mut client, &b, &[9]).await?;
    client.disconnect().await
}

async fn subscribing_again_replaces_or_removes_the_identifier(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("again");
    for number in [Some(1), Some(2), None, Some(3)] {
        subscribe_as(&mut client, &topic, number).await?;
        let expected: Vec<u32> = number.into_iter().collect();
        check_live(&mut client, &topic, &expected).await?;
    }
    client.disconnect().await
}

async fn identifiers_are_part_of_the_session(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    context.need_sessions(SESSION_EXPIRY_SECS / 10)?;
    context.need_qos(QoS::AtLeastOnce)?;
    let options = Client::options(&context, "c").persistent();
    let mut client = options.connect().await?;
    let topic = context.topic("kept");
    subscribe_as(&mut client, &topic, Some(7)).await?;
    client.disconnect().await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    publisher
        .publish(&Message::new(&topic, "queued").qos(QoS::AtLeastOnce))
        .await?;
    let mut client = options.connect().await?;
    let queued = client.receive_message(&topic, "queued").await?;
    context.check_eq("subscription identifiers", &vec![7], &numbers(&queued))?;
    check_live(&mut client, &topic, &[7]).await?;
    // After the new identifier has been used the old one does not come back.
    subscribe_as(&mut client, &topic, Some(8)).await?;
    check_live(&mut client, &topic, &[8]).await?;
    client.disconnect().await?;
    publisher
        .publish(&Message::new(&topic, "queued").qos(QoS::AtLeastOnce))
        .await?;
    let mut client = options.connect().await?;
    let queued = client.receive_message(&topic, "queued").await?;
    context.check_eq("subscription identifiers", &vec![8], &numbers(&queued))?;
    publisher.disconnect().await?;
    client.disconnect().await
}

async fn identifiers_of_other_clients_are_not_sent(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let mut one = Client::connect(&context, "one").await?;
    let mut two = Client::connect(&context, "two").await?;
    let mut three = Client::connect(&context, "three").await?;
    let topic = context.topic("joint");
    subscribe_as(&mut one, &topic, Some(1)).await?;
    subscribe_as(&mut two, &topic, Some(2)).await?;
    subscribe_as(&mut three, &topic, None).await?;
    check_live(&mut one, &topic, &[1]).await?;
    for (client, expected) in [(&mut two, vec![2]), (&mut three, vec![])] {
        let received = client.receive_message(&topic, "live").await?;
        context.check_eq("subscription identifiers", &expected, &numbers(&received))?;
    }
    Ok(())
}

/// A SUBSCRIBE with these properties.
fn with_properties(context: &Context, id: u16, properties: &[&[u8]]) -> Vec<u8> {
    let payload = filter_with_options(context.topic("numbered"), 0);
    request(context, SUBSCRIBE, id, properties, &payload)
}

fn numbered_twin(context: &Context) -> Twin {
    let number = wire::property(0x0B, [1]);
    let bytes = with_properties(context, 1, &[&number]);
    Twin::new(bytes, Answer::SubAck(packet_id(1)))
}

async fn subscription_identifier_0_is_refused(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let zero = wire::property(0x0B, [0]);
    let illegal = with_properties(&context, 2, &[&zero]);
    refuses(&context, &numbered_twin(&context), illegal, MALFORMED).await
}

async fn two_subscription_identifiers_are_refused(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    let (one, two) = (wire::property(0x0B, [1]), wire::property(0x0B, [2]));
    for second in [&one, &two] {
        let illegal = with_properties(&context, 2, &[&one, second]);
        refuses(&context, &numbered_twin(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}

async fn a_publish_with_a_subscription_identifier_is_refused(context: Context) -> Outcome {
    for number in [1, 0] {
        let identifier = wire::property(0x0B, [number]);
        let illegal = publish(&context, context.topic("x"), &[&identifier], "one");
        refuses(&context, &Twin::publish(&context), illegal, MALFORMED).await?;
    }
    Ok(())
}
