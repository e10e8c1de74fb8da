//! Sessions: clean start, resumption, expiry.

use std::time::Duration;

use tokio::time::sleep;
use whimbrel_codec::{Disconnect, QoS, ReasonCode};

use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        session_is_resumed_with_its_subscriptions_and_messages,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-4",
            "3:MQTT-3.1.2-5",
            "3:MQTT-3.1.4-3",
            "3:MQTT-4.1.0-1",
            "3:MQTT-3.2.0-1",
            "3:MQTT-4.5.0-1",
            "U31-003",
            "5:MQTT-3.1.2-5",
            "5:MQTT-3.1.2-23",
            "5:MQTT-3.1.4-4",
            "5:MQTT-3.2.0-1",
            "5:MQTT-4.1.0-1",
            "5:MQTT-4.5.0-1"
        ]
    ),
    case!(
        session_present_says_whether_there_was_one,
        [V311, V5],
        [
            "3:MQTT-3.2.2-2",
            "3:MQTT-3.2.2-3",
            "5:MQTT-3.1.2-6",
            "5:MQTT-3.2.2-3"
        ]
    ),
    case!(
        clean_start_drops_the_old_session,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-6",
            "3:MQTT-3.1.4-3",
            "3:MQTT-3.2.2-1",
            "5:MQTT-3.1.2-4",
            "5:MQTT-3.1.4-4",
            "5:MQTT-3.2.2-2",
            "U5-100"
        ]
    ),
    case!(
        clean_session_ends_with_its_connection,
        [V31, V311],
        ["3:MQTT-3.1.2-6", "3:MQTT-3.2.2-3"]
    ),
    case!(
        session_without_expiry_ends_with_its_connection,
        [V5],
        ["U5-019", "5:MQTT-4.1.0-2"]
    ),
    case!(
        clean_start_with_an_expiry_makes_a_session_that_lasts,
        [V5],
        ["5:MQTT-3.1.2-23"]
    ),
    case!(
        session_ends_when_its_expiry_is_over_and_not_before,
        [V5],
        ["5:MQTT-4.1.0-2", "5:MQTT-3.1.2-23"]
    ),
    case!(
        expiry_does_not_run_while_connected,
        [V5],
        ["5:MQTT-4.1.0-1"]
    ),
    case!(expiry_of_the_last_connect_counts, [V5], ["5:MQTT-4.1.0-2"]),
    case!(expiry_of_the_largest_value_is_accepted, [V5], ["U5-019"]),
    case!(
        session_lives_as_long_as_its_connection,
        [V31, V311],
        ["3:MQTT-4.1.0-2"]
    ),
    case!(
        sessions_of_different_client_ids_are_different,
        [V31, V311, V5],
        ["3:MQTT-3.1.3-2", "5:MQTT-3.1.3-2"]
    ),
    case!(
        retained_messages_survive_the_session,
        [V31, V311],
        ["3:MQTT-3.1.2-7"]
    ),
    case!(
        expiry_in_disconnect_replaces_that_of_connect,
        [V5],
        ["U5-081"]
    ),
    case!(
        disconnect_without_expiry_keeps_that_of_connect,
        [V5],
        ["U5-081", "5:MQTT-3.1.2-23"]
    ),
];

async fn session_is_resumed_with_its_subscriptions_and_messages(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    context.need_sessions(60)?;
    let topic = context.topic("a");
    let options = Client::options(&context, "s").persistent();
    let mut client = options.connect().await?;
    client.subscribe(&topic, QoS::ExactlyOnce).await?;
    client.disconnect().await?;
    let mut publisher = Client::connect(&context, "p").await?;
    let maximum = context.announced().properties.maximum_qos;
    publisher
        .publish(&Message::new(&topic, "1").qos(QoS::AtLeastOnce))
        .await?;
    publisher
        .publish(&Message::new(&topic, "2").qos(maximum))
        .await?;

    // `connect` takes CONNACK only as the very first packet.
    let mut client = options.connect().await?;
    // A message of each QoS may overtake the other.
    let mut payloads = Vec::new();
    for _ in 0..2 {
        let publish = client.receive_on(&topic).await?;
        payloads.push(String::from_utf8_lossy(publish.payload()).into_owned());
    }
    payloads.sort();
    context.check_eq(
        "the queued messages",
        &["1", "2"].map(String::from).to_vec(),
        &payloads,
    )?;
    publisher.publish(&Message::new(&topic, "live")).await?;
    client.receive_message(&topic, "live").await?;
    client.disconnect().await
}

async fn session_present_says_whether_there_was_one(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "s").persistent();
    for expected in [false, true, true] {
        let client = options.connect().await?;
        let found = client.connack.session_present;
        context.check_eq("session present", &expected, &found)?;
        client.disconnect().await?;
    }
    Ok(())
}

async fn clean_start_drops_the_old_session(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    context.need_sessions(60)?;
    let topic = context.topic("a");
    let options = Client::options(&context, "s").persistent();
    let mut client = options.connect().await?;
    client.subscribe(&topic, QoS::AtLeastOnce).await?;
    client.disconnect().await?;
    let mut publisher = Client::connect(&context, "p").await?;
    let queued = Message::new(&topic, "queued").qos(QoS::AtLeastOnce);
    publisher.publish(&queued).await?;
    // The twin: without a clean start it is there. It is not acknowledged, so that it would come again.
    let mut client = options.connect().await?;
    client.expect_publish().await?;
    client.cut();

    let mut client = options.clone().clean_start(true).connect().await?;
    let present = client.connack.session_present;
    context.check_eq("session present", &false, &present)?;
    client.expect_no_publish().await?;
    publisher
        .publish(&Message::new(&topic, "live").qos(QoS::AtLeastOnce))
        .await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn clean_session_ends_with_its_connection(context: Context) -> Outcome {
    let topic = context.topic("a");
    let mut client = Client::connect(&context, "s").await?;
    client.subscribe(&topic, QoS::AtLeastOnce).await?;
    client.disconnect().await?;
    let mut client = Client::options(&context, "s")
        .persistent()
        .connect()
        .await?;
    let present = client.connack.session_present;
    context.check_eq("session present", &false, &present)?;
    let mut publisher = Client::connect(&context, "p").await?;
    publisher
        .publish(&Message::new(&topic, "m").qos(QoS::AtLeastOnce))
        .await?;
    client.expect_no_publish().await?;
    // The twin: in a session that is there it comes.
    client.subscribe(&topic, QoS::AtLeastOnce).await?;
    publisher
        .publish(&Message::new(&topic, "m").qos(QoS::AtLeastOnce))
        .await?;
    client.receive_message(&topic, "m").await.map(drop)
}

async fn session_without_expiry_ends_with_its_connection(context: Context) -> Outcome {
    context.need_sessions(60)?;
    // The twin: with one it is still there, and resuming it without takes the expiry away.
    let options = Client::options(&context, "s").persistent();
    options.connect().await?.disconnect().await?;
    lasting(&context).await?;
    ended(&context).await?;
    let options = Client::options(&context, "s").clean_start(false);
    options.connect().await?.disconnect().await?;
    ended(&context).await
}

async fn clean_start_with_an_expiry_makes_a_session_that_lasts(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "s").session_expiry_secs(60);
    options.connect().await?.disconnect().await?;
    lasting(&context).await
}

async fn session_ends_when_its_expiry_is_over_and_not_before(context: Context) -> Outcome {
    context.need_sessions(2)?;
    let options = Client::options(&context, "s")
        .clean_start(false)
        .session_expiry_secs(2);
    options.connect().await?.cut();
    sleep(Duration::from_millis(500)).await;
    let client = options.connect().await?;
    let present = client.connack.session_present;
    context.check_eq("session present within the expiry", &true, &present)?;
    client.cut();
    sleep(Duration::from_secs(2) + EXPIRY_SLACK).await;
    ended(&context).await
}

async fn expiry_does_not_run_while_connected(context: Context) -> Outcome {
    context.need_sessions(2)?;
    let topic = context.topic("a");
    let options = Client::options(&context, "s")
        .clean_start(false)
        .session_expiry_secs(2);
    let mut client = options.connect().await?;
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    sleep(Duration::from_secs(3)).await;
    client.publish(&Message::new(&topic, "m")).await?;
    client.receive_message(&topic, "m").await?;
    client.cut();
    lasting(&context).await
}

async fn expiry_of_the_last_connect_counts(context: Context) -> Outcome {
    context.need_sessions(60)?;
    Client::options(&context, "s")
        .persistent()
        .connect()
        .await?
        .disconnect()
        .await?;
    let options = Client::options(&context, "s").clean_start(false);
    let client = options.connect().await?;
    let present = client.connack.session_present;
    context.check_eq("session present", &true, &present)?;
    client.disconnect().await?;
    ended(&context).await
}

async fn expiry_of_the_largest_value_is_accepted(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "s").session_expiry_secs(u32::MAX);
    options.connect().await?.disconnect().await?;
    lasting(&context).await
}

async fn session_lives_as_long_as_its_connection(context: Context) -> Outcome {
    let topic = context.topic("a");
    let mut client = Client::connect(&context, "s").await?;
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    sleep(Duration::from_secs(2)).await;
    client.publish(&Message::new(&topic, "m")).await?;
    client.receive_message(&topic, "m").await.map(drop)
}

async fn sessions_of_different_client_ids_are_different(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let topic = context.topic("a");
    let mut one = Client::options(&context, "one")
        .persistent()
        .connect()
        .await?;
    one.subscribe(&topic, QoS::AtMostOnce).await?;
    let mut other = Client::options(&context, "ONE")
        .persistent()
        .connect()
        .await?;
    let present = other.connack.session_present;
    context.check_eq("session present", &false, &present)?;
    one.publish(&Message::new(&topic, "m")).await?;
    one.receive_message(&topic, "m").await?;
    other.expect_no_publish().await
}

async fn retained_messages_survive_the_session(context: Context) -> Outcome {
    let topic = context.topic("a");
    let message = Message::new(&topic, "kept")
        .qos(QoS::AtLeastOnce)
        .retained();
    let mut publisher = Client::connect(&context, "p").await?;
    publisher.publish(&message).await?;
    publisher.disconnect().await?;
    let mut client = Client::connect(&context, "s").await?;
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    client.receive_message(&topic, "kept").await.map(drop)
}

async fn expiry_in_disconnect_replaces_that_of_connect(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "s").persistent();
    let mut client = options.connect().await?;
    client.expect_alive().await?;
    client.disconnect_with(expiry(0)).await?;
    ended(&context).await?;
    let options = Client::options(&context, "s")
        .clean_start(false)
        .session_expiry_secs(1);
    let client = options.connect().await?;
    client.disconnect_with(expiry(60)).await?;
    sleep(Duration::from_secs(1) + EXPIRY_SLACK).await;
    lasting(&context).await
}

fn expiry(secs: u32) -> Disconnect {
    Disconnect {
        session_expiry_secs: Some(secs),
        ..Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)
    }
}

async fn disconnect_without_expiry_keeps_that_of_connect(context: Context) -> Outcome {
    context.need_sessions(60)?;
    Client::options(&context, "s")
        .persistent()
        .connect()
        .await?
        .disconnect()
        .await?;
    lasting(&context).await
}

/// Shows that the session `s` is gone. It is then there, without an expiry.
async fn ended(context: &Context) -> Outcome {
    session_present(context, false).await
}

/// Shows that the session `s` is still there.
async fn lasting(context: &Context) -> Outcome {
    session_present(context, true).await
}

async fn session_present(context: &Context, expected: bool) -> Outcome {
    let client = Client::options(context, "s")
        .clean_start(false)
        .connect()
        .await?;
    let present = client.connack.session_present;
    context.check_eq("session present", &expected, &present)?;
    client.disconnect().await
}

/// Deleting a session may be late, and brokers look at whole seconds or once in some seconds.
const EXPIRY_SLACK: Duration = Duration::from_millis(2_500);
