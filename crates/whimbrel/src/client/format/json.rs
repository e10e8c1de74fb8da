//! A message as JSON, in the order and with the layout that mosquitto_sub gives it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use whimbrel_client::codec::{PacketId, PayloadFormat, Property};

use super::Moment;
use super::render::{Arrived, Complaint, Destination};

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one line, without blanks.
    Compact,
    /// One member a line, with tabs.
    Pretty,
}

/// `%j`: the payload is a string.
pub(super) fn write_message(
    message: &Arrived<'_>,
    now: &Moment,
    layout: Layout,
    destination: Destination,
    out: &mut Vec<u8>,
) {
    let mut writer = Writer::new(layout, destination, out);
    write_head(message, now, &mut writer);
    if message.payload.is_empty() {
        writer.key("payload");
        writer.raw("null");
    } else {
        writer.bytes_member("payload", message.payload);
    }
    writer.end_object();
}

/// `%J`: the payload is JSON itself.
pub(super) fn write_message_of_json(
    message: &Arrived<'_>,
    now: &Moment,
    layout: Layout,
    destination: Destination,
    out: &mut Vec<u8>,
) -> Result<(), Complaint> {
    let payload = if message.payload.is_empty() {
        "null"
    } else {
        let is_json = serde_json::from_slice::<IgnoredAny>(message.payload).is_ok();
        let text = str::from_utf8(message.payload).ok().filter(|_| is_json);
        text.ok_or(Complaint::PayloadIsNoJson)?
    };
    let mut writer = Writer::new(layout, destination, out);
    write_head(message, now, &mut writer);
    writer.key("payload");
    writer.reformat(payload);
    writer.end_object();
    Ok(())
}

/// 1 for text, as on the wire.
pub(super) fn number_of(format: PayloadFormat) -> u8 {
    match format {
        PayloadFormat::Bytes => 0,
        PayloadFormat::Utf8 => 1,
    }
}

fn write_head(message: &Arrived<'_>, now: &Moment, writer: &mut Writer<'_>) {
    writer.begin_object();
    writer.text_member("tst", &now.iso8601_microseconds());
    writer.text_member("topic", message.topic);
    writer.number_member("qos", message.qos as u64);
    writer.number_member("retain", u64::from(message.retain));
    writer.number_member("payloadlen", message.payload.len() as u64);
    if let Some(id) = message.packet_id.map(PacketId::get) {
        writer.number_member("mid", id.into());
    }
    write_properties(message, writer);
}

/// The properties in their order, but the user properties together, where the first of them is.
fn write_properties(message: &Arrived<'_>, writer: &mut Writer<'_>) {
    let is_shown = |property: &Property<'_>| match property {
        // One that the client has given itself says nothing.
        Property::SubscriptionId(_) => message.subscription_id.is_some(),
        _ => true,
    };
    let mut properties = message.properties.iter().filter(is_shown).peekable();
    if properties.peek().is_none() {
        return;
    }
    writer.key("properties");
    writer.begin_object();
    let mut has_user_properties = false;
    for property in properties {
        match property {
            Property::PayloadFormat(format) => {
                writer.number_member("payload-format-indicator", number_of(format).into());
            }
            Property::MessageExpiry(seconds) => {
                writer.number_member("message-expiry-interval", seconds.into());
            }
            Property::ContentType(text) => writer.text_member("content-type", text),
            Property::ResponseTopic(topic) => {
                writer.text_member("response-topic", topic.as_str());
            }
            Property::CorrelationData(data) => writer.bytes_member("correlation-data", data),
            Property::TopicAlias(alias) => writer.number_member("topic-alias", alias.get().into()),
            Property::SubscriptionId(_) => {
                let id = message.subscription_id.unwrap_or_default();
                writer.number_member("subscription-identifier", id.into());
            }
            Property::UserProperty(_) if !std::mem::replace(&mut has_user_properties, true) => {
                writer.key("user-properties");
                writer.begin_object();
                for property in message.properties.user_properties() {
                    writer.text_member(property.name, property.value);
                }
                writer.end_object();
            }
            // The others are no properties of a message.
            _ => {}
        }
    }
    writer.end_object();
}

struct Writer<'a> {
    layout: Layout,
    destination: Destination,
    /// Objects and arrays that are open.
    depth: usize,
    /// The next member is the first of its object.
    is_first: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(layout: Layout, destination: Destination, out: &'a mut Vec<u8>) -> Self {
        Self {
            layout,
            destination,
            depth: 0,
            is_first: true,
            out,
        }
    }

    fn begin_object(&mut self) {
        self.raw("{");
        self.depth += 1;
        self.is_first = true;
    }

    fn end_object(&mut self) {
        self.depth -= 1;
        self.new_line();
        self.raw("}");
        self.is_first = false;
    }

    fn key(&mut self, key: &str) {
        self.begin_member();
        self.string(key);
        self.colon();
    }

    fn text_member(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    fn number_member(&mut self, key: &str, number: u64) {
        self.key(key);
        self.raw(&number.to_string());
    }

    /// Bytes as a string; what is no text in base64, under a key that says so.
    fn bytes_member(&mut self, key: &str, bytes: &[u8]) {
        match str::from_utf8(bytes) {
            Ok(text) => self.text_member(key, text),
            Err(_) => self.text_member(&format!("{key}-base64"), &STANDARD.encode(bytes)),
        }
    }

    fn begin_member(&mut self) {
        if !self.is_first {
            self.raw(",");
        }
        self.is_first = false;
        self.new_line();
    }

    fn colon(&mut self) {
        self.raw(match self.layout {
            Layout::Compact => ":",
            Layout::Pretty => ":\t",
        });
    }

    fn new_line(&mut self) {
        if self.layout == Layout::Pretty {
            self.raw("\n");
            let tabs = self.out.len() + self.depth;
            self.out.resize(tabs, b'\t');
        }
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        self.raw("\"");
        for character in text.chars() {
            match character {
                '"' => self.raw("\\\""),
                '\\' => self.raw("\\\\"),
                '\u{8}' => self.raw("\\b"),
                '\u{c}' => self.raw("\\f"),
                '\n' => self.raw("\\n"),
                '\r' => self.raw("\\r"),
                '\t' => self.raw("\\t"),
                '\0'..'\x20' => self.unicode_escape(character),
                other => self.character(other),
            }
        }
        self.raw("\"");
    }

    /// A character that JSON lets stand as it is, which a terminal may still obey.
    fn character(&mut self, character: char) {
        if self.destination == Destination::Terminal && character.is_control() {
            self.unicode_escape(character);
        } else {
            self.raw(character.encode_utf8(&mut [0; 4]));
        }
    }

    fn unicode_escape(&mut self, character: char) {
        self.raw(&format!("\\u{:04x}", u32::from(character)));
    }

    /// Writes valid JSON in this layout. Numbers and strings stay as the publisher wrote them.
    fn reformat(&mut self, text: &str) {
        let mut rest = text.chars().peekable();
        // Whether each open bracket is an object's. Nesting is bounded by the parser that has found it valid.
        let mut open = Vec::new();
        while let Some(character) = rest.next() {
            match character {
                ' ' | '\t' | '\n' | '\r' => {}
                '{' | '[' => {
                    self.raw(if character == '{' { "{" } else { "[" });
                    open.push(character == '{');
                    self.depth += 1;
                    while rest.next_if(char::is_ascii_whitespace).is_some() {}
                    if character == '{' && rest.peek() != Some(&'}') {
                        self.new_line();
                    }
                }
                '}' | ']' => {
                    open.pop();
                    self.depth -= 1;
                    if character == '}' {
                        self.new_line();
                    }
                    self.raw(if character == '}' { "}" } else { "]" });
                }
                ',' => {
                    self.raw(",");
                    match (open.last(), self.layout) {
                        (Some(true), _) => self.new_line(),
                        (_, Layout::Pretty) => self.raw(" "),
                        (_, Layout::Compact) => {}
                    }
                }
                ':' => self.colon(),
                '"' => {
                    self.raw("\"");
                    while let Some(inner) = rest.next() {
                        self.character(inner);
                        match inner {
                            // An escaped quote does not end the string.
                            '\\' => {
                                if let Some(escaped) = rest.next() {
                                    self.character(escaped);
                                }
                            }
                            '"' => break,
                            _ => {}
                        }
                    }
                }
                other => self.character(other),
            }
        }
        self.is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_client::codec::topic::TopicName;
    use whimbrel_client::codec::{MessageProperties, QoS};

    use super::*;

    fn now() -> Moment {
        Moment::at("2026-03-05T04:07:09.000123456+01:00[Europe/Berlin]")
    }

    fn arrived<'a>(payload: &'a [u8], properties: &'a MessageProperties) -> Arrived<'a> {
        Arrived {
            topic: "f/one",
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            packet_id: None,
            properties: properties.as_properties(),
            subscription_id: None,
        }
    }

    const HEAD: &str =
        r#"{"tst":"2026-03-05T04:07:09.000123+0100","topic":"f/one","qos":0,"retain":0,"#;

    fn quoted(payload: &[u8], properties: &MessageProperties, destination: Destination) -> String {
        let mut out = Vec::new();
        let message = arrived(payload, properties);
        write_message(&message, &now(), Layout::Compact, destination, &mut out);
        let text = String::from_utf8(out).expect("text");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["payloadlen"], payload.len());
        text.strip_prefix(HEAD).expect("the head").to_owned()
    }

    #[test]
    fn payloads_are_quoted_whatever_they_are() {
        let none = MessageProperties::new();
        for (payload, text) in [
            (&b"abc"[..], r#""payloadlen":3,"payload":"abc"}"#),
            (b"", r#""payloadlen":0,"payload":null}"#),
            (
                b"\"\\/\n\t\0\x1F",
                r#""payloadlen":7,"payload":"\"\\/\n\t\u0000\u001f"}"#,
            ),
            (
                "é\u{9b}".as_bytes(),
                "\"payloadlen\":4,\"payload\":\"é\u{9b}\"}",
            ),
            (b"\xFFa", r#""payloadlen":2,"payload-base64":"/2E="}"#),
        ] {
            assert_eq!(quoted(payload, &none, Destination::Bytes), text);
        }
        assert_eq!(
            quoted("\u{9b}\u{7f}".as_bytes(), &none, Destination::Terminal),
            r#""payloadlen":3,"payload":"\u009b\u007f"}"#
        );
    }

    #[test]
    fn properties_keep_their_order_and_user_properties_stay_together() {
        let properties = MessageProperties::builder()
            .user_property("k", "1")
            .content_type("a")
            .correlation_data(b"\xFF")
            .response_topic(TopicName::new("r").expect("a name"))
            .payload_format(PayloadFormat::Utf8)
            .message_expiry_secs(9)
            .user_property("k", "2")
            .build()
            .expect("valid");
        let text = quoted(b"x", &properties, Destination::Bytes);
        let mut names: Vec<_> = properties
            .as_properties()
            .iter()
            .map(|property| match property {
                Property::ContentType(_) => r#""content-type":"a""#,
                Property::CorrelationData(_) => r#""correlation-data-base64":"/w==""#,
                Property::ResponseTopic(_) => r#""response-topic":"r""#,
                Property::PayloadFormat(_) => r#""payload-format-indicator":1"#,
                Property::MessageExpiry(_) => r#""message-expiry-interval":9"#,
                _ => r#""user-properties":{"k":"1","k":"2"}"#,
            })
            .collect();
        names.dedup();
        let members = names.join(",");
        assert_eq!(
            text,
            format!(r#""payloadlen":1,"properties":{{{members}}},"payload":"x"}}"#)
        );
    }

    fn unquoted(payload: &str, layout: Layout) -> Result<String, Complaint> {
        let none = MessageProperties::new();
        let message = arrived(payload.as_bytes(), &none);
        let mut out = Vec::new();
        write_message_of_json(&message, &now(), layout, Destination::Bytes, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn json_payloads_stand_as_they_were_sent_without_blanks() {
        for (payload, text) in [
            (
                r#" { "b":27.0, "a" : [1, 2,{"x":null}], "s":"\u00e9\" :,{", "n":12345678901234567890,"o":{},"l":[] } "#,
                r#"{"b":27.0,"a":[1,2,{"x":null}],"s":"\u00e9\" :,{","n":12345678901234567890,"o":{},"l":[]}"#,
            ),
            ("true", "true"),
            (r#""a b""#, r#""a b""#),
            ("", "null"),
        ] {
            let length = payload.len();
            assert_eq!(
                unquoted(payload, Layout::Compact),
                Ok(format!(r#"{HEAD}"payloadlen":{length},"payload":{text}}}"#))
            );
        }
        for payload in ["abc", "{", "[1,]", "1 2", "\"\u{1}\"", "{\"a\":1}x"] {
            assert_eq!(
                unquoted(payload, Layout::Compact),
                Err(Complaint::PayloadIsNoJson)
            );
        }
    }

    /// As mosquitto_sub 2.0.11 lays it out, but for the time zone.
    #[test]
    fn pretty_json_has_a_member_a_line_and_tabs() {
        let payload = r#"{"b":27,"a":[1,2,{"x":null}],"o":{},"l":[]}"#;
        let text = unquoted(payload, Layout::Pretty).expect("JSON");
        let expected = "{
\t\"tst\":\t\"2026-03-05T04:07:09.000123+0100\",
\t\"topic\":\t\"f/one\",
\t\"qos\":\t0,
\t\"retain\":\t0,
\t\"payloadlen\":\t43,
\t\"payload\":\t{
\t\t\"b\":\t27,
\t\t\"a\":\t[1, 2, {
\t\t\t\t\"x\":\tnull
\t\t\t}],
\t\t\"o\":\t{
\t\t},
\t\t\"l\":\t[]
\t}
}";
        assert_eq!(text, expected);
    }
}
