//! Properties of CONNECT and of the will in it that must not be there, or not with that value, or not twice.

use whimbrel_codec::ReasonCode;

use crate::case::{Case, case};
use crate::context::Context;
use crate::proof::{MALFORMED, accepts_connect, refuses_connect};
use crate::verdict::Outcome;
use crate::wire::{RawConnect, property, string_property, user_property};

pub(crate) const CASES: &[Case] = &[
    case!(session_expiry_twice_is_refused, [V5], ["U5-019"]),
    case!(receive_maximum_of_0_or_twice_is_refused, [V5], ["U5-020"]),
    case!(
        maximum_packet_size_of_0_or_twice_is_refused,
        [V5],
        ["U5-021"]
    ),
    case!(topic_alias_maximum_twice_is_refused, [V5], ["U5-023"]),
    case!(
        request_response_information_of_2_or_twice_is_refused,
        [V5],
        ["U5-024"]
    ),
    case!(
        request_problem_information_of_2_or_twice_is_refused,
        [V5],
        ["U5-025"]
    ),
    case!(authentication_method_twice_is_refused, [V5], ["U5-027"]),
    case!(
        authentication_data_without_method_or_twice_is_refused,
        [V5],
        ["U5-028"]
    ),
    case!(will_property_twice_is_refused, [V5], ["U5-029"]),
    case!(
        property_of_another_packet_in_connect_is_refused,
        [V5],
        ["U5-011", "5:MQTT-4.13.1-1"]
    ),
    case!(
        property_length_that_does_not_fit_is_refused,
        [V5],
        ["U5-010", "5:MQTT-3.1.4-1"]
    ),
    case!(properties_in_any_order_are_accepted, [V5], ["U5-012"]),
];

async fn session_expiry_twice_is_refused(context: Context) -> Outcome {
    let expiry = property(0x11, [0, 0, 0, 0]);
    twice(&context, &expiry).await
}

async fn receive_maximum_of_0_or_twice_is_refused(context: Context) -> Outcome {
    let twin = property(0x21, [0, 10]);
    refuses(&context, &[&twin], &[&property(0x21, [0, 0])]).await?;
    twice(&context, &twin).await
}

async fn maximum_packet_size_of_0_or_twice_is_refused(context: Context) -> Outcome {
    let twin = property(0x27, [0, 0, 16, 0]);
    refuses(&context, &[&twin], &[&property(0x27, [0, 0, 0, 0])]).await?;
    twice(&context, &twin).await
}

async fn topic_alias_maximum_twice_is_refused(context: Context) -> Outcome {
    twice(&context, &property(0x22, [0, 10])).await
}

async fn request_response_information_of_2_or_twice_is_refused(context: Context) -> Outcome {
    let twin = property(0x19, [1]);
    refuses(&context, &[&twin], &[&property(0x19, [2])]).await?;
    twice(&context, &twin).await
}

async fn request_problem_information_of_2_or_twice_is_refused(context: Context) -> Outcome {
    let twin = property(0x17, [1]);
    refuses(&context, &[&twin], &[&property(0x17, [2])]).await?;
    twice(&context, &twin).await
}

/// A broker need not know any method, so the twin is a CONNECT without one.
async fn authentication_method_twice_is_refused(context: Context) -> Outcome {
    let method = string_property(0x15, "conformance");
    refuses(&context, &[], &[&method, &method]).await
}

async fn authentication_data_without_method_or_twice_is_refused(context: Context) -> Outcome {
    let data = string_property(0x16, "data");
    refuses(&context, &[], &[&data]).await?;
    let method = string_property(0x15, "conformance");
    refuses(&context, &[], &[&method, &data, &data]).await
}

async fn will_property_twice_is_refused(context: Context) -> Outcome {
    let topic = context.topic("will");
    for once in [
        property(0x18, [0, 0, 0, 1]),
        property(0x01, [1]),
        property(0x02, [0, 0, 0, 60]),
        string_property(0x03, "text/plain"),
        string_property(0x08, &topic),
        string_property(0x09, "correlation"),
    ] {
        let connect = RawConnect::new(&context, "c").with_will(topic.as_str(), "w");
        let with = |properties: Vec<u8>| RawConnect {
            will_properties: Some(properties),
            ..connect.clone()
        };
        let twice = with([once.clone(), once.clone()].concat());
        refuses_connect(&context, with(once).build(), twice.build(), MALFORMED).await?;
    }
    Ok(())
}

/// Topic Alias belongs to PUBLISH, Server Keep Alive to CONNACK, and 0x7F to nothing.
async fn property_of_another_packet_in_connect_is_refused(context: Context) -> Outcome {
    for illegal in [
        property(0x23, [0, 1]),
        property(0x13, [0, 10]),
        property(0x7F, [0]),
    ] {
        refuses(&context, &[&user_property("name", "value")], &[&illegal]).await?;
    }
    Ok(())
}

async fn property_length_that_does_not_fit_is_refused(context: Context) -> Outcome {
    let twin = RawConnect::new(&context, "c").with_properties(&[&property(0x21, [0, 10])]);
    // The value of the last property goes on past the end of the section.
    let illegal = RawConnect::new(&context, "c").with_properties(&[&[0x21, 0x00]]);
    refuses_connect(&context, twin.build(), illegal.build(), MALFORMED).await
}

async fn properties_in_any_order_are_accepted(context: Context) -> Outcome {
    let properties = [
        property(0x11, [0, 0, 0, 0]),
        user_property("a", "1"),
        property(0x21, [0, 10]),
        user_property("a", "2"),
        property(0x27, [0, 1, 0, 0]),
    ];
    let mut order: Vec<&[u8]> = properties.iter().map(Vec::as_slice).collect();
    for _ in 0..2 {
        let connect = RawConnect::new(&context, "c").with_properties(&order);
        accepts_connect(&context, connect.build()).await?;
        order.reverse();
    }
    Ok(())
}

/// Shows that `once` is accepted, and refused when it is there twice.
async fn twice(context: &Context, once: &[u8]) -> Outcome {
    refuses(context, &[once], &[once, once]).await
}

/// Shows that a CONNECT with the properties `twin` is accepted and one with `illegal` refused.
async fn refuses(context: &Context, twin: &[&[u8]], illegal: &[&[u8]]) -> Outcome {
    let connect = |properties| {
        RawConnect::new(context, "c")
            .with_properties(properties)
            .build()
    };
    let codes = [MALFORMED, &[ReasonCode::BadAuthenticationMethod]].concat();
    refuses_connect(context, connect(twin), connect(illegal), &codes).await
}
