//! The cases, by chapter. Each file starts with its table.

use crate::case::Case;

// Chapter A: the connection and the session.
mod client_id;
mod connack;
mod connect;
mod connect_properties;
mod disconnect;
mod keep_alive;
mod ping;
mod session;
mod takeover;
mod will;

// Chapter B: messages.
mod acknowledgements;
mod flow_control;
mod message_expiry;
mod message_properties;
mod ordering;
mod packet_size;
mod pair;
mod publish;
mod qos1;
mod qos2;
mod qos2_delivery;
mod raw_publish;
mod redelivery;
mod retained;
mod topic_alias;

// Chapter C: subscriptions, topics, strings, malformed packets, authentication.
mod auth;
mod framing;
mod overlapping;
mod properties;
mod reply_size;
mod request;
mod shared;
mod strings;
mod subscribe;
mod subscription_id;
mod subscription_options;
mod topics;
mod unsubscribe;

/// Every table, in the order of the report.
pub(crate) const TABLES: &[&[Case]] = &[
    // Chapter A.
    connect::CASES,
    connect_properties::CASES,
    client_id::CASES,
    connack::CASES,
    session::CASES,
    takeover::CASES,
    will::CASES,
    keep_alive::CASES,
    ping::CASES,
    disconnect::CASES,
    // Chapter B.
    publish::CASES,
    qos1::CASES,
    qos2::CASES,
    qos2_delivery::CASES,
    acknowledgements::CASES,
    redelivery::CASES,
    retained::CASES,
    message_properties::CASES,
    message_expiry::CASES,
    ordering::CASES,
    flow_control::CASES,
    topic_alias::CASES,
    packet_size::CASES,
    // Chapter C.
    subscribe::CASES,
    unsubscribe::CASES,
    subscription_options::CASES,
    overlapping::CASES,
    subscription_id::CASES,
    shared::CASES,
    topics::CASES,
    strings::CASES,
    framing::CASES,
    properties::CASES,
    reply_size::CASES,
    auth::CASES,
];
