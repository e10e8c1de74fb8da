//! [`Told`]: what a journal told, in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use whimbrel_broker_core::{
    GroupRecord, Holder, Journal, JournalError, Message, MsgId, Position, QueueId, Replay,
    Replayed, SessionRecord, SubscriptionRecord, WindowRecord,
};

/// What a journal told, without what it may tell or not.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Shared subscriptions.
    pub groups: BTreeMap<QueueId, GroupRecord>,
    /// Sessions.
    pub sessions: BTreeMap<QueueId, SessionRecord>,
    /// Subscriptions, by session and filter.
    pub subscriptions: BTreeMap<(QueueId, String), SubscriptionRecord>,
    /// Windows.
    pub windows: BTreeMap<QueueId, WindowRecord>,
    /// Messages taken over.
    pub inbound: BTreeMap<MsgId, (QueueId, u16, Message)>,
    /// Queues that have or had a message that is not released.
    pub known: BTreeMap<MsgId, BTreeSet<QueueId>>,
    /// Queued messages with the queues that owe them.
    pub owed: BTreeMap<Position, (Message, Vec<Holder>)>,
    /// Retained messages, by topic.
    pub retained: BTreeMap<String, Message>,
    /// The highest place and queue that anything names. A model does not know what is not yet removed.
    pub used: (Option<Position>, Option<QueueId>),
}

/// But for the highest numbers.
impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }
}

impl Eq for Told {}

impl Told {
    /// What a journal tells.
    ///
    /// # Errors
    ///
    /// What the journal answers.
    ///
    /// # Panics
    ///
    /// If things are told out of order or twice, or refer to what was not told.
    pub fn by(journal: &mut dyn Journal) -> Result<(Self, Replay), JournalError> {
        let mut told = Self::default();
        let mut phase = 0;
        let mut items = 0;
        let replay = journal.replay(&mut |replayed| {
            items += 1;
            let now = phase_of(&replayed);
            assert!(phase <= now, "told out of order: {replayed:?}");
            phase = now;
            told.take(replayed);
            Ok(())
        })?;
        assert_eq!(replay.items, items, "things were counted wrongly");
        Ok((told, replay))
    }

    /// Where this differs from `other`, in few words; empty where it does not.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        differ("group", &self.groups, &other.groups, &mut text);
        differ("session", &self.sessions, &other.sessions, &mut text);
        let (ours, theirs) = (&self.subscriptions, &other.subscriptions);
        differ("subscription", ours, theirs, &mut text);
        differ("window", &self.windows, &other.windows, &mut text);
        differ("taken over", &self.inbound, &other.inbound, &mut text);
        differ("known", &self.known, &other.known, &mut text);
        differ("message", &self.owed, &other.owed, &mut text);
        differ("retained", &self.retained, &other.retained, &mut text);
        text
    }

    fn take(&mut self, replayed: Replayed) {
        match replayed {
            Replayed::Group(group) => {
                assert!(self.groups.insert(group.group, group).is_none());
            }
            Replayed::Session(session) => {
                assert!(self.sessions.insert(session.session, session).is_none());
            }
            Replayed::Subscriptions {
                session,
                subscriptions,
            } => {
                assert!(self.sessions.contains_key(&session));
                for subscription in subscriptions {
                    let key = (session, subscription.filter.to_string());
                    assert!(self.subscriptions.insert(key, subscription).is_none());
                }
            }
            Replayed::Window(window) => {
                assert!(self.sessions.contains_key(&window.session));
                assert!(self.windows.insert(window.session, window).is_none());
            }
            Replayed::Inbound {
                session,
                packet_id,
                message,
            } => {
                let id = message.id();
                if let Some((last, _)) = self.inbound.last_key_value() {
                    assert!(*last < id, "taken over messages are not in their order");
                }
                self.inbound.insert(id, (session, packet_id, message));
            }
            Replayed::Known { message, queues } => {
                assert!(self.inbound.contains_key(&message));
                self.known.entry(message).or_default().extend(queues);
            }
            Replayed::Message {
                position,
                message,
                holders,
            } => self.take_message(position, message, holders),
            Replayed::Retained(message) => {
                let topic = message.topic().as_str().to_owned();
                assert!(self.retained.insert(topic, message).is_none());
            }
            Replayed::Used { position, queue } => {
                let told = self.owed.keys().next_back().copied();
                assert!(
                    position >= told,
                    "a place that is in use is above the highest"
                );
                let sessions = self.sessions.keys().next_back().copied();
                let groups = self.groups.keys().next_back().copied();
                assert!(
                    queue >= sessions.max(groups),
                    "a queue is above the highest"
                );
                self.used = (position, queue);
            }
        }
    }

    fn take_message(&mut self, position: Position, message: Message, mut holders: Vec<Holder>) {
        if let Some((last, _)) = self.owed.last_key_value() {
            assert!(*last < position, "messages are not in their order");
        }
        if self.inbound.contains_key(&message.id()) {
            let queues = holders.iter().map(|holder| holder.queue);
            self.known.entry(message.id()).or_default().extend(queues);
        }
        holders.retain(|holder| match self.windows.get(&holder.queue) {
            Some(window) => window.owes(position),
            None => true,
        });
        for holder in &holders {
            assert!(
                self.sessions.contains_key(&holder.queue)
                    || self.groups.contains_key(&holder.queue),
                "a queue that was not told owes a message"
            );
        }
        if !holders.is_empty() {
            self.owed.insert(position, (message, holders));
        }
    }
}

fn differ<K: Ord + Debug, V: PartialEq>(
    what: &str,
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
    text: &mut String,
) {
    let keys: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let word = match (ours.get(key), theirs.get(key)) {
            (Some(ours), Some(theirs)) if ours == theirs => continue,
            (Some(_), Some(_)) => "differs",
            (Some(_), None) => "is too much",
            (None, _) => "is missing",
        };
        text.push_str(&format!("{what} {key:?} {word}\n"));
    }
}

fn phase_of(replayed: &Replayed) -> u8 {
    match replayed {
        Replayed::Group(_) => 0,
        Replayed::Session(_) => 1,
        Replayed::Subscriptions { .. } => 2,
        Replayed::Window(_) => 3,
        Replayed::Inbound { .. } => 4,
        Replayed::Known { .. } => 5,
        Replayed::Message { .. } => 6,
        Replayed::Retained(_) => 7,
        Replayed::Used { .. } => 8,
    }
}
