//! The cases, by chapter. Each file starts with its table.

use crate::case::Case;

// Chapter A: the connection and the session.
mod ping;

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

/// Every table, in the order of the report.
pub(crate) const TABLES: &[&[Case]] = &[
    // Chapter A.
    ping::CASES,
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
];
