//! A dashboard: shows the last value of every sensor, and how the connection stands.
//!
//! `cargo run -p whimbrel-client --example dashboard [URL [SECONDS]]`, beside the example `sensor`.

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_client::{Client, ConnectionState, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or("mqtt://localhost:1883".to_owned());
    let seconds = arguments.next().as_deref().unwrap_or("60").parse()?;
    let client = Client::spawn(Options::from_url(&url)?)?;
    let mut state = client.state();
    let mut readings = client
        .subscribe("sensors/+/temperature")
        .and("sensors/+/state")
        .await?;
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(end);
    loop {
        tokio::select! {
            message = readings.recv() => {
                let Some(message) = message else {
                    return Err(readings.ended().map_or("the stream has ended".into(), Into::into));
                };
                let value = String::from_utf8_lossy(message.payload()).into_owned();
                println!("{}: {value}", message.topic());
                shown.insert(message.topic().as_str().to_owned(), value);
            }
            changed = state.changed() => {
                changed?;
                match &*state.borrow_and_update() {
                    ConnectionState::Waiting { error, delay, .. } => println!("({error}; again in {delay:?})"),
                    ConnectionState::Connected(_) => println!("(connected)"),
                    _ => {}
                }
            }
            () = &mut end => break,
        }
    }
    println!("{} topics", shown.len());
    client.disconnect().await?;
    Ok(())
}
