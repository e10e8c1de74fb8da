//! Shared subscriptions.

use whimbrel_codec::{Ack, Packet, Publish, QoS, ReasonCode, SubscriptionId, SubscriptionOptions};

use super::request::{keep_retained, qos_up_to, receive_copies, refuses_filter};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::{Context, SESSION_EXPIRY_SECS};
use crate::link::Event;
use crate::verdict::{Outcome, Stop};

pub(crate) const CASES: &[Case] = &[
    case!(
        a_message_goes_to_exactly_one_member_of_each_group,
        [V5],
        ["U5-103"]
    ),
    case!(
        shared_filters_match_as_other_filters_do,
        [V5],
        ["5:MQTT-4.8.2-1", "5:MQTT-4.8.2-2", "U5-103"]
    ),
    case!(
        shared_filters_without_name_or_filter_are_refused,
        [V5],
        ["5:MQTT-4.8.2-1", "5:MQTT-4.8.2-2"]
    ),
    case!(
        share_names_with_wildcards_are_refused,
        [V5],
        ["5:MQTT-4.8.2-2"]
    ),
    case!(
        shared_and_plain_subscriptions_of_a_client_are_independent,
        [V5],
        ["U5-105"]
    ),
    case!(
        no_retained_message_is_sent_for_a_shared_subscription,
        [V5],
        ["U5-060"]
    ),
    case!(
        a_member_that_subscribes_again_is_still_one_member,
        [V5],
        ["U5-104"]
    ),
    case!(
        unsubscribing_leaves_the_group_and_the_last_ends_it,
        [V5],
        ["U5-066"]
    ),
    case!(
        a_shared_delivery_respects_the_granted_qos,
        [V5],
        ["5:MQTT-4.8.2-3"]
    ),
    case!(
        a_shared_delivery_has_identifiers_of_the_receiver_only,
        [V5],
        ["U5-049"]
    ),
    case!(
        a_qos_2_delivery_is_finished_with_the_member_it_began_with,
        [V5],
        ["5:MQTT-4.8.2-4"]
    ),
    case!(
        a_qos_2_delivery_ends_with_the_session_of_its_member,
        [V5],
        ["5:MQTT-4.8.2-5"]
    ),
    case!(
        a_qos_1_message_of_an_ended_session_goes_to_another_member,
        [V5],
        ["U5-106"]
    ),
    case!(
        a_message_that_a_member_refuses_goes_to_nobody_else,
        [V5],
        ["5:MQTT-4.8.2-6"]
    ),
];

fn shared(context: &Context, group: &str, filter: &str) -> String {
    format!("$share/{group}/{}", context.topic(filter))
}

/// The payload of a message, as text.
fn text(publish: &Publish) -> String {
    String::from_utf8_lossy(publish.payload()).into_owned()
}

async fn a_message_goes_to_exactly_one_member_of_each_group(context: Context) -> Outcome {
    context.need_shared()?;
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    let topic = context.topic("work");
    let groups = [vec!["a1", "a2", "a3"], vec!["b1"]];
    let mut members = Vec::new();
    for (group, names) in groups.iter().enumerate() {
        for name in names {
            let mut member = Client::connect(&context, name).await?;
            let filter = shared(&context, &format!("g{group}"), "work");
            member.subscribe(&filter, qos).await?;
            members.push((group, member));
        }
    }
    let mut publisher = Client::connect(&context, "pub").await?;
    let mut sent: Vec<String> = (10..10 + MESSAGES).map(|n| n.to_string()).collect();
    for payload in &sent {
        publisher
            .publish(&Message::new(&topic, payload.clone()).qos(qos))
            .await?;
    }
    let mut received = [Vec::new(), Vec::new()];
    for (group, member) in &mut members {
        loop {
            match member.next(context.timing().silence).await {
                Event::Packet(Packet::Publish(publish)) => {
                    member.acknowledge(&publish).await?;
                    if let Some(group) = received.get_mut(*group) {
                        group.push(text(&publish));
                    }
                }
                Event::Silence => break,
                event => return Err(member.fail_with("messages, then nothing", &event)),
            }
        }
    }
    sent.sort();
    for mut group in received {
        group.sort();
        context.check_eq("messages of a group, each once:", &sent, &group)?;
    }
    Ok(())
}

async fn shared_filters_match_as_other_filters_do(context: Context) -> Outcome {
    context.need_shared()?;
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    // A share name may be of any characters but three.
    for (group, filter, name) in [
        ("g", "plain/name", "plain/name"),
        ("a b.ü$1", "plus/+/x", "plus/any/x"),
        ("$g", "hash/#", "hash/a/b"),
    ] {
        let filter = shared(&context, group, filter);
        client.subscribe(&filter, QoS::AtMostOnce).await?;
        let topic = context.topic(name);
        client.publish(&Message::new(&topic, group)).await?;
        client.receive_message(&topic, group).await?;
    }
    // The filter behind the name may start with a slash.
    let filter = format!("$share/g//{}", context.topic("slash"));
    client.subscribe(&filter, QoS::AtMostOnce).await?;
    let topic = format!("/{}", context.topic("slash"));
    client.publish(&Message::new(&topic, "slash")).await?;
    client.receive_message(&topic, "slash").await?;
    client
        .publish(&Message::new(&context.topic("slash"), "no"))
        .await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn shared_filters_without_name_or_filter_are_refused(context: Context) -> Outcome {
    context.need_shared()?;
    let nameless = format!("$share//{}", context.topic("x"));
    for filter in ["$share/", "$share/g", "$share/g/", "$share//", &nameless] {
        refuses_filter(&context, filter).await?;
    }
    Ok(())
}

async fn share_names_with_wildcards_are_refused(context: Context) -> Outcome {
    context.need_shared()?;
    for group in ["g+", "+", "#", "g#h"] {
        refuses_filter(&context, shared(&context, group, "x")).await?;
    }
    Ok(())
}

async fn shared_and_plain_subscriptions_of_a_client_are_independent(context: Context) -> Outcome {
    context.need_shared()?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("both");
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    let filter = shared(&context, "g", "both");
    client.subscribe(&filter, QoS::AtMostOnce).await?;
    client.publish(&Message::new(&topic, "one")).await?;
    let copies = receive_copies(&mut client).await?;
    context.check_eq("copies", &2, &copies.len())?;
    // Leaving one of them leaves the other.
    client.unsubscribe(&[&filter]).await?;
    client.publish(&Message::new(&topic, "two")).await?;
    client.receive_message(&topic, "two").await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn no_retained_message_is_sent_for_a_shared_subscription(context: Context) -> Outcome {
    context.need_shared()?;
    let topic = context.topic("kept");
    keep_retained(&context, &topic).await?;
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    let mut first = Client::connect(&context, "first").await?;
    let mut second = Client::connect(&context, "second").await?;
    // It is there.
    first.subscribe(&topic, qos).await?;
    first.receive_message(&topic, "kept").await?;
    first.unsubscribe(&[&topic]).await?;
    for member in [&mut first, &mut second] {
        member
            .subscribe(&shared(&context, "g", "kept"), qos)
            .await?;
        member.expect_no_publish().await?;
    }
    Ok(())
}

async fn a_member_that_subscribes_again_is_still_one_member(context: Context) -> Outcome {
    context.need_shared()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("again");
    let filter = shared(&context, "g", "again");
    for requested in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let granted = client.subscribe(&filter, requested).await?;
        client
            .publish(&Message::new(&topic, "one").qos(QoS::AtLeastOnce))
            .await?;
        let copies = receive_copies(&mut client).await?;
        let qos: Vec<u8> = copies.iter().map(|copy| copy.qos().bits()).collect();
        context.check_eq("copies with QoS", &vec![granted.as_u8()], &qos)?;
    }
    client.unsubscribe(&[&filter]).await?;
    client.publish(&Message::new(&topic, "late")).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn unsubscribing_leaves_the_group_and_the_last_ends_it(context: Context) -> Outcome {
    context.need_shared()?;
    let mut one = Client::connect(&context, "one").await?;
    let mut two = Client::connect(&context, "two").await?;
    let topic = context.topic("work");
    let filter = shared(&context, "g", "work");
    for member in [&mut one, &mut two] {
        member.subscribe(&filter, QoS::AtMostOnce).await?;
    }
    let unsuback = one.unsubscribe(&[&filter]).await?;
    context.check_eq("codes", &vec![ReasonCode::Success], &unsuback.codes)?;
    for payload in ["a", "b", "c"] {
        one.publish(&Message::new(&topic, payload)).await?;
        two.receive_message(&topic, payload).await?;
    }
    two.unsubscribe(&[&filter]).await?;
    one.publish(&Message::new(&topic, "late")).await?;
    two.expect_no_publish().await?;
    one.expect_no_publish().await
}

async fn a_shared_delivery_respects_the_granted_qos(context: Context) -> Outcome {
    context.need_shared()?;
    let published = qos_up_to(&context, QoS::ExactlyOnce);
    let mut client = Client::connect(&context, "c").await?;
    for requested in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let name = format!("q{}", requested.bits());
        let granted = client
            .subscribe(&shared(&context, "g", &name), requested)
            .await?;
        let topic = context.topic(&name);
        client
            .publish(&Message::new(&topic, "one").qos(published))
            .await?;
        let received = client.receive_message(&topic, "one").await?;
        let expected = granted.as_u8().min(published.bits());
        context.check_eq("QoS", &expected, &received.qos().bits())?;
    }
    client.disconnect().await
}

async fn a_shared_delivery_has_identifiers_of_the_receiver_only(context: Context) -> Outcome {
    context.need_shared()?;
    context.need_subscription_ids()?;
    let topic = context.topic("work");
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    let mut members = Vec::new();
    for number in [1, 2] {
        let mut member = Client::connect(&context, &format!("m{number}")).await?;
        let filter = shared(&context, "g", "work");
        member
            .subscribe_with(&filter, options, SubscriptionId::new(number))
            .await?;
        members.push((number, member));
    }
    let mut publisher = Client::connect(&context, "pub").await?;
    for payload in ["a", "b", "c", "d"] {
        publisher.publish(&Message::new(&topic, payload)).await?;
    }
    let mut received = 0;
    for (number, member) in &mut members {
        while let Event::Packet(Packet::Publish(publish)) =
            member.next(context.timing().silence).await
        {
            let properties = publish.properties();
            let named: Vec<u32> = properties
                .subscription_ids()
                .map(SubscriptionId::get)
                .collect();
            context.check_eq("subscription identifiers", &vec![*number], &named)?;
            received += 1;
        }
    }
    context.check_eq("messages", &4, &received)
}

/// A member that has got a message of this QoS and not answered, and another that joined afterwards.
async fn member_with_open_delivery(
    context: &Context,
    qos: QoS,
    expiry_secs: u32,
) -> Outcome<(Client, Client, Publish)> {
    context.need_shared()?;
    context.need_qos(qos)?;
    let options = Client::options(context, "first").session_expiry_secs(expiry_secs);
    let mut first = options.clean_start(expiry_secs == 0).connect().await?;
    let mut second = Client::connect(context, "second").await?;
    let filter = shared(context, "g", "work");
    let granted = first.subscribe(&filter, qos).await?;
    context.need(
        granted == ReasonCode::granted(qos),
        "the broker grants shared subscriptions a lower QoS (E9)",
    )?;
    // The first is alone in the group as yet, so that the message is for it.
    let message = Message::new(&context.topic("work"), "one").qos(qos);
    second.publish(&message).await?;
    let publish = first.expect_publish().await?;
    second.subscribe(&filter, qos).await?;
    Ok((first, second, publish))
}

async fn a_qos_2_delivery_is_finished_with_the_member_it_began_with(context: Context) -> Outcome {
    context.need_sessions(SESSION_EXPIRY_SECS / 10)?;
    let opened = member_with_open_delivery(&context, QoS::ExactlyOnce, SESSION_EXPIRY_SECS).await?;
    let (first, mut second, publish) = opened;
    first.cut();
    second.expect_no_publish().await?;
    let options = Client::options(&context, "first").persistent();
    let mut first = options.connect().await?;
    let again = first.expect_publish().await?;
    context.check_eq(
        "packet identifier",
        &publish.packet_id(),
        &again.packet_id(),
    )?;
    first.acknowledge(&again).await?;
    second.expect_no_publish().await?;
    first.disconnect().await?;
    second.disconnect().await
}

async fn a_qos_2_delivery_ends_with_the_session_of_its_member(context: Context) -> Outcome {
    let opened = member_with_open_delivery(&context, QoS::ExactlyOnce, 0).await?;
    let (first, mut second, _) = opened;
    first.disconnect().await?;
    second.expect_no_publish().await?;
    // The group lives: what is new comes to the other member.
    let topic = context.topic("work");
    second.publish(&Message::new(&topic, "new")).await?;
    second.receive_message(&topic, "new").await?;
    second.disconnect().await
}

async fn a_qos_1_message_of_an_ended_session_goes_to_another_member(context: Context) -> Outcome {
    let opened = member_with_open_delivery(&context, QoS::AtLeastOnce, 0).await?;
    let (first, mut second, _) = opened;
    first.disconnect().await?;
    match second.next(context.timing().silence).await {
        Event::Packet(Packet::Publish(publish)) => {
            context.check_eq("payload", "one", text(&publish).as_str())?;
            second.acknowledge(&publish).await?;
            second.disconnect().await
        }
        Event::Silence => {
            second.expect_alive().await?;
            Err(Stop::skip(
                "the broker does not hand such a message on, as it only should",
            ))
        }
        event => Err(second.fail_with("the message of the other member, or nothing", &event)),
    }
}

async fn a_message_that_a_member_refuses_goes_to_nobody_else(context: Context) -> Outcome {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let opened = member_with_open_delivery(&context, qos, 0).await?;
        let (mut first, mut second, publish) = opened;
        let Some(id) = publish.packet_id() else {
            return Err(first.fail("a PUBLISH with an identifier", "one without"));
        };
        let mut refusal = Ack::success(id);
        refusal.reason = ReasonCode::ImplementationSpecificError;
        let refusal = if qos == QoS::AtLeastOnce {
            Packet::PubAck(refusal)
        } else {
            Packet::PubRec(refusal)
        };
        first.send(&refusal).await?;
        first.expect_alive().await?;
        second.expect_no_publish().await?;
        first.expect_no_publish().await?;
        first.disconnect().await?;
        second.expect_no_publish().await?;
        second.disconnect().await?;
    }
    Ok(())
}

/// Enough that a broker that spreads them would reach each member.
const MESSAGES: usize = 9;
