//! From a message and a [`Style`] to the bytes that are shown.

use std::fmt::Write;

use whimbrel_client::codec::{PacketId, Property, PublishProperties, QoS};

use super::json::{self, Layout};
use super::{Field, Format, Moment, Padding, Part};

/// How each message is shown.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// `-F`, which takes precedence over `-v`.
    pub(crate) format: Option<Format>,
    /// `-v`: the topic in front of the payload.
    pub(crate) is_verbose: bool,
    /// Not `-N`.
    pub(crate) has_newline: bool,
    /// `--pretty`.
    pub(crate) json: Layout,
    pub(crate) destination: Destination,
}

/// Who reads what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A program or a file: every byte as it came.
    Bytes,
    /// A terminal, which must not obey what a publisher wrote: control characters and what is no text are shown as `\x1b`.
    Terminal,
}

/// A message as it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) properties: PublishProperties<'a>,
    /// The client numbers its subscriptions for itself: the number that was asked for, if one was.
    pub(crate) subscription_id: Option<u32>,
}

/// What could not be shown as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// `%J` of a payload that is no JSON.
    PayloadIsNoJson,
}

impl Style {
    /// Appends what is shown for a message.
    pub(crate) fn render(
        &self,
        message: &Arrived<'_>,
        now: &Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), Complaint> {
        let mut rendered = Ok(());
        match &self.format {
            Some(format) => {
                for part in &format.parts {
                    rendered = rendered.and(self.render_part(part, message, now, out));
                }
            }
            None => {
                if self.is_verbose {
                    self.put(message.topic.as_bytes(), out);
                    out.push(b' ');
                    if message.payload.is_empty() {
                        out.extend_from_slice(b"(null)");
                    }
                }
                self.put(message.payload, out);
            }
        }
        if self.has_newline {
            out.push(b'\n');
        }
        rendered
    }

    fn render_part(
        &self,
        part: &Part,
        message: &Arrived<'_>,
        now: &Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), Complaint> {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Nanoseconds => {
                out.extend_from_slice(format!("{:09}", now.nanoseconds()).as_bytes());
            }
            Part::Time(letter) => {
                let mut text = String::new();
                now.write(*letter, &mut text);
                out.extend_from_slice(text.as_bytes());
            }
            Part::Field(field, padding) => {
                return self.render_field(*field, *padding, message, now, out);
            }
        }
        Ok(())
    }

    fn render_field(
        &self,
        field: Field,
        padding: Padding,
        message: &Arrived<'_>,
        now: &Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), Complaint> {
        let properties = message.properties;
        match field {
            Field::TopicAlias => {
                let alias = properties.topic_alias();
                padding.put_number(alias.map(|alias| alias.get().into()), out);
            }
            Field::Expiry => {
                let seconds = properties.message_expiry_secs();
                padding.put_number(seconds.map(Into::into), out);
            }
            Field::PayloadFormat => {
                let format = properties.iter().find_map(|property| match property {
                    Property::PayloadFormat(format) => Some(format),
                    _ => None,
                });
                padding.put_number(format.map(|format| json::number_of(format).into()), out);
            }
            Field::Length => padding.put_number(Some(message.payload.len() as u64), out),
            Field::PacketId => {
                let id = message.packet_id.map_or(0, PacketId::get);
                padding.put_number(Some(id.into()), out);
            }
            Field::SubscriptionId => {
                padding.put_number(message.subscription_id.map(Into::into), out);
            }
            Field::ContentType => self.put_text(properties.content_type(), padding, out),
            // Without a response topic mosquitto_sub pads nothing here either.
            Field::ResponseTopic => {
                if let Some(topic) = properties.response_topic() {
                    self.put_text(Some(topic.as_str()), padding, out);
                }
            }
            Field::Topic => self.put_text(Some(message.topic), padding, out),
            Field::Iso8601 => self.put_text(Some(&now.iso8601()), padding, out),
            Field::UnixTime => out.extend_from_slice(now.unix().as_bytes()),
            Field::CorrelationData => {
                self.put(properties.correlation_data().unwrap_or_default(), out);
            }
            Field::UserProperties => {
                for (index, property) in properties.user_properties().enumerate() {
                    if index > 0 {
                        out.push(b' ');
                    }
                    self.put(property.name.as_bytes(), out);
                    out.push(b':');
                    self.put(property.value.as_bytes(), out);
                }
            }
            Field::Qos => out.push(b'0' + message.qos as u8),
            Field::Retain => out.push(b'0' + u8::from(message.retain)),
            Field::Payload => {
                let length = message.payload.len();
                padding.put(length, padding.fill(), out, |out| {
                    self.put(message.payload, out);
                });
            }
            Field::HexLower | Field::HexUpper => {
                let digits: &[u8; 16] = if field == Field::HexLower {
                    b"0123456789abcdef"
                } else {
                    b"0123456789ABCDEF"
                };
                let length = 2 * message.payload.len();
                padding.put(length, padding.fill(), out, |out| {
                    for byte in message.payload {
                        out.push(digits[usize::from(byte >> 4)]);
                        out.push(digits[usize::from(byte & 15)]);
                    }
                });
            }
            Field::Json => json::write_message(message, now, self.json, self.destination, out),
            Field::JsonPayload => {
                return json::write_message_of_json(message, now, self.json, self.destination, out);
            }
        }
        Ok(())
    }

    /// A text that is padded with blanks and cut where it is longer than the largest width.
    fn put_text(&self, text: Option<&str>, padding: Padding, out: &mut Vec<u8>) {
        let text = text.unwrap_or_default();
        let width_max = padding.width_max.unwrap_or(text.len());
        // A character that does not fit whole is left out.
        let ends = text
            .char_indices()
            .map(|(start, character)| start + character.len_utf8());
        let text = match ends.take_while(|&end| end <= width_max).last() {
            Some(end) => text.split_at(end).0,
            None => "",
        };
        padding.put(text.len(), b' ', out, |out| self.put(text.as_bytes(), out));
    }

    /// What a publisher wrote.
    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.destination {
            Destination::Bytes => out.extend_from_slice(bytes),
            Destination::Terminal => put_safely(bytes, out),
        }
    }
}

impl Padding {
    /// Zeros stand in front only.
    fn fill(self) -> u8 {
        if self.is_zero && !self.is_left {
            b'0'
        } else {
            b' '
        }
    }

    fn put_number(self, number: Option<u64>, out: &mut Vec<u8>) {
        let text = number.map(|number| number.to_string()).unwrap_or_default();
        let fill = match number {
            Some(_) => self.fill(),
            // As mosquitto_sub has it: in place of what is not there zeros stand on either side.
            None if self.is_zero => b'0',
            None => b' ',
        };
        self.put(text.len(), fill, out, |out| {
            out.extend_from_slice(text.as_bytes());
        });
    }

    /// Pads what `write` appends, which is `length` bytes of the message.
    fn put(self, length: usize, fill: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let missing = self.width.saturating_sub(length);
        if self.is_left {
            write(out);
            out.resize(out.len() + missing, fill);
        } else {
            out.resize(out.len() + missing, fill);
            write(out);
        }
    }
}

/// Text as it is, but with control characters that a terminal would obey, and bytes that are no text, as `\x1b`.
fn put_safely(bytes: &[u8], out: &mut Vec<u8>) {
    let mut escapes = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && !matches!(character, '\n' | '\t') {
                escapes.clear();
                // Control characters are below U+00A0.
                let written = write!(escapes, "\\x{:02x}", u32::from(character));
                debug_assert!(written.is_ok());
                out.extend_from_slice(escapes.as_bytes());
            } else {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_client::codec::topic::TopicName;
    use whimbrel_client::codec::{MessageProperties, PayloadFormat};

    use super::*;

    fn full() -> MessageProperties {
        let properties = MessageProperties::builder()
            .content_type("text/plain")
            .response_topic(TopicName::new("r/t").expect("a name"))
            .correlation_data(b"cor")
            .message_expiry_secs(1_000)
            .payload_format(PayloadFormat::Utf8)
            .user_property("k1", "v1")
            .user_property("k2", "v2");
        properties.build().expect("valid")
    }

    fn style(format: &str) -> Style {
        Style {
            format: Some(format.parse().expect(format)),
            is_verbose: false,
            has_newline: false,
            json: Layout::Compact,
            destination: Destination::Bytes,
        }
    }

    fn arrived<'a>(payload: &'a [u8], properties: &'a MessageProperties) -> Arrived<'a> {
        Arrived {
            topic: "f/full",
            payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: PacketId::new(7),
            properties: properties.as_properties(),
            subscription_id: None,
        }
    }

    fn rendered(style: &Style, message: &Arrived<'_>) -> String {
        let now = Moment::at("2026-03-05T04:07:09.000123456+01:00[Europe/Berlin]");
        let mut out = Vec::new();
        assert_eq!(style.render(message, &now, &mut out), Ok(()));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_field_shows_what_is_there() {
        let properties = full();
        let message = arrived(b"h\xC3\xA9llo", &properties);
        for (format, text) in [
            ("%A|%C|%D|%E|%F|%l|%m", "|text/plain|cor|1000|1|6|7"),
            (
                "%P|%p|%q|%R|%r|%S|%t",
                "k1:v1 k2:v2|h\u{e9}llo|1|r/t|1||f/full",
            ),
            ("%x|%X|%%", "68c3a96c6c6f|68C3A96C6C6F|%"),
            ("%I", "2026-03-05T04:07:09+0100"),
            ("%U|@s.@N", "1772680029.000123456|1772680029.000123456"),
            ("@Y-@m-@d @@ \\e[1m", "2026-03-05 @ \x1b[1m"),
        ] {
            assert_eq!(rendered(&style(format), &message), text, "{format}");
        }
    }

    /// As mosquitto_sub 2.0.11 writes them.
    #[test]
    fn widths_and_flags_pad_and_cut() {
        let properties = full();
        let message = arrived(b"abc", &properties);
        for (format, text) in [
            (
                "%10A|%10C|%10E|%4F",
                "          |text/plain|      1000|   1",
            ),
            (
                "%-10A|%-12C|%-10E|%-4F|",
                "          |text/plain  |1000      |1   |",
            ),
            (
                "%010A|%012C|%010E|%04F",
                "0000000000|  text/plain|0000001000|0001",
            ),
            ("%-010A|%-010E|", "0000000000|1000      |"),
            ("%5p|%05p|%-05p|", "  abc|00abc|abc  |"),
            ("%8x|%08X|%-8x|", "  616263|00616263|616263  |"),
            ("%.2t|%5.2t|%-5.2t|%.t|%.0C", "f/|   f/|f/   ||"),
            ("%05.2t", "   f/"),
            ("%.8I|%26I|", "2026-03-|  2026-03-05T04:07:09+0100|"),
            ("%3.2l|%03m|%-3m|", "  3|007|7  |"),
            ("%10q|%5D|%30P|%5r|%5%", "1|cor|k1:v1 k2:v2|1|%"),
        ] {
            assert_eq!(rendered(&style(format), &message), text, "{format}");
        }
    }

    #[test]
    fn fields_without_a_value_are_empty_or_blank() {
        let properties = MessageProperties::new();
        let message = arrived(b"", &properties);
        for (format, text) in [
            ("[%A%C%D%E%F%P%R%S%p%x]", "[]"),
            (
                "[%3C][%3R][%3S][%03S][%3p][%3x]",
                "[   ][][   ][000][   ][   ]",
            ),
            ("%l", "0"),
        ] {
            assert_eq!(rendered(&style(format), &message), text, "{format}");
        }
    }

    #[test]
    fn the_subscription_is_the_one_that_was_asked_for() {
        let properties = MessageProperties::new();
        let message = Arrived {
            subscription_id: Some(7),
            ..arrived(b"", &properties)
        };
        assert_eq!(rendered(&style("%S|%3S"), &message), "7|  7");
    }

    #[test]
    fn without_a_format_there_is_the_payload_and_with_v_the_topic_too() {
        let properties = MessageProperties::new();
        let plain = Style {
            format: None,
            has_newline: true,
            ..style("")
        };
        let verbose = Style {
            is_verbose: true,
            ..plain.clone()
        };
        let bytes = arrived(b"a\0b\xFF\x1B", &properties);
        let mut out = Vec::new();
        let now = Moment::now();
        assert_eq!(plain.render(&bytes, &now, &mut out), Ok(()));
        assert_eq!(verbose.render(&bytes, &now, &mut out), Ok(()));
        assert_eq!(out, b"a\0b\xFF\x1B\nf/full a\0b\xFF\x1B\n");
        let empty = arrived(b"", &properties);
        assert_eq!(rendered(&plain, &empty), "\n");
        assert_eq!(rendered(&verbose, &empty), "f/full (null)\n");
        let joined = Style {
            has_newline: false,
            ..plain
        };
        assert_eq!(rendered(&joined, &arrived(b"x", &properties)), "x");
    }

    #[test]
    fn a_terminal_gets_no_control_characters_of_a_publisher() {
        let properties = MessageProperties::builder()
            .content_type("\u{9b}31m")
            .build()
            .expect("valid");
        let message = arrived(b"a\x1B[2J\x07\xFFb\xC3\xA9\r\n\tc\xE2\x82", &properties);
        let terminal = Style {
            destination: Destination::Terminal,
            ..style(r"\e[1m%p|%C")
        };
        assert_eq!(
            rendered(&terminal, &message),
            "\x1b[1ma\\x1b[2J\\x07\\xffb\u{e9}\\x0d\n\tc\\xe2\\x82|\\x9b31m"
        );
    }
}
