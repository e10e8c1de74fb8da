//! From a matched message to the sessions of this shard: who gets it, in which form, in what order.

use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{QoS, ReasonCode};
use whimbrel_session::mutant;

use super::enqueue::{Admission, Outcome};
use super::obligation::OnCommit;
use super::source::Source;
use super::subscribers::Subscriber;
use super::{Env, Shard};
use crate::bundle::{Publication, Said, Spare, Stored};
use crate::effects::ObligationId;
use crate::index::Matches;
use crate::queue::SubscriptionIds;
use crate::{DropCause, FilterId, GroupId, Message, Record, SessionKey, SessionRef, ShardId};

/// A session that gets one copy, whatever the number of its matching subscriptions (ambiguity E1).
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) session: SessionKey,
    /// Subscription Identifiers of all its matching subscriptions [MQTT-3.3.4-4].
    pub(super) subscription_ids: SubscriptionIds,
    /// The highest `QoS` granted among them [MQTT-3.3.4-2].
    pub(super) qos: QoS,
    pub(super) retain_as_published: bool,
}

impl Target {
    fn new(subscriber: Subscriber) -> Self {
        Self {
            session: subscriber.session,
            subscription_ids: subscriber
                .subscription_id
                .map_or(SubscriptionIds::None, SubscriptionIds::One),
            qos: subscriber.qos,
            retain_as_published: subscriber.retain_as_published(),
        }
    }

    fn merge(&mut self, subscriber: Subscriber) {
        self.qos = if mutant!(LowestQosOfOverlap) {
            self.qos.min(subscriber.qos)
        } else {
            self.qos.max(subscriber.qos)
        };
        self.retain_as_published |= subscriber.retain_as_published();
        if let Some(id) = subscriber.subscription_id
            && !mutant!(SubscriptionIdLost)
        {
            self.subscription_ids.push(id);
        }
    }
}

/// Who waits for this shard's `Stored`.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerTo {
    pub(super) shard: ShardId,
    pub(super) obligation: ObligationId,
}

/// A fan-out that takes more than one step, or waits behind one that does.
#[derive(Debug)]
pub(super) struct FanOutJob {
    message: Message,
    filters: Box<[FilterId]>,
    /// Those of this shard.
    groups: Box<[GroupId]>,
    publisher: Option<SessionRef>,
    answer_to: Option<AnswerTo>,
    /// Found when its turn comes.
    targets: Option<Vec<Target>>,
    /// How many of the targets, and then of this shard's groups, are done.
    next: usize,
    tally: Tally,
    /// Given when the job is done.
    pub(super) credit: Option<OwedCredit>,
}

/// Bytes of another shard's window that are free again once a job is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwedCredit {
    pub(super) to: ShardId,
    pub(super) bytes: usize,
}

/// What became of the copies of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Sessions that outlive their connections and now hold it.
    stored: u32,
    /// Whether a session had no room and its policy is to refuse.
    refused: bool,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Handled => {}
            Outcome::Stored => self.stored += 1,
            Outcome::Refused => self.refused = true,
        }
    }
}

impl Shard {
    /// Takes a message that another shard matched.
    pub(super) fn route_forwarded(
        &mut self,
        env: Env<'_>,
        from: ShardId,
        message: &Message,
        matches: Matches<'_>,
        publisher: Option<SessionRef>,
        obligation: Option<ObligationId>,
    ) {
        let answer_to = obligation.map(|obligation| AnswerTo {
            shard: from,
            obligation,
        });
        let mut buffers = self.take_buffers();
        let mut source = Source::of_message(message, env.now.wall, &mut buffers);
        self.route_here(env, &mut source, matches, publisher, answer_to);
        self.keep_buffers(buffers);
    }

    /// Takes a message that another shard matched, and that is not shared.
    pub(super) fn route_publication(
        &mut self,
        env: Env<'_>,
        from: ShardId,
        publication: &Publication<'_>,
    ) {
        let answer_to = publication.obligation.map(|obligation| AnswerTo {
            shard: from,
            obligation,
        });
        let mut buffers = self.take_buffers();
        let mut source = Source::new(publication.parts, env.now.wall, &mut buffers);
        let publisher = publication.publisher;
        self.route_here(env, &mut source, publication.matches, publisher, answer_to);
        self.keep_buffers(buffers);
    }

    /// What has become a job, where there were `jobs` before, is under way until the job is done: it gives the credit
    /// then. Says how many bytes are still to be given if it has not.
    pub(super) fn defer_credit(&mut self, jobs: usize, to: ShardId, bytes: usize) -> Option<usize> {
        let is_deferred = self.jobs.len() > jobs;
        let job = self.jobs.back_mut().filter(|_| is_deferred)?;
        job.credit = Some(OwedCredit { to, bytes });
        Some(0)
    }

    /// Gives a message to the sessions and groups of this shard, now or behind a fan-out under way.
    pub(super) fn route_here(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        matches: Matches<'_>,
        publisher: Option<SessionRef>,
        answer_to: Option<AnswerTo>,
    ) {
        let targets = if self.jobs.is_empty() {
            let targets = self.resolve(matches.filters, publisher);
            let groups = own_groups(matches, self.id).count();
            if targets.len() + groups <= self.config.limits.step_budget {
                self.route_now(env, source, matches, targets, answer_to);
                return;
            }
            Some(targets)
        } else {
            None
        };
        let job = FanOutJob {
            message: source.message().clone(),
            filters: matches.filters.into(),
            groups: own_groups(matches, self.id).collect(),
            publisher,
            answer_to,
            targets,
            next: 0,
            tally: Tally::default(),
            credit: None,
        };
        if mutant!(JobOvertaken) {
            return self.jobs.push_front(job);
        }
        self.jobs.push_back(job);
    }

    /// Goes on with wide fan-outs for one budget of deliveries.
    pub(super) fn run_jobs(&mut self, env: Env<'_>) {
        let mut budget = self.config.limits.step_budget;
        while budget > 0 {
            let Some(mut job) = self.jobs.pop_front() else {
                return;
            };
            let targets = match job.targets.take() {
                Some(targets) => targets,
                None => self.resolve(&job.filters, job.publisher),
            };
            let message = job.message.clone();
            let mut buffers = self.take_buffers();
            let mut source = Source::of_message(&message, env.now.wall, &mut buffers);
            let all = targets.len() + job.groups.len();
            if message.is_expired(env.now.wall) && !mutant!(ExpiredFanOut) {
                // It has waited: whoever did not get it by now gets it no more [MQTT-3.3.2-5].
                self.stats.count_drops(DropCause::Expired, all - job.next);
                job.next = all;
            }
            let end = all.min(job.next + budget);
            // Each job costs at least one, so that many empty ones are a bounded step too.
            budget -= (end - job.next).max(1);
            let admission = admission(&source, job.answer_to);
            for index in job.next..end {
                let outcome = match targets.get(index) {
                    Some(target) => self.deliver_to(target, &mut source, admission),
                    None => {
                        let group = job.groups[index - targets.len()];
                        self.publish_to_group(env, group, &mut source, admission)
                    }
                };
                job.tally.count(outcome);
            }
            job.next = end;
            if end < all {
                // What these hold is recorded now, as they may be done with it before the job is.
                self.append_holders(&mut source);
                self.keep_buffers(buffers);
                job.targets = Some(targets);
                self.jobs.push_front(job);
                return;
            }
            self.keep_scratch(targets);
            self.routed(env, &mut source, job.tally, job.answer_to);
            self.keep_buffers(buffers);
            if let Some(credit) = job.credit
                && !mutant!(ShardCreditLeaked)
            {
                self.give_credit(credit, Spare::default());
            }
        }
    }

    fn route_now(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        matches: Matches<'_>,
        targets: Vec<Target>,
        answer_to: Option<AnswerTo>,
    ) {
        let mut tally = Tally::default();
        let admission = admission(source, answer_to);
        for target in &targets {
            tally.count(self.deliver_to(target, source, admission));
        }
        self.keep_scratch(targets);
        for group in own_groups(matches, self.id) {
            tally.count(self.publish_to_group(env, group, source, admission));
        }
        self.routed(env, source, tally, answer_to);
    }

    /// The last part of a routing: the record, and the answer.
    fn routed(
        &mut self,
        env: Env<'_>,
        source: &mut Source<'_>,
        tally: Tally,
        answer_to: Option<AnswerTo>,
    ) {
        self.append_holders(source);
        let Some(AnswerTo { shard, obligation }) = answer_to else {
            return;
        };
        if tally.refused {
            // The publisher will send it again: what was stored here counts as its first delivery.
            self.answer(env, shard, obligation, ReasonCode::QuotaExceeded);
        } else if tally.stored == 0 || mutant!(AckBeforeStore) {
            // Nobody here had to store it after all: there is no record to wait for.
            self.answer(env, shard, obligation, ReasonCode::Success);
        } else if shard == self.id {
            self.after_commit(env, OnCommit::Fulfil(obligation));
        } else {
            let to = shard;
            self.after_commit(env, OnCommit::Stored { to, obligation });
        }
    }

    /// Tells the journal which queues hold a message since it was last told.
    fn append_holders(&mut self, source: &mut Source<'_>) {
        if let Some((position, holders)) = source.take_holders() {
            let message = source.message().clone();
            self.append(|| Record::Enqueued {
                position,
                message,
                holders,
            });
        }
    }

    pub(super) fn answer(
        &mut self,
        env: Env<'_>,
        to: ShardId,
        obligation: ObligationId,
        reason: ReasonCode,
    ) {
        if to == self.id {
            self.fulfil(env, obligation, reason);
        } else {
            self.say(to, &Said::Stored(Stored { obligation, reason }));
        }
    }

    /// The sessions of this shard that get a copy.
    fn resolve(&mut self, filters: &[FilterId], publisher: Option<SessionRef>) -> Vec<Target> {
        let mut targets = std::mem::take(&mut self.targets);
        debug_assert!(targets.is_empty());
        let publisher = publisher
            .filter(|publisher| publisher.shard == self.id)
            .map(|publisher| publisher.key);
        let overlapping = filters.len() > 1 && !mutant!(CopyPerSubscription);
        self.routing_pass += 1;
        for filter in filters {
            let Some(local) = self.filters.get(filter) else {
                continue;
            };
            for &subscriber in local.subscribers.as_slice() {
                if subscriber.no_local()
                    && publisher == Some(subscriber.session)
                    && !mutant!(NoLocalIgnored)
                {
                    continue; // [MQTT-3.8.3-3]
                }
                if overlapping
                    && let Some(session) = self.sessions.get_mut(subscriber.session.index as usize)
                {
                    if session.mark == self.routing_pass {
                        targets[session.mark_index as usize].merge(subscriber);
                        continue;
                    }
                    session.mark = self.routing_pass;
                    // Each target is another session, and those are counted in 32 bits.
                    session.mark_index =
                        u32::try_from(targets.len()).expect("fewer targets than sessions");
                }
                targets.push(Target::new(subscriber));
            }
        }
        targets
    }

    fn keep_scratch(&mut self, mut targets: Vec<Target>) {
        targets.clear();
        if targets.capacity() <= SCRATCH_KEPT {
            self.targets = targets;
        }
    }

    /// Publishes something of the broker's own, such as a will or a `$SYS` value.
    pub(super) fn publish_own(
        &mut self,
        env: Env<'_>,
        parts: &crate::message::MessageParts<'_>,
        publisher: Option<SessionRef>,
    ) {
        self.ingest(env, parts, publisher, None);
    }

    /// Publishes a `QoS` 0 message in the broker's name, under `$SYS`; retained, where anything is.
    pub fn publish_system(&mut self, env: Env<'_>, topic: &TopicName, payload: &[u8]) {
        let parts = crate::message::MessageParts {
            id: self.next_message_id(),
            topic,
            qos: QoS::AtMostOnce,
            retain: self.config.connection.retain_available,
            expires_at: crate::UnixMillis::NEVER,
            properties: whimbrel_session::codec::PublishProperties::EMPTY,
            payload,
        };
        self.publish_own(env, &parts, None);
        self.finish(env);
    }
}

/// The groups of this shard among those that matched.
fn own_groups(matches: Matches<'_>, shard: ShardId) -> impl Iterator<Item = GroupId> + '_ {
    let owned = move |group: &GroupId| group.owner == shard;
    matches.groups.iter().copied().filter(owned)
}

/// A `QoS` 2 publisher was given PUBREC before its message is routed: it can't be refused any more.
fn admission(source: &Source<'_>, answer_to: Option<AnswerTo>) -> Admission {
    if answer_to.is_some() && source.qos() == QoS::AtLeastOnce {
        Admission::Refusable
    } else {
        Admission::Unasked
    }
}

/// Targets of scratch capacity kept between messages.
const SCRATCH_KEPT: usize = 4_096;
