//! CONNECT: the protocol, the flags, the fields.

use whimbrel_codec::{Packet, PacketId, ProtocolVersion, QoS, ReasonCode};

use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Link;
use crate::proof::{
    MALFORMED, Twin, accepts_connect, malformed_connect, refuses_connect, refuses_on,
};
use crate::verdict::{Outcome, Stop};
use crate::wire::{self, PASSWORD, RawConnect, USER_NAME, WILL, WILL_RETAIN};

pub(crate) const CASES: &[Case] = &[
    case!(
        first_packet_other_than_connect_closes,
        [V31, V311, V5],
        ["3:MQTT-3.1.0-1", "5:MQTT-3.1.0-1", "5:MQTT-3.14.0-1"]
    ),
    case!(
        second_connect_closes,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.0-2",
            "3:MQTT-4.8.0-1",
            "5:MQTT-3.1.0-2",
            "5:MQTT-3.2.0-2",
            "5:MQTT-4.13.1-1"
        ]
    ),
    case!(
        wrong_protocol_name_is_refused,
        [V31, V311, V5],
        ["3:MQTT-3.1.2-1", "5:MQTT-3.1.2-1", "U31-001"]
    ),
    case!(
        unknown_protocol_level_is_refused,
        [V31, V311, V5],
        [
            "3:MQTT-3.1.2-2",
            "3:MQTT-3.2.2-4",
            "3:MQTT-3.2.2-5",
            "5:MQTT-3.1.2-2",
            "U31-001",
            "U311-007"
        ]
    ),
    case!(
        reserved_connect_flag_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-3", "5:MQTT-3.1.2-3", "U5-014"]
    ),
    case!(
        connect_with_header_flags_is_refused,
        [V311, V5],
        [
            "3:MQTT-2.2.2-1",
            "3:MQTT-2.2.2-2",
            "5:MQTT-2.1.3-1",
            "U5-006"
        ]
    ),
    case!(
        will_qos_without_will_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-11", "3:MQTT-3.1.2-13", "5:MQTT-3.1.2-11"]
    ),
    case!(
        will_retain_without_will_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-11", "3:MQTT-3.1.2-15", "5:MQTT-3.1.2-13"]
    ),
    case!(
        will_qos_3_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-14", "5:MQTT-3.1.2-12", "U5-015"]
    ),
    case!(
        will_flag_without_will_fields_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-9", "5:MQTT-3.1.2-9"]
    ),
    case!(
        will_fields_without_will_flag_are_refused,
        [V311],
        ["3:MQTT-3.1.2-11"]
    ),
    case!(
        user_name_flag_without_user_name_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-19", "5:MQTT-3.1.2-17"]
    ),
    case!(
        user_name_without_its_flag_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.2-18",
            "3:MQTT-3.1.2-20",
            "5:MQTT-3.1.2-16",
            "5:MQTT-3.1.2-18"
        ]
    ),
    case!(
        password_flag_without_password_is_refused,
        [V311, V5],
        ["3:MQTT-3.1.2-21", "5:MQTT-3.1.2-19"]
    ),
    case!(
        password_without_user_name_is_refused_before_5,
        [V311],
        ["3:MQTT-3.1.2-22"]
    ),
    case!(password_without_user_name_is_legal, [V5], ["U5-016"]),
    case!(
        connect_that_is_cut_short_or_too_long_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.4-1",
            "3:MQTT-3.2.2-6",
            "5:MQTT-3.1.4-1",
            "5:MQTT-4.13.1-1"
        ]
    ),
    case!(
        will_topic_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.3-10",
            "3:MQTT-1.5.3-1",
            "3:MQTT-1.5.3-2",
            "5:MQTT-3.1.3-11",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2",
            "U5-001"
        ]
    ),
    case!(
        user_name_that_is_no_string_is_refused,
        [V311, V5],
        [
            "3:MQTT-3.1.3-11",
            "3:MQTT-1.5.3-1",
            "3:MQTT-1.5.3-2",
            "5:MQTT-3.1.3-12",
            "5:MQTT-1.5.4-1",
            "5:MQTT-1.5.4-2",
            "U5-001"
        ]
    ),
    case!(
        packets_right_after_connect_are_served,
        [V31, V311, V5],
        ["3:MQTT-3.2.0-1", "5:MQTT-3.2.0-1", "U311-005", "U5-034"]
    ),
    case!(
        packets_after_a_refused_connect_are_ignored,
        [V311, V5],
        ["3:MQTT-3.1.4-5", "5:MQTT-3.1.4-6"]
    ),
    case!(
        connection_without_connect_is_closed_in_time,
        [V311, V5],
        ["U311-005", "U5-033"]
    ),
    case!(
        wrong_credentials_close,
        [V31, V311, V5],
        [
            "3:MQTT-3.2.2-4",
            "3:MQTT-3.2.2-5",
            "5:MQTT-3.1.4-2",
            "5:MQTT-3.2.2-6",
            "5:MQTT-3.2.2-7"
        ]
    ),
];

async fn first_packet_other_than_connect_closes(context: Context) -> Outcome {
    accepts_connect(&context, RawConnect::new(&context, "twin").build()).await?;
    for illegal in [wire::packet(0xC0, &[]), early_subscribe(&context)] {
        let mut link = Link::open(&context, "early").await?;
        link.send_bytes(&illegal).await?;
        link.expect_connect_refused(malformed_connect(&context))
            .await?;
    }
    Ok(())
}

fn early_subscribe(context: &Context) -> Vec<u8> {
    let no_properties: &[u8] = if context.is_v5() { &[0] } else { &[] };
    let filter = wire::field(context.topic("early"));
    wire::packet(0x82, &[&[0, 1], no_properties, &filter, &[0]])
}

async fn second_connect_closes(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let again = RawConnect::new(&context, "c").build();
    refuses_on(
        &mut client,
        &Twin::ping(),
        again,
        &[ReasonCode::ProtocolError],
    )
    .await
}

async fn wrong_protocol_name_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        protocol_name: b"MQTX".to_vec(),
        ..twin.clone()
    };
    accepts_connect(&context, twin.build()).await?;
    let mut link = Link::open(&context, "illegal").await?;
    link.allow_connack_of(other_form(&context));
    link.send_bytes(&illegal.build()).await?;
    let mut codes = MALFORMED.to_vec();
    codes.push(ReasonCode::UnsupportedProtocolVersion);
    link.expect_connect_refused(&codes).await
}

/// A broker of 5.0 may close without a word, one of 3.1.1 alone has to say 0x01: asked for a level that neither has, it may
/// follow either, and in the form of either.
async fn unknown_protocol_level_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    accepts_connect(&context, twin.build()).await?;
    for level in [6, 0x7F] {
        let illegal = RawConnect {
            level,
            ..twin.clone()
        };
        let mut link = Link::open(&context, "illegal").await?;
        link.allow_connack_of(other_form(&context));
        link.send_bytes(&illegal.build()).await?;
        let codes = [ReasonCode::UnsupportedProtocolVersion];
        if context.version() == ProtocolVersion::V311 {
            link.expect_connack_with(&codes).await?;
        } else {
            link.expect_connect_refused(&[codes.as_slice(), MALFORMED].concat())
                .await?;
        }
    }
    Ok(())
}

fn other_form(context: &Context) -> ProtocolVersion {
    if context.is_v5() {
        ProtocolVersion::V311
    } else {
        ProtocolVersion::V5
    }
}

async fn reserved_connect_flag_is_refused(context: Context) -> Outcome {
    refuses_flags(&context, RawConnect::new(&context, "c"), 0x01).await
}

async fn connect_with_header_flags_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        first_byte: 0x11,
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

async fn will_qos_without_will_is_refused(context: Context) -> Outcome {
    refuses_flags(&context, RawConnect::new(&context, "c"), 0x08).await?;
    refuses_flags(&context, RawConnect::new(&context, "c"), 0x10).await
}

async fn will_retain_without_will_is_refused(context: Context) -> Outcome {
    refuses_flags(&context, RawConnect::new(&context, "c"), WILL_RETAIN).await
}

async fn will_qos_3_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c").with_will(context.topic("will"), "w");
    refuses_flags(&context, twin, 0x18).await
}

async fn will_flag_without_will_fields_is_refused(context: Context) -> Outcome {
    refuses_flags(&context, RawConnect::new(&context, "c"), WILL).await
}

async fn will_fields_without_will_flag_are_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c").with_will(context.topic("will"), "w");
    let illegal = RawConnect {
        flags: twin.flags & !WILL,
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

/// Shows that `twin` is accepted, and refused with these bits of its connect flags turned over.
async fn refuses_flags(context: &Context, twin: RawConnect, flags: u8) -> Outcome {
    let illegal = RawConnect {
        flags: twin.flags ^ flags,
        ..twin.clone()
    };
    refuses_connect(
        context,
        twin.build(),
        illegal.build(),
        malformed_connect(context),
    )
    .await
}

async fn user_name_flag_without_user_name_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        flags: (twin.flags | USER_NAME) & !PASSWORD,
        user_name: None,
        password: None,
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

async fn user_name_without_its_flag_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        trailing: wire::field("user"),
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

async fn password_flag_without_password_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        flags: twin.flags | USER_NAME | PASSWORD,
        user_name: Some(twin.user_name.clone().unwrap_or_else(|| b"user".to_vec())),
        password: None,
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

async fn password_without_user_name_is_refused_before_5(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let illegal = RawConnect {
        flags: (twin.flags | PASSWORD) & !USER_NAME,
        user_name: None,
        password: Some(b"secret".to_vec()),
        ..twin.clone()
    };
    // The password may also be looked at and found wrong.
    let codes = [ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized];
    refuses_connect(&context, twin.build(), illegal.build(), &codes).await
}

/// Legal is not the same as let in: a broker may want a user name, but must not call the packet malformed.
async fn password_without_user_name_is_legal(context: Context) -> Outcome {
    let connect = RawConnect::new(&context, "c");
    let connect = RawConnect {
        flags: (connect.flags | PASSWORD) & !USER_NAME,
        user_name: None,
        password: Some(b"secret".to_vec()),
        ..connect
    };
    let mut link = Link::open(&context, "c").await?;
    link.send_bytes(&connect.build()).await?;
    let taken = |packet: &Packet| match packet {
        Packet::ConnAck(connack) => Some(connack.reason),
        _ => None,
    };
    let reason = link.expect("CONNACK", taken).await?;
    let wrong = MALFORMED.contains(&reason);
    context.check(
        !wrong,
        "CONNACK that does not call it malformed",
        reason.to_string(),
    )?;
    context.need(
        !reason.is_error(),
        "the broker does not let this password in",
    )?;
    link.expect_alive().await
}

async fn connect_that_is_cut_short_or_too_long_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c");
    let codes = malformed_connect(&context);
    let no_client_id = RawConnect {
        client_id: None,
        ..twin.clone()
    };
    refuses_connect(&context, twin.build(), no_client_id.build(), codes).await?;
    let trailing = RawConnect {
        trailing: vec![0],
        ..twin.clone()
    };
    refuses_connect(&context, twin.build(), trailing.build(), codes).await?;
    // A string longer than what is left of the packet.
    let mut overlong = field_after(&twin, &[0xFF, 0xFF, b'a']);
    refuses_connect(&context, twin.build(), &overlong, codes).await?;
    overlong = field_after(&twin, &[0x00]);
    refuses_connect(&context, twin.build(), &overlong, codes).await
}

/// `connect` with these bytes in the place of its payload.
fn field_after(connect: &RawConnect, payload: &[u8]) -> Vec<u8> {
    RawConnect {
        client_id: None,
        user_name: None,
        password: None,
        flags: wire::CLEAN_START,
        trailing: payload.to_vec(),
        ..connect.clone()
    }
    .build()
}

async fn will_topic_that_is_no_string_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c").with_will(context.topic("will"), "w");
    for illegal in NO_STRINGS {
        let illegal = RawConnect {
            will_topic: Some(illegal.to_vec()),
            ..twin.clone()
        };
        let codes = [malformed_connect(&context), topic_codes(&context)].concat();
        refuses_connect(&context, twin.build(), illegal.build(), &codes).await?;
    }
    Ok(())
}

fn topic_codes(context: &Context) -> &'static [ReasonCode] {
    if context.is_v5() {
        &[ReasonCode::TopicNameInvalid]
    } else {
        &[]
    }
}

async fn user_name_that_is_no_string_is_refused(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    let with_user = |name: &[u8]| RawConnect {
        flags: plain.flags | USER_NAME,
        user_name: Some(name.to_vec()),
        ..plain.clone()
    };
    let twin = match &plain.user_name {
        Some(_) => plain.clone(),
        None => with_user(b"user"),
    };
    if accepts_connect(&context, twin.build()).await.is_err() {
        return Err(Stop::skip(
            "the broker lets in no unknown user name; give one in the target",
        ));
    }
    for illegal in NO_STRINGS {
        let illegal = with_user(illegal);
        refuses_connect(
            &context,
            twin.build(),
            illegal.build(),
            malformed_connect(&context),
        )
        .await?;
    }
    Ok(())
}

async fn packets_right_after_connect_are_served(context: Context) -> Outcome {
    let topic = context.topic("early");
    let mut witness = Client::connect(&context, "w").await?;
    witness.subscribe(&topic, QoS::AtMostOnce).await?;
    let mut bytes = RawConnect::new(&context, "c").build();
    let message = Message::new(&topic, "early").packet(PacketId::MIN);
    bytes.extend(wire::encoded(&message, context.version()));
    bytes.extend([0xC0, 0x00]);
    let mut link = Link::open(&context, "c").await?;
    link.send_bytes(&bytes).await?;
    link.expect_accepted().await?;
    link.expect_pingresp().await?;
    witness.receive_message(&topic, "early").await.map(drop)
}

async fn packets_after_a_refused_connect_are_ignored(context: Context) -> Outcome {
    let topic = context.topic("early");
    let mut witness = Client::connect(&context, "w").await?;
    witness.subscribe(&topic, QoS::AtMostOnce).await?;
    let followed = |connect: &RawConnect, payload: &'static str| {
        let mut bytes = connect.build();
        let message = Message::new(&topic, payload).packet(PacketId::MIN);
        bytes.extend(wire::encoded(&message, context.version()));
        bytes
    };
    let legal = RawConnect::new(&context, "c");
    let mut link = Link::open(&context, "twin").await?;
    link.send_bytes(&followed(&legal, "accepted")).await?;
    link.expect_accepted().await?;
    witness.receive_message(&topic, "accepted").await?;
    let refused = RawConnect {
        flags: legal.flags | 0x01,
        ..legal
    };
    let mut link = Link::open(&context, "refused").await?;
    link.send_bytes(&followed(&refused, "refused")).await?;
    link.expect_connect_refused(malformed_connect(&context))
        .await?;
    witness.expect_no_publish().await
}

async fn connection_without_connect_is_closed_in_time(context: Context) -> Outcome {
    let mut served = Client::connect(&context, "c").await?;
    served.expect_alive().await?;
    let mut link = Link::open(&context, "idle").await?;
    match link.expect_closed_within(IDLE_MAX, &[]).await {
        Ok(_) => served.expect_alive().await,
        Err(_) => Err(Stop::skip(format!(
            "the broker only should close an idle connection, and had not after {} s",
            IDLE_MAX.as_secs()
        ))),
    }
}

async fn wrong_credentials_close(context: Context) -> Outcome {
    accepts_connect(&context, RawConnect::new(&context, "c").build()).await?;
    let plain = RawConnect::new(&context, "c");
    let wrong = RawConnect {
        flags: plain.flags | USER_NAME | PASSWORD,
        user_name: Some(b"conformance-nobody".to_vec()),
        password: Some(b"wrong".to_vec()),
        ..plain
    };
    let mut link = Link::open(&context, "wrong").await?;
    link.send_bytes(&wrong.build()).await?;
    let taken = |packet: &Packet| match packet {
        Packet::ConnAck(connack) => Some((connack.reason, connack.session_present)),
        _ => None,
    };
    let (reason, session_present) = link.expect("CONNACK", taken).await?;
    if !reason.is_error() {
        return Err(Stop::skip("the broker lets everybody in"));
    }
    context.check_eq("session present", &false, &session_present)?;
    link.expect_closed().await
}

/// Bytes that no string may have: an overlong form, a surrogate, a byte that ends nothing, and U+0000.
const NO_STRINGS: [&[u8]; 4] = [b"a\xC0\xAFb", b"a\xED\xA0\x80b", b"a\xC3", b"a\x00b"];
/// Longer than the ten seconds that are usual, shorter than a case may take.
const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(16);
