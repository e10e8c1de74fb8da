//! The sessions a broker has to have, modelled from what clients asked for and what they saw.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_broker_core::QueueId;
use whimbrel_broker_core::session::codec::{
    ProtocolVersion, QoS, RetainHandling, SubscriptionOptions,
};

use super::matching;
use super::message::{Message, Position};
use super::turns::Turns;
use super::{Moment, Order};
use crate::payload::MessageKey;

/// One life of a client's session, from CONNECT to its end. Kept after its end, to be looked up.
#[derive(Debug)]
pub(super) struct Session {
    /// Its number among all sessions.
    pub(super) index: usize,
    pub(super) client: usize,
    pub(super) shard: usize,
    pub(super) began: Order,
    pub(super) ended: Option<Order>,
    pub(super) connection: Option<usize>,
    pub(super) expiry_secs: u32,
    /// Since when it outlives its connection.
    pub(super) durable_since: Option<Order>,
    /// When its last connection ended.
    pub(super) disconnected: Option<Parting>,
    /// When it has to end, without a connection until then.
    pub(super) expires_ms: Option<u64>,
    pub(super) will: Option<Will>,
    /// When the will of a lost connection has to be published.
    pub(super) will_due_ms: Option<u64>,
    /// Its name in the journal.
    pub(super) queue: Option<QueueId>,
    pub(super) subscriptions: Vec<Subscription>,
    /// Received copies, by message.
    pub(super) received: BTreeMap<MessageKey, Copies>,
    /// The latest first delivery in each flow that has an order.
    pub(super) marks: BTreeMap<Flow, Mark>,
    /// What the client saw last on each topic: a message, or `None` for an empty payload.
    pub(super) last_seen: BTreeMap<String, Option<MessageKey>>,
    /// `QoS` 1 and 2 messages sent to the client and not acknowledged, by packet identifier.
    pub(super) in_flight: BTreeMap<u16, Sent>,
    /// `QoS` 1 and 2 messages that came from the client, by packet identifier.
    pub(super) inbound: BTreeMap<u16, MessageKey>,
    /// Exchanges that the journal was told of, by packet identifier and stage; those that are over too.
    pub(super) exchanges: BTreeMap<(u16, ExchangeKind), Exchange>,
    /// The last window that is committed, and those after it.
    pub(super) windows: VecDeque<WindowSeen>,
    pub(super) connections: u32,
    /// The largest packet that its client accepts.
    pub(super) packet_size_max: Option<u32>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    /// By the wall clock.
    pub(super) wall_ms: i64,
    /// A start counted the connection as lost, in this life.
    pub(super) by_start_of: Option<usize>,
    /// The record that says so, from that start.
    pub(super) record: Option<Position>,
}

/// What an exchange towards the client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    clippy::enum_variant_names,
    reason = "named for the packets they wait for"
)]
pub(super) enum ExchangeKind {
    PubAck,
    PubRec,
    PubComp,
}

/// An exchange as the journal knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// The place of its message.
    pub(super) place: Option<whimbrel_broker_core::Position>,
    /// The first record that has it in this stage.
    pub(super) since: Position,
}

/// What the record of a window said.
#[derive(Clone, Debug)]
pub(super) struct WindowSeen {
    pub(super) position: Position,
    /// The packet identifiers of those exchanges whose message is recorded.
    pub(super) ids: Vec<u16>,
}

/// What of a session a crash may take back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) ended: Option<Order>,
    pub(super) is_connected: bool,
    pub(super) expiry_secs: u32,
    pub(super) durable_since: Option<Order>,
    pub(super) disconnected: Option<Parting>,
    pub(super) will: Option<Will>,
}

/// A will as CONNECT gave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Will {
    pub(super) key: MessageKey,
    pub(super) delay_secs: u32,
}

/// A subscription with one set of options. Subscribing again makes another one.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) filter: String,
    pub(super) share: Option<String>,
    /// When SUBSCRIBE was handled.
    pub(super) asked: Order,
    pub(super) began: Order,
    /// Since when it catches every message: its SUBACK, where another shard has to agree.
    pub(super) joined: Option<Order>,
    pub(super) ended: Option<Order>,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retain_handling: RetainHandling,
    pub(super) is_new: bool,
    pub(super) id: Option<u32>,
    /// The record that made it, if there is a journal, and the one that ended it.
    pub(super) made: Position,
    pub(super) unmade: Option<Position>,
}

/// How often a message came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copies {
    /// Live copies, but for repeated ones of `QoS` 1.
    pub(super) live: u32,
    /// Live copies of `QoS` 1 with DUP: at least once.
    pub(super) repeated: u32,
    /// Copies that were sent because they were retained.
    pub(super) retained: u32,
    /// The life of the broker that sent the first one.
    pub(super) life: usize,
}

/// What has to stay in order: the standard asks for it per `QoS`, this broker keeps it across them,
/// so that the last message on a topic is the retained one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) publisher: u16,
    pub(super) publisher_session: usize,
    pub(super) topic: String,
    /// `None` across all of them.
    pub(super) lanes: Option<Lanes>,
}

/// `QoS` as published and as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lanes {
    pub(super) published: u8,
    pub(super) delivered: u8,
}

/// The latest message of a flow that was delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// When the broker took it.
    pub(super) taken: Order,
    pub(super) key: MessageKey,
}

/// A PUBLISH on its way to the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) key: Option<MessageKey>,
    pub(super) qos: QoS,
    pub(super) connection: usize,
}

impl Session {
    pub(super) fn new(index: usize, client: usize, shard: usize, began: Order) -> Self {
        Self {
            index,
            client,
            shard,
            began,
            ended: None,
            connection: None,
            expiry_secs: 0,
            durable_since: None,
            disconnected: None,
            expires_ms: None,
            will: None,
            will_due_ms: None,
            queue: None,
            subscriptions: Vec::new(),
            received: BTreeMap::new(),
            marks: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            inbound: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            windows: VecDeque::new(),
            connections: 0,
            packet_size_max: None,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            ended: self.ended,
            is_connected: self.connection.is_some(),
            expiry_secs: self.expiry_secs,
            durable_since: self.durable_since,
            disconnected: self.disconnected,
            will: self.will,
        }
    }

    /// Is again what it was. Its connection is gone for good.
    pub(super) fn stand(&mut self, standing: Standing) {
        let Standing {
            ended,
            is_connected,
            expiry_secs,
            durable_since,
            disconnected,
            will,
        } = standing;
        self.ended = ended;
        self.connection = None;
        self.expiry_secs = expiry_secs;
        self.durable_since = durable_since;
        self.disconnected = disconnected.filter(|_| !is_connected);
        self.will = will;
    }

    /// Its connection is over.
    pub(super) fn part(&mut self, moment: Moment, wall_ms: i64) {
        self.disconnected = Some(Parting {
            wall_ms,
            by_start_of: None,
            record: None,
        });
        self.set_due(moment.ms);
    }

    /// Its expiry counts from `since_ms`.
    fn set_due(&mut self, since_ms: u64) {
        let expires = self.expiry_secs != u32::MAX;
        self.expires_ms = expires.then(|| since_ms + u64::from(self.expiry_secs) * 1000);
    }

    pub(super) fn set_expiry(&mut self, secs: u32, order: Order) {
        self.expiry_secs = secs;
        if secs == 0 {
            self.durable_since = None;
        } else if self.durable_since.is_none() {
            self.durable_since = Some(order);
        }
    }

    pub(super) fn subscribe(&mut self, asked: &Asked, moment: Moment, post: Position) {
        let (share, filter) = match matching::shared(&asked.filter) {
            Some((share, filter)) => (Some(share.to_owned()), filter.to_owned()),
            None => (None, asked.filter.clone()),
        };
        let is_open =
            |old: &Subscription| old.ended.is_none() && old.filter == filter && old.share == share;
        let is_new = !self.subscriptions.iter().any(is_open);
        // Where another shard has to agree, the old options are in force until it has.
        if share.is_none() {
            for old in self.subscriptions.iter_mut().filter(|old| is_open(old)) {
                old.end(moment.order, post);
            }
        }
        let options = asked.options;
        self.subscriptions.push(Subscription {
            joined: share.is_none().then_some(moment.order),
            filter,
            share,
            asked: asked.order,
            began: moment.order,
            ended: None,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling,
            is_new,
            id: asked.id,
            made: post,
            unmade: None,
        });
    }

    pub(super) fn unsubscribe(&mut self, text: &str, moment: Moment, post: Position) -> bool {
        let (share, filter) = match matching::shared(text) {
            Some((share, filter)) => (Some(share), filter),
            None => (None, text),
        };
        let mut known = false;
        for old in &mut self.subscriptions {
            if old.ended.is_none() && old.filter == filter && old.share.as_deref() == share {
                old.end(moment.order, post);
                known = true;
            }
        }
        known
    }

    /// A SUBSCRIBE was answered: its options are in force, in place of older ones.
    ///
    /// Where more SUBSCRIBEs to a shared subscription are under way, the older options may be in
    /// force until the last of them is answered.
    pub(super) fn answered(&mut self, asked: Order, moment: Moment) {
        for index in 0..self.subscriptions.len() {
            let (older, rest) = self.subscriptions.split_at_mut(index);
            let [subscription, newer @ ..] = rest else {
                return;
            };
            if subscription.asked != asked || subscription.joined.is_some() {
                continue;
            }
            subscription.joined = Some(moment.order);
            subscription.began = moment.order;
            let same = |other: &Subscription| {
                other.ended.is_none()
                    && other.filter == subscription.filter
                    && other.share == subscription.share
            };
            if newer
                .iter()
                .any(|other| other.joined.is_none() && same(other))
            {
                continue;
            }
            let made = subscription.made;
            for old in older.iter_mut().filter(|old| same(old)) {
                old.end(moment.order, made);
            }
        }
    }

    /// Subscriptions that may have caught `message` at or after its arrival.
    ///
    /// No Local is held to within one session: what a client has published in an earlier one may
    /// come late.
    pub(super) fn possible<'a>(
        &'a self,
        message: &'a Message,
    ) -> impl Iterator<Item = &'a Subscription> {
        let since = message.first_ingress();
        self.subscriptions.iter().filter(move |subscription| {
            subscription.ended.is_none_or(|ended| Some(ended) >= since)
                && matching::matches(&subscription.filter, &message.topic)
                && !(subscription.is_ordinary()
                    && subscription.no_local
                    && usize::from(message.publisher) == self.client
                    && message
                        .ingress
                        .iter()
                        .all(|ingress| ingress.session == self.index))
        })
    }

    /// Whether an ordinary or shared filter was covered without a gap since before `order`.
    pub(super) fn covered_since(&self, filter: &str, share: Option<&str>, order: Order) -> bool {
        let mut wanted = None;
        for version in self.subscriptions.iter().rev() {
            if version.filter != filter || version.share.as_deref() != share {
                continue;
            }
            if version.ended != wanted {
                return false;
            }
            if version.joined.is_some_and(|joined| joined < order) {
                return true;
            }
            if version.is_new {
                return false;
            }
            wanted = Some(version.began);
        }
        false
    }
}

impl Subscription {
    /// It is over, and a record says so.
    pub(super) fn end(&mut self, order: Order, post: Position) {
        if self.ended.is_none() {
            self.ended = Some(order);
            self.unmade = Some(post);
        }
    }

    pub(super) fn is_ordinary(&self) -> bool {
        self.share.is_none()
    }

    /// Whether it has caught `message` for sure: it was there before, and still is.
    pub(super) fn is_sure_of(&self, message: &Message) -> bool {
        self.ended.is_none()
            && message
                .first_ingress()
                .is_some_and(|ingress| self.joined.is_some_and(|joined| joined < ingress))
    }
}

/// One filter of a SUBSCRIBE that was handled and whose outcome is still to come.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) filter: String,
    pub(super) options: SubscriptionOptions,
    pub(super) id: Option<u32>,
    pub(super) order: Order,
}

/// One connection, from CONNECT being handled on.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: usize,
    /// The life of the broker that it was opened to.
    pub(super) life: usize,
    pub(super) version: ProtocolVersion,
    pub(super) attached: Order,
    pub(super) expects_session_present: bool,
    pub(super) keep_alive_secs: u16,
    pub(super) receive_maximum: u16,
    pub(super) packet_size_max: Option<u32>,
    pub(super) topic_alias_max: u16,
    /// What the broker has given aliases to.
    pub(super) aliases: BTreeMap<u16, String>,
    pub(super) opened_record: Option<Position>,
    pub(super) subscribed_records: VecDeque<Position>,
    pub(super) unsubscribed_records: VecDeque<Position>,
    /// Filters of SUBSCRIBEs that were handled.
    pub(super) asked: VecDeque<Asked>,
    /// SUBSCRIBEs whose SUBACK has not left.
    pub(super) unanswered: VecDeque<Order>,
    /// A packet that no correct client sends was put on the link.
    pub(super) is_garbled: bool,
    pub(super) is_durable: bool,
    pub(super) is_local: bool,
    pub(super) accepted: bool,
    pub(super) closed: bool,
    /// DISCONNECT went to the broker: its reason and expiry.
    pub(super) disconnect: Option<Farewell>,
    /// When the last whole packet came.
    pub(super) last_input_ms: u64,
    /// Some of it waits to be looked at.
    pub(super) input_waits: bool,
    /// When some of it was last found to have waited, or CONNACK left.
    pub(super) waited_ms: u64,
    /// Acknowledgements that are owed to the client.
    pub(super) turns: Turns,
    /// Since when the output cannot have held anything older.
    pub(super) output_empty_ms: u64,
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<u8>,
}

impl Connection {
    /// When the client has been silent for one and a half keep alives, where that is known.
    pub(super) fn keep_alive_ends_ms(&self) -> Option<u64> {
        let watched =
            self.accepted && !self.closed && !self.input_waits && self.keep_alive_secs > 0;
        let heard_ms = self.last_input_ms.max(self.waited_ms);
        watched.then(|| heard_ms + u64::from(self.keep_alive_secs) * 1_500)
    }
}

/// A client's DISCONNECT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    pub(super) keeps_will: bool,
    pub(super) session_expiry_secs: Option<u32>,
}
