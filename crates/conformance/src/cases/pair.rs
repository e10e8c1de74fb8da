//! [`Pair`]: a publisher, a subscriber, and the topic between them, for the cases about messages.

use std::time::Duration;

use whimbrel_codec::{Packet, ProtocolVersion, Publish, QoS};

use crate::client::{Client, ConnectOptions, Message};
use crate::context::Context;
use crate::link::Event;
use crate::verdict::Outcome;

/// A publisher and a subscriber of one topic.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) publisher: Client,
    pub(crate) subscriber: Client,
    pub(crate) topic: String,
}

impl Pair {
    /// Two plain clients; the case is skipped when the broker does not grant `qos`.
    pub(crate) async fn connect(context: &Context, qos: QoS) -> Outcome<Pair> {
        Pair::with_subscriber(context, qos, &Client::options(context, "sub")).await
    }

    /// As [`connect`](Pair::connect), with a subscriber that connects with `options`.
    pub(crate) async fn with_subscriber(
        context: &Context,
        qos: QoS,
        options: &ConnectOptions,
    ) -> Outcome<Pair> {
        context.need_qos(qos)?;
        let topic = context.topic("t");
        let mut subscriber = options.connect().await?;
        subscribe(&mut subscriber, &topic, qos).await?;
        let publisher = Client::connect(context, "pub").await?;
        Ok(Pair {
            publisher,
            subscriber,
            topic,
        })
    }

    /// A message on the topic.
    pub(crate) fn message(&self, payload: &str, qos: QoS) -> Message {
        Message::new(&self.topic, payload.to_owned()).qos(qos)
    }

    /// Publishes these payloads one after the other, each to its last acknowledgement.
    pub(crate) async fn publish(&mut self, qos: QoS, payloads: &[&str]) -> Outcome {
        for payload in payloads {
            let message = self.message(payload, qos);
            self.publisher.publish(&message).await?;
        }
        Ok(())
    }

    /// Publishes `payload` and takes the PUBLISH that reaches the subscriber, without acknowledging it.
    pub(crate) async fn start(&mut self, qos: QoS, payload: &str) -> Outcome<Publish> {
        self.publish(qos, &[payload]).await?;
        let publish = self.subscriber.expect_publish().await?;
        let context = self.subscriber.context();
        context.check_eq("payload", payload, &text(&publish))?;
        context.check_eq("QoS", &qos, &publish.qos())?;
        Ok(publish)
    }
}

/// Subscribes; the case is skipped when less than `qos` is granted, as it may be.
pub(crate) async fn subscribe(client: &mut Client, filter: &str, qos: QoS) -> Outcome {
    let granted = client.subscribe(filter, qos).await?;
    let context = client.context();
    context.need(
        granted.as_u8() >= qos.bits(),
        &format!("the broker grants {granted} only"),
    )
}

/// Connects to a session that has to be there. 3.1 has no way to say that it is.
pub(crate) async fn resume(options: &ConnectOptions) -> Outcome<Client> {
    let client = options.connect().await?;
    let context = client.context();
    context.check(
        client.connack.session_present || context.version() == ProtocolVersion::V31,
        "CONNACK with Session Present 1",
        "Session Present 0",
    )?;
    Ok(client)
}

/// The PUBLISH packets that come before the broker falls silent, at least one and at most `maximum`, none acknowledged.
pub(crate) async fn collect(client: &mut Client, maximum: usize) -> Outcome<Vec<Publish>> {
    let silence = client.context().timing().silence;
    let mut publishes = vec![client.expect_publish().await?];
    while publishes.len() < maximum {
        match client.next(silence).await {
            Event::Packet(Packet::Publish(publish)) => publishes.push(publish),
            Event::Silence => break,
            event => return Err(client.fail_with("PUBLISH packets", &event)),
        }
    }
    Ok(publishes)
}

/// Receives one PUBLISH for each of `payloads`, in this order, and acknowledges each.
pub(crate) async fn receive_in_order(client: &mut Client, payloads: &[String]) -> Outcome {
    for payload in payloads {
        let publish = client.receive().await?;
        let context = client.context();
        context.check_eq("in order, payload", payload.as_str(), &text(&publish))?;
    }
    Ok(())
}

/// The payload as text.
pub(crate) fn text(publish: &Publish) -> String {
    String::from_utf8_lossy(publish.payload()).into_owned()
}

/// The topic name, empty when an alias stands for it.
pub(crate) fn topic_of(publish: &Publish) -> String {
    publish
        .topic()
        .map_or_else(String::new, |name| name.as_str().to_owned())
}

/// Payloads `<prefix>0`, `<prefix>1` and so on.
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// Lets the broker's clock run: for what the standard ties to seconds, such as message expiry.
pub(crate) async fn wait(secs: f32) {
    tokio::time::sleep(Duration::from_secs_f32(secs)).await;
}
