//! Publishing from the receive loop, and waiting for each acknowledgement there: it does not lock up, however much comes
//! meanwhile.
//!
//! `cargo run -p whimbrel-client --example receive_loop [URL [MESSAGES]]`

use whimbrel_client::codec::QoS;
use whimbrel_client::{Client, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or("mqtt://localhost:1883".to_owned());
    let messages: u32 = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let echo = Client::spawn(Options::from_url(&url)?)?;
    let mut incoming = echo
        .subscribe("loop/in")
        .qos(QoS::AtLeastOnce)
        .capacity(8)
        .await?;
    let echoing = tokio::spawn(async move {
        while let Some(message) = incoming.recv().await {
            let publish = echo.publish("loop/out", message.payload_bytes());
            publish.qos(QoS::ExactlyOnce).await?;
        }
        Ok::<(), whimbrel_client::PublishError>(())
    });
    let client = Client::spawn(Options::from_url(&url)?)?;
    let mut outgoing = client.subscribe("loop/out").await?;
    for number in 0..messages {
        let publish = client
            .publish("loop/in", number.to_string())
            .qos(QoS::AtLeastOnce);
        drop(publish.enqueue().await?);
    }
    for number in 0..messages {
        let message = outgoing.recv().await.ok_or("the stream has ended")?;
        if message.payload() != number.to_string().as_bytes() {
            return Err(format!("{message:?} instead of {number}").into());
        }
    }
    println!("{messages} messages came back in order");
    client.disconnect().await?;
    echoing.abort();
    Ok(())
}
