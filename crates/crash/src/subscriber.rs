//! [`Subscriber`]: a persistent session that receives, acknowledges, and remembers what came.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use whimbrel_codec::topic::TopicName;
use whimbrel_codec::{
    Ack, Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, SubscriptionOptions,
};

use crate::account::{Moment, Violation};
use crate::link::{self, Link, LinkError, POLL};
use crate::message::{self, MessageName};
use crate::publisher::{Env, Publisher, Sent};
use crate::rng::Rng;
use crate::standing::{Presence, Standing};

/// Everything that is published, by publisher and stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue(HashMap<(u16, u16), Listed>);

/// A stream as its subscribers should see it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
}

impl Catalogue {
    pub(crate) fn add(&mut self, publisher: &Publisher) {
        for (number, stream) in (0..).zip(&publisher.streams) {
            let listed = Listed {
                topic: stream.topic.clone(),
                qos: stream.qos,
            };
            self.add_stream((publisher.number, number), listed);
        }
    }

    pub(crate) fn add_stream(&mut self, key: (u16, u16), listed: Listed) {
        self.0.insert(key, listed);
    }
}

/// A client that subscribes, over any number of connections and brokers' lives.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) client_id: String,
    version: ProtocolVersion,
    filter: String,
    /// The topics that the filter matches begin with this.
    prefix: String,
    granted: QoS,
    order: Order,
    receive_maximum: NonZeroU16,
    standing: Standing,
    is_subscribed: bool,
    /// QoS 2 identifiers between PUBREC and PUBREL.
    held: HashMap<u16, MessageName>,
    seen: BTreeMap<(u16, u16), Seen>,
    /// When each message came first, if that matters.
    pub(crate) arrivals: Option<Vec<Arrival>>,
    received: u64,
    repeated: u64,
    rng: Rng,
}

/// The first time a message came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) name: MessageName,
    pub(crate) at: Instant,
    pub(crate) moment: Moment,
    /// What it said of the time it has left.
    pub(crate) expiry_secs: Option<u32>,
}

/// Whether the first occurrences of a stream's messages have to rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Kept,
    /// A shared subscription's messages may be handed on to another member.
    Open,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often each number came, up to 255.
    counts: Vec<u8>,
    next: u32,
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until<'a> {
    /// Until the broker is dead.
    Killed,
    /// Until so many packets were read.
    Packets(u32),
    /// Until everything due has come and nothing more comes, or nothing has come for long.
    Quiet(&'a [Publisher], Due),
    /// Until nothing has come for so long.
    Idle(Duration),
}

/// Which messages are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Those acknowledged in full: a broker may route a QoS 2 message when its PUBREL comes.
    Completed,
    /// All that the broker has taken over.
    Acked,
}

enum End {
    Done,
    Dropped,
}

impl Subscriber {
    pub(crate) fn new(
        client_id: &str,
        version: ProtocolVersion,
        filter: &str,
        granted: QoS,
        rng: Rng,
    ) -> Self {
        let shared = filter
            .strip_prefix("$share/")
            .and_then(|rest| rest.split_once('/'));
        let plain = shared.map_or(filter, |(_, plain)| plain);
        Self {
            client_id: client_id.to_owned(),
            version,
            filter: filter.to_owned(),
            prefix: plain.trim_end_matches('#').to_owned(),
            granted,
            order: match shared {
                Some(_) => Order::Open,
                None => Order::Kept,
            },
            receive_maximum: NonZeroU16::MAX,
            standing: Standing::new(None),
            is_subscribed: false,
            held: HashMap::new(),
            seen: BTreeMap::new(),
            arrivals: None,
            received: 0,
            repeated: 0,
            rng,
        }
    }

    pub(crate) fn with_receive_maximum(mut self, maximum: NonZeroU16) -> Self {
        self.receive_maximum = maximum;
        self
    }

    pub(crate) fn with_arrivals(mut self) -> Self {
        self.arrivals = Some(Vec::new());
        self
    }

    /// Messages that came, repeats included.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Messages that came again.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How often a message came.
    pub(crate) fn count(&self, name: MessageName) -> u8 {
        let seen = self.seen.get(&(name.publisher, name.stream));
        let count = seen.and_then(|seen| seen.counts.get(name.number as usize));
        count.copied().unwrap_or(0)
    }

    /// When a message came first, if that is kept.
    pub(crate) fn arrival(&self, name: MessageName) -> Option<Moment> {
        let mut arrivals = self.arrivals.iter().flatten();
        let arrival = arrivals.find(|arrival| arrival.name == name);
        arrival.map(|arrival| arrival.moment)
    }

    /// Makes the session and its subscription, and leaves.
    pub(crate) fn set_up(&mut self, env: &Env<'_>, catalogue: &Catalogue) -> Result<(), LinkError> {
        self.connection(env, catalogue, Until::Packets(0), Temper::Steady)?;
        Ok(())
    }

    /// Receives until it is done or the broker is dead.
    pub(crate) fn run(
        &mut self,
        env: &Env<'_>,
        catalogue: &Catalogue,
        until: Until<'_>,
        temper: Temper,
    ) {
        let mut failures = 0;
        while !env.is_dead() && failures < FAILURES_MAX {
            match self.connection(env, catalogue, until, temper) {
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

    /// What should have come and has not.
    pub(crate) fn missing<'a>(
        &'a self,
        publishers: &'a [Publisher],
        due: Due,
    ) -> Vec<(MessageName, &'a Sent)> {
        due_messages(publishers, &self.prefix, due)
            .filter(|&(name, _)| self.count(name) == 0)
            .collect()
    }

    /// Whether the filter matches.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        topic.starts_with(&self.prefix)
    }

    fn connection(
        &mut self,
        env: &Env<'_>,
        catalogue: &Catalogue,
        until: Until<'_>,
        temper: Temper,
    ) -> Result<End, LinkError> {
        let (mut link, connack) = Link::open(env.port, &self.connect())?;
        self.check_session(env, connack.session_present);
        if !self.is_subscribed {
            let options = SubscriptionOptions::new(self.granted);
            link.put(&link::subscribe_packet(
                PacketId::MAX,
                [(self.filter.clone(), options)],
            ));
            link.flush()?;
        }
        let mut packets = 0;
        let mut last_packet = Instant::now();
        let mut next_look = QUIET;
        loop {
            if link.fill(POLL)? {
                last_packet = Instant::now();
                next_look = QUIET;
            }
            while let Some(packet) = link.next()? {
                packets += 1;
                self.handle(env, catalogue, &mut link, packet)?;
            }
            self.standing.seen();
            if temper == Temper::Restless && self.rng.one_in(DROP_ONCE_IN) {
                // What was put is not sent: it stays in flight.
                return Ok(End::Dropped);
            }
            link.flush()?;
            if env.is_dead() {
                return Ok(End::Done);
            }
            let idle = last_packet.elapsed();
            let is_done = self.is_subscribed
                && match until {
                    Until::Killed => false,
                    Until::Packets(count) => packets >= count,
                    Until::Idle(time) => idle >= time,
                    Until::Quiet(publishers, due) if idle >= next_look => {
                        next_look = idle * 2;
                        idle >= STALL || self.missing(publishers, due).is_empty()
                    }
                    Until::Quiet(..) => false,
                };
            if is_done {
                link.disconnect()?;
                return Ok(End::Done);
            }
            if !self.is_subscribed && idle > link::ANSWER_TIMEOUT {
                return Err(LinkError::Silent(link::ANSWER_TIMEOUT));
            }
        }
    }

    fn connect(&self) -> Connect {
        let mut connect = Connect::new(self.version, self.client_id.as_str());
        connect.clean_start = false;
        connect.properties.session_expiry_secs = u32::MAX;
        connect.properties.receive_maximum = self.receive_maximum;
        connect.keep_alive_secs = 0;
        connect
    }

    fn check_session(&mut self, env: &Env<'_>, is_present: bool) {
        // 3.1 does not tell.
        if self.version != ProtocolVersion::V31 {
            if self.standing.presence() == Presence::Present && !is_present {
                let text = format!("the session of {} is gone", self.client_id);
                env.account.found(Violation::SessionPresent, text);
            }
            if !is_present {
                self.held.clear();
                self.is_subscribed = false;
            }
        }
        self.standing.connected();
    }

    fn handle(
        &mut self,
        env: &Env<'_>,
        catalogue: &Catalogue,
        link: &mut Link,
        packet: Packet,
    ) -> Result<(), LinkError> {
        match packet {
            Packet::SubAck(suback) if link::is_granted(&suback) => self.is_subscribed = true,
            Packet::SubAck(suback) => {
                let refused = suback.codes.iter().find(|code| code.is_error());
                let reason = refused.copied().unwrap_or(ReasonCode::UnspecifiedError);
                return Err(LinkError::Refused(reason));
            }
            Packet::Publish(publish) => self.take(env, catalogue, link, &publish),
            Packet::PubRel(ack) => {
                self.held.remove(&ack.id.get());
                link.put(&Packet::PubComp(Ack::success(ack.id)));
            }
            other => return Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
        }
        Ok(())
    }

    fn take(&mut self, env: &Env<'_>, catalogue: &Catalogue, link: &mut Link, publish: &Publish) {
        let name = message::read(publish.payload());
        if name.is_none() && !publish.payload().is_empty() {
            let text = format!(
                "{} got {} bytes to {:?} that nobody sent",
                self.client_id,
                publish.payload().len(),
                publish.topic()
            );
            env.account.found(Violation::Damaged, text);
        }
        match publish.delivery().packet_id() {
            None => self.note(env, catalogue, name, publish),
            Some(id) if publish.qos() == QoS::AtLeastOnce => {
                self.note(env, catalogue, name, publish);
                link.put(&Packet::PubAck(Ack::success(id)));
            }
            Some(id) => {
                match (self.held.get(&id.get()).copied(), name) {
                    (Some(held), _) => self.check_repeat(env, id, held, name, publish),
                    (None, Some(name)) => {
                        self.held.insert(id.get(), name);
                        self.note(env, catalogue, Some(name), publish);
                    }
                    (None, None) => {}
                }
                link.put(&Packet::PubRec(Ack::success(id)));
            }
        }
    }

    /// A QoS 2 message came under an identifier that is not released: it must be the same one.
    fn check_repeat(
        &self,
        env: &Env<'_>,
        id: PacketId,
        held: MessageName,
        name: Option<MessageName>,
        publish: &Publish,
    ) {
        if name != Some(held) {
            let text = match name {
                Some(name) => format!(
                    "{} has {held} under id {id}, and got {name} under it, which it must drop",
                    self.client_id
                ),
                None => format!("{} has {held} under id {id}", self.client_id),
            };
            env.account.found(Violation::PacketIdentifier, text);
        } else if !publish.delivery().dup() {
            let text = format!(
                "{} got {held} again under id {id} without DUP",
                self.client_id
            );
            env.account.found(Violation::PacketIdentifier, text);
        }
    }

    fn note(
        &mut self,
        env: &Env<'_>,
        catalogue: &Catalogue,
        name: Option<MessageName>,
        publish: &Publish,
    ) {
        let Some(name) = name else { return };
        self.received += 1;
        let listed = catalogue.0.get(&(name.publisher, name.stream));
        let Some(listed) = listed else {
            let text = format!("{} got {name}, which is nobody's", self.client_id);
            return env.account.found(Violation::Misdelivered, text);
        };
        let qos = listed.qos.min(self.granted);
        let topic = publish.topic().map(TopicName::as_str);
        if topic != Some(listed.topic.as_str())
            || publish.qos() != qos
            || !self.matches(&listed.topic)
        {
            let text = format!(
                "{} got {name} of {:?} with {:?}, and not {} with {qos:?}",
                self.client_id,
                topic,
                publish.qos(),
                listed.topic
            );
            env.account.found(Violation::Misdelivered, text);
        }
        let seen = self.seen.entry((name.publisher, name.stream)).or_default();
        let index = name.number as usize;
        if seen.counts.len() <= index {
            seen.counts.resize(index + 1, 0);
        }
        let count = &mut seen.counts[index];
        *count = count.saturating_add(1);
        if *count > 1 {
            self.repeated += 1;
            if qos == QoS::ExactlyOnce {
                let text = format!("{} got {name} {count} times", self.client_id);
                env.account.found(Violation::Twice, text);
            }
            return;
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.push(Arrival {
                name,
                at: Instant::now(),
                moment: env.account.now(),
                expiry_secs: publish.properties().message_expiry_secs(),
            });
        }
        if name.number < seen.next && self.order == Order::Kept {
            let text = format!(
                "{} got {name} for the first time after number {}",
                self.client_id,
                seen.next - 1
            );
            env.account.found(Violation::OutOfOrder, text);
        }
        seen.next = seen.next.max(name.number + 1);
    }
}

/// The messages of the topics that begin with `prefix` and are due, QoS 0 excepted.
pub(crate) fn due_messages<'a>(
    publishers: &'a [Publisher],
    prefix: &'a str,
    due: Due,
) -> impl Iterator<Item = (MessageName, &'a Sent)> {
    publishers.iter().flat_map(move |publisher| {
        let streams = (0..).zip(&publisher.streams);
        let streams =
            streams.filter(move |(_, stream)| stream.topic.starts_with(prefix) && !stream.retain);
        streams.flat_map(move |(number, stream)| {
            let sent = (0..).zip(&stream.sent);
            sent.filter_map(move |(index, sent)| {
                let is_due = match due {
                    Due::Completed => sent.completed.is_some(),
                    Due::Acked => sent.acked.is_some(),
                };
                let name = MessageName {
                    publisher: publisher.number,
                    stream: number,
                    number: index,
                };
                (is_due && !sent.is_refused).then_some((name, sent))
            })
        })
    })
}

/// Whether a client drops its connection now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Steady,
    Restless,
}

/// Nothing has come for so long: look whether all is there.
const QUIET: Duration = Duration::from_millis(300);
/// Nothing has come for so long: nothing more will.
const STALL: Duration = Duration::from_secs(12);
const FAILURES_MAX: u32 = 5;
const DROP_ONCE_IN: u64 = 400;
