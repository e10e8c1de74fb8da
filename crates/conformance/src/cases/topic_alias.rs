//! Topic aliases, from the client to the broker and back.

use std::collections::HashMap;

use whimbrel_codec::{PacketId, Publish, QoS, ReasonCode};

use super::pair::{Pair, resume, subscribe, text, topic_of};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::proof::{Answer, Twin, accepts_connect, refuses, refuses_on, serves};
use crate::verdict::Outcome;
use crate::wire::{self, RawConnect};

pub(crate) const CASES: &[Case] = &[
    case!(
        broker_takes_every_alias_up_to_its_maximum,
        [V5],
        ["5:MQTT-3.3.2-12", "U5-052"]
    ),
    case!(alias_with_a_topic_is_set_anew, [V5], ["U5-052"]),
    case!(
        aliases_of_two_clients_are_apart,
        [V5],
        ["5:MQTT-3.3.2-12", "U5-052"]
    ),
    case!(alias_0_is_refused, [V5], ["5:MQTT-3.3.2-8", "U5-050"]),
    case!(alias_above_the_maximum_is_refused, [V5], ["U5-050"]),
    case!(alias_without_a_topic_is_refused, [V5], ["U5-051"]),
    case!(
        aliases_of_the_publisher_end_with_the_connection,
        [V5],
        ["5:MQTT-3.3.2-7", "U5-051"]
    ),
    case!(
        subscriber_without_aliases_gets_none,
        [V5],
        ["5:MQTT-3.1.2-27", "U5-023"]
    ),
    case!(
        broker_uses_aliases_up_to_the_clients_maximum,
        [V5],
        ["5:MQTT-3.1.2-26", "5:MQTT-3.3.2-8", "5:MQTT-3.3.2-11"]
    ),
    case!(
        aliases_of_the_broker_end_with_the_connection,
        [V5],
        ["5:MQTT-3.3.2-7"]
    ),
];

const INVALID: &[ReasonCode] = &[
    ReasonCode::TopicAliasInvalid,
    ReasonCode::ProtocolError,
    ReasonCode::MalformedPacket,
];

/// A PUBLISH that sets an alias to this topic of the case.
fn sets(context: &Context, alias: u16, name: &str) -> Vec<u8> {
    let publish = RawPublish::new(context, context.topic(name));
    publish.alias(alias).payload(format!("sets {name}")).build()
}

/// A PUBLISH with an alias for a topic.
fn uses(context: &Context, alias: u16, payload: &str) -> Vec<u8> {
    let publish = RawPublish::new(context, "").alias(alias);
    publish.payload(payload).build()
}

/// A subscriber of these topics of the case.
async fn subscriber(context: &Context, names: &[&str]) -> Outcome<Client> {
    let mut client = Client::connect(context, "sub").await?;
    for name in names {
        let filter = context.topic(name);
        client.subscribe(&filter, QoS::AtMostOnce).await?;
    }
    Ok(client)
}

async fn broker_takes_every_alias_up_to_its_maximum(context: Context) -> Outcome {
    context.need_topic_aliases(1)?;
    let maximum = context.announced().properties.topic_alias_max;
    let mut aliases: Vec<u16> = (1..=maximum.min(ALIASES_MAX)).collect();
    if maximum > ALIASES_MAX {
        aliases.push(maximum);
    }
    let mut subscriber = subscriber(&context, &["a", "b"]).await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    for alias in &aliases {
        let name = if alias % 2 == 0 { "a" } else { "b" };
        let set = sets(&context, *alias, name);
        publisher.send_bytes(&set).await?;
        let publish = subscriber.expect_publish().await?;
        context.check_eq("topic", &context.topic(name), &topic_of(&publish))?;
    }
    // All at once are known, in any order.
    for alias in aliases.iter().rev() {
        let name = if alias % 2 == 0 { "a" } else { "b" };
        let payload = format!("uses {alias}");
        let used = uses(&context, *alias, &payload);
        publisher.send_bytes(&used).await?;
        subscriber
            .receive_message(&context.topic(name), &payload)
            .await?;
    }
    Ok(())
}

async fn alias_with_a_topic_is_set_anew(context: Context) -> Outcome {
    context.need_topic_aliases(1)?;
    let mut subscriber = subscriber(&context, &["a", "b"]).await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    for name in ["a", "b", "a"] {
        let topic = context.topic(name);
        publisher.send_bytes(&sets(&context, 1, name)).await?;
        let payload = format!("sets {name}");
        subscriber.receive_message(&topic, &payload).await?;
        publisher.send_bytes(&uses(&context, 1, "used")).await?;
        subscriber.receive_message(&topic, "used").await?;
    }
    Ok(())
}

async fn aliases_of_two_clients_are_apart(context: Context) -> Outcome {
    context.need_topic_aliases(1)?;
    let mut subscriber = subscriber(&context, &["a", "b"]).await?;
    let mut publishers = Vec::new();
    for name in ["a", "b"] {
        let mut publisher = Client::connect(&context, name).await?;
        publisher.send_bytes(&sets(&context, 1, name)).await?;
        let topic = context.topic(name);
        let payload = format!("sets {name}");
        subscriber.receive_message(&topic, &payload).await?;
        publishers.push((topic, publisher));
    }
    for (topic, publisher) in &mut publishers {
        publisher.send_bytes(&uses(&context, 1, "used")).await?;
        subscriber.receive_message(topic, "used").await?;
    }
    Ok(())
}

/// A PUBLISH with alias 1 if the broker takes aliases, else one without.
fn twin(context: &Context) -> Twin {
    if context.need_topic_aliases(1).is_err() {
        return Twin::publish(context);
    }
    let topic = context.topic("twin");
    Twin::new(sets(context, 1, "twin"), Answer::Delivery(topic))
}

async fn alias_0_is_refused(context: Context) -> Outcome {
    let with_topic = sets(&context, 0, "t");
    refuses(&context, &twin(&context), with_topic, INVALID).await?;
    let without = uses(&context, 0, "m");
    refuses(&context, &twin(&context), without, INVALID).await
}

async fn alias_above_the_maximum_is_refused(context: Context) -> Outcome {
    let maximum = context.announced().properties.topic_alias_max;
    let Some(above) = maximum.checked_add(1) else {
        return context.need(false, "the broker takes every topic alias there is");
    };
    for alias in [above, u16::MAX] {
        let with_topic = sets(&context, alias, "t");
        refuses(&context, &twin(&context), with_topic, INVALID).await?;
    }
    Ok(())
}

async fn alias_without_a_topic_is_refused(context: Context) -> Outcome {
    context.need_topic_aliases(1)?;
    // The first alias is known after the twin, the second is not.
    let maximum = context.announced().properties.topic_alias_max;
    if maximum >= 2 {
        let unknown = uses(&context, 2, "m");
        refuses(&context, &twin(&context), unknown, INVALID).await?;
    }
    let unknown = uses(&context, 1, "m");
    refuses(&context, &Twin::publish(&context), unknown, INVALID).await
}

async fn aliases_of_the_publisher_end_with_the_connection(context: Context) -> Outcome {
    context.need_topic_aliases(1)?;
    // A session that goes on makes no difference.
    let options = Client::options(&context, "pub").persistent();
    let mut publisher = options.connect().await?;
    serves(&mut publisher, &twin(&context)).await?;
    publisher.send_bytes(&uses(&context, 1, "used")).await?;
    let topic = context.topic("twin");
    publisher.receive_message(&topic, "used").await?;
    publisher.disconnect().await?;
    let mut publisher = options.connect().await?;
    let used = uses(&context, 1, "used");
    refuses_on(&mut publisher, &Twin::publish(&context), used, INVALID).await
}

async fn subscriber_without_aliases_gets_none(context: Context) -> Outcome {
    // Once with no maximum in CONNECT, once with one of 0.
    let mut raw = RawConnect::new(&context, "zero");
    raw = raw.with_properties(&[&[0x22, 0, 0]]);
    let mut zero = accepts_connect(&context, raw.build()).await?;
    let topic = context.topic("t");
    let subscribe = wire::packet(0x82, &[&[0, 1, 0], &wire::field(&topic), &[0]]);
    zero.send_bytes(&subscribe).await?;
    let id = PacketId::MIN;
    zero.expect_suback(id).await?;
    let mut pair = Pair::connect(&context, QoS::AtMostOnce).await?;
    // The publisher's own alias is not passed on.
    let aliased = context.need_topic_aliases(1).is_ok();
    for number in 0..5 {
        let plain = RawPublish::new(&context, topic.clone());
        let bytes = match (aliased, number) {
            (false, _) => plain.build(),
            (true, 0) => plain.alias(1).build(),
            (true, _) => uses(&context, 1, "raw"),
        };
        pair.publisher.send_bytes(&bytes).await?;
        for link in [&mut *pair.subscriber, &mut zero] {
            let publish = link.expect_publish().await?;
            let alias = publish.properties().topic_alias();
            context.check_eq("topic alias", &None, &alias)?;
            context.check_eq("topic", &topic, &topic_of(&publish))?;
        }
    }
    Ok(())
}

/// The aliases of one connection, as a client keeps them.
#[derive(Debug, Default)]
struct Aliases {
    topics: HashMap<u16, String>,
}

impl Aliases {
    /// The topic of `publish`, by its name or an alias that has to be known and at most `maximum`.
    fn resolve(&mut self, context: &Context, publish: &Publish, maximum: u16) -> Outcome<String> {
        let name = topic_of(publish);
        let Some(alias) = publish.properties().topic_alias() else {
            return Ok(name);
        };
        let alias = alias.get();
        let expected = format!("a topic alias of at most {maximum}");
        context.check(alias <= maximum, expected, alias.to_string())?;
        if !name.is_empty() {
            self.topics.insert(alias, name.clone());
            return Ok(name);
        }
        let known = self.topics.get(&alias).cloned();
        known.ok_or_else(|| {
            context.fail(
                "an alias that was set on this connection",
                alias.to_string(),
            )
        })
    }
}

async fn broker_uses_aliases_up_to_the_clients_maximum(context: Context) -> Outcome {
    let maximum = 2;
    let options = Client::options(&context, "sub").topic_alias_max(maximum);
    let mut subscriber = options.connect().await?;
    let names = ["a", "b", "c", "d"];
    for name in names {
        let filter = context.topic(name);
        subscriber.subscribe(&filter, QoS::AtMostOnce).await?;
    }
    let mut publisher = Client::connect(&context, "pub").await?;
    let mut aliases = Aliases::default();
    for round in 0..5 {
        for name in names {
            let topic = context.topic(name);
            let payload = format!("{name}{round}");
            let message = Message::new(&topic, payload.clone());
            publisher.publish(&message).await?;
            let publish = subscriber.expect_publish().await?;
            let resolved = aliases.resolve(&context, &publish, maximum)?;
            context.check_eq("topic", &topic, &resolved)?;
            context.check_eq("payload", &payload, &text(&publish))?;
        }
    }
    Ok(())
}

async fn aliases_of_the_broker_end_with_the_connection(context: Context) -> Outcome {
    context.need_qos(QoS::AtLeastOnce)?;
    context.need_sessions(60)?;
    let maximum = 10;
    let options = Client::options(&context, "sub").persistent();
    let options = options.topic_alias_max(maximum);
    let mut client = options.connect().await?;
    let topic = context.topic("t");
    subscribe(&mut client, &topic, QoS::AtLeastOnce).await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = |payload: &'static str| Message::new(&topic, payload).qos(QoS::AtLeastOnce);
    let mut aliases = Aliases::default();
    for payload in ["a", "b", "c"] {
        publisher.publish(&message(payload)).await?;
        let publish = client.expect_publish().await?;
        aliases.resolve(&context, &publish, maximum)?;
        // The last is not acknowledged, and so is sent again.
        if payload != "c" {
            client.acknowledge(&publish).await?;
            client.expect_alive().await?;
        }
    }
    client.cut();
    let mut client = resume(&options).await?;
    let mut aliases = Aliases::default();
    publisher.publish(&message("d")).await?;
    for payload in ["c", "d"] {
        let publish = client.receive().await?;
        let resolved = aliases.resolve(&context, &publish, maximum)?;
        context.check_eq("topic", &topic, &resolved)?;
        context.check_eq("payload", payload, &text(&publish))?;
    }
    Ok(())
}

/// Of a broker that takes more, only so many are tried, and the last.
const ALIASES_MAX: u16 = 200;
