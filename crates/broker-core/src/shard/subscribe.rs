//! SUBSCRIBE and UNSUBSCRIBE: the local table, the index, and the retained messages owed.

use whimbrel_session::AckToken;
use whimbrel_session::codec::topic::{ByteStr, ScanCursor, SubscriptionFilter, TopicFilter};
use whimbrel_session::codec::{
    ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscribeRef, SubscriptionId,
    SubscriptionOptions, UnsubscribeRef,
};
use whimbrel_session::mutant;

use super::obligation::{Debt, OnCommit, SubscribeAnswer, SubscribeDebt};
use super::publish::Verdict;
use super::session::{Joining, RetainedScan, Session};
use super::subscribers::{LocalFilter, Removed, Subscriber};
use super::{Env, Shard};
use crate::effects::{CloseReason, GroupName, Hop, LocalOutcome, MemberStatus};
use crate::map::ShrinkIfSparse;
use crate::placement::shard_of;
use crate::record::SubscriptionRecord;
use crate::{ConnectionKey, Event, FilterId, Record, SessionKey, SessionRef};

/// What became of one filter of a SUBSCRIBE.
enum Entered {
    /// Answered with this code at once.
    Code(ReasonCode),
    /// A shared subscription: its owner is asked.
    Joining {
        name: GroupName,
        join: u64,
        qos: QoS,
    },
    /// Entered, with retained messages to follow the SUBACK.
    Scan {
        scan: RetainedScan,
        code: ReasonCode,
    },
}

/// A shared subscription whose owner is to be asked.
struct Join {
    name: GroupName,
    number: u64,
    qos: QoS,
}

impl Shard {
    pub(super) fn subscribe(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        subscribe: &SubscribeRef<'_>,
        token: AckToken,
        verdict: Verdict,
    ) {
        let verdicts = match verdict {
            verdict @ (Verdict::Disconnect(_) | Verdict::DisconnectWith(_)) => {
                if let Some(disconnect) = verdict.into_disconnect() {
                    self.disconnect_saying(env, key, disconnect, CloseReason::Administrative);
                }
                return;
            }
            Verdict::Filters(verdicts) => verdicts,
            Verdict::Refuse(reason) => vec![reason; subscribe.filters().count()],
            Verdict::Allow | Verdict::Discard | Verdict::Replace(_) | Verdict::Pending => {
                Vec::new()
            }
        };
        let requests = subscribe.filters().map(|request| Request {
            filter: request.filter,
            options: request.options,
        });
        let id = subscribe.subscription_id();
        self.enter_all(
            env,
            key,
            requests,
            id,
            &verdicts,
            SubscribeAnswer::Wire(token),
        );
    }

    /// Enters filters in order, as if each had come alone [MQTT-3.8.4-5], and sees to the answer.
    pub(super) fn enter_all<'a>(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        requests: impl Iterator<Item = Request<'a>>,
        subscription_id: Option<SubscriptionId>,
        verdicts: &[ReasonCode],
        answer: SubscribeAnswer,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return self.answer_nobody(key, &answer, requests.count());
        };
        let version = self
            .session(session)
            .map_or(ProtocolVersion::V5, |session| session.version);
        let mut codes = Vec::new();
        let mut records = Vec::new();
        let mut joins: Vec<Join> = Vec::new();
        let mut scans = Vec::new();
        for (index, request) in requests.enumerate() {
            let filter = request.filter;
            let verdict = verdicts.get(index).copied().unwrap_or(ReasonCode::Success);
            let entered = if verdict.is_error() {
                Entered::Code(verdict)
            } else {
                self.enter(env, session, &request, subscription_id)
            };
            match entered {
                Entered::Code(code) => codes.push(code),
                Entered::Joining { name, join, qos } => {
                    codes.push(ReasonCode::granted(qos));
                    joins.push(Join {
                        name,
                        number: join,
                        qos,
                    });
                }
                Entered::Scan { scan, code } => {
                    codes.push(code);
                    scans.push(scan);
                }
            }
            let granted = codes.last().copied().and_then(granted_qos);
            if let Some(qos) = granted {
                let mut options = request.options;
                options.qos = qos;
                records.push(SubscriptionRecord {
                    filter: ByteStr::from(filter),
                    options,
                    subscription_id,
                });
            }
            if codes.last().is_some_and(|code| !code.is_error()) {
                self.observe_filter(session, request.filter, Subscribing::Begins);
            } else if version == ProtocolVersion::V31
                && let Some(code) = codes.last_mut()
            {
                // There is no failure in MQTT 3.1: it is told what it asked for (E14) [U31-004].
                *code = ReasonCode::granted(request.options.qos);
            }
        }
        let debt = SubscribeDebt {
            connection: key,
            answer,
            codes,
            scans,
        };
        let Some(found) = self.session(session) else {
            return;
        };
        let durable = found.is_durable();
        let queue_id = found.queue_id;
        if let Some(session) = queue_id {
            let subscriptions = records.into();
            self.append(|| Record::Subscribed {
                session,
                subscriptions,
            });
        }
        let waits_for_record = queue_id.is_some() && !mutant!(SubAckBeforeRecord);
        let answers = joins.len() as u64 + u64::from(waits_for_record);
        let Some(answers) = u32::try_from(answers).ok().filter(|&answers| answers > 0) else {
            return self.subscribed(env, debt);
        };
        let obligation = self.obligations.open(answers, Debt::Subscribe(debt));
        let member = SessionRef {
            shard: self.id,
            key: session,
        };
        for Join { name, number, qos } in joins {
            let owner = shard_of(&name, self.config.placement_seed, self.config.shards);
            self.send(
                owner,
                Hop::GroupJoin {
                    group: name,
                    member,
                    status: MemberStatus {
                        connected: true,
                        durable: durable && qos > QoS::AtMostOnce,
                    },
                    join: number,
                    obligation,
                },
            );
        }
        if waits_for_record {
            self.after_commit(env, OnCommit::Fulfil(obligation));
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        unsubscribe: &UnsubscribeRef<'_>,
        token: AckToken,
    ) {
        self.remove_all(
            env,
            key,
            unsubscribe.filters(),
            SubscribeAnswer::Wire(token),
        );
    }

    /// Removes filters by exact text [MQTT-3.10.4-1] and sees to the answer.
    pub(super) fn remove_all<'a>(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        filters: impl Iterator<Item = &'a str>,
        answer: SubscribeAnswer,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return self.answer_nobody(key, &answer, filters.count());
        };
        let mut codes = Vec::new();
        let mut removed = Vec::new();
        for text in filters {
            let code = self.remove_filter(env, session, text);
            if code == ReasonCode::Success {
                removed.push(ByteStr::from(text));
                self.observe_filter(session, text, Subscribing::Ends);
            }
            codes.push(code);
        }
        let queue_id = self.session(session).and_then(|session| session.queue_id);
        let then = OnCommit::Unsubscribed {
            connection: key,
            answer,
            codes,
        };
        match queue_id {
            Some(session) => {
                let filters = removed.into();
                self.append(|| Record::Unsubscribed { session, filters });
                if mutant!(UnsubAckBeforeRecord) {
                    return self.committed(env, then);
                }
                self.after_commit(env, then);
            }
            None => self.committed(env, then),
        }
    }

    /// Tells an in-process client that its session is gone.
    fn answer_nobody(&mut self, key: ConnectionKey, answer: &SubscribeAnswer, filters: usize) {
        if let SubscribeAnswer::Local(request) = answer {
            self.effects.local.push(LocalOutcome {
                connection: key,
                request: *request,
                reasons: vec![ReasonCode::SessionTakenOver; filters],
            });
        }
    }

    /// Ends every subscription of a session.
    pub(super) fn remove_every_subscription(&mut self, env: Env<'_>, key: SessionKey) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let rare = session.rare.get_mut();
        let mut groups = Vec::new();
        if let Some(rare) = rare {
            rare.joining.clear();
            groups.extend(rare.shared.keys().copied());
        }
        let mut filters: Vec<FilterId> = session.subscriptions.keys().copied().collect();
        if mutant!(SubscriptionsOutliveSession) {
            filters.clear();
        }
        for filter in filters {
            self.remove_subscriber(env, key, filter);
        }
        for group in groups {
            self.say_leave(key, group);
        }
    }

    /// Applies a change of the session's durability to all its subscriptions.
    pub(super) fn refresh_durability(&mut self, env: Env<'_>, key: SessionKey, now_durable: bool) {
        let Some(session) = self.session(key) else {
            return;
        };
        let subscriptions: Vec<_> = session
            .subscriptions
            .iter()
            .map(|(&filter, &slot)| Place { filter, slot })
            .collect();
        for Place { filter, slot } in subscriptions {
            let Some(local) = self.filters.get_mut(&filter) else {
                continue;
            };
            if local.subscribers.slot_mut(slot).qos == QoS::AtMostOnce {
                continue;
            }
            let before = local.durable;
            local.durable = if now_durable { before + 1 } else { before - 1 };
            if (before == 0) != (local.durable == 0) {
                env.index.hold(local.filter(), self.id, now_durable);
            }
        }
    }

    fn enter(
        &mut self,
        env: Env<'_>,
        key: SessionKey,
        request: &Request<'_>,
        subscription_id: Option<SubscriptionId>,
    ) -> Entered {
        let Ok(parsed) = SubscriptionFilter::parse(request.filter) else {
            return Entered::Code(ReasonCode::TopicFilterInvalid);
        };
        let filter = parsed.filter();
        if filter.exceeds_levels(self.config.limits.topic_levels_max) {
            return Entered::Code(ReasonCode::TopicFilterInvalid);
        }
        let connection = &self.config.connection;
        // MQTT 5 clients that ask for it in spite of CONNACK are closed before this (E5) [3:MQTT-3.8.3-2].
        if filter.has_wildcard() && !connection.wildcard_subscription_available {
            return Entered::Code(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        let is_shared = matches!(parsed, SubscriptionFilter::Shared { .. });
        if is_shared && !connection.shared_subscription_available {
            return Entered::Code(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let mut options = request.options;
        // [MQTT-3.2.2-10] (E15)
        options.qos = options.qos.min(connection.maximum_qos);
        let code = ReasonCode::granted(options.qos);
        let full = self.session(key).is_none_or(|session| {
            session.subscription_count() >= self.config.limits.subscriptions_per_session_max
        });
        match parsed {
            SubscriptionFilter::Shared { group, filter } => {
                let name = GroupName {
                    share: ByteStr::from(group.as_str()),
                    filter: filter.to_owned(),
                };
                let rare = self.session(key).and_then(|session| session.rare.get());
                let known = rare.is_some_and(|rare| {
                    rare.shared_by_name.contains_key(&name) || rare.joining.contains_key(&name)
                });
                if full && !known {
                    return Entered::Code(ReasonCode::QuotaExceeded);
                }
                let join = self.begin_join(key, &name, options, subscription_id);
                let qos = options.qos;
                Entered::Joining { name, join, qos }
            }
            SubscriptionFilter::Plain(filter) => {
                let Some(added) =
                    self.add_subscriber(env, key, filter, options, subscription_id, full)
                else {
                    return Entered::Code(ReasonCode::QuotaExceeded);
                };
                let wanted = match options.retain_handling {
                    RetainHandling::Send => true,
                    RetainHandling::SendIfNew => added.is_new || mutant!(RetainHandlingIgnored),
                    RetainHandling::DoNotSend => mutant!(RetainHandlingIgnored),
                };
                // Entered first, scanned after: no retained message slips through [DESIGN §5].
                if wanted && env.index.has_retained() {
                    let scan = RetainedScan {
                        filter: added.filter,
                        cursor: ScanCursor::default(),
                        qos: options.qos,
                        subscription_id,
                    };
                    return Entered::Scan { scan, code };
                }
                Entered::Code(code)
            }
        }
    }

    /// Notes that a session is about to join a group, and says how this join is called.
    pub(super) fn begin_join(
        &mut self,
        key: SessionKey,
        name: &GroupName,
        options: SubscriptionOptions,
        subscription_id: Option<SubscriptionId>,
    ) -> u64 {
        self.next_join += 1;
        let join = self.next_join;
        let joining = Joining {
            join,
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            subscription_id,
        };
        if let Some(session) = self.session_mut(key) {
            session.rare.make().joining.insert(name.clone(), joining);
        }
        join
    }

    /// Notes that retained messages are owed for subscriptions, once their SUBACK is out.
    pub(super) fn scan_later(&mut self, key: SessionKey, scans: Vec<RetainedScan>) {
        let scans_max = self
            .config
            .limits
            .subscriptions_per_session_max
            .saturating_mul(2);
        let Some(session) = self.session_mut(key) else {
            return;
        };
        for scan in scans {
            let owed = &mut session.rare.make().scans;
            if owed.len() >= scans_max {
                // Scans of what is subscribed no more, or is about to be scanned afresh. What is
                // left is half of the bound at most, so this is rare.
                let (filter, subscriptions) = (scan.filter, &session.subscriptions);
                owed.retain(|owed| {
                    owed.filter != filter && subscriptions.contains_key(&owed.filter)
                });
                let mut seen = std::collections::BTreeSet::new();
                owed.retain(|owed| seen.insert(owed.filter));
            }
            owed.push_back(scan);
        }
    }

    /// Adds or replaces an ordinary subscription; `None` if it would be one too many.
    pub(super) fn add_subscriber(
        &mut self,
        env: Env<'_>,
        key: SessionKey,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        subscription_id: Option<SubscriptionId>,
        full: bool,
    ) -> Option<Added> {
        let subscriber = Subscriber::new(key, options, subscription_id);
        let session = self.session(key)?;
        let stores = session.stores(options.qos);
        let known = env.index.filter_id(filter).and_then(|id| {
            Some(Place {
                filter: id,
                slot: *session.subscriptions.get(&id)?,
            })
        });
        if let Some(Place { filter: id, slot }) = known {
            let durable_session = session.is_durable();
            let local = self.filters.get_mut(&id)?;
            let old = std::mem::replace(local.subscribers.slot_mut(slot), subscriber);
            let before = local.durable;
            let stored_before = durable_session && old.qos > QoS::AtMostOnce;
            local.durable = before + u32::from(stores) - u32::from(stored_before);
            if (before == 0) != (local.durable == 0) {
                env.index.hold(filter, self.id, local.durable > 0);
            }
            return Some(Added {
                filter: id,
                is_new: false,
            });
        }
        if full {
            return None;
        }
        let known_here = env
            .index
            .filter_id(filter)
            .filter(|id| self.filters.contains_key(id));
        let (id, slot) = match known_here {
            Some(id) => {
                let local = self.filters.get_mut(&id)?;
                let slot = local.subscribers.push(subscriber);
                local.durable += u32::from(stores);
                if stores && local.durable == 1 && !mutant!(DurabilityNotTold) {
                    env.index.hold(filter, self.id, true);
                }
                (id, slot)
            }
            None => {
                let id = env.index.hold(filter, self.id, stores);
                self.filters
                    .insert(id, LocalFilter::new(filter, subscriber, stores));
                (id, 0)
            }
        };
        self.subscriptions += 1;
        self.session_mut(key)?.subscriptions.insert(id, slot);
        Some(Added {
            filter: id,
            is_new: true,
        })
    }

    /// Ends one subscription, and says what UNSUBACK is to say of it.
    fn remove_filter(&mut self, env: Env<'_>, key: SessionKey, text: &str) -> ReasonCode {
        let existed = match SubscriptionFilter::parse(text) {
            Ok(SubscriptionFilter::Plain(filter)) => env
                .index
                .filter_id(filter)
                .is_some_and(|id| self.remove_subscriber(env, key, id)),
            Ok(SubscriptionFilter::Shared { group, filter }) => {
                let session = self.session_mut(key);
                let Some(rare) = session.and_then(|session| session.rare.get_mut()) else {
                    return ReasonCode::NoSubscriptionExisted;
                };
                let name = GroupName {
                    share: ByteStr::from(group.as_str()),
                    filter: filter.to_owned(),
                };
                let joining = rare.joining.remove(&name).is_some();
                let joined = rare.shared_by_name.get(&name).copied();
                if let Some(id) = joined
                    && !mutant!(ShareKeptAfterUnsubscribe)
                {
                    self.leave_group(key, id);
                }
                joining || joined.is_some()
            }
            Err(_) => return ReasonCode::TopicFilterInvalid,
        };
        if existed {
            ReasonCode::Success
        } else {
            ReasonCode::NoSubscriptionExisted
        }
    }

    fn remove_subscriber(&mut self, env: Env<'_>, key: SessionKey, id: FilterId) -> bool {
        let Some(session) = self.session_mut(key) else {
            return false;
        };
        let durable_session = session.is_durable();
        let Some(slot) = session.subscriptions.remove(&id) else {
            return false;
        };
        session.subscriptions.shrink_if_sparse();
        self.subscriptions -= 1;
        let Some(local) = self.filters.get_mut(&id) else {
            return false;
        };
        let removed = *local.subscribers.slot_mut(slot);
        let before = local.durable;
        local.durable -= u32::from(durable_session && removed.qos > QoS::AtMostOnce);
        match local.subscribers.remove(slot) {
            Removed::Last => {
                if let Some(local) = self.filters.remove(&id) {
                    env.index.release(local.filter(), self.id);
                }
                self.filters.shrink_if_sparse();
                return true;
            }
            Removed::Plain => {}
            Removed::Moved(moved) => {
                if let Some(session) = self.session_mut(moved) {
                    session.subscriptions.insert(id, slot);
                }
            }
        }
        if let Some(local) = self.filters.get(&id)
            && before > 0
            && local.durable == 0
        {
            env.index.hold(local.filter(), self.id, false);
        }
        true
    }

    fn observe_filter(&mut self, key: SessionKey, filter: &str, what: Subscribing) {
        let Some(client_id) = self.session(key).map(Session::client_id) else {
            return;
        };
        let filter = ByteStr::from(filter);
        self.observe(match what {
            Subscribing::Begins => Event::Subscribed { client_id, filter },
            Subscribing::Ends => Event::Unsubscribed { client_id, filter },
        });
    }
}

/// The `QoS` that a code of a SUBACK grants.
fn granted_qos(code: ReasonCode) -> Option<QoS> {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .find(|&qos| ReasonCode::granted(qos) == code)
}

/// One filter of a SUBSCRIBE.
pub(super) struct Request<'a> {
    pub(super) filter: &'a str,
    pub(super) options: SubscriptionOptions,
}

/// An ordinary subscription that was added or replaced.
pub(super) struct Added {
    filter: FilterId,
    is_new: bool,
}

#[derive(Clone, Copy)]
enum Subscribing {
    Begins,
    Ends,
}

/// Where a session's subscription stands.
struct Place {
    filter: FilterId,
    slot: u32,
}
