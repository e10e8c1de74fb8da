//! [`Format`]: what `sub -F` and `rr -F` make of a message.

mod clock;
mod json;
#[cfg(test)]
mod laws;
mod parse;
mod render;

use std::str::FromStr;

pub(crate) use clock::Moment;
pub(crate) use json::Layout;
pub(crate) use render::{Arrived, Complaint, Destination, Style};

/// A format of `-F`, read once.
///
/// The language is that of mosquitto_sub(1): `%` for what belongs to the message, `@` for the parts of the time, `\` for characters
/// that are hard to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field, Padding),
    /// `@N`: nanoseconds of the second.
    Nanoseconds,
    /// `@` and a letter of strftime(3).
    Time(char),
}

/// What `%` and a letter stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    TopicAlias,
    ContentType,
    CorrelationData,
    Expiry,
    PayloadFormat,
    Iso8601,
    Json,
    JsonPayload,
    Length,
    PacketId,
    Payload,
    UserProperties,
    Qos,
    ResponseTopic,
    Retain,
    SubscriptionId,
    Topic,
    UnixTime,
    HexLower,
    HexUpper,
}

/// `-`, `0`, a width and a largest width, as printf(3) has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Padding {
    is_left: bool,
    is_zero: bool,
    width: usize,
    width_max: Option<usize>,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse::parts(text).map(|parts| Self { parts })
    }
}
