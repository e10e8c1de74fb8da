//! The cases, by chapter. Each file starts with its table.

use crate::case::Case;

// Chapter A: the connection and the session.
mod ping;

// Chapter B: messages.

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
    ping::CASES,
    // Chapter B.

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
