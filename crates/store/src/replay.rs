//! Tells everything that is stored, and brings the ledger up to date with it.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use redb::{ReadTransaction, ReadableTable};
use whimbrel_broker_core::{
    GroupRecord, Holder, JournalError, Position, QueueId, Replayed, SessionRecord,
    SubscriptionRecord, WindowRecord,
};

use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::tables::{
    GROUPS, INBOUND, InboundRow, KNOWN, MESSAGES, MessageRow, RETAINED, RowError, SESSIONS,
    SUBSCRIPTIONS, Table, WINDOWS, number_key, parse_known, parse_retained, split_subscription_key,
    unseal,
};

/// Rows of messages that no queue owes, found by a replay: first and last of each run without an owed one between.
pub(crate) type Orphans = VecDeque<(u64, u64)>;

/// Subscriptions told at once, at most.
const SUBSCRIPTIONS_PER_ITEM: usize = 256;

/// One replay.
pub(crate) struct Replaying<'a> {
    transaction: &'a ReadTransaction,
    ledger: &'a mut Ledger,
    windows: HashMap<QueueId, Window, FixedState>,
    orphans: Orphans,
    /// The highest queue that any row names.
    highest_queue: Option<QueueId>,
    items: u64,
    apply: &'a mut dyn FnMut(Replayed) -> Result<(), JournalError>,
}

/// What a window says of the session's own queue.
struct Window {
    cursor: Position,
    /// Ascending.
    open: Box<[Position]>,
}

impl Window {
    fn of(record: &WindowRecord) -> Self {
        let own = record
            .exchanges
            .iter()
            .filter(|exchange| exchange.group.is_none());
        let mut open: Box<[Position]> = own.filter_map(|exchange| exchange.position).collect();
        open.sort_unstable();
        Self {
            cursor: record.cursor,
            open,
        }
    }

    /// As [`WindowRecord::owes`], for windows of any size.
    fn owes(&self, position: Position) -> bool {
        position >= self.cursor || self.open.binary_search(&position).is_ok()
    }
}

impl<'a> Replaying<'a> {
    pub(crate) fn new(
        transaction: &'a ReadTransaction,
        ledger: &'a mut Ledger,
        apply: &'a mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Self {
        Self {
            transaction,
            ledger,
            windows: HashMap::default(),
            orphans: Orphans::new(),
            highest_queue: None,
            items: 0,
            apply,
        }
    }

    /// Tells all. Answers how many things that were, and which rows nobody needs.
    pub(crate) fn run(mut self) -> Result<(u64, Orphans), Fault> {
        self.groups()?;
        self.sessions()?;
        self.subscriptions()?;
        self.windows()?;
        self.inbound()?;
        self.known()?;
        self.messages()?;
        self.retained()?;
        self.used()?;
        self.ledger.settle();
        Ok((self.items, self.orphans))
    }

    fn tell(&mut self, replayed: Replayed) -> Result<(), Fault> {
        self.items += 1;
        (self.apply)(replayed).map_err(Fault::Journal)
    }

    fn used(&mut self) -> Result<(), Fault> {
        let position = Position::new(self.ledger.highest());
        let queue = self.highest_queue;
        if position.is_some() || queue.is_some() {
            self.tell(Replayed::Used { position, queue })?;
        }
        Ok(())
    }

    fn saw(&mut self, queue: QueueId) {
        self.highest_queue = self.highest_queue.max(Some(queue));
    }

    fn groups(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(GROUPS)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let record = group_of(key.value(), value.value())?;
            self.ledger.begin_queue(record.group, true);
            self.saw(record.group);
            self.tell(Replayed::Group(record))?;
        }
        Ok(())
    }

    fn sessions(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(SESSIONS)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let record = session_of(key.value(), value.value())?;
            self.ledger.begin_queue(record.session, false);
            self.saw(record.session);
            self.tell(Replayed::Session(record))?;
        }
        Ok(())
    }

    fn subscriptions(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(SUBSCRIPTIONS)?;
        let mut gathered: Option<(QueueId, Vec<SubscriptionRecord>)> = None;
        for row in table.iter()? {
            let (key, value) = row?;
            let (session, record) = subscription_of(key.value(), value.value())?;
            self.must_be_a_session(session, Table::Subscriptions, key.value())?;
            match &mut gathered {
                Some((of, subscriptions))
                    if *of == session && subscriptions.len() < SUBSCRIPTIONS_PER_ITEM =>
                {
                    subscriptions.push(record);
                }
                _ => {
                    let next = Some((session, vec![record]));
                    self.tell_subscriptions(std::mem::replace(&mut gathered, next))?;
                }
            }
        }
        self.tell_subscriptions(gathered)
    }

    fn tell_subscriptions(
        &mut self,
        gathered: Option<(QueueId, Vec<SubscriptionRecord>)>,
    ) -> Result<(), Fault> {
        let Some((session, subscriptions)) = gathered else {
            return Ok(());
        };
        self.tell(Replayed::Subscriptions {
            session,
            subscriptions,
        })
    }

    fn windows(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(WINDOWS)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let record = window_of(key.value(), value.value())?;
            let number = number_key(key.value());
            self.must_be_a_session(record.session, Table::Windows, &number)?;
            self.windows.insert(record.session, Window::of(&record));
            self.ledger.has_been_at(record.cursor);
            self.tell(Replayed::Window(record))?;
        }
        Ok(())
    }

    fn must_be_a_session(
        &self,
        session: QueueId,
        table: Table,
        key: &[u8],
    ) -> Result<(), RowError> {
        match self.ledger.queue(session) {
            Some(queue) if !queue.is_group => Ok(()),
            _ => Err(RowError::new(table, key, "there is no such session")),
        }
    }

    fn inbound(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(INBOUND)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let InboundRow {
                session,
                packet_id,
                message,
            } = InboundRow::parse(key.value(), value.value())?;
            self.ledger.hold(message.id(), false);
            self.saw(session);
            self.tell(Replayed::Inbound {
                session,
                packet_id,
                message,
            })?;
        }
        Ok(())
    }

    fn known(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(KNOWN)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let (message, position, mut queues) = parse_known(key.value(), value.value())?;
            if !self.ledger.is_held(message) {
                let fault = "the message is released";
                return Err(RowError::new(Table::Known, key.value(), fault).into());
            }
            self.ledger.hold(message, true);
            self.ledger.has_been_at(position);
            queues.iter().for_each(|&queue| self.saw(queue));
            queues.retain(|&queue| self.ledger.queue(queue).is_some());
            if !queues.is_empty() {
                self.tell(Replayed::Known { message, queues })?;
            }
        }
        Ok(())
    }

    fn messages(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(MESSAGES)?;
        let mut last_is_orphan = false;
        for row in table.iter()? {
            let (key, value) = row?;
            let number = key.value();
            let position = Position::new(number).ok_or_else(|| {
                RowError::new(Table::Messages, &number_key(number), "there is no place 0")
            })?;
            let parsed = MessageRow::parse(number, value.value())?;
            let holders = parsed.holders(number)?;
            let is_owed = holders
                .iter()
                .any(|holder| self.owes(holder.queue, position));
            self.ledger.has_been_at(position);
            holders.iter().for_each(|holder| self.saw(holder.queue));
            if is_owed {
                last_is_orphan = false;
                let mut done: Vec<QueueId> = holders
                    .iter()
                    .map(|holder| holder.queue)
                    .filter(|&queue| !self.owes(queue, position))
                    .collect();
                done.sort_unstable();
                self.ledger.enqueue(position, &holders, |queue| {
                    done.binary_search(&queue).is_ok()
                });
                self.ledger.settle();
            } else {
                match self.orphans.back_mut() {
                    Some((_, last)) if last_is_orphan => *last = number,
                    _ => self.orphans.push_back((number, number)),
                }
                last_is_orphan = true;
            }
            let message = parsed.message(number)?;
            // One that is not released is told all the same: who had it must not get it again.
            if is_owed || self.ledger.is_held(message.id()) {
                let holders: Vec<Holder> = holders
                    .iter()
                    .filter(|holder| self.ledger.queue(holder.queue).is_some())
                    .collect();
                if !holders.is_empty() {
                    self.tell(Replayed::Message {
                        position,
                        message,
                        holders,
                    })?;
                }
            }
        }
        Ok(())
    }

    fn owes(&self, queue: QueueId, position: Position) -> bool {
        owes(self.ledger, &self.windows, queue, position)
    }

    fn retained(&mut self) -> Result<(), Fault> {
        let table = self.transaction.open_table(RETAINED)?;
        for row in table.iter()? {
            let (key, value) = row?;
            let message = parse_retained(key.value(), value.value())?;
            self.tell(Replayed::Retained(message))?;
        }
        Ok(())
    }
}

/// Whether a queue that was recorded as a holder owes the message.
fn owes(
    ledger: &Ledger,
    windows: &HashMap<QueueId, Window, FixedState>,
    queue: QueueId,
    position: Position,
) -> bool {
    match ledger.queue(queue) {
        None => false,
        Some(queue) if queue.is_group => true,
        Some(_) => windows
            .get(&queue)
            .is_none_or(|window| window.owes(position)),
    }
}

/// A row of `groups`.
pub(crate) fn group_of(key: u64, value: &[u8]) -> Result<GroupRecord, RowError> {
    let record = numbered(Table::Groups, key, value, GroupRecord::decode)?;
    same_queue(Table::Groups, key, record.group)?;
    Ok(record)
}

/// A row of `sessions`.
pub(crate) fn session_of(key: u64, value: &[u8]) -> Result<SessionRecord, RowError> {
    let record = numbered(Table::Sessions, key, value, SessionRecord::decode)?;
    same_queue(Table::Sessions, key, record.session)?;
    Ok(record)
}

/// A row of `windows`.
pub(crate) fn window_of(key: u64, value: &[u8]) -> Result<WindowRecord, RowError> {
    let record = numbered(Table::Windows, key, value, WindowRecord::decode)?;
    same_queue(Table::Windows, key, record.session)?;
    Ok(record)
}

fn numbered<T, E: std::fmt::Display>(
    table: Table,
    key: u64,
    value: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, RowError> {
    let key = number_key(key);
    let rest = unseal(table, &key, value)?;
    decode(rest).map_err(|error| RowError::new(table, &key, error))
}

fn same_queue(table: Table, key: u64, queue: QueueId) -> Result<(), RowError> {
    if key == queue.get() {
        return Ok(());
    }
    let fault = "the key is not the queue of the value";
    Err(RowError::new(table, &number_key(key), fault))
}

/// A row of `subscriptions`.
pub(crate) fn subscription_of(
    key: &[u8],
    value: &[u8],
) -> Result<(QueueId, SubscriptionRecord), RowError> {
    let rest = unseal(Table::Subscriptions, key, value)?;
    let record = SubscriptionRecord::decode(rest)
        .map_err(|error| RowError::new(Table::Subscriptions, key, error))?;
    match split_subscription_key(key) {
        Some((session, filter)) if filter == record.filter.as_bytes() => Ok((session, record)),
        _ => {
            let fault = "the key is not that of the value";
            Err(RowError::new(Table::Subscriptions, key, fault))
        }
    }
}
