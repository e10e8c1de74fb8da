//! The oracle: what the standard promises, checked against what was seen on the links.
//!
//! It models sessions, subscriptions, retained messages, wills and journal positions from the
//! outside: from the packets on both sides of each link, the packets that hooks are shown, the
//! records that are appended, and the events for observers. It knows nothing of how the core works.

mod changes;
mod copies;
mod crash;
mod finals;
mod follow;
mod lifecycle;
mod matching;
mod message;
mod records;
mod session;
mod turns;
mod wall;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use whimbrel_broker_core::session::codec::{QoS, ReasonCode, SubscriptionOptions};
use whimbrel_broker_core::{MsgId, QueueId};

use self::changes::Change;
use self::follow::Followed;
use self::message::{Fate, Ingress, Message, Position, Span};
use self::session::{Asked, Connection, Session};
use self::wall::Wall;
use crate::finding::Finding;
use crate::payload::MessageKey;
use crate::plan::Plan;

pub(crate) use self::copies::Copy;
pub(crate) use self::lifecycle::{Arrival, ArrivalWill};

/// A place in the order of everything that the oracle was told.
type Order = u64;

/// When something happened.
#[derive(Clone, Copy, Debug)]
struct Moment {
    order: Order,
    ms: u64,
}

/// What a publisher is about to publish.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) key: MessageKey,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry_secs: Option<u32>,
    pub(crate) payload_length: usize,
    pub(crate) is_will: bool,
    pub(crate) is_denied: bool,
}

/// A packet that hooks were shown, in the order of their being handled.
#[derive(Clone, Debug)]
pub(crate) enum Gated {
    Publish {
        topic: String,
        /// `None` for an empty payload, which deletes.
        key: Option<MessageKey>,
        qos: QoS,
        retain: bool,
        is_denied: bool,
    },
    Subscribe {
        filters: Vec<(String, SubscriptionOptions)>,
        id: Option<u32>,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Oracle {
    next_order: Order,
    now_ms: u64,
    journal: bool,
    v3_session_expiry_secs: u32,
    session_expiry_secs_max: u32,
    in_flight_max: u16,
    queues_are_small: bool,
    /// What does not fit in memory is on the disk only.
    queues_spill: bool,
    sessions: Vec<Session>,
    /// The living session of each client.
    by_client: BTreeMap<usize, usize>,
    connections: BTreeMap<usize, Connection>,
    /// What came on connections whose CONNECT was not handled yet.
    early: BTreeMap<usize, Vec<u8>>,
    /// Connections whose CONNECT is being handled, by client.
    arriving: BTreeMap<usize, Arrival>,
    messages: BTreeMap<MessageKey, Message>,
    /// The retained message of each topic that has one.
    retained: BTreeMap<String, MessageKey>,
    /// The first time a topic's retained message was deleted.
    deletions: BTreeMap<String, Order>,
    /// What the identities that the broker has given stand for: node, incarnation and sequence.
    identities: BTreeMap<MsgId, MessageKey>,
    /// The sessions of the journal's queues.
    queues: BTreeMap<QueueId, usize>,
    /// The number of the present process.
    life: usize,
    /// Records of each of its shards.
    appended: Vec<u64>,
    /// Records of each shard that are committed, by life.
    committed: Vec<Vec<u64>>,
    /// The last record of the turn that is told now.
    post: Position,
    /// What is not committed of what became of sessions, by shard.
    changes: Vec<VecDeque<Change>>,
    /// The retained messages that the journal has.
    retained_stored: BTreeMap<String, Option<MessageKey>>,
    /// Topics of which it can't be told what is retained.
    retained_unknown: BTreeSet<String>,
    /// Messages are to be refused for want of room on the disk.
    disk: DiskRoom,
    /// When the present process began.
    life_began: Order,
    wall: Wall,
    /// The message whose life is told.
    follow: Option<MessageKey>,
    followed: Vec<Followed>,
    findings: Vec<Finding>,
    /// Deliveries that clients saw.
    pub(crate) deliveries: u64,
}

impl Oracle {
    /// `follow` is the message whose life is told, if any.
    pub(crate) fn new(plan: &Plan, follow: Option<MessageKey>) -> Self {
        Self {
            next_order: 1,
            now_ms: 0,
            journal: plan.core.journal,
            v3_session_expiry_secs: plan.core.v3_session_expiry_secs,
            session_expiry_secs_max: plan.core.session_expiry_secs_max,
            in_flight_max: plan.core.connection.in_flight_max.get(),
            queues_are_small: plan.queues_are_small,
            queues_spill: plan.queues_spill(),
            sessions: Vec::new(),
            by_client: BTreeMap::new(),
            connections: BTreeMap::new(),
            early: BTreeMap::new(),
            arriving: BTreeMap::new(),
            messages: BTreeMap::new(),
            retained: BTreeMap::new(),
            deletions: BTreeMap::new(),
            identities: BTreeMap::new(),
            queues: BTreeMap::new(),
            life: 0,
            post: Position {
                life: 0,
                shard: 0,
                record: 0,
            },
            changes: vec![VecDeque::new(); plan.core.shards],
            retained_stored: BTreeMap::new(),
            retained_unknown: BTreeSet::new(),
            disk: DiskRoom::default(),
            life_began: 0,
            wall: Wall::new(),
            follow,
            followed: Vec::new(),
            appended: vec![0; plan.core.shards],
            committed: vec![vec![0; plan.core.shards]],
            findings: Vec::new(),
            deliveries: 0,
        }
    }

    /// The first rule that was broken.
    pub(crate) fn finding(&self) -> Option<&Finding> {
        self.findings.first()
    }

    /// Notes a broken rule.
    pub(crate) fn fail(&mut self, rule: &'static str, detail: String) {
        self.findings.push(Finding { rule, detail });
    }

    /// A client is about to publish something.
    pub(crate) fn published(&mut self, published: Published) {
        let Published {
            key,
            topic,
            qos,
            retain,
            expiry_secs,
            payload_length,
            is_will,
            is_denied,
        } = published;
        self.tell(key, || {
            let publisher = key.publisher;
            let how = if is_will {
                "as the will of"
            } else {
                "published by"
            };
            format!("{how} c{publisher} on {topic} with {qos:?}, retain {retain}")
        });
        self.messages.insert(
            key,
            Message {
                publisher: key.publisher,
                topic,
                qos,
                retain,
                expiry_secs,
                payload_length,
                is_will,
                is_denied,
                ingress: Vec::new(),
                promised: false,
                retained: Vec::new(),
                enqueued: BTreeMap::new(),
                inbound_stored: None,
                inbound_released: None,
                is_retained_stored: false,
                group_copies: BTreeMap::new(),
            },
        );
    }

    /// A publisher heard the outcome of its message.
    pub(crate) fn settled(&mut self, key: MessageKey, reason: ReasonCode) {
        self.tell(key, || format!("settled for its publisher: {reason:?}"));
        let Some(message) = self.messages.get_mut(&key) else {
            return;
        };
        if message.is_denied {
            return;
        }
        // A repeated PUBREL finds its exchange over where only the PUBCOMP was lost.
        let over =
            message.qos == QoS::ExactlyOnce && reason == ReasonCode::PacketIdentifierNotFound;
        if reason.is_error() && !over {
            let excused = self.queues_are_small || self.disk.was_full;
            if !(excused && reason == ReasonCode::QuotaExceeded) {
                self.fail("a message was refused", format!("{key} with {reason:?}"));
            }
            return;
        }
        if message.ingress.is_empty() {
            self.fail("acknowledged without being taken", format!("{key}"));
            return;
        }
        message.promised = true;
        if reason == ReasonCode::NoMatchingSubscribers {
            let message = &self.messages[&key];
            let subscriber = self.living().find(|session| {
                message.ingress.len() == 1
                    && message.ingress[0].order > self.life_began
                    && session
                        .possible(message)
                        .any(|subscription| subscription.is_sure_of(message))
            });
            if let Some(session) = subscriber {
                let detail = format!("{key} on {}, client c{}", message.topic, session.client);
                self.fail("no matching subscribers, but there is one", detail);
            }
        }
    }

    /// Packets of a connection were handled.
    pub(crate) fn gated(&mut self, connection: usize, gated: Vec<Gated>) {
        for packet in gated {
            let moment = self.moment();
            let Some(session) = self.connections.get(&connection).map(|found| found.session) else {
                continue;
            };
            match packet {
                Gated::Subscribe { filters, id } => {
                    let asked = filters.into_iter().map(|(filter, options)| Asked {
                        filter,
                        options,
                        id,
                        order: moment.order,
                    });
                    if let Some(connection) = self.connections.get_mut(&connection) {
                        connection.asked.extend(asked);
                        connection.unanswered.push_back(moment.order);
                    }
                }
                Gated::Publish {
                    topic,
                    key,
                    qos,
                    retain,
                    is_denied,
                } => {
                    if is_denied {
                        continue;
                    }
                    let Some(key) = key else {
                        self.retain(&topic, None, moment);
                        continue;
                    };
                    self.taken(key, session, qos, moment);
                    if retain {
                        self.retain(&topic, Some(key), moment);
                    }
                }
            }
        }
    }

    /// A SUBSCRIBE of a connection was answered: the one at this place among those that were not.
    pub(crate) fn answered(&mut self, connection: usize, place: usize) {
        let moment = self.moment();
        let Some(connection) = self.connections.get_mut(&connection) else {
            return;
        };
        let Some(asked) = connection.unanswered.remove(place) else {
            return;
        };
        self.sessions[connection.session].answered(asked, moment);
    }

    /// The broker took a message of a session.
    fn taken(&mut self, key: MessageKey, session: usize, qos: QoS, moment: Moment) {
        self.tell(key, || "taken by the broker".to_owned());
        let wall_ms = self.wall.at(moment.ms);
        let is_full = self.disk.full_since.is_some();
        let Some(message) = self.messages.get_mut(&key) else {
            return self.fail("a message that nobody published", format!("{key}"));
        };
        let again = message
            .ingress
            .iter()
            .any(|ingress| ingress.session == session && ingress.fate == Fate::Kept);
        let faulty = message.qos != qos || again && qos != QoS::AtLeastOnce;
        message.ingress.push(Ingress {
            order: moment.order,
            at_ms: moment.ms,
            wall_ms,
            session,
            // It may be refused, and come again.
            fate: if is_full { Fate::Forgotten } else { Fate::Kept },
        });
        if faulty {
            let times = self.messages[&key].ingress.len();
            self.fail(
                "taken more than once",
                format!("{key} at {qos:?}, {times} times"),
            );
        }
    }

    /// The retained message of a topic changes.
    fn retain(&mut self, topic: &str, key: Option<MessageKey>, moment: Moment) {
        if self.disk.full_since.is_some() {
            return self.retain_perhaps(topic, key, moment);
        }
        self.retained_unknown.remove(topic);
        let old = self.retained.remove(topic);
        self.tell_of(old, || "is no more the retained message".to_owned());
        if let Some(old) = old
            && let Some(span) = self
                .messages
                .get_mut(&old)
                .and_then(|message| message.retained.last_mut())
        {
            span.until = Some(moment.order);
        }
        match key {
            Some(key) => {
                self.tell(key, || "is the retained message now".to_owned());
                self.retained.insert(topic.to_owned(), key);
                if let Some(message) = self.messages.get_mut(&key) {
                    message.retained.push(Span {
                        from: moment.order,
                        until: None,
                    });
                }
            }
            None => {
                self.deletions
                    .entry(topic.to_owned())
                    .or_insert(moment.order);
            }
        }
    }

    /// The retained message of a topic changes, or not, for want of room.
    fn retain_perhaps(&mut self, topic: &str, key: Option<MessageKey>, moment: Moment) {
        self.retained_unknown.insert(topic.to_owned());
        if let Some(message) = key.and_then(|key| self.messages.get_mut(&key)) {
            message.retained.push(Span {
                from: moment.order,
                until: None,
            });
        } else {
            self.deletions
                .entry(topic.to_owned())
                .or_insert(moment.order);
        }
    }

    fn moment(&mut self) -> Moment {
        let order = self.next_order;
        self.next_order += 1;
        Moment {
            order,
            ms: self.now_ms,
        }
    }

    fn living(&self) -> impl Iterator<Item = &Session> {
        self.by_client.values().map(|&index| &self.sessions[index])
    }
}

/// What brokers were told of the room on the disk.
#[derive(Clone, Copy, Debug, Default)]
struct DiskRoom {
    /// Since when messages are to be refused.
    full_since: Option<Order>,
    /// They were, some time.
    was_full: bool,
}

/// Milliseconds that a message may be under way between shards and to the journal, whatever its
/// expiry says: the simulation delays each step by no more than a part of it.
const TRANSIT_MS: u64 = 1_200;
