//! [`Publications`]: messages on their way to another shard, back to back.

use std::fmt;

use whimbrel_session::codec::topic::TopicNameList;
use whimbrel_session::codec::{PAYLOAD_SHARE_MIN, PublishProperties, QoS};

use crate::effects::ObligationId;
use crate::ids::MsgId;
use crate::index::{Matched, Matches};
use crate::message::{HEADER, MessageParts};
use crate::{FilterId, GroupId, SessionRef, UnixMillis};

/// Messages for one other shard, in their order.
///
/// They are copied into memory that one side writes from front to back and the other reads in the same way. A shared
/// [`Message`](crate::Message) for each would be an allocation that another thread frees, and a reference count and a
/// match that both processors fight for. What several shards are to store, a large payload, and a message with a great
/// many matches go by themselves, and share their memory.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Publications {
    entries: Vec<Entry>,
    topics: TopicNameList,
    /// Properties and payload of each.
    bytes: Vec<u8>,
    filters: Vec<FilterId>,
    groups: Vec<GroupId>,
}

/// The fixed part of a message, and where the parts end that vary in length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: MsgId,
    expires_at: UnixMillis,
    publisher: Option<SessionRef>,
    obligation: Option<ObligationId>,
    properties_end: usize,
    payload_end: usize,
    filters_end: usize,
    groups_end: usize,
    qos: QoS,
    retain: bool,
}

/// One message, as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) parts: MessageParts<'a>,
    pub(crate) matches: Matches<'a>,
    pub(crate) publisher: Option<SessionRef>,
    pub(crate) obligation: Option<ObligationId>,
}

impl Publications {
    /// Whether a message may go this way.
    pub(crate) fn take(parts: &MessageParts<'_>, matched: &Matched) -> bool {
        parts.payload.len() < PAYLOAD_SHARE_MIN && matched.len() <= MATCHES_MAX
    }

    /// Whether there is room for another one.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() + self.topics.text_bytes() < BYTES_MAX && self.entries.len() < ENTRIES_MAX
    }

    pub(crate) fn push(&mut self, publication: &Publication<'_>) {
        let Publication {
            parts,
            matches,
            publisher,
            obligation,
        } = *publication;
        self.topics.push(parts.topic);
        self.bytes.extend_from_slice(parts.properties.as_bytes());
        let properties_end = self.bytes.len();
        self.bytes.extend_from_slice(parts.payload);
        self.filters.extend_from_slice(matches.filters);
        self.groups.extend_from_slice(matches.groups);
        self.entries.push(Entry {
            id: parts.id,
            expires_at: parts.expires_at,
            publisher,
            obligation,
            properties_end,
            payload_end: self.bytes.len(),
            filters_end: self.filters.len(),
            groups_end: self.groups.len(),
            qos: parts.qos,
            retain: parts.retain,
        });
    }

    /// The messages, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Publication<'_>> {
        let mut before = Ends::default();
        self.entries.iter().enumerate().map(move |(index, entry)| {
            let start = std::mem::replace(&mut before, Ends::of(entry));
            self.read(index, entry, start)
        })
    }

    fn read(&self, index: usize, entry: &Entry, start: Ends) -> Publication<'_> {
        let topic = self.topics.get(index);
        let properties = &self.bytes[start.payload..entry.properties_end];
        Publication {
            parts: MessageParts {
                id: entry.id,
                topic: topic.expect("each entry has its topic"),
                qos: entry.qos,
                retain: entry.retain,
                expires_at: entry.expires_at,
                properties: PublishProperties::from_validated(properties),
                payload: &self.bytes[entry.properties_end..entry.payload_end],
            },
            matches: Matches {
                filters: &self.filters[start.filters..entry.filters_end],
                groups: &self.groups[start.groups..entry.groups_end],
            },
            publisher: entry.publisher,
            obligation: entry.obligation,
        }
    }

    /// Bytes that they count with in the window between two shards.
    pub(crate) fn cost(&self) -> usize {
        self.topics.text_bytes() + self.bytes.len() + self.entries.len() * ENTRY_COST
    }

    /// Empties it for the next messages. The memory stays, unless it has become large.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.topics.clear();
        self.bytes.clear();
        self.filters.clear();
        self.groups.clear();
        self.bytes.shrink_to(2 * BYTES_MAX);
        self.filters.shrink_to(KEPT_IDS_MAX);
        self.groups.shrink_to(KEPT_IDS_MAX);
    }
}

impl Publication<'_> {
    /// Bytes that it counts with in the window between two shards.
    pub(crate) fn cost(&self) -> usize {
        let MessageParts {
            topic,
            properties,
            payload,
            ..
        } = &self.parts;
        topic.as_bytes().len() + properties.as_bytes().len() + payload.len() + ENTRY_COST
    }
}

impl fmt::Debug for Publications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Where the parts of an entry end that vary in length.
#[derive(Clone, Copy, Default)]
struct Ends {
    payload: usize,
    filters: usize,
    groups: usize,
}

impl Ends {
    fn of(entry: &Entry) -> Self {
        Self {
            payload: entry.payload_end,
            filters: entry.filters_end,
            groups: entry.groups_end,
        }
    }
}

/// The emptied memory of [`Publications`], on its way back to where it is filled again. It decides nothing.
#[derive(Default)]
pub(crate) struct Spare(pub(crate) Option<Box<Publications>>);

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What is sent in one piece: about what one read brings.
const BYTES_MAX: usize = 64 << 10;
const ENTRIES_MAX: usize = 1_024;
/// Matches that are copied for each shard.
const MATCHES_MAX: usize = 16;
const KEPT_IDS_MAX: usize = 2 * ENTRIES_MAX;
/// What an entry counts beside what it holds: the header of a message and its share of the rest.
const ENTRY_COST: usize = HEADER + size_of::<Entry>();
