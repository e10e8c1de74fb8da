//! What is published without a connection survives the end of the process.
//!
//! `cargo run -p whimbrel-client --features outbox --example outbox -- FILE add MESSAGE...` accepts messages without a server;
//! `... --example outbox -- FILE send [URL]` sends what has been accepted, in order.

use std::time::Duration;

use whimbrel_client::codec::QoS;
use whimbrel_client::outbox::OutboxOptions;
use whimbrel_client::{Client, DisconnectError, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, command, rest @ ..] = &arguments[..] else {
        return Err("usage: outbox FILE add MESSAGE... | outbox FILE send [URL]".into());
    };
    let url = match (command.as_str(), rest) {
        ("send", [url]) => url,
        ("send", []) => "mqtt://localhost:1883",
        // The discard port: there is no server.
        _ => "mqtt://127.0.0.1:9",
    };
    let options = Options::from_url(url)?
        .client_id("outbox-example")
        .outbox(file, OutboxOptions::default())
        .disconnect_timeout(Duration::from_secs(if command == "send" { 10 } else { 0 }));
    let client = Client::spawn(options)?;
    if command == "add" {
        for message in rest {
            drop(
                client
                    .publish("outbox/example", message.clone())
                    .qos(QoS::ExactlyOnce)
                    .enqueue()
                    .await?,
            );
        }
    }
    let waiting = client.unacknowledged();
    match client.disconnect().await {
        Ok(()) => println!("{waiting} messages are sent"),
        Err(DisconnectError::Unacknowledged { left }) => {
            println!("{left} messages are kept in {file}");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
