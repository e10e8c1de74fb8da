//! AUTH and enhanced authentication.
//!
//! Which methods a broker has, only its operator knows. What needs one is shown with SCRAM, whose first step asks for
//! no secret, if the broker has it, and skipped otherwise.

use whimbrel_codec::{Auth, Packet, ReasonCode};

use crate::case::{Case, case};
use crate::client::Client;
use crate::context::Context;
use crate::link::{Event, Link};
use crate::proof::{MALFORMED, Twin, accepts_connect, refuses, refuses_connect};
use crate::verdict::{Outcome, Stop};
use crate::wire::{self, RawConnect};

pub(crate) const CASES: &[Case] = &[
    case!(
        an_unknown_method_is_refused,
        [V5],
        ["5:MQTT-4.12.0-1", "5:MQTT-4.12.0-4", "5:MQTT-3.1.4-2"]
    ),
    case!(
        authentication_data_without_a_method_is_refused,
        [V5],
        ["U5-028"]
    ),
    case!(
        a_method_that_is_no_string_is_refused,
        [V5],
        ["5:MQTT-1.5.4-1", "5:MQTT-1.5.4-2"]
    ),
    case!(
        without_a_method_the_server_sends_neither_auth_nor_a_method,
        [V5],
        ["5:MQTT-4.12.0-6"]
    ),
    case!(
        auth_on_a_connection_without_a_method_is_refused,
        [V5],
        ["U5-090", "5:MQTT-4.12.0-7"]
    ),
    case!(
        reauthentication_that_cannot_succeed_ends_the_connection,
        [V5],
        ["5:MQTT-4.12.1-2"]
    ),
    case!(auth_without_a_method_is_refused, [V5], ["U5-091", "U5-092"]),
    case!(auth_with_two_methods_is_refused, [V5], ["U5-092"]),
    case!(auth_with_flags_is_refused, [V5], ["5:MQTT-3.15.1-1"]),
    case!(
        auth_with_a_code_of_other_packets_is_refused,
        [V5],
        ["5:MQTT-3.15.2-1"]
    ),
    case!(
        auth_as_the_first_packet_is_refused,
        [V5],
        ["5:MQTT-3.1.0-1", "5:MQTT-3.14.0-1"]
    ),
    case!(
        a_server_asks_for_more_with_0x18_and_the_same_method,
        [V5],
        [
            "5:MQTT-4.12.0-2",
            "5:MQTT-4.12.0-5",
            "5:MQTT-3.15.2-1",
            "5:MQTT-3.15.2-2",
            "5:MQTT-3.15.2-3",
            "5:MQTT-3.2.0-1"
        ]
    ),
    case!(
        an_answer_with_another_method_is_refused,
        [V5],
        ["U5-090", "5:MQTT-4.12.0-4"]
    ),
];

fn method(name: impl AsRef<[u8]>) -> Vec<u8> {
    wire::string_property(0x15, name)
}

fn data(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    wire::property(0x16, wire::field(bytes))
}

fn auth(code: u8, properties: &[&[u8]]) -> Vec<u8> {
    wire::packet(0xF0, &[&[code], &wire::properties(properties)])
}

async fn an_unknown_method_is_refused(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    let unknown = method("conformance-no-such-method");
    // The two codes that 4.12 names need not be sent at all.
    let codes = [MALFORMED, REFUSED].concat();
    let illegal = plain.clone().with_properties(&[&unknown]);
    refuses_connect(&context, plain.build(), illegal.build(), &codes).await?;
    let illegal = plain.clone().with_properties(&[&unknown, &data([1, 2, 3])]);
    refuses_connect(&context, plain.build(), illegal.build(), &codes).await
}

async fn authentication_data_without_a_method_is_refused(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    let illegal = plain.clone().with_properties(&[&data([1, 2, 3])]);
    let codes = [MALFORMED, REFUSED].concat();
    refuses_connect(&context, plain.build(), illegal.build(), &codes).await
}

async fn a_method_that_is_no_string_is_refused(context: Context) -> Outcome {
    let plain = RawConnect::new(&context, "c");
    let codes = [MALFORMED, REFUSED].concat();
    for name in [&b"\xC0\x80"[..], b"a\0b", b"\xED\xA0\x80", b"\xFF"] {
        let illegal = plain.clone().with_properties(&[&method(name)]);
        refuses_connect(&context, plain.build(), illegal.build(), &codes).await?;
    }
    Ok(())
}

async fn without_a_method_the_server_sends_neither_auth_nor_a_method(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let named = client.connack.properties.authentication.clone();
    context.check(
        named.is_none(),
        "CONNACK without an authentication method",
        format!("{named:?}"),
    )?;
    client.expect_alive().await?;
    client.expect_silence().await?;
    client.disconnect().await
}

async fn auth_on_a_connection_without_a_method_is_refused(context: Context) -> Outcome {
    let illegal = auth(CONTINUE, &[&method("conformance")]);
    refuses(&context, &Twin::ping(), illegal, REFUSED_AUTH).await
}

async fn reauthentication_that_cannot_succeed_ends_the_connection(context: Context) -> Outcome {
    let illegal = auth(RE_AUTHENTICATE, &[&method("conformance"), &data([1])]);
    refuses(&context, &Twin::ping(), illegal, REFUSED_AUTH).await
}

async fn auth_without_a_method_is_refused(context: Context) -> Outcome {
    // Nothing at all, which stands for success; a code alone; a code without properties.
    for illegal in [
        wire::packet(0xF0, &[]),
        wire::packet(0xF0, &[&[CONTINUE]]),
        auth(CONTINUE, &[]),
        auth(RE_AUTHENTICATE, &[&data([1])]),
    ] {
        refuses(&context, &Twin::ping(), illegal, REFUSED_AUTH).await?;
    }
    Ok(())
}

async fn auth_with_two_methods_is_refused(context: Context) -> Outcome {
    let name = method("conformance");
    let illegal = auth(CONTINUE, &[&name, &name]);
    refuses(&context, &Twin::ping(), illegal, REFUSED_AUTH).await
}

async fn auth_with_flags_is_refused(context: Context) -> Outcome {
    for flags in [0x1, 0x2, 0x8, 0xF] {
        let section = wire::properties(&[&method("conformance")]);
        let illegal = wire::packet(0xF0 | flags, &[&[CONTINUE], &section]);
        refuses(&context, &Twin::ping(), illegal, REFUSED_AUTH).await?;
    }
    Ok(())
}

async fn auth_with_a_code_of_other_packets_is_refused(context: Context) -> Outcome {
    for code in [0x01, 0x10, 0x80, 0x87, 0xFF] {
        let illegal = auth(code, &[&method("conformance")]);
        refuses(&context, &Twin::ping(), illegal, REFUSED_AUTH).await?;
    }
    Ok(())
}

async fn auth_as_the_first_packet_is_refused(context: Context) -> Outcome {
    drop(accepts_connect(&context, RawConnect::new(&context, "c").build()).await?);
    let mut link = Link::open(&context, "first").await?;
    link.send_bytes(&auth(CONTINUE, &[&method("conformance")]))
        .await?;
    link.expect_connect_refused(&[MALFORMED, REFUSED].concat())
        .await
}

/// An exchange in which the server has asked for more, or the skip when it knows none of the methods tried.
async fn challenge(context: &Context) -> Outcome<(Link, &'static str, Auth)> {
    for name in ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"] {
        let first = "n,,n=conformance,r=fyko2dl2bbzRc9Ck0zVhq5Zk";
        let size = wire::property(0x27, CHALLENGE_MAX.to_be_bytes());
        let connect = RawConnect::new(context, "scram");
        let connect = connect.with_properties(&[&method(name), &data(first), &size]);
        let mut link = Link::open(context, "scram").await?;
        link.send_bytes(&connect.build()).await?;
        match link.next(context.timing().answer).await {
            Event::Packet(Packet::Auth(auth)) => return Ok((link, name, *auth)),
            Event::Packet(Packet::ConnAck(connack)) if connack.reason.is_error() => {}
            Event::Closed => {}
            event => return Err(link.fail_with("AUTH, or a refusal of the method", &event)),
        }
    }
    Err(Stop::skip(
        "the broker has none of the authentication methods that this tool speaks (SCRAM)",
    ))
}

async fn a_server_asks_for_more_with_0x18_and_the_same_method(context: Context) -> Outcome {
    accepts_connect(&context, RawConnect::new(&context, "c").build()).await?;
    let (link, name, auth) = challenge(&context).await?;
    let more = ReasonCode::ContinueAuthentication;
    context.check_eq("AUTH with", &more, &auth.reason)?;
    let named = auth.authentication.method.as_str();
    context.check_eq("method", name, named)?;
    let size = link.last_bytes().len();
    let limit = usize::try_from(CHALLENGE_MAX).unwrap_or(usize::MAX);
    context.check(
        size <= limit,
        format!("AUTH of at most {CHALLENGE_MAX} bytes"),
        format!("{size} bytes"),
    )
}

async fn an_answer_with_another_method_is_refused(context: Context) -> Outcome {
    accepts_connect(&context, RawConnect::new(&context, "c").build()).await?;
    let (mut link, ..) = challenge(&context).await?;
    link.send_bytes(&auth(CONTINUE, &[&method("conformance"), &data("n,,")]))
        .await?;
    link.expect_connect_refused(&[MALFORMED, REFUSED].concat())
        .await
}

/// For what CONNECT gets wrong about authentication.
const REFUSED: &[ReasonCode] = &[
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::NotAuthorized,
    ReasonCode::BadUserNameOrPassword,
];
/// For an AUTH that has no place: the special codes, too.
const REFUSED_AUTH: &[ReasonCode] = &[
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::NotAuthorized,
    ReasonCode::BadAuthenticationMethod,
];
const CONTINUE: u8 = 0x18;
const RE_AUTHENTICATE: u8 = 0x19;
/// The largest packet the client of a challenge takes, in bytes.
const CHALLENGE_MAX: u32 = 512;
