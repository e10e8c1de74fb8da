//! [`Publisher`]: sends numbered messages, keeps its session in memory, and knows what was acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use whimbrel_codec::topic::TopicNameBuf;
use whimbrel_codec::{
    Ack, Connect, Delivery, MessageProperties, Packet, PacketId, ProtocolVersion, Publish, QoS,
    ReasonCode,
};

use crate::account::{Account, Moment, Violation};
use crate::link::{ANSWER_TIMEOUT, Link, LinkError, POLL};
use crate::message::{self, MessageName};
use crate::rng::Rng;
use crate::standing::{Presence, Standing};

/// What all clients of a round share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env<'a> {
    pub(crate) port: u16,
    pub(crate) account: &'a Account,
    /// Set before the broker is killed: from then on, a lost connection is nobody's fault.
    pub(crate) dead: &'a AtomicBool,
}

impl Env<'_> {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
}

/// A client that publishes, over any number of connections and brokers' lives.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) number: u16,
    client_id: String,
    version: ProtocolVersion,
    pub(crate) standing: Standing,
    pub(crate) streams: Vec<Stream>,
    next_packet_id: u16,
    /// In the order of first sending.
    in_flight: VecDeque<Exchange>,
    sizes: Sizes,
    /// Whether 0x80 and above is a violation, or a message less.
    refusals: Refusals,
    rng: Rng,
}

/// What one publisher sends to one topic.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    /// One of a few is a deletion, without payload.
    pub(crate) retain: bool,
    pub(crate) sent: Vec<Sent>,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Moment,
    pub(crate) length: u32,
    /// PUBACK, or PUBREC: the message is the broker's.
    pub(crate) acked: Option<Moment>,
    /// PUBACK, or PUBCOMP.
    pub(crate) completed: Option<Moment>,
    pub(crate) is_refused: bool,
}

/// How large payloads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Mostly small, some of a few KiB, a few up to this many bytes.
    Mixed(u32),
    Fixed(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusals {
    AreViolations,
    AreExpected,
}

/// What a publisher is to do on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Messages of QoS 1 and 2 that wait for their acknowledgement.
    pub(crate) window: usize,
    /// New messages; 0 only ends what is in flight.
    pub(crate) messages: u32,
    /// Bytes of new messages.
    pub(crate) bytes: u64,
    /// Whether it drops its connection now and then.
    pub(crate) is_restless: bool,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Stay connected until the broker is killed.
    Stay,
    /// Disconnect once everything is acknowledged.
    Leave,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    id: PacketId,
    name: MessageName,
    phase: Phase,
    /// It was begun on an earlier connection.
    is_resumed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// PUBLISH was sent.
    Published,
    /// PUBREC has come, PUBREL was sent.
    Released,
}

/// Why a connection is over.
enum End {
    Done,
    /// The client dropped it.
    Dropped,
}

impl Load {
    /// Ends what is in flight, and leaves.
    pub(crate) const FINISH: Self = Self {
        window: 0,
        messages: 0,
        bytes: 0,
        is_restless: false,
        then: Then::Leave,
    };
}

impl Publisher {
    pub(crate) fn new(
        number: u16,
        version: ProtocolVersion,
        streams: Vec<Stream>,
        sizes: Sizes,
        rng: Rng,
    ) -> Self {
        Self {
            number,
            client_id: format!("publisher-{number}"),
            version,
            standing: Standing::new(None),
            streams,
            next_packet_id: 1,
            in_flight: VecDeque::new(),
            sizes,
            refusals: Refusals::AreViolations,
            rng,
        }
    }

    pub(crate) fn with_refusals(mut self, refusals: Refusals) -> Self {
        self.refusals = refusals;
        self
    }

    /// Messages that wait for an acknowledgement.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Messages of QoS 1 and 2 that were acknowledged.
    pub(crate) fn acked(&self) -> usize {
        let streams = self.streams.iter();
        streams
            .map(|stream| {
                stream
                    .sent
                    .iter()
                    .filter(|sent| sent.acked.is_some())
                    .count()
            })
            .sum()
    }

    /// Works until the load is done or the broker is dead.
    pub(crate) fn run(&mut self, env: &Env<'_>, load: Load) {
        let mut left = load;
        let mut failures = 0;
        while !env.is_dead() && failures < FAILURES_MAX {
            match self.connection(env, &mut left) {
                Ok(End::Done) => return,
                Ok(End::Dropped) => {}
                Err(_) if env.is_dead() => return,
                Err(error) => {
                    failures += 1;
                    let text = format!("{} was cut off: {error:?}", self.client_id);
                    env.account.found(Violation::Refused, text);
                }
            }
        }
    }

    fn connection(&mut self, env: &Env<'_>, load: &mut Load) -> Result<End, LinkError> {
        let (mut link, connack) = Link::open(env.port, &self.connect())?;
        self.check_session(env, connack.session_present);
        let receive_maximum = usize::from(connack.properties.receive_maximum.get());
        let window = load.window.min(receive_maximum);
        self.resend(&mut link);
        let mut heard = Instant::now();
        loop {
            while self.in_flight.len() < window
                && load.messages > 0
                && load.bytes > 0
                && link.output_length() < OUTPUT_MAX
            {
                let length = self.publish(env, &mut link);
                load.messages -= 1;
                load.bytes = load.bytes.saturating_sub(u64::from(length));
            }
            link.flush()?;
            if load.then == Then::Leave && load.messages == 0 && self.in_flight.is_empty() {
                link.disconnect()?;
                return Ok(End::Done);
            }
            if link.fill(POLL)? {
                heard = Instant::now();
            }
            while let Some(packet) = link.next()? {
                self.handle(env, &mut link, packet)?;
            }
            self.standing.seen();
            if env.is_dead() {
                return Ok(End::Done);
            }
            if self.in_flight.is_empty() {
                heard = Instant::now();
            }
            if heard.elapsed() > ANSWER_TIMEOUT {
                return Err(LinkError::Silent(ANSWER_TIMEOUT));
            }
            if load.is_restless && self.rng.one_in(DROP_ONCE_IN) {
                return Ok(End::Dropped);
            }
        }
    }

    fn connect(&self) -> Connect {
        let mut connect = Connect::new(self.version, self.client_id.as_str());
        connect.clean_start = false;
        connect.properties.session_expiry_secs = u32::MAX;
        connect.keep_alive_secs = 0;
        connect
    }

    /// Without the session at the broker, nothing is known of what is in flight, and nothing is asked of it.
    fn check_session(&mut self, env: &Env<'_>, is_present: bool) {
        // 3.1 does not tell.
        if self.version != ProtocolVersion::V31 {
            if self.standing.presence() == Presence::Present && !is_present {
                let text = format!(
                    "the session of {} is gone, with {} messages in flight",
                    self.client_id,
                    self.in_flight.len()
                );
                env.account.found(Violation::SessionPresent, text);
            }
            if !is_present {
                self.in_flight.clear();
            }
        }
        self.standing.connected();
    }

    /// [MQTT-4.4.0-1], in the order of first sending [MQTT-4.6.0-1].
    fn resend(&mut self, link: &mut Link) {
        for exchange in &mut self.in_flight {
            exchange.is_resumed = true;
            match exchange.phase {
                Phase::Released => link.put(&Packet::PubRel(Ack::success(exchange.id))),
                Phase::Published => {
                    let packet = publish_packet(&self.streams, exchange, Dup::Repeated);
                    link.put(&packet);
                }
            }
        }
    }

    /// Puts a new message and returns its length.
    fn publish(&mut self, env: &Env<'_>, link: &mut Link) -> u32 {
        let stream_number = self.rng.range(0..self.streams.len() as u64) as u16;
        let length = self.length();
        let stream = &mut self.streams[usize::from(stream_number)];
        let is_deletion = stream.retain && self.rng.one_in(DELETE_ONCE_IN);
        let length = if is_deletion { 0 } else { length };
        let name = MessageName {
            publisher: self.number,
            stream: stream_number,
            number: stream.sent.len() as u32,
        };
        let now = env.account.now();
        stream.sent.push(Sent {
            at: now,
            length,
            acked: None,
            completed: None,
            is_refused: false,
        });
        let qos = stream.qos;
        let exchange = Exchange {
            id: PacketId::MIN,
            name,
            phase: Phase::Published,
            is_resumed: false,
        };
        if qos == QoS::AtMostOnce {
            link.put(&publish_packet(&self.streams, &exchange, Dup::First));
            return length;
        }
        let id = self.free_packet_id();
        let exchange = Exchange { id, ..exchange };
        self.in_flight.push_back(exchange);
        link.put(&publish_packet(&self.streams, &exchange, Dup::First));
        length
    }

    fn length(&mut self) -> u32 {
        match self.sizes {
            Sizes::Fixed(length) => length,
            Sizes::Mixed(max) => {
                let range = match self.rng.range(0..400) {
                    0 => 65_536..u64::from(max).max(65_537),
                    1..20 => 1_000..20_000,
                    20..200 => 64..512,
                    _ => 16..64,
                };
                (self.rng.range(range) as u32).min(max)
            }
        }
    }

    fn free_packet_id(&mut self) -> PacketId {
        loop {
            let id = PacketId::new(self.next_packet_id);
            self.next_packet_id = self.next_packet_id.wrapping_add(1);
            let Some(id) = id else { continue };
            if self.in_flight.iter().all(|exchange| exchange.id != id) {
                return id;
            }
        }
    }

    fn handle(&mut self, env: &Env<'_>, link: &mut Link, packet: Packet) -> Result<(), LinkError> {
        let (ack, is_last) = match packet {
            Packet::PubAck(ack) => (ack, true),
            Packet::PubRec(ack) => (ack, false),
            Packet::PubComp(ack) => (ack, true),
            other => return Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
        };
        let place = self
            .in_flight
            .iter()
            .position(|exchange| exchange.id == ack.id);
        let Some(place) = place else {
            let text = format!(
                "{} got an acknowledgement of id {}, which is not in use",
                self.client_id, ack.id
            );
            env.account.found(Violation::PacketIdentifier, text);
            return Ok(());
        };
        let exchange = &mut self.in_flight[place];
        let sent = &mut self.streams[usize::from(exchange.name.stream)].sent
            [exchange.name.number as usize];
        // A PUBCOMP that got lost is asked for again, of a broker that has forgotten the id: "not an error
        // during recovery" (MQTT 5.0, 3.7.2.1).
        let is_known_end = is_last
            && exchange.is_resumed
            && exchange.phase == Phase::Released
            && ack.reason == ReasonCode::PacketIdentifierNotFound;
        if ack.reason.is_error() && !is_known_end {
            if ack.reason == ReasonCode::PacketIdentifierNotFound && is_last {
                let text = format!(
                    "{}: PUBCOMP does not know id {} of {}, PUBREC of which came in {:?}",
                    self.client_id, ack.id, exchange.name, sent.acked
                );
                env.account.found(Violation::PacketIdentifier, text);
            } else if self.refusals == Refusals::AreViolations {
                let text = format!("{} was refused with {:?}", exchange.name, ack.reason);
                env.account.found(Violation::Refused, text);
            }
            sent.is_refused = true;
            self.in_flight.remove(place);
            return Ok(());
        }
        let now = Some(env.account.now());
        sent.acked = sent.acked.or(now);
        if is_last {
            sent.completed = now;
            self.in_flight.remove(place);
        } else {
            exchange.phase = Phase::Released;
            link.put(&Packet::PubRel(Ack::success(ack.id)));
        }
        Ok(())
    }
}

impl Stream {
    pub(crate) fn new(topic: String, qos: QoS) -> Self {
        Self {
            topic,
            qos,
            retain: false,
            sent: Vec::new(),
        }
    }

    pub(crate) fn retained(topic: String, qos: QoS) -> Self {
        Self {
            retain: true,
            ..Self::new(topic, qos)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dup {
    First,
    Repeated,
}

fn publish_packet(streams: &[Stream], exchange: &Exchange, dup: Dup) -> Packet {
    let stream = &streams[usize::from(exchange.name.stream)];
    let length = stream.sent[exchange.name.number as usize].length;
    let delivery = Delivery::first(stream.qos, exchange.id);
    let payload = match length {
        0 => Vec::new(),
        length => message::payload(exchange.name, length as usize),
    };
    let publish = Publish::builder(topic(&stream.topic))
        .payload(payload)
        .retain(stream.retain)
        .delivery(match dup {
            Dup::First => delivery,
            Dup::Repeated => delivery.repeated(),
        });
    Packet::Publish(publish.build())
}

/// A single message of a client without a session, acknowledged before this returns.
pub(crate) fn publish_once(
    port: u16,
    client_id: &str,
    messages: impl IntoIterator<Item = (String, Vec<u8>, MessageProperties)>,
) -> Result<(), LinkError> {
    let connect = Connect::new(ProtocolVersion::V5, client_id);
    let (mut link, _) = Link::open(port, &connect)?;
    for (to, payload, properties) in messages {
        let publish = Publish::builder(topic(&to))
            .payload(payload)
            .properties(&properties)
            .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN));
        link.put(&Packet::Publish(publish.build()));
        link.flush()?;
        match link.answer()? {
            Packet::PubAck(ack) if !ack.reason.is_error() => {}
            Packet::PubAck(ack) => return Err(LinkError::Refused(ack.reason)),
            other => return Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
        }
    }
    link.disconnect()
}

/// A topic of the judge's own.
pub(crate) fn topic(text: &str) -> TopicNameBuf {
    TopicNameBuf::try_from(text).expect("the judge's topics are valid")
}

/// Connections that may fail while the broker lives before a client gives up.
const FAILURES_MAX: u32 = 5;
/// Bytes that are put before they are sent.
const OUTPUT_MAX: usize = 256 * 1024;
/// Reads after which a restless client drops its connection.
const DROP_ONCE_IN: u64 = 400;
/// Retained messages of which one is a deletion.
const DELETE_ONCE_IN: u64 = 8;
