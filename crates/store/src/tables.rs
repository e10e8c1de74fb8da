//! The tables of the database: keys, values, and the checksum that each value begins with.

use std::fmt;

use bytes::Bytes;
use redb::TableDefinition;
use whimbrel_broker_core::{Holders, Message, MsgId, Position, QueueId};

/// Keys are bytes wherever redb would otherwise have to check them for UTF-8: a damaged key is an error, not a panic.
pub(crate) type BytesTable = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(crate) type NumberTable = TableDefinition<'static, u64, &'static [u8]>;

pub(crate) const META: BytesTable = TableDefinition::new("meta");
pub(crate) const SESSIONS: NumberTable = TableDefinition::new("sessions");
pub(crate) const GROUPS: NumberTable = TableDefinition::new("groups");
pub(crate) const SUBSCRIPTIONS: BytesTable = TableDefinition::new("subscriptions");
pub(crate) const WINDOWS: NumberTable = TableDefinition::new("windows");
pub(crate) const MESSAGES: NumberTable = TableDefinition::new("messages");
pub(crate) const INBOUND: BytesTable = TableDefinition::new("inbound");
pub(crate) const KNOWN: BytesTable = TableDefinition::new("known");
pub(crate) const RETAINED: BytesTable = TableDefinition::new("retained");

pub(crate) const META_FORMAT: &[u8] = b"format";
pub(crate) const META_INCARNATION: &[u8] = b"incarnation";

/// A table, for messages to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// Format and incarnation.
    Meta,
    /// Shared subscriptions.
    Groups,
    /// Sessions.
    Sessions,
    /// Subscriptions of sessions.
    Subscriptions,
    /// Open exchanges of sessions.
    Windows,
    /// Messages taken over from their publishers.
    Inbound,
    /// Who had messages that are not released.
    Known,
    /// Queued messages.
    Messages,
    /// Retained messages.
    Retained,
}

impl Table {
    /// All of them, in the order of a replay.
    pub const ALL: [Self; 9] = [
        Self::Meta,
        Self::Groups,
        Self::Sessions,
        Self::Subscriptions,
        Self::Windows,
        Self::Inbound,
        Self::Known,
        Self::Messages,
        Self::Retained,
    ];

    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Groups => "groups",
            Self::Sessions => "sessions",
            Self::Subscriptions => "subscriptions",
            Self::Windows => "windows",
            Self::Inbound => "inbound",
            Self::Known => "known",
            Self::Messages => "messages",
            Self::Retained => "retained",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowError {
    pub(crate) table: Table,
    /// The key in hexadecimal digits, cut where it is long.
    pub(crate) key: String,
    pub(crate) fault: String,
}

impl RowError {
    pub(crate) fn new(table: Table, key: &[u8], fault: impl fmt::Display) -> Self {
        const KEY_BYTES_SHOWN: usize = 64;
        let mut text = String::new();
        for byte in key.iter().take(KEY_BYTES_SHOWN) {
            text.push_str(&format!("{byte:02x}"));
        }
        if key.len() > KEY_BYTES_SHOWN {
            text.push_str("...");
        }
        Self {
            table,
            key: text,
            fault: fault.to_string(),
        }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, fault } = self;
        write!(f, "table {table}, key {key}: {fault}")
    }
}

/// Bytes of the checksum that a value begins with: CRC-32 of the key and of the rest of the value.
pub(crate) const CHECKSUM: usize = 4;

/// Writes the checksum into the first bytes of `value`, whose rest is there.
pub(crate) fn seal(key: &[u8], value: &mut [u8]) {
    if let Some((checksum, rest)) = value.split_first_chunk_mut::<CHECKSUM>() {
        *checksum = crc(key, rest);
    }
}

fn crc(key: &[u8], rest: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize().to_le_bytes()
}

/// The value behind its checksum.
pub(crate) fn unseal<'a>(table: Table, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], RowError> {
    match value.split_first_chunk::<CHECKSUM>() {
        Some((checksum, rest)) if *checksum == crc(key, rest) => Ok(rest),
        Some(_) => Err(RowError::new(table, key, "the checksum does not hold")),
        None => Err(RowError::new(table, key, "the value is too short")),
    }
}

/// Values are put together here, in memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct ValueBuffer(Vec<u8>);

impl ValueBuffer {
    /// The value that `write` appends, sealed for `key`.
    pub(crate) fn value(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.0.clear();
        self.0.extend_from_slice(&[0; CHECKSUM]);
        write(&mut self.0);
        seal(key, &mut self.0);
        &self.0
    }
}

/// The bytes of a number that are checked with its value: those that redb stores.
pub(crate) fn number_key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// Sorts by queue, then by filter.
pub(crate) fn subscription_key(session: QueueId, filter: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&session.get().to_be_bytes());
    key.extend_from_slice(filter);
}

/// The bounds of a session's subscriptions: from the first, to before the second.
pub(crate) fn subscription_bounds(session: QueueId) -> ([u8; 8], [u8; 8]) {
    let number = session.get();
    // Queue numbers are below 2^62.
    (number.to_be_bytes(), number.saturating_add(1).to_be_bytes())
}

pub(crate) fn split_subscription_key(key: &[u8]) -> Option<(QueueId, &[u8])> {
    let (session, filter) = key.split_first_chunk::<8>()?;
    Some((QueueId::new(u64::from_be_bytes(*session))?, filter))
}

/// Sorts by node, incarnation and sequence: the order in which messages are routed again.
pub(crate) fn inbound_key(id: MsgId) -> [u8; 14] {
    let mut key = [0; 14];
    key[..2].copy_from_slice(&id.node.to_be_bytes());
    key[2..6].copy_from_slice(&id.incarnation.to_be_bytes());
    key[6..].copy_from_slice(&id.sequence.to_be_bytes());
    key
}

pub(crate) fn split_inbound_key(key: &[u8]) -> Option<MsgId> {
    let (node, rest) = key.split_first_chunk::<2>()?;
    let (incarnation, rest) = rest.split_first_chunk::<4>()?;
    let sequence: &[u8; 8] = rest.try_into().ok()?;
    Some(MsgId {
        node: u16::from_be_bytes(*node),
        incarnation: u32::from_be_bytes(*incarnation),
        sequence: u64::from_be_bytes(*sequence),
    })
}

pub(crate) fn known_key(id: MsgId, position: Position) -> [u8; 22] {
    let mut key = [0; 22];
    key[..14].copy_from_slice(&inbound_key(id));
    key[14..].copy_from_slice(&position.get().to_be_bytes());
    key
}

/// The bounds of the rows of one message, both included.
pub(crate) fn known_bounds(id: MsgId) -> ([u8; 14], [u8; 22]) {
    let first = inbound_key(id);
    let mut last = [0xff; 22];
    last[..14].copy_from_slice(&first);
    (first, last)
}

pub(crate) fn split_known_key(key: &[u8]) -> Option<(MsgId, Position)> {
    let (id, position) = key.split_first_chunk::<14>()?;
    let position: &[u8; 8] = position.try_into().ok()?;
    let position = Position::new(u64::from_be_bytes(*position))?;
    Some((split_inbound_key(id)?, position))
}

/// `holders length (4 bytes), holders, message image`
pub(crate) fn put_message(out: &mut Vec<u8>, holders: &Holders, message: &Message) {
    let holders = holders.as_bytes();
    // A record has at most some thousand holders.
    let length = u32::try_from(holders.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(holders);
    out.extend_from_slice(message.as_image());
}

/// A row of `messages`, not yet copied out of its page.
pub(crate) struct MessageRow<'a> {
    pub(crate) holders: &'a [u8],
    pub(crate) image: &'a [u8],
}

impl<'a> MessageRow<'a> {
    pub(crate) fn parse(position: u64, value: &'a [u8]) -> Result<Self, RowError> {
        let key = number_key(position);
        let rest = unseal(Table::Messages, &key, value)?;
        let split = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        let (holders, image) =
            split.ok_or_else(|| RowError::new(Table::Messages, &key, "the value is too short"))?;
        Ok(Self { holders, image })
    }

    pub(crate) fn holders(&self, position: u64) -> Result<Holders, RowError> {
        Holders::from_bytes(Bytes::copy_from_slice(self.holders))
            .map_err(|error| RowError::new(Table::Messages, &number_key(position), error))
    }

    pub(crate) fn message(&self, position: u64) -> Result<Message, RowError> {
        Message::from_image(self.image)
            .map_err(|error| RowError::new(Table::Messages, &number_key(position), error))
    }
}

/// `queue (8 bytes), packet identifier (2 bytes), message image`
pub(crate) fn put_inbound(out: &mut Vec<u8>, session: QueueId, packet_id: u16, message: &Message) {
    out.extend_from_slice(&session.get().to_le_bytes());
    out.extend_from_slice(&packet_id.to_le_bytes());
    out.extend_from_slice(message.as_image());
}

/// A row of `inbound`.
pub(crate) struct InboundRow {
    pub(crate) session: QueueId,
    pub(crate) packet_id: u16,
    pub(crate) message: Message,
}

impl InboundRow {
    pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<Self, RowError> {
        let fault = |fault: &dyn fmt::Display| RowError::new(Table::Inbound, key, fault);
        let rest = unseal(Table::Inbound, key, value)?;
        let short = || fault(&"the value is too short");
        let (session, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (packet_id, image) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        let session = QueueId::new(u64::from_le_bytes(*session))
            .ok_or_else(|| fault(&"there is no queue 0"))?;
        let message = Message::from_image(image).map_err(|error| fault(&error))?;
        if split_inbound_key(key) != Some(message.id()) {
            return Err(fault(&"the key is not that of the message"));
        }
        Ok(Self {
            session,
            packet_id: u16::from_le_bytes(*packet_id),
            message,
        })
    }
}

/// `queue (8 bytes) ...`
pub(crate) fn put_known(out: &mut Vec<u8>, queues: impl Iterator<Item = QueueId>) {
    for queue in queues {
        out.extend_from_slice(&queue.get().to_le_bytes());
    }
}

pub(crate) fn parse_known(
    key: &[u8],
    value: &[u8],
) -> Result<(MsgId, Position, Vec<QueueId>), RowError> {
    let fault = |fault: &str| RowError::new(Table::Known, key, fault);
    let rest = unseal(Table::Known, key, value)?;
    let (id, position) =
        split_known_key(key).ok_or_else(|| fault("the key is not one of a message"))?;
    let (queues, []) = rest.as_chunks::<8>() else {
        return Err(fault("the value is not made of queues"));
    };
    let queues = queues
        .iter()
        .map(|queue| QueueId::new(u64::from_le_bytes(*queue)))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| fault("there is no queue 0"))?;
    Ok((id, position, queues))
}

/// A row of `retained`: its key is the topic.
pub(crate) fn parse_retained(key: &[u8], value: &[u8]) -> Result<Message, RowError> {
    let rest = unseal(Table::Retained, key, value)?;
    let message =
        Message::from_image(rest).map_err(|error| RowError::new(Table::Retained, key, error))?;
    if message.topic().as_bytes() != key {
        let fault = "the key is not the topic of the message";
        return Err(RowError::new(Table::Retained, key, fault));
    }
    Ok(message)
}
