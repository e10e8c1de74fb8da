//! Keep alive.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use whimbrel_codec::{QoS, ReasonCode};

use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        silent_client_is_closed_after_its_keep_alive_and_its_will_published,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-24",
            "3:MQTT-3.1.2-8",
            "5:MQTT-3.1.2-22",
            "5:MQTT-3.2.2-22",
            "5:MQTT-3.1.2-8",
            "U5-083"
        ]
    ),
    case!(
        what_a_client_receives_does_not_keep_it_alive,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-24", "5:MQTT-3.1.2-22"]
    ),
    case!(
        any_packet_keeps_a_client_alive,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-24", "5:MQTT-3.1.2-22"]
    ),
    case!(
        keep_alive_of_0_is_off,
        [V31, V311, V5],
        ["U311-004", "U5-018", "3:MQTT-3.1.2-24"]
    ),
];

async fn silent_client_is_closed_after_its_keep_alive_and_its_will_published(
    context: Context,
) -> Outcome {
    own_keep_alive(&context)?;
    let topic = context.topic("will");
    let mut watcher = Client::connect(&context, "w").await?;
    watcher.subscribe(&topic, QoS::AtMostOnce).await?;
    let will = Message::new(&topic, "will").will(0);
    let options = Client::options(&context, "c")
        .keep_alive_secs(KEEP_ALIVE_SECS)
        .will(will);
    let mut client = options.connect().await?;
    // The twin: half of the time, again and again, is often enough.
    for _ in 0..3 {
        sleep(KEEP_ALIVE / 2).await;
        client.expect_alive().await?;
    }
    let silent = Instant::now();
    let codes = [ReasonCode::KeepAliveTimeout];
    client
        .expect_closed_within(KEEP_ALIVE * 3 / 2 + SLACK, &codes)
        .await?;
    not_early(&context, silent)?;
    watcher.receive_message(&topic, "will").await.map(drop)
}

async fn what_a_client_receives_does_not_keep_it_alive(context: Context) -> Outcome {
    own_keep_alive(&context)?;
    let topic = context.topic("a");
    let options = Client::options(&context, "c").keep_alive_secs(KEEP_ALIVE_SECS);
    let mut client = options.connect().await?;
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    let silent = Instant::now();
    let mut publisher = Client::connect(&context, "p").await?;
    let message = Message::new(&topic, "m");
    // Until after the time at which it has to be closed.
    while silent.elapsed() < KEEP_ALIVE * 3 / 2 + SLACK {
        publisher.publish(&message).await?;
        match client.next(KEEP_ALIVE / 4).await {
            crate::Event::Closed | crate::Event::Packet(crate::codec::Packet::Disconnect(_)) => {
                return not_early(&context, silent);
            }
            _ => sleep(KEEP_ALIVE / 4).await,
        }
    }
    Err(context.fail(
        "the connection closed",
        "it stays open, though only the broker sends",
    ))
}

async fn any_packet_keeps_a_client_alive(context: Context) -> Outcome {
    own_keep_alive(&context)?;
    let topic = context.topic("a");
    let mut watcher = Client::connect(&context, "w").await?;
    watcher.subscribe(&topic, QoS::AtMostOnce).await?;
    let options = Client::options(&context, "c").keep_alive_secs(KEEP_ALIVE_SECS);
    let mut client = options.connect().await?;
    for _ in 0..4 {
        sleep(KEEP_ALIVE * 2 / 3).await;
        client.publish(&Message::new(&topic, "m")).await?;
        watcher.receive_message(&topic, "m").await?;
    }
    client.expect_alive().await
}

async fn keep_alive_of_0_is_off(context: Context) -> Outcome {
    own_keep_alive(&context)?;
    let options = Client::options(&context, "c").keep_alive_secs(0);
    let mut client = options.connect().await?;
    client.expect_alive().await?;
    sleep(KEEP_ALIVE * 4).await;
    client.expect_alive().await
}

/// Skips the case when the broker sets the keep alive itself.
fn own_keep_alive(context: &Context) -> Outcome {
    let server = context.announced().properties.server_keep_alive_secs;
    context.need(
        server.is_none(),
        "the broker sets the keep alive itself (Server Keep Alive)",
    )
}

fn not_early(context: &Context, silent: Instant) -> Outcome {
    let after = silent.elapsed();
    // A second may be counted as soon as its number changes.
    let early = after < KEEP_ALIVE - Duration::from_secs(1);
    let received = format!("closed after {} ms", after.as_millis());
    context.check(
        !early,
        "the connection closed after the keep alive",
        received,
    )
}

const KEEP_ALIVE_SECS: u16 = 2;
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_SECS as u64);
/// Brokers look once in some seconds; one that is widely used may take ten.
const SLACK: Duration = Duration::from_secs(11);
