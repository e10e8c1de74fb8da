//! What has to be true when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_broker_core::session::codec::QoS;

use super::message::{GroupKey, Message};
use super::session::Session;
use super::{Oracle, Order, matching};
use crate::payload::MessageKey;
use crate::plan::PACKET_SIZE_MAX;

impl Oracle {
    /// Checks that nothing that was promised is missing; `drops` are what the broker counted.
    pub(crate) fn check_quiet(&mut self, drops: u64) {
        let missing = self.missing();
        if self.queues_are_small {
            if missing.len() as u64 > drops {
                let first = missing.first().map_or("", String::as_str);
                let detail = format!(
                    "{} missing, {drops} counted as dropped; the first is {first}",
                    missing.len()
                );
                self.fail("dropped without being counted", detail);
            }
            return;
        }
        if let Some(first) = missing.first() {
            self.fail("lost", first.clone());
        }
        if let Some(open) = self.open_exchange() {
            self.fail("an exchange never ended", open);
        }
        if let Some(stale) = self.stale() {
            self.fail("retained and live messages disagree", stale);
        }
    }

    /// The retained messages that a new subscriber to everything gets now, by topic.
    pub(crate) fn retained_now(&self) -> BTreeMap<String, MessageKey> {
        self.retained
            .iter()
            .filter(|(topic, _)| self.knows_retained(topic))
            .filter(|(_, key)| {
                let message = &self.messages[key];
                message
                    .retained_expires_ms()
                    .is_none_or(|expires| expires > self.wall.at(self.now_ms))
            })
            .map(|(topic, &key)| (topic.clone(), key))
            .collect()
    }

    /// What a client with a session saw last on each topic.
    pub(crate) fn seen_by(&self, client: usize) -> BTreeMap<String, Option<MessageKey>> {
        self.by_client
            .get(&client)
            .map(|&index| self.sessions[index].last_seen.clone())
            .unwrap_or_default()
    }

    /// Clients whose sessions are alive, connected or not.
    pub(crate) fn living_clients(&self) -> Vec<usize> {
        self.by_client.keys().copied().collect()
    }

    /// A message that was sent to a client that is here, and that neither side has finished.
    ///
    /// One that has become too large to be sent again is given up [MQTT-3.1.2-25].
    fn open_exchange(&self) -> Option<String> {
        self.living()
            .filter(|session| session.connection.is_some() && session.packet_size_max.is_none())
            .find_map(|session| {
                let (id, sent) = session.in_flight.first_key_value()?;
                Some(format!("id {id} to c{}: {sent:?}", session.client))
            })
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (&key, message) in &self.messages {
            let Some(ingress) = message.first_ingress() else {
                continue;
            };
            let owed = message.promised || message.qos == QoS::AtMostOnce;
            if !owed || message.is_denied || message.may_have_expired(&self.wall, self.now_ms) {
                continue;
            }
            for session in self.living() {
                // A recorded session that was resumed to end with its connection is promised nothing, and what the full
                // disk can't take may not overtake what is on it.
                let gives_way = session.expiry_secs == 0 && session.queue.is_some();
                if gives_way && self.disk.was_full {
                    continue;
                }
                if session.began < ingress
                    && self.is_owed_to(session, message, ingress)
                    && !session.received.contains_key(&key)
                {
                    missing.push(format!("{key} for c{}: {message:?}", session.client));
                }
            }
            // `QoS` 0 goes to whoever is connected, and to nobody if nobody is.
            if message.promised && message.qos > QoS::AtMostOnce {
                self.missing_in_groups(key, message, ingress, &mut missing);
            }
        }
        missing
    }

    /// Whether a session has to have got a copy by an ordinary subscription.
    fn is_owed_to(&self, session: &Session, message: &Message, ingress: Order) -> bool {
        let Some(connection) = session
            .connection
            .and_then(|number| self.connections.get(&number))
        else {
            return false;
        };
        if may_be_too_large(session.packet_size_max, message) {
            return false;
        }
        let stayed = connection.attached < ingress;
        session
            .possible(message)
            .filter(|subscription| subscription.is_ordinary() && subscription.ended.is_none())
            .any(|subscription| {
                let least = session
                    .possible(message)
                    .filter(|other| other.filter == subscription.filter && other.is_ordinary())
                    .map(|other| other.qos.min(message.qos))
                    .min();
                let no_local_once = session
                    .subscriptions
                    .iter()
                    .any(|other| other.filter == subscription.filter && other.no_local);
                let own = usize::from(message.publisher) == session.client;
                session.covered_since(&subscription.filter, None, ingress)
                    && !(no_local_once && own)
                    && (stayed || least > Some(QoS::AtMostOnce))
            })
    }

    /// At least one member has to have got it, if one was there all the time.
    fn missing_in_groups(
        &self,
        key: MessageKey,
        message: &Message,
        ingress: Order,
        missing: &mut Vec<String>,
    ) {
        let mut groups = BTreeSet::new();
        for session in self.living().filter(|session| session.began < ingress) {
            for subscription in session.possible(message) {
                let Some(share) = &subscription.share else {
                    continue;
                };
                if session.connection.is_some()
                    && session.covered_since(&subscription.filter, Some(share), ingress)
                {
                    groups.insert(GroupKey {
                        share: share.clone(),
                        filter: subscription.filter.clone(),
                    });
                }
            }
        }
        for group in groups {
            let mut excused = false;
            let mut got = false;
            for session in &self.sessions {
                let versions = session.possible(message).filter(|subscription| {
                    subscription.share.as_deref() == Some(&*group.share)
                        && subscription.filter == group.filter
                });
                for version in versions {
                    let qos = version.qos.min(message.qos);
                    // What a member has at QoS 0 is not repeated, and what it has at QoS 2 goes to
                    // nobody else [MQTT-4.8.2-5]: lost, if its connection or session is.
                    let stayed = session
                        .connection
                        .and_then(|number| self.connections.get(&number))
                        .is_some_and(|connection| connection.attached < ingress);
                    excused |= qos == QoS::AtMostOnce && !stayed
                        || qos == QoS::ExactlyOnce && !session.is_alive();
                    got |= session.received.contains_key(&key);
                    excused |= may_be_too_large(session.packet_size_max, message);
                }
            }
            if !got && !excused {
                missing.push(format!("{key} for group {group:?}: {message:?}"));
            }
        }
    }

    /// A subscriber whose last message on a topic is not the retained one, where it has to be.
    fn stale(&self) -> Option<String> {
        self.living().find_map(|session| {
            session.connection?;
            session
                .subscriptions
                .iter()
                .filter(|subscription| {
                    subscription.is_ordinary()
                        && subscription.ended.is_none()
                        && session.packet_size_max.is_none()
                })
                .find_map(|subscription| {
                    // Copies of shared subscriptions come in no order.
                    let seen = session.last_seen.iter().filter(|(topic, _)| {
                        has_one_writer(topic)
                            && self.knows_retained(topic)
                            && matching::matches(&subscription.filter, topic)
                            && !session.subscriptions.iter().any(|other| {
                                !other.is_ordinary() && matching::matches(&other.filter, topic)
                            })
                    });
                    for (topic, last) in seen {
                        // A message that was taken twice is in two places of its order.
                        let retained = self
                            .retained
                            .get(topic)
                            .copied()
                            .filter(|key| self.messages[key].ingress.len() == 1)
                            .filter(|key| !self.is_of_earlier_life(&self.messages[key]));
                        let since = retained
                            .and_then(|key| self.messages[&key].retained.last())
                            .map(|span| span.from);
                        let live = since.is_some_and(|since| {
                            let at_most_once = session.subscriptions.iter().any(|other| {
                                other.filter == subscription.filter
                                    && (other.qos == QoS::AtMostOnce || other.no_local)
                                    && other.ended.is_none_or(|ended| ended >= since)
                            });
                            !at_most_once
                                && session.covered_since(&subscription.filter, None, since)
                        });
                        if live && *last != retained {
                            return Some(format!(
                                "c{} saw {last:?} last on {topic}, retained is {retained:?}",
                                session.client
                            ));
                        }
                    }
                    None
                })
        })
    }
}

/// Whether the packet may be above what the client accepts, properties and all.
pub(super) fn may_be_too_large(packet_size_max: Option<u32>, message: &Message) -> bool {
    packet_size_max.is_some()
        && message.payload_length + message.topic.len() + PACKET_OVERHEAD > PACKET_SIZE_MAX as usize
}

/// Topics that only one client writes, in one `QoS` above 0: `r/`, its number, `q` and the `QoS`.
fn has_one_writer(topic: &str) -> bool {
    topic.starts_with("r/") && !topic.ends_with("q0")
}

/// More than any PUBLISH of a run has besides topic and payload.
const PACKET_OVERHEAD: usize = 60;
