//! Client identifiers: which are accepted, which assigned, which refused.

use std::collections::BTreeSet;

use whimbrel_codec::{Packet, ProtocolVersion, ReasonCode};

use crate::case::{Case, case};
use crate::client::Client;
use crate::context::Context;
use crate::link::{Event, Link};
use crate::proof::{accepts_connect, malformed_connect, refuses_connect};
use crate::verdict::{Outcome, Stop};
use crate::wire::{CLEAN_START, RawConnect};

pub(crate) const CASES: &[Case] = &[
    case!(
        client_ids_of_23_letters_and_digits_are_accepted,
        [V31, V311, V5],
        ["3:MQTT-3.1.3-5", "5:MQTT-3.1.3-5", "U31-002"]
    ),
    case!(
        client_id_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.3-4",
            "3:MQTT-1.5.3-1",
            "3:MQTT-1.5.3-2",
            "5:MQTT-3.1.3-4",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2",
            "U5-001"
        ]
    ),
    case!(
        missing_client_id_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.3-3", "5:MQTT-3.1.3-3"]
    ),
    case!(
        empty_client_id_with_a_clean_session_gets_a_session_of_its_own,
        [V311],
        ["3:MQTT-3.1.3-6"]
    ),
    case!(
        empty_client_id_without_a_clean_session_is_rejected,
        [V311],
        [
            "3:MQTT-3.1.3-7",
            "3:MQTT-3.1.3-8",
            "3:MQTT-3.1.3-9",
            "3:MQTT-3.2.2-4",
            "3:MQTT-3.2.2-5"
        ]
    ),
    case!(empty_client_id_is_rejected_in_3_1, [V31], ["U31-002"]),
    case!(
        empty_client_id_is_assigned_and_reported,
        [V5],
        ["5:MQTT-3.1.3-6", "5:MQTT-3.1.3-7", "5:MQTT-3.2.2-16"]
    ),
    case!(refused_client_id_closes, [V5], ["5:MQTT-3.1.3-8"]),
];

async fn client_ids_of_23_letters_and_digits_are_accepted(context: Context) -> Outcome {
    // All 62 of them, after the characters that make the id one of this case.
    let own = context.client_id("");
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let room = CLIENT_ID_BYTES.saturating_sub(own.len());
    for part in letters.as_bytes().chunks(room.max(1)) {
        let part = String::from_utf8_lossy(part);
        let id = format!("{own}{part:0>room$}");
        let options = Client::options(&context, "c").with(|connect| connect.client_id = id.into());
        let mut client = options.connect().await?;
        client.expect_alive().await?;
        client.disconnect().await?;
    }
    Ok(())
}

async fn client_id_that_is_no_string_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let id = context.client_id("c");
    for wrong in [b"\xC0\xAF".as_slice(), b"\xED\xA0\x80", b"\xC3", b"\x00"] {
        let client_id = Some([id.as_bytes(), wrong].concat());
        let illegal = RawConnect {
            client_id,
            ..twin.clone()
        };
        // It is an identifier that is not valid, too.
        let codes: &[ReasonCode] = match context.version() {
            ProtocolVersion::V5 => &[ReasonCode::ClientIdentifierNotValid],
            _ => &[],
        };
        let codes = [malformed_connect(&context), codes].concat();
        refuses_connect(&context, twin.build(), illegal.build(), &codes).await?;
    }
    Ok(())
}

async fn missing_client_id_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        client_id: None,
        ..twin.clone()
    };
    refuses_connect(
        &context,
        twin.build(),
        illegal.build(),
        malformed_connect(&context),
    )
    .await
}

async fn empty_client_id_with_a_clean_session_gets_a_session_of_its_own(
    context: Context,
) -> Outcome {
    let plain = Client::connect(&context, "c").await?;
    plain.disconnect().await?;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let options = Client::options(&context, "").with(|connect| connect.client_id = "".into());
        let mut link = options.send().await?;
        match link.next(context.timing().answer).await {
            Event::Packet(Packet::ConnAck(connack)) => match connack.reason {
                ReasonCode::Success => clients.push(link),
                ReasonCode::ClientIdentifierNotValid => {
                    link.expect_closed().await?;
                    return Err(Stop::skip(
                        "the broker does not allow empty client identifiers",
                    ));
                }
                reason => return Err(context.fail("CONNACK 0x00 or 0x02", reason.to_string())),
            },
            event => return Err(link.fail_with("CONNACK 0x00 or 0x02", &event)),
        }
    }
    // Were the assigned identifiers the same, the second would have taken the first one's place.
    for client in &mut clients {
        client.expect_alive().await?;
    }
    Ok(())
}

async fn empty_client_id_without_a_clean_session_is_rejected(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let flags = twin.flags & !CLEAN_START;
    rejects(&context, RawConnect { flags, ..twin }).await
}

async fn empty_client_id_is_rejected_in_3_1(context: Context) -> Outcome {
    rejects(&context, RawConnect::new(&context, "c")).await
}

/// Shows that `twin` is accepted, and rejected as 0x02 with an empty client id. The codec has no such packet.
async fn rejects(context: &Context, twin: RawConnect) -> Outcome {
    let mut link = accepts_connect(context, twin.build()).await?;
    link.send(&Packet::Disconnect(Box::default())).await?;
    let empty = RawConnect {
        client_id: Some(Vec::new()),
        ..twin
    };
    let mut link = Link::open(context, "empty").await?;
    link.send_bytes(&empty.build()).await?;
    let codes = [ReasonCode::ClientIdentifierNotValid];
    link.expect_connack_with(&codes).await.map(drop)
}

async fn empty_client_id_is_assigned_and_reported(context: Context) -> Outcome {
    context.need_sessions(60)?;
    let options = Client::options(&context, "")
        .session_expiry_secs(60)
        .with(|connect| connect.client_id = "".into());
    let mut assigned = BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut link = options.send().await?;
        let connack = match link.next(context.timing().answer).await {
            Event::Packet(Packet::ConnAck(connack)) => connack,
            event => return Err(link.fail_with("CONNACK", &event)),
        };
        if connack.reason.is_error() {
            link.expect_closed().await?;
            return Err(Stop::skip(format!(
                "the broker does not allow empty client identifiers: {}",
                connack.reason
            )));
        }
        let Some(id) = connack.properties.assigned_client_id else {
            return Err(context.fail("CONNACK with an Assigned Client Identifier", "none in it"));
        };
        context.leaves_session(&id);
        assigned.insert(id);
        clients.push(link);
    }
    context.check_eq("different identifiers:", &2, &assigned.len())?;
    drop(clients);
    // The session goes by the name that was assigned.
    for id in assigned {
        let options = Client::options(&context, "").persistent();
        let client = options
            .with(|connect| connect.client_id = id)
            .connect()
            .await?;
        context.check_eq("session present", &true, &client.connack.session_present)?;
        client.disconnect().await?;
    }
    Ok(())
}

async fn refused_client_id_closes(context: Context) -> Outcome {
    Client::connect(&context, "c").await?.disconnect().await?;
    let own = context.client_id("");
    for id in [
        String::new(),
        format!("{own}/#+ \u{1}"),
        format!("{own}{}", "x".repeat(60_000)),
    ] {
        let options = Client::options(&context, "").with(|connect| connect.client_id = id.into());
        let mut link = options.send().await?;
        match link.next(context.timing().answer).await {
            Event::Packet(Packet::ConnAck(connack)) => {
                if connack.reason == ReasonCode::ClientIdentifierNotValid {
                    return link.expect_closed().await;
                }
            }
            Event::Closed => {}
            event => return Err(link.fail_with("CONNACK or the connection closed", &event)),
        }
    }
    Err(Stop::skip(
        "the broker says 0x85 to none of the client identifiers tried",
    ))
}

/// So many bytes every server has to accept.
const CLIENT_ID_BYTES: usize = 23;
