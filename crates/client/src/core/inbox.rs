//! Messages that have come, and who they are for.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};

use slab::Slab;
use whimbrel_session::codec::topic::{
    ByteStr, FilterTrie, MatchScratch, SubscriptionFilter, TopicFilterBuf, TopicName,
};
use whimbrel_session::codec::{
    PacketId, PacketType, PublishProperties, ReasonCode, SubscribeFilter, SubscriptionId,
};
use whimbrel_session::{AckToken, Epoch, Tick};

use crate::{Message, SubscribeError};

/// The subscriptions of this client, and what has come for them and was not taken yet.
///
/// Bounded, and without a lock-up: while a buffer is full the driver reads no further, unless the application waits for
/// an answer of the server, which may be behind what is unread. Then it reads on, and beyond twice the bound QoS 0 gives way
/// and is counted, while QoS 1 and 2 are left unacknowledged, for the server to deliver them again after a reconnect.
#[derive(Debug)]
pub(crate) struct Inbox {
    entries: Slab<Entry>,
    /// Entries by their filters.
    trie: FilterTrie<Vec<SubscriptionKey>>,
    scratch: MatchScratch,
    /// For the message at hand.
    matched: Vec<SubscriptionKey>,
    owed: Slab<Owed>,
    /// Those of earlier connections, by their packet ids: on this connection the server sends them again.
    expected: BTreeMap<PacketId, AckKey>,
    /// Bytes of all messages that wait.
    bytes: usize,
    bytes_max: usize,
    /// QoS 1 and 2 messages that may wait for their acknowledgement.
    owed_max: usize,
    /// Entries whose buffer is full.
    full: usize,
    /// Messages were left to be delivered again: those that follow are so too, to keep their order.
    is_withholding: bool,
    unclaimed: SubscriptionKey,
    /// Until then what nobody has subscribed to waits for somebody.
    claim_until: Tick,
    unclaimed_dropped: u64,
}

/// A subscription among those of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubscriptionKey(u32);

/// The duty to acknowledge a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckKey(u32);

/// What a subscription asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) filters: Vec<SubscribeFilter>,
    /// Messages that may wait for the application.
    pub(crate) capacity: usize,
}

#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    /// Without the part that shares them. As many as there are filters.
    matching: Vec<TopicFilterBuf>,
    phase: Phase,
    granted: Vec<ReasonCode>,
    queue: VecDeque<Arrived>,
    dropped: u64,
    /// Somebody holds the stream.
    is_held: bool,
    consumer: Option<Waker>,
}

#[derive(Debug)]
enum Phase {
    /// SUBACK has not come.
    Requested,
    Active,
    /// The server does not have the subscription any more.
    Ended(SubscribeError),
}

#[derive(Debug)]
struct Arrived {
    message: Message,
    ack: Option<AckKey>,
}

#[derive(Debug)]
struct Owed {
    token: AckToken,
    epoch: Epoch,
    /// Subscriptions that have not finished with it.
    holders: u32,
    verdict: Verdict,
}

/// A message that all its holders have finished with.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) token: AckToken,
    /// Of the connection that it came on last.
    pub(crate) epoch: Epoch,
    pub(crate) verdict: Verdict,
    /// The server is to send it again on this connection, and has not.
    pub(crate) is_expected: bool,
}

/// What becomes of a message that was taken. The worst of several is what the server hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done with.
    Accept,
    /// The application does not want it: MQTT 5 servers are told why.
    Reject(ReasonCode),
    /// It is to come again.
    Withhold,
}

/// What the connection has to do for a message that came.
#[derive(Debug)]
pub(crate) enum Arrival {
    Kept,
    /// Acknowledged at once: nobody wants it.
    Unwanted(Option<AckToken>),
    /// There is no room: it is to come again.
    Withheld(AckToken),
}

/// A message for the application.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) message: Message,
    pub(crate) ack: Option<AckKey>,
    /// There is room where there was none.
    pub(crate) made_room: bool,
}

impl Inbox {
    pub(crate) fn new(bytes_max: usize, owed_max: usize) -> Self {
        let mut entries = Slab::new();
        let unclaimed = entries.insert(Entry::new(
            Wanted {
                filters: Vec::new(),
                capacity: UNCLAIMED_MAX,
            },
            Vec::new(),
            Phase::Active,
        ));
        Self {
            entries,
            trie: FilterTrie::new(),
            scratch: MatchScratch::default(),
            matched: Vec::new(),
            owed: Slab::new(),
            expected: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            owed_max,
            full: 0,
            is_withholding: false,
            unclaimed: SubscriptionKey::from_index(unclaimed),
            claim_until: Tick(0),
            unclaimed_dropped: 0,
        }
    }

    /// Makes a subscription, which is not asked for yet, and gives it what has come for it already.
    pub(crate) fn subscribe(&mut self, wanted: Wanted) -> Result<SubscriptionKey, SubscribeError> {
        let mut matching = Vec::with_capacity(wanted.filters.len());
        for (index, filter) in wanted.filters.iter().enumerate() {
            let others = self
                .entries
                .iter()
                .flat_map(|(_, entry)| &entry.wanted.filters);
            let mut others = others.chain(&wanted.filters[..index]);
            if others.any(|other| other.filter == filter.filter) {
                let filter = filter.filter.clone();
                return Err(SubscribeError::AlreadySubscribed { filter });
            }
            let parsed = SubscriptionFilter::parse(&filter.filter)?;
            matching.push(TopicFilterBuf::from(parsed.filter()));
        }
        let entry = Entry::new(wanted, matching, Phase::Requested);
        let key = SubscriptionKey::from_index(self.entries.insert(entry));
        for filter in &self.entries[key.index()].matching {
            let keys = self.trie.get_or_insert_with(filter, Vec::new);
            keys.push(key);
        }
        self.claim(key);
        Ok(key)
    }

    /// Whether a subscription of this client has the filter.
    pub(crate) fn has_filter(&self, filter: &ByteStr) -> bool {
        let mut filters = self
            .entries
            .iter()
            .flat_map(|(_, entry)| &entry.wanted.filters);
        filters.any(|other| other.filter == *filter)
    }

    /// The stream of what nobody has subscribed to; `None` while somebody holds it.
    pub(crate) fn hold_unclaimed(&mut self) -> Option<SubscriptionKey> {
        let entry = &mut self.entries[self.unclaimed.index()];
        if std::mem::replace(&mut entry.is_held, true) {
            return None;
        }
        self.full += usize::from(entry.is_full());
        Some(self.unclaimed)
    }

    /// Until then what nobody has subscribed to waits for a subscription.
    pub(crate) fn keep_unclaimed_until(&mut self, due: Tick) {
        self.claim_until = due;
    }

    /// When [`drop_unclaimed`](Self::drop_unclaimed) is to be called.
    pub(crate) fn unclaimed_due(&self) -> Option<Tick> {
        let entry = &self.entries[self.unclaimed.index()];
        (!entry.is_held && !entry.queue.is_empty()).then_some(self.claim_until)
    }

    /// Gives up what nobody has claimed in time; it is acknowledged and counted.
    pub(crate) fn drop_unclaimed(&mut self, now: Tick) -> Vec<AckKey> {
        let due = self.unclaimed_due().is_some_and(|due| due <= now);
        if !due {
            return Vec::new();
        }
        let mut acks = Vec::new();
        while let Some(taken) = self.pop(self.unclaimed) {
            self.unclaimed_dropped += 1;
            acks.extend(taken.ack);
        }
        acks
    }

    /// Messages that nobody had subscribed to and that were acknowledged all the same.
    pub(crate) fn unclaimed_dropped(&self) -> u64 {
        self.unclaimed_dropped
    }

    /// Ends a subscription: returns its filters, for UNSUBSCRIBE, and what is owed for messages nobody has taken.
    pub(crate) fn remove(&mut self, key: SubscriptionKey) -> (Vec<SubscribeFilter>, Vec<AckKey>) {
        let mut acks = Vec::new();
        while let Some(taken) = self.pop(key) {
            acks.extend(taken.ack);
        }
        if key == self.unclaimed {
            self.entries[key.index()].is_held = false;
            return (Vec::new(), acks);
        }
        let Some(entry) = self.entries.try_remove(key.index()) else {
            return (Vec::new(), acks);
        };
        self.unlink(key, &entry.matching);
        let filters = match entry.phase {
            Phase::Requested | Phase::Active => entry.wanted.filters,
            Phase::Ended(_) => Vec::new(),
        };
        (filters, acks)
    }

    pub(crate) fn wanted(&self, key: SubscriptionKey) -> Option<&Wanted> {
        self.entries.get(key.index()).map(|entry| &entry.wanted)
    }

    /// Every subscription that the server is to have.
    pub(crate) fn wanted_keys(&self) -> Vec<SubscriptionKey> {
        let wanted = self.entries.iter().filter(|(_, entry)| {
            !entry.wanted.filters.is_empty() && !matches!(entry.phase, Phase::Ended(_))
        });
        wanted
            .map(|(index, _)| SubscriptionKey::from_index(index))
            .collect()
    }

    /// SUBACK.
    pub(crate) fn note_granted(&mut self, key: SubscriptionKey, codes: Vec<ReasonCode>) {
        if codes.iter().all(|code| code.is_error()) {
            self.note_ended(key, SubscribeError::Refused { codes });
        } else if let Some(entry) = self.entries.get_mut(key.index()) {
            entry.granted = codes;
            entry.phase = Phase::Active;
            entry.wake();
        }
    }

    /// The subscription can't be had.
    pub(crate) fn note_ended(&mut self, key: SubscriptionKey, error: SubscribeError) {
        let Some(entry) = self.entries.get_mut(key.index()) else {
            return;
        };
        entry.phase = Phase::Ended(error);
        entry.wake();
        let matching = std::mem::take(&mut entry.matching);
        self.unlink(key, &matching);
    }

    /// Whether SUBACK has come, and what it said.
    pub(crate) fn poll_granted(
        &mut self,
        key: SubscriptionKey,
        waker: &Waker,
    ) -> Poll<Result<Vec<ReasonCode>, SubscribeError>> {
        let Some(entry) = self.entries.get_mut(key.index()) else {
            return Poll::Pending;
        };
        match &entry.phase {
            Phase::Requested => {
                entry.consumer = Some(waker.clone());
                Poll::Pending
            }
            Phase::Active => Poll::Ready(Ok(entry.granted.clone())),
            Phase::Ended(error) => Poll::Ready(Err(error.clone())),
        }
    }

    /// Why the subscription has ended, if it has.
    pub(crate) fn ended(&self, key: SubscriptionKey) -> Option<SubscribeError> {
        match &self.entries.get(key.index())?.phase {
            Phase::Requested | Phase::Active => None,
            Phase::Ended(error) => Some(error.clone()),
        }
    }

    /// QoS 0 messages that gave way because the application did not take them in time.
    pub(crate) fn dropped(&self, key: SubscriptionKey) -> u64 {
        self.entries
            .get(key.index())
            .map_or(0, |entry| entry.dropped)
    }

    /// The next message; `None` when there will be none.
    pub(crate) fn poll_next(&mut self, key: SubscriptionKey, waker: &Waker) -> Poll<Option<Taken>> {
        if let Some(taken) = self.pop(key) {
            return Poll::Ready(Some(taken));
        }
        let Some(entry) = self.entries.get_mut(key.index()) else {
            return Poll::Ready(None);
        };
        if matches!(entry.phase, Phase::Ended(_)) {
            return Poll::Ready(None);
        }
        match &mut entry.consumer {
            Some(known) => known.clone_from(waker),
            known @ None => *known = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// A message has come.
    pub(crate) fn arrive(
        &mut self,
        now: Tick,
        epoch: Epoch,
        message: &Message,
        token: Option<AckToken>,
    ) -> Arrival {
        let Some(token) = token else {
            return self.keep(now, message, None);
        };
        let Some(token) = self.adopt(epoch, message, token) else {
            return Arrival::Kept;
        };
        if self.must_withhold(message.cost()) {
            self.is_withholding = true;
            return Arrival::Withheld(token);
        }
        self.keep(now, message, Some((epoch, token)))
    }

    /// A message that comes again, and that somebody has or will take, is not handed out twice: what it owes is owed on this
    /// connection from now on. Gives the token back where it is another message.
    fn adopt(&mut self, epoch: Epoch, message: &Message, token: AckToken) -> Option<AckToken> {
        let Some(key) = self.expected.remove(&token.packet_id()) else {
            return Some(token);
        };
        let owed = self.owed.get_mut(key.0 as usize);
        // Without DUP it is a new message: the server has given up the one before [MQTT-3.3.1-1].
        let owed = owed.filter(|owed| {
            message.dup() && owed.token.acknowledged_by() == token.acknowledged_by()
        });
        let Some(owed) = owed else {
            return Some(token);
        };
        owed.token = token;
        owed.epoch = epoch;
        None
    }

    /// What is to be said of a message that a holder has finished with; `None` while there are others.
    pub(crate) fn finish(&mut self, key: AckKey, verdict: Verdict) -> Option<Finished> {
        let index = key.0 as usize;
        let owed = self.owed.get_mut(index)?;
        owed.verdict = owed.verdict.worse(verdict);
        owed.holders -= 1;
        if owed.holders > 0 {
            return None;
        }
        let Owed {
            token,
            epoch,
            verdict,
            ..
        } = self.owed.remove(index);
        let packet_id = token.packet_id();
        let is_expected = self.expected.get(&packet_id) == Some(&key);
        if is_expected {
            self.expected.remove(&packet_id);
        }
        Some(Finished {
            token,
            epoch,
            verdict,
            is_expected,
        })
    }

    /// The connection that a message came on, while its acknowledgement is owed.
    pub(crate) fn epoch(&self, key: AckKey) -> Option<Epoch> {
        self.owed.get(key.0 as usize).map(|owed| owed.epoch)
    }

    /// A message that was taken is to be taken again; `false` if its subscription is gone.
    pub(crate) fn put_back(
        &mut self,
        key: SubscriptionKey,
        message: &Message,
        ack: AckKey,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key.index()) else {
            return false;
        };
        let was_full = entry.is_full();
        self.bytes += message.cost();
        entry.queue.push_front(Arrived {
            message: message.clone(),
            ack: Some(ack),
        });
        self.full += usize::from(!was_full && entry.is_full());
        entry.wake();
        true
    }

    /// A subscription goes on at the server without its stream: what has come waits for somebody else.
    pub(crate) fn detach(&mut self, key: SubscriptionKey, claim_until: Tick) {
        if key == self.unclaimed {
            self.claim_until = self.claim_until.max(claim_until);
            let entry = &mut self.entries[key.index()];
            self.full -= usize::from(entry.is_full());
            entry.is_held = false;
            return;
        }
        let Some(mut entry) = self.entries.try_remove(key.index()) else {
            return;
        };
        self.full -= usize::from(entry.is_full());
        self.unlink(key, &entry.matching);
        self.claim_until = self.claim_until.max(claim_until);
        let unclaimed = &mut self.entries[self.unclaimed.index()];
        let was_full = unclaimed.is_full();
        unclaimed.queue.append(&mut entry.queue);
        self.full += usize::from(!was_full && unclaimed.is_full());
        unclaimed.wake();
    }

    /// The server goes on with the session on a new connection, and sends again what was not acknowledged of the session that began
    /// with this epoch. Returns the ids of QoS 2 messages among it: until they are finished with, they do not count as received.
    pub(crate) fn note_resumed(&mut self, session_epoch: Epoch) -> Vec<PacketId> {
        self.is_withholding = false;
        self.expected.clear();
        let mut unfinished = Vec::new();
        for (index, owed) in &self.owed {
            if owed.epoch.0 < session_epoch.0 {
                continue;
            }
            let packet_id = owed.token.packet_id();
            // As it was made when the message came.
            let key = AckKey(u32::try_from(index).unwrap_or(u32::MAX));
            self.expected.insert(packet_id, key);
            if owed.token.acknowledged_by() == PacketType::PubRec {
                unfinished.push(packet_id);
            }
        }
        unfinished
    }

    /// The server has begun a new session: what was withheld is gone with the old one.
    pub(crate) fn note_began(&mut self) {
        self.is_withholding = false;
        self.expected.clear();
    }

    /// Whether no more is to be read while nobody waits for an answer.
    pub(crate) fn is_full(&self) -> bool {
        self.full > 0 || self.bytes >= self.bytes_max
    }

    /// Whether messages were left for the server to deliver again, and there is room for them now.
    pub(crate) fn wants_redelivery(&self) -> bool {
        self.is_withholding && self.owed.is_empty() && self.bytes < self.bytes_max
    }

    /// The client is closed: streams end once what has come is taken.
    pub(crate) fn end_all(&mut self, error: &SubscribeError) {
        for (_, entry) in &mut self.entries {
            if !matches!(entry.phase, Phase::Ended(_)) {
                entry.phase = Phase::Ended(error.clone());
            }
            entry.wake();
        }
    }

    fn keep(&mut self, now: Tick, message: &Message, owed: Option<(Epoch, AckToken)>) -> Arrival {
        let mut matched = std::mem::take(&mut self.matched);
        self.matching(message.topic(), message.properties(), &mut matched);
        if matched.is_empty() {
            let entry = &self.entries[self.unclaimed.index()];
            if !entry.is_held && now >= self.claim_until {
                self.matched = matched;
                self.unclaimed_dropped += 1;
                return Arrival::Unwanted(owed.map(|(_, token)| token));
            }
            matched.push(self.unclaimed);
        }
        let holders = u32::try_from(matched.len()).unwrap_or(u32::MAX);
        let ack = owed.map(|(epoch, token)| {
            let key = self.owed.insert(Owed {
                token,
                epoch,
                holders,
                verdict: Verdict::Accept,
            });
            // As many as there are packet ids, at most, on each of the connections whose messages are not taken.
            AckKey(u32::try_from(key).expect("fewer than 2^32 messages"))
        });
        for key in matched.drain(..) {
            self.push(key, message.clone(), ack);
        }
        self.matched = matched;
        Arrival::Kept
    }

    /// The subscriptions that a message is for. With identifiers those that the server means; an identifier may be of a
    /// subscription of an earlier process, so the filter has to match too.
    fn matching(
        &mut self,
        topic: &TopicName,
        properties: PublishProperties<'_>,
        matched: &mut Vec<SubscriptionKey>,
    ) {
        for id in properties.subscription_ids() {
            let key = SubscriptionKey::of_id(id);
            let Some(entry) = self.entries.get(key.index()) else {
                continue;
            };
            let is_meant = entry.matching.iter().any(|filter| filter.matches(topic));
            if is_meant && !matched.contains(&key) {
                matched.push(key);
            }
        }
        if !matched.is_empty() {
            return;
        }
        self.trie.for_each_match(topic, &mut self.scratch, |keys| {
            for &key in keys {
                if !matched.contains(&key) {
                    matched.push(key);
                }
            }
        });
    }

    fn push(&mut self, key: SubscriptionKey, message: Message, ack: Option<AckKey>) {
        let is_over = self.bytes >= self.bytes_max.saturating_mul(2);
        let Some(entry) = self.entries.get_mut(key.index()) else {
            return;
        };
        if ack.is_none()
            && (is_over || entry.queue.len() >= entry.wanted.capacity.saturating_mul(2))
        {
            entry.dropped += 1;
            let oldest = entry.queue.iter().position(|arrived| arrived.ack.is_none());
            let Some(oldest) = oldest.and_then(|index| entry.queue.remove(index)) else {
                return;
            };
            self.bytes -= oldest.message.cost();
        }
        let was_full = entry.is_full();
        self.bytes += message.cost();
        entry.queue.push_back(Arrived { message, ack });
        self.full += usize::from(!was_full && entry.is_full());
        entry.wake();
    }

    fn pop(&mut self, key: SubscriptionKey) -> Option<Taken> {
        let entry = self.entries.get_mut(key.index())?;
        let was_full = entry.is_full();
        let Arrived { message, ack } = entry.queue.pop_front()?;
        let is_full = entry.is_full();
        let was_over = self.bytes >= self.bytes_max;
        self.bytes -= message.cost();
        self.full -= usize::from(was_full && !is_full);
        let made_room = (was_full && !is_full) || (was_over && self.bytes < self.bytes_max);
        Some(Taken {
            message,
            ack,
            made_room,
        })
    }

    /// Moves what has come for a subscription before it was made.
    fn claim(&mut self, key: SubscriptionKey) {
        let unclaimed = &mut self.entries[self.unclaimed.index()];
        let was_full = unclaimed.is_full();
        let waiting = std::mem::take(&mut unclaimed.queue);
        self.full -= usize::from(was_full);
        for arrived in waiting {
            let entry = &self.entries[key.index()];
            let topic = arrived.message.topic();
            let is_claimed = entry.matching.iter().any(|filter| filter.matches(topic));
            let owner = if is_claimed { key } else { self.unclaimed };
            let entry = &mut self.entries[owner.index()];
            let was_full = entry.is_full();
            entry.queue.push_back(arrived);
            self.full += usize::from(!was_full && entry.is_full());
        }
    }

    fn must_withhold(&self, cost: usize) -> bool {
        self.is_withholding
            || self.owed.len() >= self.owed_max
            || (self.bytes > 0 && self.bytes + cost > self.bytes_max.saturating_mul(2))
    }

    fn unlink(&mut self, key: SubscriptionKey, matching: &[TopicFilterBuf]) {
        for filter in matching {
            if let Some(keys) = self.trie.get_mut(filter) {
                keys.retain(|&other| other != key);
                if keys.is_empty() {
                    self.trie.remove(filter);
                }
            }
        }
    }
}

impl Entry {
    fn new(wanted: Wanted, matching: Vec<TopicFilterBuf>, phase: Phase) -> Self {
        Self {
            is_held: !wanted.filters.is_empty(),
            wanted,
            matching,
            phase,
            granted: Vec::new(),
            queue: VecDeque::new(),
            dropped: 0,
            consumer: None,
        }
    }

    /// Whether the driver is to wait for the application. Nobody may ever come for what nobody holds.
    fn is_full(&self) -> bool {
        self.is_held && self.queue.len() >= self.wanted.capacity
    }

    fn wake(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.wake();
        }
    }
}

impl SubscriptionKey {
    fn from_index(index: usize) -> Self {
        // The identifiers on the wire end at 28 bits.
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    /// The identifier that comes back with its messages; none beyond what the wire can say.
    pub(crate) fn id(self) -> Option<SubscriptionId> {
        SubscriptionId::new(self.0)
    }

    fn of_id(id: SubscriptionId) -> Self {
        Self(id.get())
    }
}

impl Verdict {
    fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Withhold, _) | (_, Self::Withhold) => Self::Withhold,
            (Self::Reject(reason), _) | (_, Self::Reject(reason)) => Self::Reject(reason),
            (Self::Accept, Self::Accept) => Self::Accept,
        }
    }
}

/// Messages that wait for a subscription to be made, before QoS 0 gives way.
const UNCLAIMED_MAX: usize = 1_024;
