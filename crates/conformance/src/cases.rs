//! The cases, by chapter. Each file starts with its table.

use crate::case::Case;

// Chapter A: the connection and the session.
mod ping;

// Chapter B: messages.

// Chapter C: subscriptions, topics, strings, malformed packets, authentication.

/// Every table, in the order of the report.
pub(crate) const TABLES: &[&[Case]] = &[
    // Chapter A.
    ping::CASES,
    // Chapter B.

    // Chapter C.
];
