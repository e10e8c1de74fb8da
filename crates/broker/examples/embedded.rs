//! A broker inside a program: it asks the program who may publish what, and the program takes part
//! as a client of its own.
//!
//! ```sh
//! cargo run -p whimbrel-broker --example embedded
//! mosquitto_sub -t 'reply/#' -v &
//! mosquitto_pub -t request/echo -m hello
//! ```

use std::error::Error;

use whimbrel_broker::codec::{MessageProperties, QoS, SubscriptionOptions};
use whimbrel_broker::topic::{SubscriptionFilter, TopicName};
use whimbrel_broker::{
    Access, Authorizer, Broker, ClientInfo, LocalPublish, LocalSubscribe, Stopped,
};

/// Clients may send requests and read replies, and nothing else.
struct RequestsOnly;

impl Authorizer for RequestsOnly {
    fn may_publish(&self, _: &ClientInfo, topic: &TopicName) -> Access {
        allow_if(topic.as_str().starts_with("request/"))
    }

    fn may_subscribe(&self, _: &ClientInfo, filter: SubscriptionFilter<'_>) -> Access {
        allow_if(filter.filter().as_str().starts_with("reply/"))
    }
}

fn allow_if(condition: bool) -> Access {
    if condition {
        Access::Allow
    } else {
        Access::Deny
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = Broker::builder()
        .listen("tcp://127.0.0.1:1883".parse()?)
        .authorizer(RequestsOnly)
        .start()
        .await?;
    println!("serving on {:?}, stop with Ctrl-C", broker.local_addrs());

    let mut responder = broker.attach("responder").await?;
    let requests = LocalSubscribe {
        filter: "request/#".into(),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    };
    responder.subscribe([requests]).await?;

    loop {
        tokio::select! {
            request = responder.recv() => {
                let Some(request) = request else { break };
                let message = request.message;
                println!("{}: {} bytes", message.topic(), message.payload().len());
                let topic = message.topic().as_str().replacen("request", "reply", 1);
                let reply = LocalPublish {
                    topic: topic.try_into()?,
                    payload: message.payload(),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    properties: MessageProperties::new(),
                };
                responder.publish(reply).await?;
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                assert_eq!(broker.shutdown().await, Stopped::Orderly);
                break;
            }
        }
    }
    Ok(())
}
