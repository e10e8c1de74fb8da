//! Receive Maximum: how many QoS 1 and 2 messages may be under way.

use whimbrel_codec::{Ack, Packet, PacketId, QoS, ReasonCode};

use super::pair::{Pair, collect, numbered, receive_in_order, resume, text};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::verdict::Outcome;

pub(crate) const CASES: &[Case] = &[
    case!(
        broker_keeps_to_the_receive_maximum,
        [V5],
        [
            "5:MQTT-3.3.4-9",
            "5:MQTT-4.9.0-1",
            "5:MQTT-4.9.0-2",
            "U5-107"
        ]
    ),
    case!(
        qos_2_delivery_counts_until_pubcomp,
        [V5],
        ["5:MQTT-3.3.4-9", "5:MQTT-4.9.0-2", "U5-107"]
    ),
    case!(
        full_window_holds_back_nothing_but_publish,
        [V5],
        ["5:MQTT-3.3.4-10", "5:MQTT-4.9.0-3"]
    ),
    case!(
        qos_0_is_delivered_or_waits_when_the_window_is_full,
        [V5],
        ["5:MQTT-4.9.0-2"]
    ),
    case!(
        receive_maximum_is_of_the_connection,
        [V5],
        ["5:MQTT-3.3.4-9", "5:MQTT-4.9.0-1", "U5-020", "U5-108"]
    ),
    case!(
        pubcomp_of_the_last_connection_does_not_widen_the_window,
        [V5],
        ["U5-107", "5:MQTT-4.9.0-1"]
    ),
    case!(
        broker_takes_as_many_as_it_announces_and_not_more,
        [V5],
        ["U5-053"]
    ),
    case!(
        broker_with_a_full_window_serves_other_packets,
        [V5],
        ["5:MQTT-4.9.0-3", "U5-107"]
    ),
    case!(
        repeat_of_a_held_identifier_is_not_a_second_one,
        [V5],
        ["5:MQTT-4.3.3-10"]
    ),
];

async fn broker_keeps_to_the_receive_maximum(context: Context) -> Outcome {
    for maximum in [1, 3] {
        let options = Client::options(&context, "sub").receive_maximum(maximum);
        let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
        let payloads = numbered("m", 8);
        for payload in &payloads {
            pair.publish(QoS::AtLeastOnce, &[payload]).await?;
        }
        let maximum = usize::from(maximum);
        let mut open = collect(&mut pair.subscriber, payloads.len()).await?;
        let few = open.len() <= maximum;
        let count = open.len().to_string();
        context.check(few, format!("at most {maximum} PUBLISH"), count)?;
        let mut received: Vec<String> = open.iter().map(text).collect();
        // Each acknowledgement makes room for one more and no second.
        while received.len() < payloads.len() {
            let first = open.remove(0);
            pair.subscriber.acknowledge(&first).await?;
            let next = pair.subscriber.expect_publish().await?;
            pair.subscriber.expect_no_publish().await?;
            received.push(text(&next));
            open.push(next);
        }
        context.check_eq("messages", &payloads, &received)?;
    }
    Ok(())
}

async fn qos_2_delivery_counts_until_pubcomp(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    let open = pair.start(QoS::ExactlyOnce, "a").await?;
    let id = open.packet_id().unwrap_or(PacketId::MIN);
    pair.publish(QoS::ExactlyOnce, &["b"]).await?;
    pair.publish(QoS::AtLeastOnce, &["c"]).await?;
    let subscriber = &mut pair.subscriber;
    subscriber.expect_no_publish().await?;
    subscriber.send(&Packet::PubRec(Ack::success(id))).await?;
    subscriber.expect_pubrel(id).await?;
    subscriber.expect_no_publish().await?;
    subscriber.send(&Packet::PubComp(Ack::success(id))).await?;
    // Which of the two comes first is open: order is within one QoS.
    let first = subscriber.expect_publish().await?;
    subscriber.expect_no_publish().await?;
    subscriber.acknowledge(&first).await?;
    let second = subscriber.receive().await?;
    let mut payloads = [text(&first), text(&second)];
    payloads.sort();
    context.check_eq("messages", &["b".to_owned(), "c".to_owned()], &payloads)
}

async fn full_window_holds_back_nothing_but_publish(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    let open = pair.start(QoS::ExactlyOnce, "open").await?;
    let id = open.packet_id().unwrap_or(PacketId::MIN);
    pair.publish(QoS::AtLeastOnce, &["queued"]).await?;
    let subscriber = &mut pair.subscriber;
    subscriber.expect_no_publish().await?;
    // PINGRESP, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBCOMP and PUBREL still come.
    subscriber.expect_alive().await?;
    let other = context.topic("other");
    subscriber.subscribe(&other, QoS::AtLeastOnce).await?;
    subscriber.unsubscribe(&[&other]).await?;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let message = Message::new(&other, "m").qos(qos);
        subscriber.publish(&message).await?;
    }
    subscriber.send(&Packet::PubRec(Ack::success(id))).await?;
    subscriber.expect_pubrel(id).await?;
    subscriber.expect_no_publish().await?;
    subscriber.send(&Packet::PubComp(Ack::success(id))).await?;
    subscriber.receive_message(&pair.topic, "queued").await?;
    subscriber.expect_silence().await
}

async fn qos_0_is_delivered_or_waits_when_the_window_is_full(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    let open = pair.start(QoS::AtLeastOnce, "a").await?;
    pair.publish(QoS::AtLeastOnce, &["b"]).await?;
    pair.publish(QoS::AtMostOnce, &["c"]).await?;
    let silence = context.timing().silence;
    match pair.subscriber.next(silence).await {
        // QoS 0 uses no window, and may still wait with the others.
        Event::Silence => {}
        Event::Packet(Packet::Publish(publish)) => {
            context.check_eq("QoS", &QoS::AtMostOnce, &publish.qos())?;
            pair.subscriber.expect_no_publish().await?;
        }
        event => {
            return Err(pair
                .subscriber
                .fail_with("a QoS 0 PUBLISH or nothing", &event));
        }
    }
    pair.subscriber.acknowledge(&open).await?;
    loop {
        let publish = pair.subscriber.receive().await?;
        if text(&publish) == "b" {
            return Ok(());
        }
        context.check_eq("payload", "c", &text(&publish))?;
    }
}

async fn receive_maximum_is_of_the_connection(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub").persistent();
    let wide = options.clone().receive_maximum(3);
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &wide).await?;
    let payloads = numbered("m", 6);
    for payload in &payloads {
        pair.publish(QoS::AtLeastOnce, &[payload]).await?;
    }
    let open = collect(&mut pair.subscriber, payloads.len()).await?;
    let few = open.len() <= 3;
    context.check(few, "at most 3 PUBLISH", open.len().to_string())?;
    pair.subscriber.cut();
    // What is sent again counts as well, from nothing and against the new maximum.
    let mut narrow = resume(&options.clone().receive_maximum(1)).await?;
    let publish = narrow.expect_publish().await?;
    context.check_eq("payload", "m0", &text(&publish))?;
    narrow.expect_no_publish().await?;
    narrow.acknowledge(&publish).await?;
    let publish = narrow.expect_publish().await?;
    context.check_eq("payload", "m1", &text(&publish))?;
    narrow.expect_no_publish().await?;
    narrow.cut();
    // Without one it is 65,535, and nothing of the last connection is counted.
    let mut client = resume(&options).await?;
    let left = payloads.get(1..).unwrap_or_default();
    receive_in_order(&mut client, left).await?;
    client.expect_no_publish().await
}

async fn pubcomp_of_the_last_connection_does_not_widen_the_window(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "sub").persistent();
    let options = options.receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    let publish = pair.start(QoS::ExactlyOnce, "a").await?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    let pubrec = Packet::PubRec(Ack::success(id));
    pair.subscriber.send(&pubrec).await?;
    pair.subscriber.expect_pubrel(id).await?;
    pair.subscriber.cut();
    pair.subscriber = resume(&options).await?;
    pair.subscriber.expect_pubrel(id).await?;
    let pubcomp = Packet::PubComp(Ack::success(id));
    pair.subscriber.send(&pubcomp).await?;
    pair.subscriber.expect_alive().await?;
    pair.publish(QoS::ExactlyOnce, &["b", "c"]).await?;
    let publish = pair.subscriber.expect_publish().await?;
    pair.subscriber.expect_no_publish().await?;
    pair.subscriber.acknowledge(&publish).await?;
    pair.subscriber
        .receive_message(&pair.topic, "c")
        .await
        .map(drop)
}

/// The broker's receive maximum, if it can be filled in bearable time.
fn fillable(context: &Context) -> Outcome<u16> {
    context.need_qos(QoS::ExactlyOnce)?;
    let maximum = context.announced().properties.receive_maximum.get();
    context.need(
        maximum <= FILLED_MAX,
        &format!("the broker takes {maximum} messages at a time, more than are sent here"),
    )?;
    Ok(maximum)
}

fn held(context: &Context, id: u16) -> Vec<u8> {
    let publish = RawPublish::new(context, context.topic("t"));
    publish.flags(4).id(id).build()
}

/// A client with `count` QoS 2 exchanges that the broker has taken and the client has not released.
async fn holding(context: &Context, count: u16) -> Outcome<Client> {
    let mut client = Client::connect(context, "c").await?;
    let ids: Vec<u16> = (1..=count).collect();
    for some in ids.chunks(50) {
        for id in some {
            client.send_bytes(&held(context, *id)).await?;
        }
        for id in some {
            let id = PacketId::new(*id).unwrap_or(PacketId::MIN);
            let ack = client.expect_pubrec(id).await?;
            let taken = !ack.reason.is_error();
            context.check(taken, "a positive PUBREC", ack.reason.to_string())?;
        }
    }
    Ok(client)
}

async fn broker_takes_as_many_as_it_announces_and_not_more(context: Context) -> Outcome {
    let maximum = fillable(&context)?;
    let mut client = holding(&context, maximum).await?;
    client.expect_alive().await?;
    let one_more = maximum.saturating_add(1);
    client.send_bytes(&held(&context, one_more)).await?;
    let expected = "DISCONNECT 0x93 and the connection closed, or a negative PUBREC";
    match client.next(context.timing().answer).await {
        Event::Closed => Ok(()),
        Event::Packet(Packet::Disconnect(disconnect)) => {
            let reason = disconnect.reason;
            let right = [
                ReasonCode::ReceiveMaximumExceeded,
                ReasonCode::UnspecifiedError,
                ReasonCode::ProtocolError,
                ReasonCode::QuotaExceeded,
            ];
            context.check(right.contains(&reason), expected, reason.to_string())?;
            client.expect_closed().await
        }
        // Some refuse the message and stay (D4): it is not taken, which is the point.
        Event::Packet(Packet::PubRec(ack)) if ack.reason.is_error() => Ok(()),
        event => Err(client.fail_with(expected, &event)),
    }
}

async fn broker_with_a_full_window_serves_other_packets(context: Context) -> Outcome {
    let maximum = fillable(&context)?;
    let mut client = holding(&context, maximum).await?;
    client.expect_alive().await?;
    let topic = context.topic("other");
    client.subscribe(&topic, QoS::AtMostOnce).await?;
    client.publish(&Message::new(&topic, "m")).await?;
    client.receive_message(&topic, "m").await?;
    client.unsubscribe(&[&topic]).await?;
    // An exchange that ends makes room for one more.
    let first = PacketId::MIN;
    client.send(&Packet::PubRel(Ack::success(first))).await?;
    client.expect_pubcomp(first).await?;
    client.send_bytes(&held(&context, 1)).await?;
    let ack = client.expect_pubrec(first).await?;
    let taken = !ack.reason.is_error();
    context.check(taken, "a positive PUBREC", ack.reason.to_string())
}

async fn repeat_of_a_held_identifier_is_not_a_second_one(context: Context) -> Outcome {
    let maximum = fillable(&context)?;
    let mut client = holding(&context, maximum).await?;
    let again = RawPublish::new(&context, context.topic("t")).flags(12);
    client.send_bytes(&again.id(1).build()).await?;
    let ack = client.expect_pubrec(PacketId::MIN).await?;
    let taken = !ack.reason.is_error();
    context.check(taken, "a positive PUBREC", ack.reason.to_string())?;
    client.expect_alive().await
}

/// Two round trips a message: a few hundred milliseconds on one machine.
const FILLED_MAX: u16 = 2_048;
