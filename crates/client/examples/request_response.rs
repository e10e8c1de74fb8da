//! A service that adds numbers, and a client of it: requests and responses of MQTT 5.
//!
//! `cargo run -p whimbrel-client --example request_response [URL]`

use whimbrel_client::codec::topic::TopicNameBuf;
use whimbrel_client::codec::{MessageProperties, QoS};
use whimbrel_client::{Client, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or("mqtt://localhost:1883".to_owned());
    let service = Client::spawn(Options::from_url(&url)?)?;
    let mut requests = service.subscribe("services/add").await?;
    let serving = tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let properties = request.properties();
            // A message without a response topic is no request.
            let (Some(topic), Some(data)) =
                (properties.response_topic(), properties.correlation_data())
            else {
                continue;
            };
            let numbers = String::from_utf8_lossy(request.payload()).into_owned();
            let sum: i64 = numbers
                .split('+')
                .filter_map(|number| number.trim().parse::<i64>().ok())
                .sum();
            let topic = TopicNameBuf::from(topic);
            let Ok(properties) = MessageProperties::builder().correlation_data(data).build() else {
                continue;
            };
            let response = service
                .publish(topic, sum.to_string())
                .properties(properties);
            drop(response.qos(QoS::AtLeastOnce).enqueue().await);
        }
    });
    let client = Client::spawn(Options::from_url(&url)?)?;
    for sum in ["1 + 2", "20 + 22"] {
        let response = client.request("services/add", sum).await?;
        println!("{sum} = {}", String::from_utf8_lossy(response.payload()));
    }
    client.disconnect().await?;
    serving.abort();
    Ok(())
}
