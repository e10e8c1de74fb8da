//! A sensor: publishes a reading now and then, with a will that says when it has vanished.
//!
//! `cargo run -p whimbrel-client --example sensor [URL [READINGS]]`

use std::time::Duration;

use whimbrel_client::codec::topic::TopicNameBuf;
use whimbrel_client::codec::{MessageProperties, QoS, Will};
use whimbrel_client::{Client, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or("mqtt://localhost:1883".to_owned());
    let readings: u32 = arguments.next().as_deref().unwrap_or("5").parse()?;
    let will = Will {
        topic: TopicNameBuf::try_from("sensors/kitchen/state")?,
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_secs: 10,
        properties: MessageProperties::new(),
    };
    let client = Client::spawn(
        Options::from_url(&url)?
            .client_id("kitchen-sensor")
            .keep_alive_secs(30)
            .will(will),
    )?;
    let state = client
        .publish("sensors/kitchen/state", "here")
        .qos(QoS::AtLeastOnce)
        .retain(true);
    state.await?;
    for reading in 0..readings {
        let celsius = 20.0 + f64::from(reading % 10) / 10.0;
        // Accepted with or without a connection; awaiting the receipt too would wait for the server.
        let publish = client.publish("sensors/kitchen/temperature", format!("{celsius:.1}"));
        drop(publish.qos(QoS::AtLeastOnce).retain(true).enqueue().await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let state = client
        .publish("sensors/kitchen/state", "off")
        .qos(QoS::AtLeastOnce)
        .retain(true);
    state.await?;
    // Everything is acknowledged when this resolves.
    client.disconnect().await?;
    println!("{readings} readings are acknowledged");
    Ok(())
}
