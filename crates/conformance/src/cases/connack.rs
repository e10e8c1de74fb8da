//! CONNACK: its code, its flags, what it announces and what it must leave out.

use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{Authentication, ConnAck, Packet, QoS, ReasonCode, SubscriptionOptions};

use crate::case::{Case, case};
use crate::client::{Client, ConnectOptions, Message};
use crate::context::Context;
use crate::link::Event;
use crate::verdict::{Outcome, Stop};

pub(crate) const CASES: &[Case] = &[
    case!(
        valid_connect_gets_one_connack_and_is_served,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.4-4",
            "3:MQTT-3.2.0-1",
            "3:MQTT-3.1.2-1",
            "U31-001",
            "5:MQTT-3.1.4-5",
            "5:MQTT-3.2.0-1",
            "5:MQTT-3.2.0-2",
            "5:MQTT-3.2.2-8",
            "U5-036"
        ]
    ),
    case!(
        connack_flags_are_0_but_for_session_present,
        [V311, V5],
        ["5:MQTT-3.2.2-1", "U311-006"]
    ),
    case!(
        unknown_authentication_method_is_refused,
        [V5],
        ["5:MQTT-4.12.0-1", "5:MQTT-4.13.2-1"]
    ),
    case!(
        connack_that_refuses_has_no_session_present_and_is_the_end,
        [V5],
        ["5:MQTT-3.2.2-6", "5:MQTT-3.2.2-7", "5:MQTT-3.2.2-8"]
    ),
    case!(
        response_information_comes_only_when_asked_for,
        [V5],
        ["5:MQTT-3.1.2-28"]
    ),
    case!(
        connack_without_a_method_when_connect_had_none,
        [V5],
        ["5:MQTT-4.12.0-6"]
    ),
    case!(
        connack_fits_the_maximum_packet_size,
        [V5],
        ["5:MQTT-3.2.2-19", "5:MQTT-3.2.2-20", "5:MQTT-3.1.2-24"]
    ),
    case!(
        without_problem_information_acknowledgements_have_no_reason_string,
        [V5],
        ["5:MQTT-3.1.2-29"]
    ),
    case!(
        qos_below_the_maximum_is_served_and_above_it_is_granted_lower,
        [V5],
        ["5:MQTT-3.2.2-9", "5:MQTT-3.2.2-10"]
    ),
    case!(
        will_qos_above_the_maximum_is_refused,
        [V5],
        ["5:MQTT-3.2.2-12"]
    ),
    case!(
        retained_will_without_retain_support_is_refused,
        [V5],
        ["5:MQTT-3.2.2-13"]
    ),
];

async fn valid_connect_gets_one_connack_and_is_served(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    client.expect_silence().await?;
    client.disconnect().await
}

async fn connack_flags_are_0_but_for_session_present(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let flags = client.last_bytes().get(2).copied().unwrap_or(0xFF);
    context.check_eq("connect acknowledge flags", &0, &flags)?;
    client.expect_alive().await?;
    client.disconnect().await?;
    let client = Client::options(&context, "p")
        .persistent()
        .connect()
        .await?;
    let flags = client.last_bytes().get(2).copied().unwrap_or(0xFF);
    context.check_eq("connect acknowledge flags", &0, &(flags & 0xFE))
}

async fn unknown_authentication_method_is_refused(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    client.disconnect().await?;
    refused(&Client::options(&context, "c")).await.map(drop)
}

/// The session is there, so that a broker that looks for it before it refuses would say so.
async fn connack_that_refuses_has_no_session_present_and_is_the_end(context: Context) -> Outcome {
    let options = Client::options(&context, "c").persistent();
    let mut client = options.connect().await?;
    client.expect_alive().await?;
    client.disconnect().await?;
    match refused(&options).await? {
        None => Err(Stop::skip("the broker closes without CONNACK, as it may")),
        Some(connack) => {
            let session_present = connack.session_present;
            context.check_eq("session present", &false, &session_present)
        }
    }
}

/// The CONNACK to an authentication method that no broker has; `None` for a bare close.
async fn refused(options: &ConnectOptions) -> Outcome<Option<ConnAck>> {
    let options = options.clone().with(|connect| {
        connect.properties.authentication = Some(Authentication {
            method: ByteStr::from("conformance-unknown"),
            data: None,
        });
    });
    let mut link = options.send().await?;
    let expected = "CONNACK 0x8C, 0x87 or another error, then the connection closed";
    match link.next(link.context().timing().answer).await {
        Event::Closed => Ok(None),
        Event::Packet(Packet::ConnAck(connack)) if connack.reason.is_error() => {
            link.expect_closed_with(&[]).await?;
            Ok(Some(*connack))
        }
        event => Err(link.fail_with(expected, &event)),
    }
}

async fn response_information_comes_only_when_asked_for(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    let information = client.connack.properties.response_information.clone();
    context.check_eq("response information", &None, &information)?;
    client.disconnect().await?;
    let asked = Client::options(&context, "c")
        .with(|connect| connect.properties.request_response_information = true);
    // Whether it is given now is the broker's choice, but the request is legal.
    asked.connect().await?.disconnect().await
}

async fn connack_without_a_method_when_connect_had_none(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    let authentication = client.connack.properties.authentication.clone();
    context.check_eq("authentication method", &None, &authentication)?;
    client.disconnect().await
}

/// A limit that even a plain CONNACK exceeds may lead to a close without one.
async fn connack_fits_the_maximum_packet_size(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    client.disconnect().await?;
    for limit in [128, 32, 16, 8, 5] {
        let options = Client::options(&context, "c").packet_size_max(limit);
        let mut link = options.send().await?;
        match link.next(context.timing().answer).await {
            Event::Packet(Packet::ConnAck(_)) => fits(&context, link.last_bytes().len(), limit)?,
            Event::Closed => {}
            event => return Err(link.fail_with("CONNACK or the connection closed", &event)),
        }
        let options = options.with(|connect| {
            connect.properties.authentication = Some(Authentication {
                method: ByteStr::from("conformance-unknown"),
                data: None,
            });
        });
        let mut link = options.send().await?;
        match link.next(context.timing().answer).await {
            Event::Packet(Packet::ConnAck(_)) => fits(&context, link.last_bytes().len(), limit)?,
            Event::Closed => {}
            event => return Err(link.fail_with("CONNACK or the connection closed", &event)),
        }
    }
    Ok(())
}

fn fits(context: &Context, bytes: usize, limit: u32) -> Outcome {
    let holds = u32::try_from(bytes).is_ok_and(|bytes| bytes <= limit);
    context.check(
        holds,
        format!("CONNACK of at most {limit} bytes"),
        format!("{bytes} bytes"),
    )
}

async fn without_problem_information_acknowledgements_have_no_reason_string(
    context: Context,
) -> Outcome {
    let options = Client::options(&context, "c")
        .with(|connect| connect.properties.request_problem_information = false);
    let mut client = options.connect().await?;
    let topic = context.topic("a");
    let qos1 = SubscriptionOptions::new(QoS::AtLeastOnce);
    // Both a filter that is granted and one that may be refused, and an unsubscription of what is not there.
    let suback = client.subscribe_all(&[(&topic, qos1)], None).await?;
    context.check(
        suback.properties.is_empty(),
        "SUBACK without properties",
        "with some",
    )?;
    let unsuback = client.unsubscribe(&[&context.topic("b")]).await?;
    context.check(
        unsuback.properties.is_empty(),
        "UNSUBACK without properties",
        "with some",
    )?;
    let maximum = context.announced().properties.maximum_qos;
    if maximum >= QoS::AtLeastOnce {
        let message = Message::new(&context.topic("nobody"), "m").qos(QoS::AtLeastOnce);
        let id = client.packet_id();
        client.send(&message.packet(id)).await?;
        let puback = client.expect_puback(id).await?;
        context.check(
            puback.properties.is_empty(),
            "PUBACK without properties",
            "with some",
        )?;
    }
    if maximum >= QoS::ExactlyOnce {
        // PUBREL for an identifier that is not in use.
        let id = client.packet_id();
        let pubrel = Packet::PubRel(whimbrel_codec::Ack::success(id));
        client.send(&pubrel).await?;
        let pubcomp = client.expect_pubcomp(id).await?;
        context.check(
            pubcomp.properties.is_empty(),
            "PUBCOMP without properties",
            "with some",
        )?;
    }
    client.disconnect().await
}

async fn qos_below_the_maximum_is_served_and_above_it_is_granted_lower(
    context: Context,
) -> Outcome {
    let maximum = context.announced().properties.maximum_qos;
    let mut client = Client::connect(&context, "c").await?;
    let topic = context.topic("a");
    let granted = client.subscribe(&topic, QoS::ExactlyOnce).await?;
    let holds = granted.as_u8() <= maximum.bits();
    context.check(
        holds,
        format!("QoS {} granted at most", maximum.bits()),
        granted.to_string(),
    )?;
    client
        .publish(&Message::new(&topic, "m").qos(maximum))
        .await?;
    client.receive_message(&topic, "m").await?;
    client.disconnect().await
}

async fn will_qos_above_the_maximum_is_refused(context: Context) -> Outcome {
    let maximum = context.announced().properties.maximum_qos;
    let too_high = match maximum {
        QoS::AtMostOnce => QoS::AtLeastOnce,
        QoS::AtLeastOnce => QoS::ExactlyOnce,
        QoS::ExactlyOnce => return Err(Stop::skip("the broker's maximum QoS is 2")),
    };
    let will = |qos| Message::new(&context.topic("will"), "w").qos(qos).will(0);
    let legal = Client::options(&context, "c").will(will(maximum));
    legal.connect().await?.disconnect().await?;
    let mut link = Client::options(&context, "c")
        .will(will(too_high))
        .send()
        .await?;
    link.expect_connect_refused(&[ReasonCode::QosNotSupported])
        .await
}

async fn retained_will_without_retain_support_is_refused(context: Context) -> Outcome {
    if context.announced().properties.retain_available {
        return Err(Stop::skip("the broker keeps retained messages"));
    }
    let will = Message::new(&context.topic("will"), "w");
    let legal = Client::options(&context, "c").will(will.will(0));
    legal.connect().await?.disconnect().await?;
    let mut link = Client::options(&context, "c")
        .will(will.retained().will(0))
        .send()
        .await?;
    link.expect_connect_refused(&[ReasonCode::RetainNotSupported])
        .await
}
