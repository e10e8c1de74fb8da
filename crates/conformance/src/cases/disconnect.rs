//! DISCONNECT of the client.

use std::time::Duration;

use whimbrel_codec::{Disconnect, Packet, QoS, ReasonCode};

use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::MALFORMED;
use crate::verdict::{Outcome, Stop};
use crate::wire;

pub(crate) const CASES: &[Case] = &[
    case!(
        disconnect_with_header_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.14.1-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-3.14.1-1",
            "5:MQTT-2.1.3-1"
        ]
    ),
    case!(
        broker_closes_after_disconnect,
        [V31, V311, V5],
        ["U311-011", "U5-084", "3:MQTT-3.14.4-3"]
    ),
    case!(
        disconnect_may_leave_out_code_and_properties,
        [V5],
        ["U5-080"]
    ),
    case!(
        disconnect_with_a_code_of_another_packet_is_refused,
        [V5],
        ["5:MQTT-3.14.2-1", "U5-083"]
    ),
    case!(
        expiry_in_disconnect_after_none_in_connect_is_refused,
        [V5],
        ["U5-082", "5:MQTT-4.13.1-1", "U5-083"]
    ),
    case!(expiry_in_disconnect_twice_is_refused, [V5], ["U5-019"]),
    case!(
        broker_says_why_it_closes,
        [V5],
        ["U5-111", "5:MQTT-4.13.2-1"]
    ),
];

/// After any DISCONNECT the connection ends; that it was none shows in the will.
async fn disconnect_with_header_flags_is_refused(context: Context) -> Outcome {
    let mut pair = Pair::new(&context).await?;
    pair.drops_will(&[0xE0, 0x00]).await?;
    pair.refuses(&[0xE1, 0x00], MALFORMED).await
}

async fn broker_closes_after_disconnect(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    client.send(&Packet::Disconnect(Box::default())).await?;
    match client.next(context.timing().answer).await {
        Event::Closed => Ok(()),
        Event::Silence => Err(Stop::skip(
            "the broker leaves closing to the client, as it may",
        )),
        event => Err(client.fail_with("the connection closed", &event)),
    }
}

async fn disconnect_may_leave_out_code_and_properties(context: Context) -> Outcome {
    let mut pair = Pair::new(&context).await?;
    for normal in [
        [0xE0, 0x00].as_slice(),
        &[0xE0, 0x01, 0x00],
        &[0xE0, 0x02, 0x00, 0x00],
    ] {
        pair.drops_will(normal).await?;
    }
    for with_will in [[0xE0, 0x01, 0x04].as_slice(), &[0xE0, 0x02, 0x04, 0x00]] {
        let mut client = pair.client(0).await?;
        client.send_bytes(with_will).await?;
        pair.will().await?;
    }
    Ok(())
}

/// 0x01 is a code of SUBACK, 0x03 of nothing.
async fn disconnect_with_a_code_of_another_packet_is_refused(context: Context) -> Outcome {
    let mut pair = Pair::new(&context).await?;
    pair.drops_will(&[0xE0, 0x02, 0x00, 0x00]).await?;
    for code in [0x01, 0x03] {
        pair.refuses(&[0xE0, 0x02, code, 0x00], MALFORMED).await?;
    }
    Ok(())
}

async fn expiry_in_disconnect_after_none_in_connect_is_refused(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let mut pair = Pair::new(&context).await?;
    let disconnect = |secs| Disconnect {
        session_expiry_secs: Some(secs),
        ..Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)
    };
    // The twins: another value after one that is not 0, and 0 after 0.
    pair.client(30)
        .await?
        .disconnect_with(disconnect(60))
        .await?;
    pair.no_will().await?;
    pair.client(0).await?.disconnect_with(disconnect(0)).await?;
    pair.no_will().await?;
    let illegal = Packet::Disconnect(Box::new(disconnect(60)));
    let illegal = wire::encoded(&illegal, context.version());
    pair.refuses(&illegal, &[ReasonCode::ProtocolError]).await?;
    // It has not made the session last.
    let options = Client::options(&context, "c").clean_start(false);
    let client = options.connect().await?;
    let present = client.connack.session_present;
    context.check_eq("session present", &false, &present)
}

async fn expiry_in_disconnect_twice_is_refused(context: Context) -> Outcome {
    let mut pair = Pair::new(&context).await?;
    let expiry = wire::property(0x11, [0, 0, 0, 0]);
    let with = |expiries: &[&[u8]]| wire::packet(0xE0, &[&[0x00], &wire::properties(expiries)]);
    pair.drops_will(&with(&[&expiry])).await?;
    pair.refuses(&with(&[&expiry, &expiry]), MALFORMED).await
}

async fn broker_says_why_it_closes(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.expect_alive().await?;
    // A PUBLISH of QoS 3.
    client
        .send_bytes(&[0x36, 0x07, 0x00, 0x01, b'a', 0x00, 0x01, 0x00, b'm'])
        .await?;
    match client.expect_disconnect().await? {
        Some(disconnect) => {
            let reason = disconnect.reason;
            context.check(
                reason.is_error(),
                "a code of 0x80 or above",
                reason.to_string(),
            )
        }
        None => Err(Stop::skip(
            "the broker closes without DISCONNECT, though it should not",
        )),
    }
}

/// A client with a will, and somebody who waits for that.
struct Pair {
    context: Context,
    topic: String,
    watcher: Client,
}

impl Pair {
    async fn new(context: &Context) -> Outcome<Pair> {
        let topic = context.topic("will");
        let mut watcher = Client::connect(context, "w").await?;
        watcher.subscribe(&topic, QoS::AtMostOnce).await?;
        Ok(Pair {
            context: context.clone(),
            topic,
            watcher,
        })
    }

    async fn client(&self, session_expiry_secs: u32) -> Outcome<Client> {
        let will = Message::new(&self.topic, "will").will(0);
        let options = Client::options(&self.context, "c").will(will);
        options
            .session_expiry_secs(session_expiry_secs)
            .connect()
            .await
    }

    /// Shows that `disconnect` is taken as a normal one.
    async fn drops_will(&mut self, disconnect: &[u8]) -> Outcome {
        let mut client = self.client(0).await?;
        client.send_bytes(disconnect).await?;
        // Should the broker leave closing to the client, this is it.
        let within = self.context.timing().silence;
        let event = client.next(within.max(Duration::from_millis(1))).await;
        if !matches!(event, Event::Closed | Event::Silence) {
            return Err(client.fail_with("the connection closed, without a packet", &event));
        }
        client.cut();
        self.no_will().await
    }

    /// Shows that `disconnect` is taken as an error: the will is published.
    async fn refuses(&mut self, disconnect: &[u8], codes: &[ReasonCode]) -> Outcome {
        let mut client = self.client(0).await?;
        client.send_bytes(disconnect).await?;
        client.expect_closed_with(codes).await?;
        self.will().await
    }

    async fn will(&mut self) -> Outcome {
        let topic = self.topic.clone();
        self.watcher.receive_message(&topic, "will").await.map(drop)
    }

    async fn no_will(&mut self) -> Outcome {
        self.watcher.expect_no_publish().await
    }
}
