//! Several subscriptions of one client that match the same message.

use std::collections::BTreeSet;

use whimbrel_codec::{Publish, QoS, SubscriptionId, SubscriptionOptions};

use super::request::{qos_up_to, receive_copies};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        overlapping_subscriptions_deliver_at_the_highest_granted_qos,
        [V311, V5],
        ["3:MQTT-3.3.5-1", "U311-014", "5:MQTT-3.3.4-2"]
    ),
    case!(
        the_highest_granted_qos_does_not_raise_the_published_one,
        [V311, V5],
        [
            "3:MQTT-3.8.4-6",
            "3:MQTT-3.3.5-1",
            "5:MQTT-3.8.4-8",
            "5:MQTT-3.3.4-2"
        ]
    ),
    case!(
        overlapping_subscriptions_carry_all_identifiers,
        [V5],
        ["5:MQTT-3.3.4-3", "5:MQTT-3.3.4-4", "5:MQTT-3.3.4-5"]
    ),
    case!(
        a_subscription_without_identifier_adds_none_to_an_overlap,
        [V5],
        ["5:MQTT-3.3.4-4", "5:MQTT-3.3.4-5"]
    ),
    case!(
        an_overlap_ends_with_one_of_its_subscriptions,
        [V31, V311, V5],
        ["3:MQTT-3.10.4-1", "5:MQTT-3.10.4-1"]
    ),
    case!(
        each_client_with_a_matching_subscription_gets_the_message,
        [V31, V311, V5],
        ["3:MQTT-4.5.0-1", "5:MQTT-4.5.0-1"]
    ),
];

/// Subscribes to three filters that match the topic `name`, at QoS 0, 2 and 1; returns the highest granted QoS.
async fn overlap(client: &mut Client) -> Outcome<u8> {
    let context = client.context().clone();
    let mut highest = 0;
    for (filter, qos) in [
        ("over/#", QoS::AtMostOnce),
        ("over/+", QoS::ExactlyOnce),
        ("over/name", QoS::AtLeastOnce),
    ] {
        let granted = client.subscribe(&context.topic(filter), qos).await?;
        highest = highest.max(granted.as_u8());
    }
    Ok(highest)
}

fn check_number_of_copies(context: &Context, copies: &[Publish], subscriptions: usize) -> Outcome {
    context.check(
        copies.len() <= subscriptions,
        format!("at most one copy for each of {subscriptions} subscriptions"),
        format!("{} copies", copies.len()),
    )
}

async fn overlapping_subscriptions_deliver_at_the_highest_granted_qos(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    let granted = overlap(&mut client).await?;
    let published = qos_up_to(&context, QoS::ExactlyOnce);
    let topic = context.topic("over/name");
    client
        .publish(&Message::new(&topic, "one").qos(published))
        .await?;
    let copies = receive_copies(&mut client).await?;
    check_number_of_copies(&context, &copies, 3)?;
    let highest = copies.iter().map(|copy| copy.qos().bits()).max();
    let expected = Some(granted.min(published.bits()));
    context.check_eq("a copy with QoS", &expected, &highest)?;
    client.disconnect().await
}

async fn the_highest_granted_qos_does_not_raise_the_published_one(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    overlap(&mut client).await?;
    let topic = context.topic("over/name");
    client.publish(&Message::new(&topic, "one")).await?;
    let copies = receive_copies(&mut client).await?;
    check_number_of_copies(&context, &copies, 3)?;
    for copy in &copies {
        context.check_eq("QoS", &QoS::AtMostOnce, &copy.qos())?;
    }
    client.disconnect().await
}

fn identifiers(publish: &Publish) -> BTreeSet<u32> {
    let properties = publish.properties();
    let identifiers = properties.subscription_ids();
    identifiers.map(SubscriptionId::get).collect()
}

async fn subscribe_as(client: &mut Client, filter: &str, number: Option<u32>) -> Outcome {
    let filter = client.context().topic(filter);
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    let identifier = number.and_then(SubscriptionId::new);
    client.subscribe_with(&filter, options, identifier).await?;
    Ok(())
}

/// One copy names all identifiers; of several, each names its own or none.
fn check_identifiers(context: &Context, copies: &[Publish], expected: &[u32]) -> Outcome {
    let all: BTreeSet<u32> = expected.iter().copied().collect();
    let named: Vec<BTreeSet<u32>> = copies.iter().map(identifiers).collect();
    if let [only] = named.as_slice() {
        return context.check_eq("one copy with the identifiers", &all, only);
    }
    let alone = named.iter().all(|identifiers| identifiers.len() <= 1);
    let union: BTreeSet<u32> = named.iter().flatten().copied().collect();
    context.check(
        alone && union == all,
        format!("copies that name one identifier each, together {all:?}"),
        format!("{named:?}"),
    )
}

async fn overlapping_subscriptions_carry_all_identifiers(context: Context) -> Outcome {
    context.need_wildcards()?;
    context.need_subscription_ids()?;
    let mut client = Client::connect(&context, "c").await?;
    for (filter, number) in [("over/#", 11), ("over/+", 22), ("over/name", 268_435_455)] {
        subscribe_as(&mut client, filter, Some(number)).await?;
    }
    let topic = context.topic("over/name");
    client.publish(&Message::new(&topic, "one")).await?;
    let copies = receive_copies(&mut client).await?;
    check_number_of_copies(&context, &copies, 3)?;
    check_identifiers(&context, &copies, &[11, 22, 268_435_455])?;
    client.disconnect().await
}

async fn a_subscription_without_identifier_adds_none_to_an_overlap(context: Context) -> Outcome {
    context.need_wildcards()?;
    context.need_subscription_ids()?;
    let mut client = Client::connect(&context, "c").await?;
    for (filter, number) in [("over/#", None), ("over/+", Some(5)), ("over/name", None)] {
        subscribe_as(&mut client, filter, number).await?;
    }
    let topic = context.topic("over/name");
    client.publish(&Message::new(&topic, "one")).await?;
    let copies = receive_copies(&mut client).await?;
    check_number_of_copies(&context, &copies, 3)?;
    check_identifiers(&context, &copies, &[5])?;
    client.disconnect().await
}

async fn an_overlap_ends_with_one_of_its_subscriptions(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    overlap(&mut client).await?;
    let topic = context.topic("over/name");
    let left = ["over/#", "over/+", "over/name"].map(|filter| context.topic(filter));
    for (number, filter) in left.iter().enumerate() {
        client.unsubscribe(&[filter]).await?;
        client.publish(&Message::new(&topic, "one")).await?;
        let still = left.len() - number - 1;
        if still == 0 {
            client.expect_no_publish().await?;
        } else {
            let copies = receive_copies(&mut client).await?;
            check_number_of_copies(&context, &copies, still)?;
        }
    }
    client.disconnect().await
}

async fn each_client_with_a_matching_subscription_gets_the_message(context: Context) -> Outcome {
    context.need_wildcards()?;
    let topic = context.topic("a/b");
    let filters = ["a/b", "a/+", "#", "+/b"];
    let mut subscribers = Vec::new();
    for (number, filter) in filters.iter().enumerate() {
        let mut client = Client::connect(&context, &format!("s{number}")).await?;
        let qos = qos_up_to(&context, QoS::AtLeastOnce);
        client.subscribe(&context.topic(filter), qos).await?;
        subscribers.push(client);
    }
    let mut stranger = Client::connect(&context, "stranger").await?;
    stranger
        .subscribe(&context.topic("a/c"), QoS::AtMostOnce)
        .await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    publisher
        .publish(&Message::new(&topic, "one").qos(qos))
        .await?;
    for mut subscriber in subscribers {
        subscriber.receive_message(&topic, "one").await?;
        subscriber.disconnect().await?;
    }
    stranger.expect_no_publish().await
}
