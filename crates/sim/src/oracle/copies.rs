//! Copies of messages: whether the broker may send them, and whether clients got them as they should.

use std::collections::BTreeSet;

use whimbrel_broker_core::session::codec::{PublishRef, QoS, RetainHandling, SubscriptionId};

use super::message::{GroupCopy, GroupKey, Message};
use super::session::{Connection, Copies, Flow, Lanes, Mark, Session, Subscription};
use super::wall::Wall;
use super::{Oracle, TRANSIT_MS};
use crate::payload::{self, MessageKey};

/// A PUBLISH of the broker.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) topic: String,
    /// `None` for an empty payload.
    pub(crate) key: Option<MessageKey>,
    pub(crate) is_empty: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) ids: BTreeSet<u32>,
    pub(crate) expiry_secs: Option<u32>,
    pub(crate) is_v5: bool,
}

impl Copy {
    /// What a PUBLISH on `topic` says.
    pub(crate) fn of_publish(topic: &str, publish: &PublishRef<'_>, is_v5: bool) -> Self {
        let properties = publish.properties();
        Self {
            topic: topic.to_owned(),
            key: payload::decode(publish.payload()),
            is_empty: publish.payload().is_empty(),
            qos: publish.qos(),
            retain: publish.retain(),
            dup: publish.delivery().dup(),
            ids: properties
                .subscription_ids()
                .map(SubscriptionId::get)
                .collect(),
            expiry_secs: properties.message_expiry_secs(),
            is_v5,
        }
    }
}

/// Why a copy may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// An ordinary subscription was there when it was published.
    Live,
    /// A shared subscription.
    Shared(GroupKey),
    /// It was the retained message when a subscription was made.
    Retained,
}

impl Oracle {
    /// Checks a copy that leaves the broker; it was written no earlier than `earliest_ms`.
    pub(super) fn check_copy(&mut self, session: usize, copy: &Copy, earliest_ms: u64) {
        let Some(key) = copy.key else {
            return self.check_deletion(session, copy);
        };
        let found = &self.sessions[session];
        let Some(message) = self.messages.get(&key) else {
            return self.fail("a message that nobody published", format!("{key}"));
        };
        let detail = |what: String| format!("{key} to c{}: {what}; {copy:?}", found.client);
        if message.topic != copy.topic {
            let detail = detail(format!("published on {}", message.topic));
            return self.fail("a message on another topic", detail);
        }
        if message.is_denied || message.ingress.is_empty() {
            let detail = detail("it was never taken".to_owned());
            return self.fail("delivered what was not taken", detail);
        }
        if !self.journal && self.is_of_earlier_life(message) {
            let detail = detail(format!("{message:?}"));
            return self.fail("delivered what a crash has ended", detail);
        }
        let reasons = reasons(found, message, copy);
        if reasons.is_empty() {
            let subscriptions: Vec<_> = found.possible(message).collect();
            let detail = detail(format!("{message:?} under {subscriptions:?}"));
            return self.fail("a copy that no subscription explains", detail);
        }
        if let Some(rule) = wrong_expiry(message, copy, earliest_ms, self.now_ms, &self.wall) {
            let detail = detail(format!("at {} ms, {message:?}", self.now_ms));
            return self.fail(rule, detail);
        }
        if let [Reason::Shared(group)] = &reasons[..]
            && !copy.dup
        {
            self.check_group_copy(session, key, group, copy.qos);
        }
    }

    /// An in-process client took a message. Its mailbox does not tell when it was put there.
    pub(crate) fn taken_locally(&mut self, connection: usize, copy: &Copy) {
        if let Some(found) = self.connections.get(&connection) {
            let session = found.session;
            self.check_copy(session, copy, 0);
        }
        self.received(connection, copy);
    }

    /// A client was shown a message.
    pub(crate) fn received(&mut self, connection: usize, copy: &Copy) {
        self.deliveries += 1;
        self.tell_of(copy.key, || {
            format!("shown to a client on connection {connection}: {copy:?}")
        });
        let Some(&Connection { session, life, .. }) = self.connections.get(&connection) else {
            return self.fail("delivered to nobody", format!("{copy:?}"));
        };
        let (life_began, queues_spill) = (self.life_began, self.queues_spill);
        let queues_are_small = self.queues_are_small;
        let found = &mut self.sessions[session];
        see(found, copy);
        let Some((key, message)) = copy
            .key
            .and_then(|key| Some((key, self.messages.get(&key)?)))
        else {
            return; // the link's end has seen it already
        };
        let as_retained = copy.retain && reasons(found, message, copy).contains(&Reason::Retained);
        let shared: BTreeSet<_> = found
            .possible(message)
            .filter(|subscription| !subscription.is_ordinary())
            .map(|subscription| (subscription.share.clone(), subscription.filter.clone()))
            .collect();
        let ordinary = found.possible(message).any(Subscription::is_ordinary);
        let each = u32::from(ordinary) + shared.len() as u32;
        let allowed = each * message.times_taken();
        let is_of_earlier_life = message.first_ingress() < Some(life_began);
        // Who has subscribed since it was routed first, or asked for more than QoS 0, may get it when a start routes it
        // again.
        let is_late = is_of_earlier_life
            && !found.possible(message).any(|subscription| {
                subscription.is_sure_of(message) && subscription.qos > QoS::AtMostOnce
            });
        let is_first = !found.received.contains_key(&key);
        let copies = found.received.entry(key).or_insert(Copies {
            life,
            ..Copies::default()
        });
        // A group may hand out again what it is not known to be done with, whatever its member asked for.
        let is_shared = !shared.is_empty() && copy.qos == QoS::AtMostOnce;
        let may_repeat = copy.qos == QoS::AtLeastOnce || is_shared || is_late;
        let is_again = life > copies.life && may_repeat;
        let copies = count(copies, copy, as_retained, is_again);
        let too_many = copies.live > allowed;
        let client = found.client;
        // What a full queue dropped may find room when a start routes it again.
        let may_be_dropped = is_of_earlier_life && queues_are_small;
        // A will's number is that of its CONNECT, whenever it is published.
        let ordered = shared.is_empty()
            && message.ingress.len() == 1
            && !copy.retain
            && !message.is_will
            && !is_late
            && !may_be_dropped;
        let mut overtaken = None;
        if is_first && ordered {
            // In the order in which the broker took them: a client may send a new message before it
            // sends an old one again.
            let mark = Mark {
                taken: message.ingress[0].order,
                key,
            };
            let lanes = Lanes {
                published: message.qos.bits(),
                delivered: copy.qos.bits(),
            };
            // What is sent again may wait for the window while `QoS` 0 goes on; what a start routes again comes behind
            // what its first routing has let pass; what a queue has on the disk only lets `QoS` 0 pass.
            let is_kept = !copy.dup && !is_of_earlier_life && !queues_spill;
            let across = is_kept.then_some(None);
            for lanes in across.into_iter().chain([Some(lanes)]) {
                let flow = Flow {
                    publisher: key.publisher,
                    publisher_session: message.ingress[0].session,
                    topic: copy.topic.clone(),
                    lanes,
                };
                let latest = found.marks.entry(flow).or_insert(mark);
                if latest.taken > mark.taken {
                    overtaken = Some(latest.key);
                } else {
                    *latest = mark;
                }
            }
        }
        if too_many {
            let detail = format!(
                "{key} at {:?} to c{client}: {copies:?}, {allowed} allowed",
                copy.qos
            );
            self.fail("delivered too often", detail);
        }
        if let Some(later) = overtaken {
            let detail = format!("{key} after {later} on {} to c{client}", copy.topic);
            self.fail("out of order", detail); // [MQTT-4.6.0-5, MQTT-4.6.0-6]
        }
    }

    /// An empty payload: there has to be a subscription since the topic was first deleted.
    fn check_deletion(&mut self, session: usize, copy: &Copy) {
        let found = &self.sessions[session];
        if !copy.is_empty {
            let detail = format!("on {} to c{}", copy.topic, found.client);
            return self.fail("a damaged payload", detail);
        }
        let since = self.deletions.get(&copy.topic).copied();
        let explained = since.is_some_and(|since| {
            found.subscriptions.iter().any(|subscription| {
                super::matching::matches(&subscription.filter, &copy.topic)
                    && subscription.ended.is_none_or(|ended| ended >= since)
            })
        });
        if !explained {
            let detail = format!("on {} to c{}", copy.topic, found.client);
            self.fail("an empty message that no subscription explains", detail);
        }
    }

    /// One message of a group goes to one member, unless that one's session is gone [U5-103].
    fn check_group_copy(&mut self, session: usize, key: MessageKey, group: &GroupKey, qos: QoS) {
        let Some(message) = self.messages.get_mut(&key) else {
            return;
        };
        let times = message.times_taken() as usize;
        let holders = message.group_copies.entry(group.clone()).or_default();
        if !holders.iter().any(|holder| holder.session == session) {
            holders.push(GroupCopy { session, qos });
        }
        let living = holders
            .iter()
            .filter(|holder| self.sessions[holder.session].is_alive())
            .count();
        if living > times {
            let clients: Vec<_> = holders
                .iter()
                .map(|holder| self.sessions[holder.session].client)
                .collect();
            let detail = format!("{key} of {group:?} to clients {clients:?}");
            self.fail("more than one member of a group got it", detail);
        }
    }
}

/// Notes what a client saw last on a topic.
///
/// What is sent again may come behind newer messages that were delivered at another `QoS`. A
/// deletion that is sent again can't be told from another one.
fn see(session: &mut Session, copy: &Copy) {
    let last = session.last_seen.get(&copy.topic).copied();
    match (copy.dup, last) {
        (true, Some(None)) => {
            session.last_seen.remove(&copy.topic);
        }
        (true, _) if copy.is_empty => {
            session.last_seen.remove(&copy.topic);
        }
        (true, Some(last)) if last >= copy.key => {}
        _ => {
            session.last_seen.insert(copy.topic.clone(), copy.key);
        }
    }
}

/// With `is_again`, what a process that died has sent may be sent again by the next one, which does not know.
fn count(copies: &mut Copies, copy: &Copy, as_retained: bool, is_again: bool) -> Copies {
    if as_retained {
        copies.retained += 1;
    } else if copy.dup && copy.qos == QoS::AtLeastOnce || is_again {
        copies.repeated += 1;
    } else {
        copies.live += 1;
    }
    *copies
}

/// Every reason that explains the copy with its `QoS`, RETAIN and Subscription Identifiers.
fn reasons(session: &Session, message: &Message, copy: &Copy) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let ordinary: Vec<_> = session
        .possible(message)
        .filter(|subscription| subscription.is_ordinary())
        .collect();
    if !ordinary.is_empty() && is_live(&ordinary, message, copy) {
        reasons.push(Reason::Live);
    }
    for subscription in session.possible(message) {
        let Some(share) = &subscription.share else {
            continue;
        };
        let group = Reason::Shared(GroupKey {
            share: share.clone(),
            filter: subscription.filter.clone(),
        });
        // [MQTT-4.8.2-3, MQTT-3.3.1-12, MQTT-3.3.1-13]
        let fits = copy.qos == message.qos.min(subscription.qos)
            && copy.retain == (message.retain && subscription.retain_as_published)
            && has_ids(copy, subscription.id);
        if fits && !reasons.contains(&group) {
            reasons.push(group);
        }
    }
    let as_retained = copy.retain
        && session.subscriptions.iter().any(|subscription| {
            is_owed_retained(subscription)
                && super::matching::matches(&subscription.filter, &message.topic)
                && message.was_retained_since(subscription.asked)
                && copy.qos == message.qos.min(subscription.qos)
                && has_ids(copy, subscription.id)
        });
    if as_retained {
        reasons.push(Reason::Retained);
    }
    reasons
}

/// One copy for all matching subscriptions: highest `QoS`, all identifiers (ambiguity E1).
fn is_live(ordinary: &[&Subscription], message: &Message, copy: &Copy) -> bool {
    let granted = |subscription: &&Subscription| message.qos.min(subscription.qos);
    let sure: Vec<_> = ordinary
        .iter()
        .copied()
        .filter(|subscription| subscription.is_sure_of(message))
        .collect();
    let highest = ordinary.iter().map(granted).max();
    let lowest = if sure.is_empty() {
        ordinary.iter().map(granted).min()
    } else {
        sure.iter().map(granted).max()
    };
    let as_published = |subscription: &&Subscription| subscription.retain_as_published;
    let retain_fits = if copy.retain {
        message.retain && ordinary.iter().any(as_published)
    } else {
        !(message.retain && sure.iter().any(as_published))
    };
    let all_ids: BTreeSet<_> = ordinary.iter().filter_map(|one| one.id).collect();
    let sure_ids: BTreeSet<_> = sure.iter().filter_map(|one| one.id).collect();
    let ids_fit = !copy.is_v5 || copy.ids.is_subset(&all_ids) && sure_ids.is_subset(&copy.ids);
    let qos = Some(copy.qos);
    qos <= highest && qos >= lowest && retain_fits && ids_fit
}

fn is_owed_retained(subscription: &Subscription) -> bool {
    let wanted = match subscription.retain_handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => subscription.is_new,
        RetainHandling::DoNotSend => false,
    };
    wanted && subscription.is_ordinary() // [U5-060]
}

fn has_ids(copy: &Copy, id: Option<u32>) -> bool {
    !copy.is_v5 || copy.ids == id.into_iter().collect::<BTreeSet<_>>()
}

/// The rule of Message Expiry that the copy breaks [MQTT-3.3.2-5, MQTT-3.3.2-6].
fn wrong_expiry(
    message: &Message,
    copy: &Copy,
    earliest_ms: u64,
    now_ms: u64,
    wall: &Wall,
) -> Option<&'static str> {
    let (Some(given), Some(first_ms), Some(last_ms)) = (
        message.expiry_secs,
        message.first_expires_ms(),
        message.expires_ms(),
    ) else {
        return copy.expiry_secs.map(|_| "an expiry that nobody gave");
    };
    if !copy.dup && wall.least(earliest_ms.saturating_sub(TRANSIT_MS), now_ms) >= last_ms {
        return Some("delivered after its expiry");
    }
    if !copy.is_v5 {
        return None;
    }
    let Some(secs) = copy.expiry_secs else {
        return Some("forwarded without its expiry");
    };
    let secs = i64::from(secs);
    if secs > i64::from(given) {
        return Some("forwarded with a longer expiry than its publisher gave");
    }
    let least_ms = first_ms - wall.most(earliest_ms, now_ms);
    let most_ms = last_ms - wall.least(earliest_ms, now_ms);
    let least = (least_ms / 1000).clamp(0, i64::from(given));
    let most = most_ms.max(0).unsigned_abs().div_ceil(1000);
    let fits = secs >= least && secs.unsigned_abs() <= most;
    (!fits).then_some("expiry was not counted down")
}
