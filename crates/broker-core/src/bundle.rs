//! [`Bundle`]: what one shard has to say to another, back to back.

use std::fmt;

use whimbrel_session::codec::topic::TopicNameList;
use whimbrel_session::codec::{PAYLOAD_SHARE_MIN, PublishProperties, QoS, ReasonCode};

use crate::effects::{GroupOutcome, ObligationId};
use crate::ids::MsgId;
use crate::index::Matches;
use crate::message::{HEADER, MessageParts};
use crate::queue::GroupOrigin;
use crate::record::Position;
use crate::{FilterId, GroupId, SessionKey, SessionRef, UnixMillis};

/// Messages for one other shard and answers to its own, in their order.
///
/// They are copied into memory that one side writes from front to back and the other reads in the same way. A shared
/// [`Message`](crate::Message) for each would be an allocation that another thread frees, and a reference count and a
/// match that both processors fight for. What several shards are to store, a large payload, and a message with a great
/// many matches go by themselves, and share their memory.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Bundle {
    entries: Vec<Entry>,
    messages: Messages,
    filters: Vec<FilterId>,
    groups: Vec<GroupId>,
    cost: usize,
}

/// What is said, as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said<'a> {
    Publication(Publication<'a>),
    Handout(MessageParts<'a>, Handed),
    Done(Done),
    Stored(Stored),
}

/// A message for the subscribers and groups of the receiving shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) parts: MessageParts<'a>,
    pub(crate) matches: Matches<'a>,
    pub(crate) publisher: Option<SessionRef>,
    pub(crate) obligation: Option<ObligationId>,
}

/// Which member a group has chosen for a message, and how it is called there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) origin: GroupOrigin,
    pub(crate) member: SessionKey,
    /// It was chosen because it is connected: if it no longer is, somebody else may be.
    pub(crate) to_connected: bool,
}

/// What became of a message that a group handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) group: GroupId,
    pub(crate) sequence: Position,
    pub(crate) member: SessionRef,
    pub(crate) outcome: GroupOutcome,
}

/// The answer to a message with an obligation: stored, or refused for want of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) obligation: ObligationId,
    pub(crate) reason: ReasonCode,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Publication {
        message: usize,
        filters_end: usize,
        groups_end: usize,
        publisher: Option<SessionRef>,
        obligation: Option<ObligationId>,
    },
    Handout {
        message: usize,
        handed: Handed,
    },
    Done(Done),
    Stored(Stored),
}

impl Bundle {
    /// Whether a message with so many matches may go this way.
    pub(crate) fn takes(parts: &MessageParts<'_>, matches: usize) -> bool {
        parts.payload.len() < PAYLOAD_SHARE_MIN && matches <= MATCHES_MAX
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.cost < COST_MAX && self.entries.len() < ENTRIES_MAX
    }

    /// Adds something, and says how many bytes that counts with in the window between the two shards.
    pub(crate) fn push(&mut self, said: &Said<'_>) -> usize {
        let entry = match said {
            Said::Publication(publication) => {
                self.filters.extend_from_slice(publication.matches.filters);
                self.groups.extend_from_slice(publication.matches.groups);
                Entry::Publication {
                    message: self.messages.push(&publication.parts),
                    filters_end: self.filters.len(),
                    groups_end: self.groups.len(),
                    publisher: publication.publisher,
                    obligation: publication.obligation,
                }
            }
            Said::Handout(parts, handed) => Entry::Handout {
                message: self.messages.push(parts),
                handed: *handed,
            },
            Said::Done(done) => Entry::Done(*done),
            Said::Stored(stored) => Entry::Stored(*stored),
        };
        self.entries.push(entry);
        let cost = said.cost();
        self.cost += cost;
        cost
    }

    /// Everything, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Said<'_>> {
        let (mut filters_start, mut groups_start) = (0, 0);
        self.entries.iter().map(move |entry| match *entry {
            Entry::Publication {
                message,
                filters_end,
                groups_end,
                publisher,
                obligation,
            } => {
                let matches = Matches {
                    filters: &self.filters[filters_start..filters_end],
                    groups: &self.groups[groups_start..groups_end],
                };
                (filters_start, groups_start) = (filters_end, groups_end);
                Said::Publication(Publication {
                    parts: self.messages.get(message),
                    matches,
                    publisher,
                    obligation,
                })
            }
            Entry::Handout { message, handed } => Said::Handout(self.messages.get(message), handed),
            Entry::Done(done) => Said::Done(done),
            Entry::Stored(stored) => Said::Stored(stored),
        })
    }

    /// Bytes that it counts with in the window between two shards; answers count nothing.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Empties it for what comes next. The memory stays, unless it has become large.
    pub(crate) fn clear(&mut self) {
        let Self {
            entries,
            messages,
            filters,
            groups,
            cost,
        } = self;
        entries.clear();
        messages.clear();
        filters.clear();
        filters.shrink_to(KEPT_IDS_MAX);
        groups.clear();
        groups.shrink_to(KEPT_IDS_MAX);
        *cost = 0;
    }
}

impl<'a> Said<'a> {
    /// The message that is said, if one is.
    pub(crate) fn parts(&self) -> Option<MessageParts<'a>> {
        match *self {
            Self::Publication(Publication { parts, .. }) | Self::Handout(parts, _) => Some(parts),
            Self::Done(_) | Self::Stored(_) => None,
        }
    }

    /// Bytes that it counts with in the window between two shards.
    pub(crate) fn cost(&self) -> usize {
        self.parts().map_or(0, |parts| {
            let topic = parts.topic.as_bytes().len();
            let properties = parts.properties.as_bytes().len();
            MESSAGE_COST + topic + properties + parts.payload.len()
        })
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Messages, by number.
#[derive(Default, PartialEq, Eq)]
struct Messages {
    heads: Vec<Head>,
    topics: TopicNameList,
    /// Properties and payload of each.
    bytes: Vec<u8>,
}

/// What has the same length in every message, and where in the bytes the rest is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    id: MsgId,
    expires_at: UnixMillis,
    start: usize,
    properties_end: usize,
    payload_end: usize,
    qos: QoS,
    retain: bool,
}

impl Messages {
    fn push(&mut self, parts: &MessageParts<'_>) -> usize {
        self.topics.push(parts.topic);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(parts.properties.as_bytes());
        let properties_end = self.bytes.len();
        self.bytes.extend_from_slice(parts.payload);
        self.heads.push(Head {
            id: parts.id,
            expires_at: parts.expires_at,
            start,
            properties_end,
            payload_end: self.bytes.len(),
            qos: parts.qos,
            retain: parts.retain,
        });
        self.heads.len() - 1
    }

    fn get(&self, number: usize) -> MessageParts<'_> {
        let head = &self.heads[number];
        let properties = &self.bytes[head.start..head.properties_end];
        let topic = self.topics.get(number);
        MessageParts {
            id: head.id,
            topic: topic.expect("each message has its topic"),
            qos: head.qos,
            retain: head.retain,
            expires_at: head.expires_at,
            properties: PublishProperties::from_validated(properties),
            payload: &self.bytes[head.properties_end..head.payload_end],
        }
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.topics.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }
}

/// The emptied memory of a [`Bundle`], on its way back to where it is filled again. It decides nothing.
#[derive(Default)]
pub(crate) struct Spare(pub(crate) Option<Box<Bundle>>);

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What is sent in one piece: about what one read brings.
const COST_MAX: usize = 128 << 10;
const ENTRIES_MAX: usize = 1_024;
/// Matches that are copied for each shard.
const MATCHES_MAX: usize = 16;
const KEPT_IDS_MAX: usize = 2 * ENTRIES_MAX;
const KEPT_BYTES_MAX: usize = 128 << 10;
/// What a message counts with beside what it holds: its header and its share of the rest.
const MESSAGE_COST: usize = HEADER + size_of::<Entry>() + size_of::<Head>();

#[cfg(test)]
mod tests {
    use whimbrel_session::codec::topic::TopicName;

    use super::*;
    use crate::ShardId;

    fn parts<'a>(topic: &'a TopicName, payload: &'a [u8], sequence: u64) -> MessageParts<'a> {
        MessageParts {
            id: MsgId {
                node: 1,
                incarnation: 2,
                sequence,
            },
            topic,
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at: UnixMillis::NEVER,
            properties: PublishProperties::EMPTY,
            payload,
        }
    }

    #[test]
    fn what_is_said_is_read_in_order_and_unchanged() {
        let [first, second] =
            ["a/b", "c"].map(|name| TopicName::new(name).expect("a valid name").to_owned());
        let owner = ShardId::new(1).expect("a shard");
        let group = GroupId { owner, sequence: 3 };
        let key = SessionKey {
            index: 4,
            generation: 5,
        };
        let member = SessionRef { shard: owner, key };
        let sequence = Position::new(6).expect("not 0");
        let publication = |parts, filters| {
            Said::Publication(Publication {
                parts,
                matches: Matches {
                    filters,
                    groups: &[],
                },
                publisher: Some(member),
                obligation: None,
            })
        };
        let said = [
            publication(parts(&first, b"1", 1), &[FilterId(7), FilterId(8)]),
            Said::Done(Done {
                group,
                sequence,
                member,
                outcome: GroupOutcome::Consumed,
            }),
            publication(parts(&second, b"", 2), &[]),
            Said::Handout(
                parts(&first, b"three", 3),
                Handed {
                    origin: GroupOrigin {
                        group,
                        sequence,
                        queue: None,
                    },
                    member: key,
                    to_connected: true,
                },
            ),
            Said::Stored(Stored {
                obligation: ObligationId::NONE,
                reason: ReasonCode::Success,
            }),
            publication(parts(&second, b"4", 4), &[FilterId(9)]),
        ];
        let mut bundle = Bundle::default();
        for _ in 0..2 {
            let costs: usize = said.iter().map(|said| bundle.push(said)).sum();
            assert_eq!(bundle.cost(), costs);
            let read: Vec<_> = bundle.iter().collect();
            assert_eq!(format!("{read:?}"), format!("{said:?}"));
            bundle.clear();
            assert_eq!((bundle.iter().count(), bundle.cost()), (0, 0));
        }
    }

    #[test]
    fn a_bundle_fills_up() {
        let topic = TopicName::new("t").expect("a valid name");
        let payload = [0; 4_000];
        assert!(Bundle::takes(&parts(topic, &payload, 0), MATCHES_MAX));
        assert!(!Bundle::takes(&parts(topic, &payload, 0), MATCHES_MAX + 1));
        assert!(!Bundle::takes(&parts(topic, &[0; PAYLOAD_SHARE_MIN], 0), 1));
        let mut bundle = Bundle::default();
        let mut count = 0;
        while bundle.has_room() {
            bundle.push(&Said::Publication(Publication {
                parts: parts(topic, &payload, count),
                matches: Matches {
                    filters: &[],
                    groups: &[],
                },
                publisher: None,
                obligation: None,
            }));
            count += 1;
        }
        assert!((20..40).contains(&count), "{count}");
    }
}
