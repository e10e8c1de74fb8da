//! What PUBACK, PUBREC, PUBREL and PUBCOMP have besides an identifier: in 5.0 reason code and properties, before it nothing.

use whimbrel_codec::{Ack, Packet, PacketId, QoS};

use super::pair::{Pair, subscribe};
use super::raw_publish::RawPublish;
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::proof::{MALFORMED, Twin, refuses_on};
use crate::verdict::Outcome;
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        every_form_of_puback_is_taken,
        [V5],
        ["U5-055", "5:MQTT-3.4.2-1"]
    ),
    case!(
        every_form_of_pubrec_and_pubcomp_is_taken,
        [V5],
        ["U5-055", "5:MQTT-3.5.2-1", "5:MQTT-3.7.2-1"]
    ),
    case!(
        every_form_of_pubrel_is_taken,
        [V5],
        ["U5-055", "5:MQTT-3.6.2-1"]
    ),
    case!(reason_string_there_twice_is_refused, [V5], ["U5-056"]),
    case!(
        property_that_is_not_of_an_acknowledgement_is_refused,
        [V5],
        ["U5-011"]
    ),
    case!(
        property_length_that_does_not_match_is_refused,
        [V5],
        ["U5-010"]
    ),
    case!(
        acknowledgement_with_bytes_behind_it_is_refused,
        [V311],
        ["3:MQTT-4.8.0-1"]
    ),
    case!(
        acknowledgements_without_problem_information_say_nothing,
        [V5],
        ["5:MQTT-3.1.2-29"]
    ),
];

/// What follows the identifier in each form: nothing, a code, a code and no properties, a code and properties.
fn forms() -> Vec<Vec<u8>> {
    let reason = wire::string_property(REASON_STRING, "taken");
    let user = wire::user_property("a", "1");
    vec![
        Vec::new(),
        vec![0],
        vec![0, 0],
        [vec![0], wire::properties(&[&reason])].concat(),
        [vec![0], wire::properties(&[&user, &reason, &user])].concat(),
    ]
}

async fn every_form_of_puback_is_taken(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::AtLeastOnce, &options).await?;
    for form in forms() {
        // With a window of one, the next message comes only when the last is acknowledged.
        let publish = pair.start(QoS::AtLeastOnce, "m").await?;
        let puback = wire::packet(0x40, &[&id_bytes(publish.packet_id()), &form]);
        pair.subscriber.send_bytes(&puback).await?;
    }
    let publish = pair.start(QoS::AtLeastOnce, "last").await?;
    pair.subscriber.acknowledge(&publish).await?;
    pair.subscriber.expect_alive().await
}

async fn every_form_of_pubrec_and_pubcomp_is_taken(context: Context) -> Outcome {
    let options = Client::options(&context, "sub").receive_maximum(1);
    let mut pair = Pair::with_subscriber(&context, QoS::ExactlyOnce, &options).await?;
    for form in forms() {
        let publish = pair.start(QoS::ExactlyOnce, "m").await?;
        let id = publish.packet_id();
        let pubrec = wire::packet(0x50, &[&id_bytes(id), &form]);
        pair.subscriber.send_bytes(&pubrec).await?;
        pair.subscriber
            .expect_pubrel(id.unwrap_or(PacketId::MIN))
            .await?;
        let pubcomp = wire::packet(0x70, &[&id_bytes(id), &form]);
        pair.subscriber.send_bytes(&pubcomp).await?;
    }
    let publish = pair.start(QoS::ExactlyOnce, "last").await?;
    pair.subscriber.acknowledge(&publish).await?;
    pair.subscriber.expect_alive().await
}

async fn every_form_of_pubrel_is_taken(context: Context) -> Outcome {
    let mut pair = Pair::connect(&context, QoS::ExactlyOnce).await?;
    let not_found = [vec![0x92], vec![0x92, 0]];
    for form in forms().into_iter().chain(not_found) {
        let id = pair.publisher.packet_id();
        // 0x92 says that the sender has forgotten the exchange, which ends it as well.
        let forgotten = form.first() == Some(&0x92);
        if !forgotten {
            let message = pair.message("m", QoS::ExactlyOnce);
            pair.publisher.send(&message.packet(id)).await?;
            pair.publisher.expect_pubrec(id).await?;
        }
        let pubrel = wire::packet(0x62, &[&id.get().to_be_bytes(), &form]);
        pair.publisher.send_bytes(&pubrel).await?;
        pair.publisher.expect_pubcomp(id).await?;
        if !forgotten {
            pair.subscriber.receive_message(&pair.topic, "m").await?;
        }
    }
    Ok(())
}

fn id_bytes(id: Option<PacketId>) -> [u8; 2] {
    id.map_or(0, PacketId::get).to_be_bytes()
}

/// Shows for each of the four packets that one which ends in `good` is served and then one which ends in `bad` is refused.
async fn refuses_endings(context: &Context, good: &[u8], bad: &[u8]) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    // PUBACK, in reply to a QoS 1 delivery.
    let mut pair = Pair::connect(context, QoS::AtLeastOnce).await?;
    for ending in [good, bad] {
        let publish = pair.start(QoS::AtLeastOnce, "m").await?;
        let puback = wire::packet(0x40, &[&id_bytes(publish.packet_id()), ending]);
        refused_if(&mut pair.subscriber, &puback, ending == bad).await?;
    }
    // PUBREC and PUBCOMP, in reply to a QoS 2 delivery.
    for (first_byte, step) in [(0x50, 0), (0x70, 1)] {
        let mut pair = Pair::connect(context, QoS::ExactlyOnce).await?;
        for ending in [good, bad] {
            let publish = pair.start(QoS::ExactlyOnce, "m").await?;
            let id = publish.packet_id().unwrap_or(PacketId::MIN);
            if step == 1 {
                let pubrec = Packet::PubRec(Ack::success(id));
                pair.subscriber.send(&pubrec).await?;
                pair.subscriber.expect_pubrel(id).await?;
            }
            let ack = wire::packet(first_byte, &[&id_bytes(Some(id)), ending]);
            refused_if(&mut pair.subscriber, &ack, ending == bad).await?;
            if step == 0 && ending != bad {
                pair.subscriber.expect_pubrel(id).await?;
                let pubcomp = Packet::PubComp(Ack::success(id));
                pair.subscriber.send(&pubcomp).await?;
            }
        }
    }
    // PUBREL, to a QoS 2 message of the client.
    let mut client = Client::connect(context, "c").await?;
    for (id, ending) in [(7, good), (8, bad)] {
        let publish = RawPublish::new(context, context.topic("t")).flags(4);
        client.send_bytes(&publish.id(id).build()).await?;
        let packet_id = PacketId::new(id).unwrap_or(PacketId::MIN);
        client.expect_pubrec(packet_id).await?;
        let pubrel = wire::packet(0x62, &[&id.to_be_bytes(), ending]);
        if ending == good {
            client.send_bytes(&pubrel).await?;
            client.expect_pubcomp(packet_id).await?;
        } else {
            refuses_on(&mut client, &Twin::ping(), &pubrel, MALFORMED).await?;
        }
    }
    Ok(())
}

async fn refused_if(client: &mut Client, ack: &[u8], illegal: bool) -> Outcome {
    if illegal {
        return refuses_on(client, &Twin::ping(), ack, MALFORMED).await;
    }
    client.send_bytes(ack).await?;
    client.expect_alive().await
}

async fn reason_string_there_twice_is_refused(context: Context) -> Outcome {
    let reason = wire::string_property(REASON_STRING, "taken");
    let good = [vec![0], wire::properties(&[&reason])].concat();
    let bad = [vec![0], wire::properties(&[&reason, &reason])].concat();
    refuses_endings(&context, &good, &bad).await
}

async fn property_that_is_not_of_an_acknowledgement_is_refused(context: Context) -> Outcome {
    let good = [vec![0], wire::properties(&[&wire::user_property("a", "1")])].concat();
    // Content Type, of PUBLISH, and an identifier that there is not.
    let content_type = wire::string_property(0x03, "text");
    let bad = [vec![0], wire::properties(&[&content_type])].concat();
    refuses_endings(&context, &good, &bad).await?;
    let unknown = wire::property(0x7F, [0]);
    let bad = [vec![0], wire::properties(&[&unknown])].concat();
    refuses_endings(&context, &good, &bad).await
}

async fn property_length_that_does_not_match_is_refused(context: Context) -> Outcome {
    let user = wire::user_property("a", "1");
    let good = [vec![0], wire::properties(&[&user])].concat();
    let too_much = [vec![0, 8], user.clone()].concat();
    refuses_endings(&context, &good, &too_much).await?;
    let too_little = [vec![0, 0], user].concat();
    refuses_endings(&context, &good, &too_little).await
}

async fn acknowledgement_with_bytes_behind_it_is_refused(context: Context) -> Outcome {
    refuses_endings(&context, &[], &[0]).await
}

async fn acknowledgements_without_problem_information_say_nothing(context: Context) -> Outcome {
    context.need_qos(QoS::ExactlyOnce)?;
    let options = Client::options(&context, "quiet");
    let options = options.with(|connect| connect.properties.request_problem_information = false);
    let mut client = options.connect().await?;
    let mut acks = Vec::new();
    // To nobody, and about an exchange that is not there: here brokers have something to say.
    let nobody = context.topic("nobody");
    let one = client.packet_id();
    let message = Message::new(&nobody, "m").qos(QoS::AtLeastOnce);
    client.send(&message.packet(one)).await?;
    acks.push(client.expect_puback(one).await?);
    let two = client.packet_id();
    let message = Message::new(&nobody, "m").qos(QoS::ExactlyOnce);
    client.send(&message.packet(two)).await?;
    acks.push(client.expect_pubrec(two).await?);
    for id in [two, two] {
        client.send(&Packet::PubRel(Ack::success(id))).await?;
        acks.push(client.expect_pubcomp(id).await?);
    }
    let own = context.topic("own");
    subscribe(&mut client, &own, QoS::ExactlyOnce).await?;
    let message = Message::new(&own, "m").qos(QoS::ExactlyOnce);
    client.publish(&message).await?;
    let publish = client.expect_publish().await?;
    let id = publish.packet_id().unwrap_or(PacketId::MIN);
    client.send(&Packet::PubRec(Ack::success(id))).await?;
    acks.push(client.expect_pubrel(id).await?);
    client.send(&Packet::PubComp(Ack::success(id))).await?;
    for ack in acks {
        context.check(
            ack.properties.is_empty(),
            "no Reason String and no User Property",
            format!("{:?}", ack.properties),
        )?;
    }
    let unsuback = client.unsubscribe(&[&nobody]).await?;
    context.check(
        unsuback.properties.is_empty(),
        "no Reason String and no User Property in UNSUBACK",
        format!("{:?}", unsuback.properties),
    )
}

const REASON_STRING: u8 = 0x1F;
