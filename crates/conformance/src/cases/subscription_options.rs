//! No Local, Retain As Published, Retain Handling.

use whimbrel_codec::{QoS, RetainHandling, SubscriptionOptions};

use super::request::{
    SUBSCRIBE, filter_with_options, keep_retained, packet_id, qos_up_to, request, subscribe,
};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::{Context, SESSION_EXPIRY_SECS};
use crate::proof::{Answer, MALFORMED, Twin, refuses};
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        no_local_keeps_a_message_from_its_publisher,
        [V5],
        ["5:MQTT-3.8.3-3"]
    ),
    case!(
        subscribing_again_switches_no_local,
        [V5],
        ["5:MQTT-3.8.3-3", "5:MQTT-3.8.4-3"]
    ),
    case!(
        no_local_on_a_shared_subscription_is_refused,
        [V5],
        ["5:MQTT-3.8.3-4"]
    ),
    case!(
        live_messages_have_retain_0_without_retain_as_published,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-9", "5:MQTT-3.3.1-12"]
    ),
    case!(
        live_messages_keep_retain_with_retain_as_published,
        [V5],
        ["5:MQTT-3.3.1-13"]
    ),
    case!(
        retained_messages_at_subscribe_have_retain_1,
        [V31, V311, V5],
        ["3:MQTT-3.3.1-8", "3:MQTT-3.3.1-6", "U5-043"]
    ),
    case!(
        retain_handling_0_sends_at_each_subscribe,
        [V5],
        ["5:MQTT-3.3.1-9", "5:MQTT-3.8.4-4"]
    ),
    case!(
        retain_handling_1_sends_for_a_new_subscription_only,
        [V5],
        ["5:MQTT-3.3.1-10"]
    ),
    case!(
        retain_handling_1_knows_a_resumed_subscription,
        [V5],
        ["5:MQTT-3.3.1-10"]
    ),
    case!(
        retain_handling_2_sends_nothing_at_subscribe,
        [V5],
        ["5:MQTT-3.3.1-11"]
    ),
];

async fn no_local_keeps_a_message_from_its_publisher(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let mut other = Client::connect(&context, "other").await?;
    let topic = context.topic("local");
    let no_local = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    client.subscribe_with(&topic, no_local, None).await?;
    other.subscribe(&topic, QoS::AtMostOnce).await?;
    client.publish(&Message::new(&topic, "own")).await?;
    other.receive_message(&topic, "own").await?;
    client.expect_no_publish().await?;
    other.publish(&Message::new(&topic, "foreign")).await?;
    client.receive_message(&topic, "foreign").await?;
    client.disconnect().await?;
    other.disconnect().await
}

async fn subscribing_again_switches_no_local(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("local");
    for no_local in [false, true, false] {
        let options = SubscriptionOptions {
            no_local,
            ..SubscriptionOptions::new(QoS::AtMostOnce)
        };
        client.subscribe_with(&topic, options, None).await?;
        client.publish(&Message::new(&topic, "own")).await?;
        if !no_local {
            client.receive_message(&topic, "own").await?;
        }
        client.expect_no_publish().await?;
    }
    client.disconnect().await
}

async fn no_local_on_a_shared_subscription_is_refused(context: Context) -> Outcome {
    context.need_shared()?;
    let filter = format!("$share/g/{}", context.topic("shared"));
    let payload = filter_with_options(&filter, 0);
    let twin = request(&context, SUBSCRIBE, 1, &[], &payload);
    let twin = Twin::new(twin, Answer::SubAck(packet_id(1)));
    let illegal = subscribe(&context, 2, &filter, 0x04);
    refuses(&context, &twin, illegal, MALFORMED).await
}

async fn live_messages_have_retain_0_without_retain_as_published(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("live");
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    client.publish(&Message::new(&topic, "plain")).await?;
    let plain = client.receive_message(&topic, "plain").await?;
    context.check_eq("RETAIN", &false, &plain.retain())?;
    context.need_retain()?;
    client
        .publish(&Message::new(&topic, "kept").retained())
        .await?;
    let kept = client.receive_message(&topic, "kept").await?;
    context.check_eq("RETAIN", &false, &kept.retain())?;
    client.disconnect().await
}

async fn live_messages_keep_retain_with_retain_as_published(context: Context) -> Outcome {
    context.need_retain()?;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("live");
    let as_published = SubscriptionOptions {
        retain_as_published: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    client.subscribe_with(&topic, as_published, None).await?;
    client.publish(&Message::new(&topic, "plain")).await?;
    let plain = client.receive_message(&topic, "plain").await?;
    context.check_eq("RETAIN", &false, &plain.retain())?;
    for payload in ["kept", ""] {
        client
            .publish(&Message::new(&topic, payload).retained())
            .await?;
        let kept = client.receive_message(&topic, payload).await?;
        context.check_eq("RETAIN", &true, &kept.retain())?;
    }
    client.disconnect().await
}

async fn retained_messages_at_subscribe_have_retain_1(context: Context) -> Outcome {
    let topic = context.topic("kept");
    keep_retained(&context, &topic).await?;
    let qos = qos_up_to(&context, QoS::AtLeastOnce);
    let mut client = Client::connect(&context, "c").await?;
    for retain_as_published in [false, true] {
        let options = SubscriptionOptions {
            // 3.x has no such option.
            retain_as_published: retain_as_published && context.is_v5(),
            ..SubscriptionOptions::new(qos)
        };
        client.subscribe_with(&topic, options, None).await?;
        let kept = client.receive_message(&topic, "kept").await?;
        context.check_eq("RETAIN", &true, &kept.retain())?;
    }
    client.disconnect().await
}

/// A client, and a topic with a retained message.
async fn with_retained(context: &Context) -> Outcome<(Client, String)> {
    let topic = context.topic("kept");
    keep_retained(context, &topic).await?;
    let options = Client::options(context, "c").persistent();
    Ok((options.connect().await?, topic))
}

const fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions {
        retain_handling,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    }
}

async fn retain_handling_0_sends_at_each_subscribe(context: Context) -> Outcome {
    let (mut client, topic) = with_retained(&context).await?;
    let options = handling(RetainHandling::Send);
    for _ in 0..3 {
        client.subscribe_with(&topic, options, None).await?;
        client.receive_message(&topic, "kept").await?;
    }
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn retain_handling_1_sends_for_a_new_subscription_only(context: Context) -> Outcome {
    let (mut client, topic) = with_retained(&context).await?;
    let options = handling(RetainHandling::SendIfNew);
    for _ in 0..2 {
        client.subscribe_with(&topic, options, None).await?;
        client.receive_message(&topic, "kept").await?;
        client.subscribe_with(&topic, options, None).await?;
        client.expect_no_publish().await?;
        // Once it has been removed it is new again.
        client.unsubscribe(&[&topic]).await?;
    }
    client.disconnect().await
}

async fn retain_handling_1_knows_a_resumed_subscription(context: Context) -> Outcome {
    context.need_sessions(SESSION_EXPIRY_SECS / 10)?;
    let (mut client, topic) = with_retained(&context).await?;
    let options = handling(RetainHandling::SendIfNew);
    client.subscribe_with(&topic, options, None).await?;
    client.receive_message(&topic, "kept").await?;
    client.disconnect().await?;
    let mut client = Client::options(&context, "c")
        .persistent()
        .connect()
        .await?;
    let present = client.connack.session_present;
    context.check_eq("Session Present", &true, &present)?;
    client.subscribe_with(&topic, options, None).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn retain_handling_2_sends_nothing_at_subscribe(context: Context) -> Outcome {
    let (mut client, topic) = with_retained(&context).await?;
    let options = handling(RetainHandling::DoNotSend);
    for _ in 0..2 {
        client.subscribe_with(&topic, options, None).await?;
        client.expect_no_publish().await?;
    }
    // The message is there, and the subscription is, too.
    let plain = handling(RetainHandling::Send);
    client.subscribe_with(&topic, plain, None).await?;
    client.receive_message(&topic, "kept").await?;
    client.disconnect().await
}
