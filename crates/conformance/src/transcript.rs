//! [`Transcript`]: what was sent and received, to be read by a person.

use std::fmt::Write;
use std::time::Instant;

use whimbrel_codec::{Delivery, Packet, Publish};

/// The conversation of one case over all of its connections.
#[derive(Debug)]
pub(crate) struct Transcript {
    start: Instant,
    lines: Vec<String>,
    left_out: usize,
    last_sent: String,
}

impl Transcript {
    pub(crate) fn new() -> Transcript {
        Transcript {
            start: Instant::now(),
            lines: Vec::new(),
            left_out: 0,
            last_sent: "nothing".to_owned(),
        }
    }

    pub(crate) fn sent(&mut self, link: &str, what: &str, bytes: &[u8]) {
        self.line(link, "->", what, bytes);
        self.last_sent = format!("{what} [{}]", hex(bytes));
    }

    pub(crate) fn received(&mut self, link: &str, what: &str, bytes: &[u8]) {
        self.line(link, "<-", what, bytes);
    }

    /// An event without bytes.
    pub(crate) fn note(&mut self, link: &str, what: &str) {
        self.line(link, "--", what, &[]);
    }

    pub(crate) fn last_sent(&self) -> &str {
        &self.last_sent
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        if self.left_out > 0 {
            lines.push(format!("({} more lines)", self.left_out));
        }
        lines
    }

    fn line(&mut self, link: &str, direction: &str, what: &str, bytes: &[u8]) {
        if self.lines.len() >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        let ms = self.start.elapsed().as_millis();
        let mut line = format!("{ms:>6} ms  {link} {direction} {what}");
        if !bytes.is_empty() {
            // Writing to a string can't fail.
            let _ = write!(line, "  [{}]", hex(bytes));
        }
        self.lines.push(line);
    }
}

/// Bytes as hexadecimal digits, the first ones of many.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().take(HEX_BYTES_MAX).enumerate() {
        let space = if index == 0 { "" } else { " " };
        let _ = write!(text, "{space}{byte:02x}");
    }
    if bytes.len() > HEX_BYTES_MAX {
        let _ = write!(text, " … {} bytes in all", bytes.len());
    }
    text
}

/// A packet in one line.
pub fn describe(packet: &Packet) -> String {
    let mut text = format!("{:?}", packet.packet_type()).to_uppercase();
    match packet {
        Packet::Connect(connect) => {
            let _ = write!(
                text,
                " {} client id {:?}, clean {}, keep alive {} s",
                connect.version, connect.client_id, connect.clean_start, connect.keep_alive_secs
            );
            if connect.version.is_v5() && connect.properties.session_expiry_secs != 0 {
                let _ = write!(
                    text,
                    ", expiry {} s",
                    connect.properties.session_expiry_secs
                );
            }
            if let Some(will) = &connect.will {
                let _ = write!(
                    text,
                    ", will on {:?} QoS {} delay {} s",
                    will.topic.as_str(),
                    will.qos.bits(),
                    will.delay_secs
                );
            }
        }
        Packet::ConnAck(connack) => {
            let _ = write!(text, " {}", connack.reason);
            if connack.session_present {
                text.push_str(", session present");
            }
        }
        Packet::Publish(publish) => describe_publish(publish, &mut text),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            let _ = write!(text, " {} {}", ack.id, ack.reason);
        }
        Packet::Subscribe(subscribe) => {
            let _ = write!(text, " {}", subscribe.id);
            for filter in &subscribe.filters {
                let _ = write!(
                    text,
                    ", {:?} QoS {}",
                    filter.filter,
                    filter.options.qos.bits()
                );
            }
        }
        Packet::SubAck(suback) => {
            let _ = write!(text, " {} {:?}", suback.id, suback.codes);
        }
        Packet::Unsubscribe(unsubscribe) => {
            let _ = write!(text, " {} {:?}", unsubscribe.id, unsubscribe.filters);
        }
        Packet::UnsubAck(unsuback) => {
            let _ = write!(text, " {} {:?}", unsuback.id, unsuback.codes);
        }
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(disconnect) => {
            let _ = write!(text, " {}", disconnect.reason);
            if let Some(expiry) = disconnect.session_expiry_secs {
                let _ = write!(text, ", expiry {expiry} s");
            }
        }
        Packet::Auth(auth) => {
            let _ = write!(
                text,
                " {} method {:?}",
                auth.reason, auth.authentication.method
            );
        }
    }
    match text.char_indices().nth(DESCRIPTION_CHARACTERS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn describe_publish(publish: &Publish, text: &mut String) {
    match publish.delivery() {
        Delivery::AtMostOnce => text.push_str(" QoS 0"),
        Delivery::AtLeastOnce { id, .. } => {
            let _ = write!(text, " QoS 1 id {id}");
        }
        Delivery::ExactlyOnce { id, .. } => {
            let _ = write!(text, " QoS 2 id {id}");
        }
    }
    if publish.delivery().dup() {
        text.push_str(" DUP");
    }
    if publish.retain() {
        text.push_str(" RETAIN");
    }
    if let Some(topic) = publish.topic() {
        let _ = write!(text, " {:?}", topic.as_str());
    }
    match std::str::from_utf8(publish.payload()) {
        Ok(payload) if payload.len() <= 40 => {
            let _ = write!(text, " payload {payload:?}");
        }
        _ => {
            let _ = write!(text, " payload of {} bytes", publish.payload().len());
        }
    }
    for property in publish.properties() {
        let _ = write!(text, ", {property:?}");
    }
}

/// A case that says more than this has gone astray.
const LINES_MAX: usize = 400;
const HEX_BYTES_MAX: usize = 64;
const DESCRIPTION_CHARACTERS_MAX: usize = 240;
