//! A second connection with the same client id.

use whimbrel_codec::{Packet, QoS, ReasonCode};

use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::verdict::{Outcome, Stop};

pub(crate) const CASES: &[Case] = &[
    case!(
        old_connection_is_closed_when_its_client_id_connects_again,
        [V31, V311, V5],
        ["3:MQTT-3.1.4-2", "5:MQTT-3.1.4-3"]
    ),
    case!(
        disconnect_of_the_broker_is_the_last_packet_and_has_no_expiry,
        [V5],
        [
            "5:MQTT-3.14.2-1",
            "5:MQTT-3.14.2-2",
            "5:MQTT-3.14.4-1",
            "5:MQTT-3.14.4-2"
        ]
    ),
    case!(
        disconnect_of_the_broker_fits_the_maximum_packet_size,
        [V5],
        ["5:MQTT-3.14.2-3", "5:MQTT-3.14.2-4"]
    ),
    case!(
        session_goes_on_with_the_new_connection,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-4",
            "3:MQTT-3.1.3-2",
            "5:MQTT-3.1.2-5",
            "5:MQTT-3.1.3-2"
        ]
    ),
    case!(
        clean_start_of_the_new_connection_drops_the_session,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-6",
            "3:MQTT-3.2.2-1",
            "5:MQTT-3.1.2-4",
            "5:MQTT-3.2.2-2"
        ]
    ),
    case!(refused_connect_takes_over_nothing, [V5], ["5:MQTT-3.1.4-6"]),
];

async fn old_connection_is_closed_when_its_client_id_connects_again(context: Context) -> Outcome {
    let mut old = Client::connect(&context, "same").await?;
    let mut bystander = Client::connect(&context, "other").await?;
    old.expect_alive().await?;
    let mut new = Client::connect(&context, "same").await?;
    if context.is_v5() {
        let disconnect = old.expect_disconnect().await?;
        let reason = disconnect.map(|disconnect| disconnect.reason);
        // What is a must is the close; no other reason may be given for it.
        let taken_over = [None, Some(ReasonCode::SessionTakenOver)].contains(&reason);
        context.check(
            taken_over,
            "DISCONNECT 0x8E, then a close",
            format!("{reason:?}"),
        )?;
    } else {
        old.expect_closed().await?;
    }
    bystander.expect_alive().await?;
    new.expect_alive().await?;
    new.disconnect().await
}

async fn disconnect_of_the_broker_is_the_last_packet_and_has_no_expiry(
    context: Context,
) -> Outcome {
    let options = Client::options(&context, "same").persistent();
    let mut old = options.connect().await?;
    let _new = options.connect().await?;
    match old.expect_disconnect().await? {
        Some(disconnect) => {
            let expiry = disconnect.session_expiry_secs;
            context.check_eq("session expiry", &None, &expiry)
        }
        None => Err(Stop::skip(
            "the broker sent no DISCONNECT, so that none can be looked at",
        )),
    }
}

/// The limit leaves room for the CONNACK (a generous one) and for a DISCONNECT without words.
async fn disconnect_of_the_broker_fits_the_maximum_packet_size(context: Context) -> Outcome {
    let limit = 40;
    let options = Client::options(&context, "same").packet_size_max(limit);
    let mut old = options.connect().await?;
    let _new = options.connect().await?;
    match old.expect_disconnect().await? {
        Some(_) => {
            let bytes = old.last_bytes().len();
            let fits = u32::try_from(bytes).is_ok_and(|bytes| bytes <= limit);
            context.check(
                fits,
                format!("at most {limit} bytes"),
                format!("{bytes} bytes"),
            )
        }
        None => Err(Stop::skip(
            "the broker sent no DISCONNECT, so that none can be looked at",
        )),
    }
}

async fn session_goes_on_with_the_new_connection(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let topic = context.topic("a");
    let options = Client::options(&context, "same").persistent();
    let mut old = options.connect().await?;
    old.subscribe(&topic, QoS::AtMostOnce).await?;
    let mut new = options.connect().await?;
    if context.version() >= crate::codec::ProtocolVersion::V311 {
        let present = new.connack.session_present;
        context.check_eq("session present", &true, &present)?;
    }
    old.expect_closed().await?;
    new.publish(&Message::new(&topic, "m")).await?;
    new.receive_message(&topic, "m").await?;
    new.disconnect().await
}

async fn clean_start_of_the_new_connection_drops_the_session(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let topic = context.topic("a");
    let options = Client::options(&context, "same").persistent();
    let mut old = options.connect().await?;
    old.subscribe(&topic, QoS::AtMostOnce).await?;
    old.publish(&Message::new(&topic, "m")).await?;
    old.receive_message(&topic, "m").await?;
    let mut new = options.clean_start(true).connect().await?;
    let present = new.connack.session_present;
    context.check_eq("session present", &false, &present)?;
    old.expect_closed().await?;
    new.publish(&Message::new(&topic, "m")).await?;
    new.expect_no_publish().await?;
    new.disconnect().await
}

async fn refused_connect_takes_over_nothing(context: Context) -> Outcome {
    let mut old = Client::connect(&context, "same").await?;
    let mut refused = crate::wire::RawConnect::new(&context, "same");
    refused.flags |= 0x01;
    let mut link = crate::Link::open(&context, "refused").await?;
    link.send_bytes(&refused.build()).await?;
    link.expect_connect_refused(crate::proof::MALFORMED).await?;
    old.expect_alive().await?;
    old.send(&Packet::PingReq).await?;
    old.expect_pingresp().await?;
    old.disconnect().await
}
