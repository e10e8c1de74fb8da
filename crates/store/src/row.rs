//! [`Row`]: one row of any table, as a value.

use redb::WriteTransaction;
use whimbrel_broker_core::{
    GroupRecord, Holders, Message, MsgId, Position, QueueId, SessionRecord, SubscriptionRecord,
    WindowRecord,
};

use crate::fault::Fault;
use crate::format::number_of;
use crate::replay::{group_of, session_of, subscription_of, window_of};
use crate::tables::{
    GROUPS, INBOUND, InboundRow, KNOWN, MESSAGES, META, MessageRow, RETAINED, RowError, SESSIONS,
    SUBSCRIPTIONS, Table, ValueBuffer, WINDOWS, inbound_key, known_key, number_key, parse_known,
    parse_retained, put_inbound, put_known, put_message, subscription_key,
};

/// A row, checked.
#[derive(Debug)]
pub(crate) enum Row {
    Meta {
        name: Vec<u8>,
        number: u32,
    },
    Group(GroupRecord),
    Session(SessionRecord),
    Subscription {
        session: QueueId,
        subscription: SubscriptionRecord,
    },
    Window(WindowRecord),
    Inbound {
        session: QueueId,
        packet_id: u16,
        message: Message,
    },
    Known {
        message: MsgId,
        position: Position,
        queues: Vec<QueueId>,
    },
    Message {
        position: Position,
        holders: Holders,
        message: Message,
    },
    Retained(Message),
}

impl Row {
    /// The table it is in.
    pub(crate) fn table(&self) -> Table {
        match self {
            Self::Meta { .. } => Table::Meta,
            Self::Group(_) => Table::Groups,
            Self::Session(_) => Table::Sessions,
            Self::Subscription { .. } => Table::Subscriptions,
            Self::Window(_) => Table::Windows,
            Self::Inbound { .. } => Table::Inbound,
            Self::Known { .. } => Table::Known,
            Self::Message { .. } => Table::Messages,
            Self::Retained(_) => Table::Retained,
        }
    }

    /// Reads a row from the bytes that redb keeps of it.
    pub(crate) fn parse(table: Table, key: &[u8], value: &[u8]) -> Result<Self, RowError> {
        let number = || {
            let number = key.try_into().map(u64::from_le_bytes);
            number.map_err(|_| RowError::new(table, key, "the key is no number"))
        };
        Ok(match table {
            Table::Meta => Self::Meta {
                name: key.to_vec(),
                number: number_of(key, value)?,
            },
            Table::Groups => Self::Group(group_of(number()?, value)?),
            Table::Sessions => Self::Session(session_of(number()?, value)?),
            Table::Subscriptions => {
                let (session, subscription) = subscription_of(key, value)?;
                Self::Subscription {
                    session,
                    subscription,
                }
            }
            Table::Windows => Self::Window(window_of(number()?, value)?),
            Table::Inbound => {
                let row = InboundRow::parse(key, value)?;
                Self::Inbound {
                    session: row.session,
                    packet_id: row.packet_id,
                    message: row.message,
                }
            }
            Table::Known => {
                let (message, position, queues) = parse_known(key, value)?;
                Self::Known {
                    message,
                    position,
                    queues,
                }
            }
            Table::Messages => {
                let number = number()?;
                let row = MessageRow::parse(number, value)?;
                let position = Position::new(number)
                    .ok_or_else(|| RowError::new(table, key, "there is no place 0"))?;
                Self::Message {
                    position,
                    holders: row.holders(number)?,
                    message: row.message(number)?,
                }
            }
            Table::Retained => Self::Retained(parse_retained(key, value)?),
        })
    }

    /// Writes the row.
    pub(crate) fn write(
        &self,
        transaction: &WriteTransaction,
        buffer: &mut ValueBuffer,
    ) -> Result<(), Fault> {
        match self {
            Self::Meta { name, number } => {
                let value = buffer.value(name, |out| out.extend_from_slice(&number.to_le_bytes()));
                transaction.open_table(META)?.insert(&**name, value)?;
            }
            Self::Group(group) => {
                let key = group.group.get();
                let value = buffer.value(&number_key(key), |out| group.encode(out));
                transaction.open_table(GROUPS)?.insert(key, value)?;
            }
            Self::Session(session) => {
                let key = session.session.get();
                let value = buffer.value(&number_key(key), |out| session.encode(out));
                transaction.open_table(SESSIONS)?.insert(key, value)?;
            }
            Self::Subscription {
                session,
                subscription,
            } => {
                let mut key = Vec::new();
                subscription_key(*session, subscription.filter.as_bytes(), &mut key);
                let value = buffer.value(&key, |out| subscription.encode(out));
                transaction
                    .open_table(SUBSCRIPTIONS)?
                    .insert(&*key, value)?;
            }
            Self::Window(window) => {
                let key = window.session.get();
                let value = buffer.value(&number_key(key), |out| window.encode(out));
                transaction.open_table(WINDOWS)?.insert(key, value)?;
            }
            Self::Inbound {
                session,
                packet_id,
                message,
            } => {
                let key = inbound_key(message.id());
                let value = buffer.value(&key, |out| {
                    put_inbound(out, *session, *packet_id, message);
                });
                transaction.open_table(INBOUND)?.insert(&key[..], value)?;
            }
            Self::Known {
                message,
                position,
                queues,
            } => {
                let key = known_key(*message, *position);
                let value = buffer.value(&key, |out| put_known(out, queues.iter().copied()));
                transaction.open_table(KNOWN)?.insert(&key[..], value)?;
            }
            Self::Message {
                position,
                holders,
                message,
            } => {
                let key = position.get();
                let value = buffer.value(&number_key(key), |out| {
                    put_message(out, holders, message);
                });
                transaction.open_table(MESSAGES)?.insert(key, value)?;
            }
            Self::Retained(message) => {
                let key = message.topic().as_bytes();
                let value = buffer.value(key, |out| out.extend_from_slice(message.as_image()));
                transaction.open_table(RETAINED)?.insert(key, value)?;
            }
        }
        Ok(())
    }
}
