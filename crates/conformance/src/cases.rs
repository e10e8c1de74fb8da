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

// Chapter C: subscriptions, topics, strings, malformed packets, authentication.

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

    // Chapter C.
];
