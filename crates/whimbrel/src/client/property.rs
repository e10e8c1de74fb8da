//! `-D COMMAND PROPERTY VALUE`: MQTT 5 properties by name.

use std::str::FromStr;

use whimbrel_client::codec::topic::TopicName;
use whimbrel_client::codec::{MessageProperties, PayloadFormat, UserProperties, UserProperty};

/// Between the values of one `-D`. No argument of a process can have it in it.
pub(crate) const SEPARATOR: &str = "\0";

/// One `-D`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenProperty {
    pub(crate) packet: Packet,
    pub(crate) value: Value,
}

/// The packet that a property goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connect,
    Publish,
    Subscribe,
    Disconnect,
    Will,
}

/// A property and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    ContentType(String),
    CorrelationData(String),
    MaximumPacketSize(u32),
    MessageExpiry(u32),
    PayloadFormat(PayloadFormat),
    ReceiveMaximum(u16),
    ResponseTopic(String),
    SessionExpiry(u32),
    SubscriptionId(u32),
    TopicAliasMaximum(u16),
    User(String, String),
    WillDelay(u32),
}

impl FromStr for GivenProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let values: Vec<_> = text.split(SEPARATOR).collect();
        let (packet, name, value, second) = match values[..] {
            [packet, name, value] => (packet, name, value, None),
            [packet, name, value, second] => (packet, name, value, Some(second)),
            _ => return Err(USAGE.to_owned()),
        };
        let packet = packet_named(packet)?;
        let value = match (name, second) {
            ("user-property", Some(second)) => Value::User(value.to_owned(), second.to_owned()),
            ("user-property", None) => return Err(USAGE.to_owned()),
            _ => value_of(name, value)?,
        };
        if !value.places().contains(&packet) {
            return Err(format!(
                "{} has no {name} that can be set",
                packet.name().to_uppercase()
            ));
        }
        Ok(Self { packet, value })
    }
}

fn packet_named(name: &str) -> Result<Packet, String> {
    let lower = name.to_ascii_lowercase();
    let found = Packet::ALL.iter().find(|packet| packet.name() == lower);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = Packet::ALL.iter().map(|packet| packet.name()).collect();
        format!(
            "properties can be set of {}, not of {name:?}",
            names.join(", ")
        )
    })
}

fn value_of(name: &str, text: &str) -> Result<Value, String> {
    Ok(match name {
        "content-type" => Value::ContentType(text.to_owned()),
        "correlation-data" => Value::CorrelationData(text.to_owned()),
        "maximum-packet-size" => Value::MaximumPacketSize(number(name, text, 1)?),
        "message-expiry-interval" => Value::MessageExpiry(number(name, text, 0)?),
        "payload-format-indicator" => Value::PayloadFormat(match text {
            "0" => PayloadFormat::Bytes,
            "1" => PayloadFormat::Utf8,
            _ => return Err(format!("{name} is 0 for bytes or 1 for text")),
        }),
        "receive-maximum" => Value::ReceiveMaximum(number(name, text, 1)?),
        "response-topic" => match TopicName::new(text) {
            Ok(topic) => Value::ResponseTopic(topic.as_str().to_owned()),
            Err(error) => return Err(format!("{name}: {error}")),
        },
        "session-expiry-interval" => Value::SessionExpiry(number(name, text, 0)?),
        "subscription-identifier" => Value::SubscriptionId(number(name, text, 1)?),
        "topic-alias-maximum" => Value::TopicAliasMaximum(number(name, text, 0)?),
        "will-delay-interval" => Value::WillDelay(number(name, text, 0)?),
        "topic-alias" => {
            return Err(
                "topic-alias: aliases are given by the client itself where they help".to_owned(),
            );
        }
        "authentication-method"
        | "authentication-data"
        | "request-problem-information"
        | "request-response-information" => {
            return Err(format!("{name} can't be set"));
        }
        _ => return Err(format!("there is no property {name:?}; {USAGE}")),
    })
}

fn number<T: FromStr + PartialOrd + From<u8>>(
    name: &str,
    text: &str,
    smallest: u8,
) -> Result<T, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| *number >= T::from(smallest));
    number.ok_or_else(|| {
        let bits = 8 * size_of::<T>();
        format!("{name} is a number from {smallest} on, of {bits} bits, not {text:?}")
    })
}

impl Packet {
    const ALL: [Self; 5] = [
        Self::Connect,
        Self::Publish,
        Self::Subscribe,
        Self::Disconnect,
        Self::Will,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Disconnect => "disconnect",
            Self::Will => "will",
        }
    }
}

impl Value {
    /// The packets with which it can be set.
    fn places(&self) -> &'static [Packet] {
        match self {
            Self::ContentType(_)
            | Self::CorrelationData(_)
            | Self::MessageExpiry(_)
            | Self::PayloadFormat(_)
            | Self::ResponseTopic(_) => &[Packet::Publish, Packet::Will],
            Self::MaximumPacketSize(_) | Self::ReceiveMaximum(_) | Self::TopicAliasMaximum(_) => {
                &[Packet::Connect]
            }
            Self::SessionExpiry(_) => &[Packet::Connect, Packet::Disconnect],
            Self::SubscriptionId(_) => &[Packet::Subscribe],
            Self::User(..) => &[Packet::Connect, Packet::Publish, Packet::Will],
            Self::WillDelay(_) => &[Packet::Will],
        }
    }
}

/// The values for one packet, in their order.
pub(crate) fn of_packet(
    properties: &[GivenProperty],
    packet: Packet,
) -> impl Iterator<Item = &Value> {
    let chosen = properties
        .iter()
        .filter(move |given| given.packet == packet);
    chosen.map(|given| &given.value)
}

/// The properties of a message or a will.
pub(crate) fn message_properties<'a>(
    values: impl IntoIterator<Item = &'a Value>,
) -> Result<MessageProperties, String> {
    let mut builder = MessageProperties::builder();
    for value in values {
        builder = match value {
            Value::ContentType(text) => builder.content_type(text),
            Value::CorrelationData(text) => builder.correlation_data(text.as_bytes()),
            Value::MessageExpiry(seconds) => builder.message_expiry_secs(*seconds),
            Value::PayloadFormat(format) => builder.payload_format(*format),
            Value::ResponseTopic(topic) => {
                let topic = TopicName::new(topic);
                builder.response_topic(topic.map_err(|error| error.to_string())?)
            }
            Value::User(name, value) => builder.user_property(name, value),
            // Of the will, and not of its message.
            _ => builder,
        };
    }
    let built = builder.build();
    built.map_err(|error| format!("-D: the properties can't be sent: {error}"))
}

/// The user properties of CONNECT.
pub(crate) fn user_properties<'a>(values: impl IntoIterator<Item = &'a Value>) -> UserProperties {
    let mut properties = UserProperties::new();
    for value in values {
        if let Value::User(name, value) = value {
            properties.push(UserProperty::new(name.as_str(), value.as_str()));
        }
    }
    properties
}

const USAGE: &str = "write -D COMMAND PROPERTY VALUE, as in -D publish content-type text/plain, or -D COMMAND user-property NAME VALUE";

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Result<GivenProperty, String> {
        text.replace(' ', SEPARATOR).parse()
    }

    #[test]
    fn properties_are_read_by_name() {
        for (text, packet, value) in [
            (
                "PUBLISH content-type a/b",
                Packet::Publish,
                Value::ContentType("a/b".to_owned()),
            ),
            (
                "will will-delay-interval 5",
                Packet::Will,
                Value::WillDelay(5),
            ),
            (
                "Connect user-property k v",
                Packet::Connect,
                Value::User("k".to_owned(), "v".to_owned()),
            ),
            (
                "connect receive-maximum 65535",
                Packet::Connect,
                Value::ReceiveMaximum(65_535),
            ),
            (
                "subscribe subscription-identifier 7",
                Packet::Subscribe,
                Value::SubscriptionId(7),
            ),
        ] {
            assert_eq!(given(text), Ok(GivenProperty { packet, value }), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_set_is_named() {
        for (text, words) in [
            ("publish", "-D COMMAND PROPERTY VALUE"),
            ("publish user-property k", "user-property NAME VALUE"),
            ("foo content-type a", "not of \"foo\""),
            ("puback user-property a b", "not of \"puback\""),
            ("connect foo 1", "no property \"foo\""),
            ("connect content-type a", "CONNECT has no content-type"),
            ("connect receive-maximum 65536", "16 bits, not \"65536\""),
            ("connect receive-maximum 0", "from 1 on"),
            ("connect session-expiry-interval -1", "32 bits, not \"-1\""),
            ("publish payload-format-indicator 2", "0 for bytes or 1"),
            ("publish response-topic a/+", "response-topic: "),
            ("publish topic-alias 1", "by the client itself"),
            ("connect authentication-method x", "can't be set"),
        ] {
            let error = given(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn message_properties_keep_every_value() {
        let values = [
            Value::ContentType("a".to_owned()),
            Value::User("k".to_owned(), "1".to_owned()),
            Value::User("k".to_owned(), "2".to_owned()),
            Value::CorrelationData("c".to_owned()),
            Value::WillDelay(9),
        ];
        let properties = message_properties(&values).expect("valid");
        let properties = properties.as_properties();
        assert_eq!(properties.content_type(), Some("a"));
        assert_eq!(properties.correlation_data(), Some(&b"c"[..]));
        assert_eq!(properties.user_properties().count(), 2);
    }
}
