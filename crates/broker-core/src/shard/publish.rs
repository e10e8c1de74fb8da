//! What a publisher sends: checks, identity, retained, match, and the acknowledgement owed.

use std::sync::Arc;

use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    Disconnect, PacketId, PayloadFormat, Publish, PublishProperties, QoS, ReasonCode,
};
use whimbrel_session::mutant;
use whimbrel_session::{AckToken, InboundPublish};

use super::connection::Connection;
use super::obligation::{Debt, InboundKey, OnCommit};
use super::session::InboundMessage;
use super::source::Source;
use super::{Env, Shard};
use crate::bundle::{Bundle, Publication, Said};
use crate::effects::{CloseReason, Hop};
use crate::index::{Keeping, Matched};
use crate::message::MessageParts;
use crate::{
    ConnectionKey, DropCause, Message, QueueId, Record, SessionKey, SessionRef, UnixMillis,
};

/// What the hooks say to a packet, before the shard sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Go on.
    Allow,
    /// PUBLISH: acknowledge with this error and route nothing; MQTT 3.x clients get a plain
    /// acknowledgement (ambiguities D1, D2).
    Refuse(ReasonCode),
    /// PUBLISH: acknowledge as if it were routed, and route nothing.
    Discard,
    /// PUBLISH: route this instead. Its topic, RETAIN, properties and payload count; `QoS` and
    /// acknowledgement stay those of the original.
    Replace(Box<Publish>),
    /// SUBSCRIBE: a code per filter, [`ReasonCode::Success`] for those that may go on.
    Filters(Vec<ReasonCode>),
    /// AUTH: it is being looked at, and [`Shard::answer_authentication`](crate::Shard::answer_authentication)
    /// follows. Every other verdict but [`Disconnect`](Self::Disconnect) says the same.
    Pending,
    /// Close the connection; MQTT 5 clients are told the reason, or 0x80 where DISCONNECT has no such code.
    Disconnect(ReasonCode),
    /// The same, with another server to use or a reason in words.
    DisconnectWith(Box<Disconnect>),
}

impl Verdict {
    /// What the connection is to be closed with, if it is.
    pub(super) fn into_disconnect(self) -> Option<Disconnect> {
        match self {
            Self::Disconnect(reason) => Some(Disconnect::new(reason)),
            Self::DisconnectWith(disconnect) => Some(*disconnect),
            _ => None,
        }
    }
}

/// A recorded `QoS` 2 message that is to be routed.
#[derive(Debug)]
pub(super) struct InboundRoute {
    pub(super) connection: ConnectionKey,
    pub(super) session: SessionKey,
    pub(super) packet_id: u16,
    pub(super) queue: Option<QueueId>,
    pub(super) token: AckToken,
    pub(super) message: Message,
}

/// A message of `QoS` 0 or 1 behind a `QoS` 2 message that waits for its record.
#[derive(Debug)]
pub(super) struct BehindRoute {
    message: Message,
    publisher: Option<SessionRef>,
    debt: Option<Debt>,
}

impl Shard {
    pub(super) fn publish(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        inbound: InboundPublish<'_>,
        verdict: Verdict,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return;
        };
        let publish = &inbound.publish;
        self.stats.publishes_received += 1;
        self.stats.publish_bytes_received += publish.payload().len() as u64;
        let debt = inbound.token.map(|token| Debt::Publisher {
            connection: key,
            token,
        });
        let replacement;
        let mut parts = MessageParts {
            id: self.next_message_id(),
            topic: &inbound.topic,
            qos: publish.qos(),
            retain: publish.retain(),
            expires_at: expires_at(env, publish.properties().message_expiry_secs()),
            properties: publish.properties(),
            payload: publish.payload(),
        };
        match verdict {
            Verdict::Allow | Verdict::Filters(_) | Verdict::Pending => {}
            Verdict::Refuse(_) if mutant!(RefusedIsRouted) => {}
            Verdict::Refuse(reason) => {
                // Before MQTT 5 there is only yes (D2).
                let is_v5 = self
                    .session(session)
                    .is_some_and(|session| session.version.is_v5());
                let reason = if is_v5 { reason } else { ReasonCode::Success };
                return self.refuse_publish(env, debt, reason);
            }
            Verdict::Discard => return self.pay_publisher(env, debt, ReasonCode::Success),
            verdict @ (Verdict::Disconnect(_) | Verdict::DisconnectWith(_)) => {
                self.stats.publishes_refused += 1;
                // Not taken: a QoS 2 message that comes again is a new one.
                if let Some(Debt::Publisher { token, .. }) = debt
                    && let Some(wire) = self.connection_mut(key).and_then(Connection::wire)
                {
                    wire.withhold(token);
                }
                if let Some(disconnect) = verdict.into_disconnect() {
                    self.disconnect_saying(env, key, disconnect, CloseReason::Administrative);
                }
                return;
            }
            Verdict::Replace(publish) => {
                replacement = publish;
                if let Some(topic) = replacement.topic() {
                    parts.topic = topic;
                }
                parts.retain = replacement.retain();
                parts.properties = replacement.properties();
                parts.expires_at = expires_at(env, parts.properties.message_expiry_secs());
                parts.payload = replacement.payload();
            }
        }
        // MQTT 3.x clients are not told that nothing is retained, and hooks need not know.
        parts.retain &= self.config.connection.retain_available;
        let checked = self
            .check_topic(parts.topic)
            .and_then(|()| self.check_payload(parts.properties, parts.payload));
        if let Err(reason) = checked {
            return self.refuse_publish(env, debt, reason);
        }
        let publisher = SessionRef {
            shard: self.id,
            key: session,
        };
        match (parts.qos, debt) {
            (QoS::ExactlyOnce, Some(Debt::Publisher { connection, token })) => {
                let packet_id = publish.packet_id().map_or(0, PacketId::get);
                self.ingest_exactly_once(env, &parts, publisher, connection, token, packet_id);
            }
            (_, debt) => self.ingest(env, &parts, Some(publisher), debt),
        }
    }

    /// Retains, matches and routes a message of `QoS` 0 or 1, or one that nobody acknowledges.
    pub(super) fn ingest(
        &mut self,
        env: Env<'_>,
        parts: &MessageParts<'_>,
        publisher: Option<SessionRef>,
        debt: Option<Debt>,
    ) {
        let mut buffers = self.take_buffers();
        let mut source = Source::new(*parts, env.now.wall, &mut buffers);
        self.ingest_source(env, &mut source, publisher, debt);
        self.keep_buffers(buffers);
    }

    fn ingest_source(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        publisher: Option<SessionRef>,
        debt: Option<Debt>,
    ) {
        let mut retain = source.retain();
        if self.disk_full {
            let keeps = retain && source.payload_bytes() > 0 && !is_own(source.topic());
            let is_refusable = debt.is_some() && source.qos() > QoS::AtMostOnce;
            if is_refusable && self.would_store(env, source.topic(), keeps) {
                return self.refuse_publish(env, debt, ReasonCode::QuotaExceeded);
            }
            if keeps && !is_refusable && !env.index.is_retained(source.topic()) {
                // Nobody can be told, or it is of QoS 0, which goes on.
                self.stats.count_drop(DropCause::DiskFull);
                retain = false;
            }
        }
        if retain && self.retain(env, source.message()).is_err() {
            return self.refuse_publish(env, debt, ReasonCode::QuotaExceeded);
        }
        let behind = publisher
            .filter(|publisher| publisher.shard == self.id)
            .and_then(|publisher| self.session_mut(publisher.key))
            .filter(|session| session.unrouted > 0 && !mutant!(RecordOvertaken));
        if let Some(session) = behind {
            session.unrouted += 1;
            let message = source.message().clone();
            self.behind_bytes += message.size();
            let route = BehindRoute {
                message,
                publisher,
                debt,
            };
            return self.after_commit(env, OnCommit::RouteBehind(route));
        }
        let matched = self.matches(env, source.topic());
        let waits_for_retained = retain && debt.is_some() && self.commits.has_journal();
        if matched.is_empty() && !waits_for_retained {
            return self.pay_publisher(env, debt, ReasonCode::NoMatchingSubscribers);
        }
        self.route_for(env, source, &matched, publisher, debt, waits_for_retained);
    }

    /// Routes a message that waited for a `QoS` 2 message of its publisher, so that none overtakes
    /// another. Whatever it needed recorded is committed by now.
    pub(super) fn route_behind(&mut self, env: Env<'_>, route: BehindRoute) {
        let BehindRoute {
            message,
            publisher,
            debt,
        } = route;
        self.behind_bytes -= message.size();
        if let Some(session) = publisher.and_then(|publisher| self.session_mut(publisher.key)) {
            session.unrouted -= 1;
        }
        if message.is_expired(env.now.wall) {
            self.stats.count_drop(DropCause::Expired);
            return self.pay_publisher(env, debt, ReasonCode::Success);
        }
        let matched = self.matches(env, message.topic());
        if matched.is_empty() {
            return self.pay_publisher(env, debt, ReasonCode::NoMatchingSubscribers);
        }
        let mut buffers = self.take_buffers();
        let mut source = Source::of_message(&message, env.now.wall, &mut buffers);
        self.route_for(env, &mut source, &matched, publisher, debt, false);
        self.keep_buffers(buffers);
    }

    /// Takes a `QoS` 2 message over: recorded first, then PUBREC, then routed [DESIGN §6].
    fn ingest_exactly_once(
        &mut self,
        env: Env<'_>,
        parts: &MessageParts<'_>,
        publisher: SessionRef,
        connection: ConnectionKey,
        token: AckToken,
        packet_id: u16,
    ) {
        let mut buffers = self.take_buffers();
        let mut source = Source::new(*parts, env.now.wall, &mut buffers);
        let debt = Debt::Publisher { connection, token };
        let debt = self.finish_unrecorded(env, &mut source, publisher, debt);
        let message = debt.is_some().then(|| source.message().clone());
        self.keep_buffers(buffers);
        let (Some(Debt::Publisher { connection, token }), Some(message)) = (debt, message) else {
            return;
        };
        let queue = self.inbound_queue(publisher.key);
        if let Some(session) = self.session_mut(publisher.key) {
            session.unrouted += 1;
            session.rare.make().inbound.insert(
                packet_id,
                InboundMessage {
                    id: parts.id,
                    queue,
                    routed: false,
                    release: None,
                },
            );
        }
        if let Some(session) = queue {
            self.append(|| Record::InboundStored {
                session,
                packet_id,
                message: message.clone(),
            });
        }
        let route = InboundRoute {
            connection,
            session: publisher.key,
            packet_id,
            queue,
            token,
            message,
        };
        if mutant!(PubRecBeforeRecord) {
            return self.route_inbound(env, route);
        }
        self.after_commit(env, OnCommit::RouteInbound(route));
    }

    /// Routes and answers a `QoS` 2 message that nobody has to store, or refuses it; gives the debt back where the
    /// message is to be recorded first.
    fn finish_unrecorded(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        publisher: SessionRef,
        debt: Debt,
    ) -> Option<Debt> {
        let keeps = source.retain() && source.payload_bytes() > 0;
        // Messages of one publisher keep their order: none overtakes one that waits for its record.
        let behind = self
            .session(publisher.key)
            .is_some_and(|session| session.unrouted > 0 && !mutant!(RecordOvertaken));
        if self.disk_full && (behind || self.would_store(env, source.topic(), keeps)) {
            self.refuse_publish(env, Some(debt), ReasonCode::QuotaExceeded);
            return None;
        }
        if source.retain() && self.retain(env, source.message()).is_err() {
            self.refuse_publish(env, Some(debt), ReasonCode::QuotaExceeded);
            return None;
        }
        let matched = self.matches(env, source.topic());
        if behind || source.retain() && self.commits.has_journal() || !matched.durable.is_empty() {
            return Some(debt);
        }
        let reason = if matched.is_empty() {
            ReasonCode::NoMatchingSubscribers
        } else {
            self.route(env, source, &matched, Some(publisher), None);
            ReasonCode::Success
        };
        self.pay_publisher(env, Some(debt), reason);
        None
    }

    /// Routes a recorded `QoS` 2 message and sends its PUBREC.
    pub(super) fn route_inbound(&mut self, env: Env<'_>, route: InboundRoute) {
        let InboundRoute {
            connection,
            session,
            packet_id,
            queue,
            token,
            message,
        } = route;
        if let Some(session) = self.session_mut(session) {
            session.unrouted -= 1;
        }
        let debt = Debt::Publisher { connection, token };
        self.pay_publisher(env, Some(debt), ReasonCode::Success);
        if mutant!(RetainedOverwritten) && message.retain() {
            // Its record was refused or not when it came.
            let _ = env.index.retain(&message, Keeping::Logged);
        }
        let key = InboundKey {
            session,
            packet_id,
            queue,
            message: message.id(),
        };
        self.route_taken_over(env, key, &message, Debt::Inbound(key));
    }

    /// The queue under which a message of this publisher is recorded while it is not released: its session's or,
    /// where that is not recorded, one of its own.
    fn inbound_queue(&mut self, publisher: SessionKey) -> Option<QueueId> {
        if !self.commits.has_journal() {
            return None;
        }
        let known = self.session(publisher).and_then(|session| session.queue_id);
        Some(known.unwrap_or_else(|| self.next_queue_id()))
    }

    /// Whether a message of this topic, of `QoS` 1 or 2, would have to be stored before it is acknowledged.
    fn would_store(&mut self, env: Env<'_>, topic: &TopicName, retain: bool) -> bool {
        retain || !self.matches(env, topic).durable.is_empty()
    }

    /// Routes, and settles `debt` when every shard that has to store the message has done so.
    pub(super) fn route_for(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        matched: &Arc<Matched>,
        publisher: Option<SessionRef>,
        debt: Option<Debt>,
        waits_for_retained: bool,
    ) {
        let answers = matched.durable.len() + u32::from(waits_for_retained);
        match debt {
            Some(debt) if answers > 0 => {
                let obligation = self.obligations.open(answers, debt);
                self.route(env, source, matched, publisher, Some(obligation));
                if waits_for_retained {
                    self.after_commit(env, OnCommit::Fulfil(obligation));
                }
            }
            debt => {
                self.route(env, source, matched, publisher, None);
                if let Some(debt) = debt {
                    self.pay(env, debt, ReasonCode::Success);
                }
            }
        }
    }

    /// Sends `source` to every shard that has holders of it, this one included.
    fn route(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        matched: &Arc<Matched>,
        publisher: Option<SessionRef>,
        obligation: Option<crate::effects::ObligationId>,
    ) {
        let is_small = Bundle::takes(source.parts(), matched.len());
        for shard in matched.shards.without(self.id).iter() {
            let stores = matched.durable.contains(shard);
            let obligation = obligation.filter(|_| stores);
            let is_shared = source.is_shared() || matched.durable.len() > 1;
            if is_small && !(stores && source.qos() > QoS::AtMostOnce && is_shared) {
                let publication = Publication {
                    parts: *source.parts(),
                    matches: matched.matches(),
                    publisher,
                    obligation,
                };
                self.say(shard, &Said::Publication(publication));
                continue;
            }
            let hop = Hop::Publish {
                message: source.message().clone(),
                matched: Arc::clone(matched),
                publisher,
                obligation,
            };
            self.send(shard, hop);
        }
        if matched.shards.contains(self.id) {
            let answer_to = obligation
                .filter(|_| matched.durable.contains(self.id))
                .map(|obligation| super::route::AnswerTo {
                    shard: self.id,
                    obligation,
                });
            self.route_here(env, source, matched.matches(), publisher, answer_to);
        }
    }

    /// Who is to have a message of this topic, from the cache while it holds.
    pub(super) fn matches(&mut self, env: Env<'_>, topic: &TopicName) -> Arc<Matched> {
        let generation = |buckets| env.index.generation(buckets);
        let miss = match self.cache.lookup(topic, generation) {
            Ok(matched) => return matched,
            Err(miss) => miss,
        };
        // Read before the match: a change in between makes the entry stale, never wrong.
        let generation = generation(miss.buckets);
        if Arc::get_mut(&mut self.last_match).is_none() {
            // Remembered, or on its way.
            self.last_match = Arc::default();
        }
        if let Some(matched) = Arc::get_mut(&mut self.last_match) {
            env.index.find_matches(topic, &mut self.scratch, matched);
        }
        if miss.is_wanted {
            if let Some(matched) = Arc::get_mut(&mut self.last_match) {
                matched.shrink_to_fit();
            }
            let matched = Arc::clone(&self.last_match);
            self.cache.insert(&miss, topic, generation, matched);
        }
        Arc::clone(&self.last_match)
    }

    /// Whether clients may publish to this topic.
    pub(super) fn check_topic(&self, topic: &TopicName) -> Result<(), ReasonCode> {
        // Clients only read them.
        if is_own(topic) {
            return Err(ReasonCode::NotAuthorized);
        }
        if topic.exceeds_levels(self.config.limits.topic_levels_max) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        Ok(())
    }

    /// Whether a payload is what its publisher says, if that is to be checked [U5-046].
    fn check_payload(
        &self,
        properties: PublishProperties<'_>,
        payload: &[u8],
    ) -> Result<(), ReasonCode> {
        if self.config.payload_format_checked
            && properties.payload_format() == PayloadFormat::Utf8
            && std::str::from_utf8(payload).is_err()
        {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        Ok(())
    }

    pub(super) fn retain(
        &mut self,
        env: Env<'_>,
        message: &Message,
    ) -> Result<(), crate::index::RetainedFull> {
        if is_own(message.topic()) {
            // Values of this start.
            return env.index.retain(message, Keeping::Unlogged);
        }
        env.index.retain(message, Keeping::Logged)?;
        self.append_beside(message.size(), || Record::Retained);
        Ok(())
    }

    fn refuse_publish(&mut self, env: Env<'_>, debt: Option<Debt>, reason: ReasonCode) {
        self.stats.publishes_refused += 1;
        self.pay_publisher(env, debt, reason);
    }

    fn pay_publisher(&mut self, env: Env<'_>, debt: Option<Debt>, reason: ReasonCode) {
        if let Some(debt) = debt {
            self.pay(env, debt, reason);
        }
    }
}

/// Whether a topic is one of the broker itself.
fn is_own(topic: &TopicName) -> bool {
    let rest = topic.as_str().strip_prefix("$SYS");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// When a message that arrives now expires.
pub(super) fn expires_at(env: Env<'_>, message_expiry_secs: Option<u32>) -> UnixMillis {
    message_expiry_secs.map_or(UnixMillis::NEVER, |secs| env.now.wall.plus_secs(secs))
}
