//! How fast a client publishes, and what it costs: one client, to a broker that is given, all acknowledged at the end.
//!
//! ```text
//! usage: client-publish CLIENT HOST:PORT QOS MESSAGES [PAYLOAD_BYTES]
//! ```
//!
//! CLIENT is `whimbrel`, `whimbrel-v5`, `rumqttc` or `rumqttc-v5`; all have up to 1,000 messages in flight and 64 bytes of payload unless
//! told otherwise. `scripts/client-figures` compares them, with paho-mqtt (C) besides.

use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::{Client, Options};

const IN_FLIGHT: u16 = 1_000;
const TOPIC: &str = "bench/client";

struct Task {
    host: String,
    port: u16,
    qos: QoS,
    messages: usize,
    payload: Bytes,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((client, task)) = parse(&arguments) else {
        eprintln!(
            "usage: client-publish whimbrel[-v5]|rumqttc[-v5] HOST:PORT QOS MESSAGES [PAYLOAD_BYTES]"
        );
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let cpu = whimbrel_benches::process_cpu_time();
    let began = Instant::now();
    runtime.block_on(async {
        match client {
            "whimbrel" => whimbrel(&task, ProtocolVersion::V311).await,
            "whimbrel-v5" => whimbrel(&task, ProtocolVersion::V5).await,
            "rumqttc" => rumqttc_v4(&task).await,
            _ => rumqttc_v5(&task).await,
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (whimbrel_benches::process_cpu_time() - cpu).as_secs_f64();
    let rate = task.messages as f64 / seconds;
    let cpu_us = cpu * 1e6 / task.messages as f64;
    println!(
        "{client} QoS {}: {rate:.0} messages/s, {cpu_us:.2} µs CPU a message",
        task.qos.bits()
    );
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<(&str, Task)> {
    let [client, address, qos, messages, rest @ ..] = arguments else {
        return None;
    };
    let (host, port) = address.rsplit_once(':')?;
    let payload_bytes = match rest {
        [] => 64,
        [bytes] => bytes.parse().ok()?,
        _ => return None,
    };
    let is_known = matches!(
        client.as_str(),
        "whimbrel" | "whimbrel-v5" | "rumqttc" | "rumqttc-v5"
    );
    is_known.then_some((
        client,
        Task {
            host: host.to_owned(),
            port: port.parse().ok()?,
            qos: QoS::from_bits(qos.parse().ok()?)?,
            messages: messages.parse().ok()?,
            payload: Bytes::from(vec![b'x'; payload_bytes]),
        },
    ))
}

/// Every message, then the last acknowledgement: what an application that wants to know does.
async fn whimbrel(task: &Task, version: ProtocolVersion) {
    let options = Options::new(&task.host, task.port)
        .client_id("client-publish")
        .version(version)
        .in_flight_max(IN_FLIGHT.try_into().expect("not 0"));
    let client = Client::spawn(options).expect("valid options");
    client.connected().await.expect("a broker");
    for _ in 0..task.messages {
        let publish = client.publish(TOPIC, task.payload.clone()).qos(task.qos);
        drop(publish.enqueue().await.expect("accepted"));
    }
    client.disconnect().await.expect("all is acknowledged");
}

async fn rumqttc_v4(task: &Task) {
    use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet};
    let mut options = MqttOptions::new("client-publish", &task.host, task.port);
    options.set_inflight(IN_FLIGHT);
    let (client, mut events) = AsyncClient::new(options, usize::from(IN_FLIGHT));
    let (messages, payload) = (task.messages, task.payload.clone());
    let qos = match task.qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    };
    let publishing = tokio::spawn(async move {
        for _ in 0..messages {
            let published = client
                .publish_bytes(TOPIC, qos, false, payload.clone())
                .await;
            published.expect("accepted");
        }
        client
    });
    let mut done = 0;
    while done < messages {
        match events.poll().await.expect("a broker") {
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => done += 1,
            Event::Outgoing(Outgoing::Publish(_)) if qos == rumqttc::QoS::AtMostOnce => done += 1,
            _ => {}
        }
    }
    let client = publishing.await.expect("no panic");
    client.disconnect().await.expect("accepted");
    while events.poll().await.is_ok() {}
}

async fn rumqttc_v5(task: &Task) {
    use rumqttc::Outgoing;
    use rumqttc::v5::mqttbytes::QoS as QoS5;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};
    let mut options = MqttOptions::new("client-publish", &task.host, task.port);
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
    let (client, mut events) = AsyncClient::new(options, usize::from(IN_FLIGHT));
    let (messages, payload) = (task.messages, task.payload.clone());
    let qos = match task.qos {
        QoS::AtMostOnce => QoS5::AtMostOnce,
        QoS::AtLeastOnce => QoS5::AtLeastOnce,
        QoS::ExactlyOnce => QoS5::ExactlyOnce,
    };
    let publishing = tokio::spawn(async move {
        for _ in 0..messages {
            let published = client
                .publish_bytes(TOPIC, qos, false, payload.clone())
                .await;
            published.expect("accepted");
        }
        client
    });
    let mut done = 0;
    while done < messages {
        match events.poll().await.expect("a broker") {
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => done += 1,
            Event::Outgoing(Outgoing::Publish(_)) if qos == QoS5::AtMostOnce => done += 1,
            _ => {}
        }
    }
    let client = publishing.await.expect("no panic");
    client.disconnect().await.expect("accepted");
    while events.poll().await.is_ok() {}
}
