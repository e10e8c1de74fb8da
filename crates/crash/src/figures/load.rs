//! Clients that are fast because they look at no more than they must, all MQTT 3.1.1.

use std::time::{Duration, Instant};

use whimbrel_codec::{
    Connect, Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, SubscriptionOptions,
};

use crate::link::{self, Link, LinkError};
use crate::message::{self, MessageName};
use crate::publisher::topic;
use crate::{Failure, wait};

/// A message that differs from the next one in packet identifier, topic number and payload only.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    id_at: usize,
    payload_at: usize,
    topic_digits_at: Option<usize>,
    qos: QoS,
    publisher: u16,
}

/// Where a publisher's numbered messages go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Topics<'a> {
    One(&'a str),
    /// A topic of its own for each: the prefix and eight digits.
    Each(&'a str),
}

impl Template {
    pub(crate) fn new(
        publisher: u16,
        topics: Topics<'_>,
        qos: QoS,
        retain: bool,
        payload_bytes: usize,
    ) -> Self {
        let text = match topics {
            Topics::One(text) => text.to_owned(),
            Topics::Each(prefix) => format!("{prefix}{:08}", 0),
        };
        let publish = Publish::builder(topic(&text))
            .payload(vec![0; payload_bytes])
            .retain(retain)
            .delivery(Delivery::first(qos, PacketId::MIN))
            .build();
        let mut bytes = Vec::new();
        let encoded = Packet::Publish(publish).encode(VERSION, &mut bytes);
        encoded.expect("a small PUBLISH has a form");
        let payload_at = bytes.len() - payload_bytes;
        let id_bytes = if qos == QoS::AtMostOnce { 0 } else { 2 };
        Self {
            id_at: payload_at - id_bytes,
            payload_at,
            topic_digits_at: match topics {
                Topics::One(_) => None,
                Topics::Each(_) => Some(payload_at - id_bytes - 8),
            },
            bytes,
            qos,
            publisher,
        }
    }

    fn fill_in(&mut self, number: u32, id: u16) -> &[u8] {
        if self.id_at < self.payload_at {
            self.bytes[self.id_at..self.payload_at].copy_from_slice(&id.to_be_bytes());
        }
        if let Some(place) = self.topic_digits_at {
            let digits = format!("{number:08}");
            self.bytes[place..place + 8].copy_from_slice(digits.as_bytes());
        }
        let name = MessageName {
            publisher: self.publisher,
            stream: 0,
            number,
        };
        let payload = message::payload(name, self.bytes.len() - self.payload_at);
        self.bytes[self.payload_at..].copy_from_slice(&payload);
        &self.bytes
    }
}

/// Publishes messages `0..count`, with so many in flight, until all are acknowledged or the time is over.
///
/// Returns how long each acknowledgement took, in microseconds; none for QoS 0.
pub(crate) fn publish(
    port: u16,
    client_id: &str,
    mut template: Template,
    count: u32,
    window: usize,
    time: Duration,
) -> Result<Vec<u32>, LinkError> {
    let connect = Connect::new(VERSION, client_id);
    let (mut link, _) = Link::open(port, &connect)?;
    let mut sent_at = vec![Instant::now(); ID_SPACE];
    let mut latencies = Vec::with_capacity(count as usize);
    let begin = Instant::now();
    let (mut next, mut in_flight) = (0, 0);
    let mut count = count;
    while next < count || in_flight > 0 {
        if next < count && begin.elapsed() > time {
            count = next;
        }
        let now = Instant::now();
        while next < count && in_flight < window && link.output_length() < OUTPUT_MAX {
            let id = id_of(next);
            link.put_bytes(template.fill_in(next, id));
            sent_at[usize::from(id)] = now;
            next += 1;
            if template.qos != QoS::AtMostOnce {
                in_flight += 1;
            }
        }
        link.flush()?;
        if in_flight == 0 {
            continue;
        }
        if !link.fill(link::ANSWER_TIMEOUT)? {
            return Err(LinkError::Silent(link::ANSWER_TIMEOUT));
        }
        let now = Instant::now();
        // All that comes has four bytes: PUBACK, PUBREC and PUBCOMP of 3.1.1.
        while let Some(&[kind, 2, high, low]) = link.unread().first_chunk::<4>() {
            link.consume(4);
            match kind {
                PUBACK | PUBCOMP => {
                    in_flight -= 1;
                    let id = u16::from_be_bytes([high, low]);
                    let took = now.duration_since(sent_at[usize::from(id)]);
                    latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                }
                PUBREC => link.put_bytes(&[PUBREL, 2, high, low]),
                kind => return Err(LinkError::Unexpected(format!("first byte {kind:#x}"))),
            }
        }
        link.flush()?;
    }
    link.disconnect()?;
    Ok(latencies)
}

/// Makes persistent sessions with a subscription each, and leaves them.
pub(crate) fn leave_sessions(
    port: u16,
    prefix: &str,
    count: u32,
    filter: impl Fn(u32) -> String,
) -> Result<(), Failure> {
    for number in 0..count {
        let client_id = format!("{prefix}-{number}");
        subscribe(port, &client_id, false, &filter(number), QoS::ExactlyOnce)
            .and_then(Link::disconnect)
            .map_err(Failure::client(format!("could not subscribe {client_id}")))?;
    }
    Ok(())
}

/// Connects to a session that is there, with its subscription.
pub(crate) fn resume(port: u16, client_id: &str) -> Result<Link, LinkError> {
    let mut connect = Connect::new(VERSION, client_id);
    connect.clean_start = false;
    let (link, connack) = Link::open(port, &connect)?;
    if connack.session_present {
        return Ok(link);
    }
    Err(LinkError::Unexpected(
        "CONNACK without a session".to_owned(),
    ))
}

/// Connects and subscribes.
pub(crate) fn subscribe(
    port: u16,
    client_id: &str,
    clean_start: bool,
    filter: &str,
    qos: QoS,
) -> Result<Link, LinkError> {
    let mut connect = Connect::new(VERSION, client_id);
    connect.clean_start = clean_start;
    let (mut link, _) = Link::open(port, &connect)?;
    let filters = [(filter.to_owned(), SubscriptionOptions::new(qos))];
    link.put(&link::subscribe_packet(PacketId::MIN, filters));
    link.flush()?;
    match link.answer()? {
        Packet::SubAck(suback) if link::is_granted(&suback) => Ok(link),
        other => Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
    }
}

/// Reads messages and acknowledges them, until so many have come.
///
/// Each is given to `look`, with its number in the order of arrival.
pub(crate) fn receive(
    link: &mut Link,
    count: u32,
    mut look: impl FnMut(u32, Option<MessageName>),
) -> Result<(), LinkError> {
    let mut came = 0;
    // QoS 2 ends with PUBREL.
    let mut open = 0;
    while came < count || open > 0 {
        while let Some(packet) = link.next()? {
            match packet {
                Packet::Publish(publish) => {
                    look(came, message::read(publish.payload()));
                    came += 1;
                    let [high, low] = publish.packet_id().map_or(0, PacketId::get).to_be_bytes();
                    match publish.qos() {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => link.put_bytes(&[PUBACK, 2, high, low]),
                        QoS::ExactlyOnce => {
                            open += 1;
                            link.put_bytes(&[PUBREC, 2, high, low]);
                        }
                    }
                }
                Packet::PubRel(ack) => {
                    open -= 1;
                    let [high, low] = ack.id.get().to_be_bytes();
                    link.put_bytes(&[PUBCOMP, 2, high, low]);
                }
                other => return Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
            }
        }
        link.flush()?;
        if (came < count || open > 0) && !link.fill(link::ANSWER_TIMEOUT)? {
            return Err(LinkError::Silent(link::ANSWER_TIMEOUT));
        }
    }
    Ok(())
}

/// Waits until the broker answers a client.
pub(crate) fn wait_until_answered(port: u16, timeout: Duration) -> Result<(), Failure> {
    let connect = Connect::new(VERSION, "is-it-there");
    let answered = wait::poll(timeout, || {
        let (mut link, _) = Link::open(port, &connect).ok()?;
        link.put(&Packet::PingReq);
        link.flush().ok()?;
        link.answer().ok()
    });
    answered
        .map(drop)
        .ok_or_else(|| Failure::Other(format!("the broker answered no client in {timeout:?}")))
}

/// Identifiers in turn, so that none is used again before 65,535 others.
fn id_of(number: u32) -> u16 {
    (number % 65_535) as u16 + 1
}

const VERSION: ProtocolVersion = ProtocolVersion::V311;
const ID_SPACE: usize = 65_536;
const OUTPUT_MAX: usize = 64 * 1024;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
