//! What is sent again when a session is resumed, and what never is.

use whimbrel_codec::{
    Ack, Delivery, Packet, PacketId, Publish, QoS, ReasonCode, SubscriptionId, SubscriptionOptions,
};

use super::pair::{Pair, collect, numbered, resume, subscribe, text};
use crate::case::{Case, case};
use crate::client::{Client, ConnectOptions, Message};
use crate::context::Context;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        open_qos_1_is_sent_again_with_dup_and_its_identifier,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.1-1",
            "3:MQTT-4.1.0-1",
            "3:MQTT-4.3.2-1",
            "3:MQTT-4.4.0-1",
            "5:MQTT-3.3.1-1",
            "5:MQTT-4.3.2-3",
            "5:MQTT-4.4.0-1"
        ]
    ),
    case!(
        open_qos_2_is_sent_again_with_dup_and_its_identifier,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.1-1",
            "3:MQTT-4.1.0-1",
            "3:MQTT-4.3.3-1",
            "3:MQTT-4.4.0-1",
            "5:MQTT-3.3.1-1",
            "5:MQTT-4.3.3-3",
            "5:MQTT-4.4.0-1"
        ]
    ),
    case!(
        open_pubrel_is_sent_again_and_its_publish_is_not,
        [V31, V311, V5],
        [
            "3:MQTT-4.3.3-1",
            "3:MQTT-4.4.0-1",
            "5:MQTT-4.3.3-5",
            "5:MQTT-4.3.3-6",
            "5:MQTT-4.4.0-1"
        ]
    ),
    case!(
        finished_deliveries_are_not_sent_again,
        [V31, V311, V5],
        [
            "3:MQTT-4.3.2-1",
            "3:MQTT-4.3.3-1",
            "5:MQTT-4.3.2-3",
            "5:MQTT-4.3.3-5"
        ]
    ),
    case!(
        refused_deliveries_are_not_sent_again,
        [V5],
        ["5:MQTT-4.4.0-2"]
    ),
    case!(
        resend_does_not_go_back_to_old_subscription_identifiers,
        [V5],
        ["5:MQTT-3.3.4-3", "U5-063"]
    ),
    case!(
        new_session_gets_nothing_of_the_old_one,
        [V311, V5],
        ["3:MQTT-3.1.2-6", "U5-100"]
    ),
    case!(
        deliveries_are_sent_again_in_order_before_new_ones,
        [V31, V311, V5],
        [
            "3:MQTT-4.6.0-5",
            "3:MQTT-4.6.0-6",
            "5:MQTT-4.6.0-5",
            "5:MQTT-4.6.0-6"
        ]
    ),
    case!(
        held_qos_2_identifier_survives_the_connection,
        [V31, V311, V5],
        [
            "3:MQTT-4.1.0-1",
            "3:MQTT-4.3.3-2",
            "5:MQTT-3.1.2-23",
            "5:MQTT-4.3.3-10"
        ]
    ),
    case!(
        pubrel_is_taken_on_the_next_connection,
        [V31, V311, V5],
        [
            "3:MQTT-4.1.0-1",
            "3:MQTT-4.3.3-2",
            "5:MQTT-3.1.2-23",
            "5:MQTT-4.3.3-11"
        ]
    ),
    case!(
        held_qos_2_identifier_is_forgotten_with_the_session,
        [V311, V5],
        ["3:MQTT-3.1.2-6", "5:MQTT-3.1.2-4"]
    ),
];

/// A subscriber whose session stays when its connection ends.
fn subscriber(context: &Context) -> Outcome<ConnectOptions> {
    context.need_sessions(60)?;
    Ok(Client::options(context, "sub").persistent())
}

async fn is_sent_again(context: &Context, qos: QoS) -> Outcome {
    let options = subscriber(context)?;
    let mut pair = Pair::with_subscriber(context, qos, &options).await?;
    let publish = pair.start(qos, "again").await?;
    let first = publish.delivery();
    pair.subscriber.cut();
    // Twice, as the first resend may be lost as well.
    for connection in 0..2 {
        let mut client = resume(&options).await?;
        let publish = client.expect_publish().await?;
        context.check_eq("payload", "again", &text(&publish))?;
        context.check_eq("delivery", &first.repeated(), &publish.delivery())?;
        if connection == 1 {
            client.acknowledge(&publish).await?;
            client.expect_no_publish().await?;
        }
    }
    Ok(())
}

async fn open_qos_1_is_sent_again_with_dup_and_its_identifier(context: Context) -> Outcome {
    is_sent_again(&context, QoS::AtLeastOnce).await
}

async fn open_qos_2_is_sent_again_with_dup_and_its_identifier(context: Context) -> Outcome {
    is_sent_again(&context, QoS::ExactlyOnce).await
}

async fn open_pubrel_is_sent_again_and_its_publish_is_not(context: Context) -> Outcome {
    let options = subscriber(&context)?;
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    let publish = pair.start(QoS::ExactlyOnce, "once").await?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    let pubrec = Packet::PubRec(Ack::success(id));
    pair.subscriber.send(&pubrec).await?;
    pair.subscriber.expect_pubrel(id).await?;
    pair.subscriber.cut();
    let mut client = resume(&options).await?;
    client.expect_pubrel(id).await?;
    client.expect_no_publish().await?;
    client.send(&Packet::PubComp(Ack::success(id))).await?;
    client.expect_silence().await?;
    client.cut();
    // Now the exchange is over.
    resume(&options).await?.expect_silence().await
}

async fn finished_deliveries_are_not_sent_again(context: Context) -> Outcome {
    let options = subscriber(&context)?;
    let qos = context.announced().properties.maximum_qos;
    let mut pair = Pair::with_subscriber(&context, qos, &options).await?;
    for qos in [QoS::AtLeastOnce, qos] {
        pair.publish(qos, &["done"]).await?;
        pair.subscriber.receive_message(&pair.topic, "done").await?;
    }
    // The acknowledgements have been read when a later packet is answered.
    pair.subscriber.expect_alive().await?;
    pair.subscriber.cut();
    resume(&options).await?.expect_silence().await
}

async fn refused_deliveries_are_not_sent_again(context: Context) -> Outcome {
    let options = subscriber(&context)?;
    let qos = context.announced().properties.maximum_qos;
    let mut pair = Pair::with_subscriber(&context, qos, &options).await?;
    for qos in [QoS::AtLeastOnce, qos] {
        let publish = pair.start(qos, "refused").await?;
        let id = publish.packet_id().unwrap_or(PacketId::MIN);
        let ack = Ack::new(id, ReasonCode::UnspecifiedError);
        let ack = match qos {
            QoS::ExactlyOnce => Packet::PubRec(ack),
            _ => Packet::PubAck(ack),
        };
        pair.subscriber.send(&ack).await?;
    }
    pair.subscriber.expect_alive().await?;
    pair.subscriber.cut();
    resume(&options).await?.expect_no_publish().await
}

async fn resend_does_not_go_back_to_old_subscription_identifiers(context: Context) -> Outcome {
    context.need_subscription_ids()?;
    context.need_qos(QoS::AtLeastOnce)?;
    let connect = subscriber(&context)?;
    let mut client = connect.connect().await?;
    let topic = context.topic("t");
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let (old, new) = (SubscriptionId::new(7), SubscriptionId::new(8));
    client.subscribe_with(&topic, options, old).await?;
    let mut publisher = Client::connect(&context, "pub").await?;
    let message = Message::new(&topic, "again").qos(QoS::AtLeastOnce);
    publisher.publish(&message).await?;
    let mut last = client.expect_publish().await?;
    let ids = |publish: &Publish| publish.properties().subscription_ids().collect::<Vec<_>>();
    context.check_eq("subscription identifiers", &old.as_slice(), &&*ids(&last))?;
    client.subscribe_with(&topic, options, new).await?;
    client.cut();
    for _ in 0..2 {
        let mut client = resume(&connect).await?;
        let publish = client.expect_publish().await?;
        context.check_eq("payload", "again", &text(&publish))?;
        // Old or new, but not old after new.
        let (before, now) = (ids(&last), ids(&publish));
        let right = now == new.as_slice() || now == old.as_slice() && before == old.as_slice();
        let expected = format!("subscription identifiers {before:?} or {new:?}");
        context.check(right, expected, format!("{now:?}"))?;
        last = publish;
    }
    Ok(())
}

async fn new_session_gets_nothing_of_the_old_one(context: Context) -> Outcome {
    let options = subscriber(&context)?;
    let qos = context.announced().properties.maximum_qos;
    let mut pair = Pair::with_subscriber(&context, qos, &options).await?;
    pair.start(qos, "open").await?;
    pair.subscriber.cut();
    let queued = Message::new(&pair.topic, "queued").qos(qos);
    pair.publisher.publish(&queued).await?;
    let mut client = options.clone().clean_start(true).connect().await?;
    context.check_eq("Session Present", &false, &client.connack.session_present)?;
    client.expect_silence().await?;
    client.expect_alive().await
}

async fn deliveries_are_sent_again_in_order_before_new_ones(context: Context) -> Outcome {
    let options = subscriber(&context)?;
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    let payloads = numbered("m", 10);
    for payload in &payloads {
        pair.publish(QoS::AtLeastOnce, &[payload]).await?;
    }
    let open = collect(&mut pair.subscriber, payloads.len()).await?.len();
    pair.subscriber.cut();
    let new = Message::new(&pair.topic, "new").qos(QoS::AtLeastOnce);
    pair.publisher.publish(&new).await?;
    let mut client = resume(&options).await?;
    let expected = payloads.iter().map(String::as_str).chain(["new"]);
    for (index, payload) in expected.enumerate() {
        let publish = client.receive().await?;
        context.check_eq("in order, payload", payload, &text(&publish))?;
        // The others may have been sent too, into a connection that was gone.
        if index < open {
            context.check_eq("DUP", &true, &publish.delivery().dup())?;
        }
    }
    client.expect_no_publish().await
}

/// A publisher whose session stays, with a QoS 2 exchange that has come to PUBREC, and who is gone; a subscriber.
async fn held_exchange(context: &Context) -> Outcome<(ConnectOptions, Message, PacketId, Client)> {
    context.need_qos(QoS::ExactlyOnce)?;
    context.need_sessions(60)?;
    let topic = context.topic("t");
    let mut receiver = Client::connect(context, "sub").await?;
    subscribe(&mut receiver, &topic, QoS::AtLeastOnce).await?;
    let options = Client::options(context, "pub").persistent();
    let mut publisher = options.connect().await?;
    let id = publisher.packet_id();
    let message = Message::new(&topic, "once").qos(QoS::ExactlyOnce);
    publisher.send(&message.packet(id)).await?;
    publisher.expect_pubrec(id).await?;
    publisher.cut();
    Ok((options, message, id, receiver))
}

async fn held_qos_2_identifier_survives_the_connection(context: Context) -> Outcome {
    let (options, message, id, mut receiver) = held_exchange(&context).await?;
    let mut publisher = resume(&options).await?;
    let again = Delivery::first(QoS::ExactlyOnce, id).repeated();
    let publish = Packet::Publish(message.publish(again));
    publisher.send(&publish).await?;
    publisher.expect_pubrec(id).await?;
    publisher.send(&Packet::PubRel(Ack::success(id))).await?;
    publisher.expect_pubcomp(id).await?;
    let topic = context.topic("t");
    receiver.receive_message(&topic, "once").await?;
    receiver.expect_no_publish().await
}

async fn pubrel_is_taken_on_the_next_connection(context: Context) -> Outcome {
    let (options, _, id, mut receiver) = held_exchange(&context).await?;
    let mut publisher = resume(&options).await?;
    publisher.send(&Packet::PubRel(Ack::success(id))).await?;
    let pubcomp = publisher.expect_pubcomp(id).await?;
    context.check_eq("PUBCOMP", &ReasonCode::Success, &pubcomp.reason)?;
    let topic = context.topic("t");
    receiver.receive_message(&topic, "once").await?;
    receiver.expect_no_publish().await
}

async fn held_qos_2_identifier_is_forgotten_with_the_session(context: Context) -> Outcome {
    let (options, _, id, mut receiver) = held_exchange(&context).await?;
    let mut publisher = options.clean_start(true).connect().await?;
    let topic = context.topic("t");
    let message = Message::new(&topic, "new").qos(QoS::ExactlyOnce);
    publisher.send(&message.packet(id)).await?;
    publisher.expect_pubrec(id).await?;
    publisher.send(&Packet::PubRel(Ack::success(id))).await?;
    publisher.expect_pubcomp(id).await?;
    // Whether the first message was passed on before its PUBREL or is gone with the session is the broker's choice.
    let publish = receiver.receive().await?;
    if text(&publish) == "once" {
        receiver.receive_message(&topic, "new").await?;
    } else {
        context.check_eq("payload", "new", &text(&publish))?;
    }
    receiver.expect_no_publish().await
}
