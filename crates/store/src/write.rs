//! From records to changes of tables.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTable, Table, WriteTransaction};
use whimbrel_broker_core::{
    Batch, Holders, MsgId, Position, QueueId, Record, RetainedChange, SubscriptionRecord,
    WindowRecord,
};

use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::plan::{Insert, Plan, Removal};
use crate::tables::{
    GROUPS, INBOUND, KNOWN, MESSAGES, MessageRow, RETAINED, SESSIONS, SUBSCRIPTIONS, ValueBuffer,
    WINDOWS, inbound_key, known_bounds, known_key, number_key, put_inbound, put_known, put_message,
    subscription_bounds, subscription_key,
};

type NumberRows<'t> = Table<'t, u64, &'static [u8]>;

/// Writes all of a batch.
pub(crate) fn write_batch(
    transaction: &WriteTransaction,
    batch: &Batch,
    ledger: &mut Ledger,
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    let plan = Plan::of(&batch.records, ledger);
    write_records(transaction, &batch.records, ledger, buffer)?;
    write_messages(transaction, &plan, ledger, buffer)?;
    write_retained(transaction, &batch.retained, buffer)
}

fn write_records(
    transaction: &WriteTransaction,
    records: &[Record],
    ledger: &Ledger,
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    // Of each session the last one counts.
    let mut windows: BTreeMap<QueueId, &WindowRecord> = BTreeMap::new();
    for record in records {
        match record {
            Record::Enqueued { .. } | Record::Done { .. } | Record::Retained => {}
            Record::Window(window) => {
                windows.insert(window.session, window);
            }
            Record::Session(session) => {
                let key = session.session.get();
                let value = buffer.value(&number_key(key), |out| session.encode(out));
                transaction.open_table(SESSIONS)?.insert(key, value)?;
            }
            Record::SessionEnded { session } => end_session(transaction, *session)?,
            Record::Subscribed {
                session,
                subscriptions,
            } if ledger.queue(*session).is_some() => {
                subscribe(transaction, *session, subscriptions, buffer)?;
            }
            // The session ends in the same batch.
            Record::Subscribed { .. } => {}
            Record::Unsubscribed { session, filters } => {
                let mut table = transaction.open_table(SUBSCRIPTIONS)?;
                let mut key = Vec::new();
                for filter in filters {
                    subscription_key(*session, filter.as_bytes(), &mut key);
                    table.remove(&*key)?;
                }
            }
            Record::Group(group) => {
                let key = group.group.get();
                let value = buffer.value(&number_key(key), |out| group.encode(out));
                transaction.open_table(GROUPS)?.insert(key, value)?;
            }
            Record::GroupEnded { group } => {
                transaction.open_table(GROUPS)?.remove(group.get())?;
            }
            Record::InboundStored {
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
            Record::InboundReleased { message, .. } => {
                let key = inbound_key(*message);
                transaction.open_table(INBOUND)?.remove(&key[..])?;
            }
            other => {
                return Err(Fault::Journal(crate::fault::failed(UnknownRecord(
                    format!("{other:?}"),
                ))));
            }
        }
    }
    // A window of a session that ended would be a row that can't be.
    windows.retain(|&session, _| ledger.queue(session).is_some());
    if !windows.is_empty() {
        let mut table = transaction.open_table(WINDOWS)?;
        for (session, window) in windows {
            let key = session.get();
            let value = buffer.value(&number_key(key), |out| window.encode(out));
            table.insert(key, value)?;
        }
    }
    Ok(())
}

/// A record of a kind that this store was not built for.
#[derive(Debug, thiserror::Error)]
#[error("the store does not know this record: {0}")]
struct UnknownRecord(String);

fn end_session(transaction: &WriteTransaction, session: QueueId) -> Result<(), Fault> {
    transaction.open_table(SESSIONS)?.remove(session.get())?;
    transaction.open_table(WINDOWS)?.remove(session.get())?;
    let (first, end) = subscription_bounds(session);
    let mut table = transaction.open_table(SUBSCRIPTIONS)?;
    table.retain_in(&first[..]..&end[..], |_, _| false)?;
    Ok(())
}

fn subscribe(
    transaction: &WriteTransaction,
    session: QueueId,
    subscriptions: &[SubscriptionRecord],
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    let mut table = transaction.open_table(SUBSCRIPTIONS)?;
    let mut key = Vec::new();
    for subscription in subscriptions {
        subscription_key(session, subscription.filter.as_bytes(), &mut key);
        let value = buffer.value(&key, |out| subscription.encode(out));
        table.insert(&*key, value)?;
    }
    Ok(())
}

fn write_messages(
    transaction: &WriteTransaction,
    plan: &Plan<'_>,
    ledger: &mut Ledger,
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    for (id, position, holders) in &plan.known {
        write_known(transaction, *id, *position, holders, ledger, buffer)?;
    }
    if !plan.released.is_empty() {
        let mut table = transaction.open_table(KNOWN)?;
        for id in &plan.released {
            let (first, last) = known_bounds(*id);
            table.retain_in(&first[..]..=&last[..], |_, _| false)?;
        }
    }
    if plan.inserts.is_empty() && plan.removals.is_empty() && plan.rewrites.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(MESSAGES)?;
    insert_messages(&mut table, &plan.inserts, buffer)?;
    for position in &plan.rewrites {
        rewrite(&mut table, *position, ledger, buffer)?;
    }
    remove_messages(transaction, &mut table, &plan.removals, ledger, buffer)
}

/// Inserts rows by ascending position, through a cursor as long as they have no rows between them.
fn insert_messages(
    table: &mut NumberRows<'_>,
    inserts: &[Insert<'_>],
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    let mut rest = inserts.iter();
    while let [first, ..] = rest.as_slice() {
        let mut cursor = table.upper_bound_mut(Bound::Excluded(first.position.get()))?;
        let mut inserted = 0;
        for insert in rest.clone() {
            match cursor.insert_before(insert.position.get(), insert.value(buffer)) {
                Ok(()) => inserted += 1,
                Err(redb::CursorError::UnorderedKey) => break,
                Err(error) => return Err(error.into()),
            }
        }
        cursor.close()?;
        if inserted == 0 {
            // It is there already: a batch that was committed, and is committed again.
            table.insert(first.position.get(), first.value(buffer))?;
            inserted = 1;
        }
        rest = rest.as_slice().get(inserted..).unwrap_or_default().iter();
    }
    Ok(())
}

impl Insert<'_> {
    fn value<'b>(&self, buffer: &'b mut ValueBuffer) -> &'b [u8] {
        buffer.value(&number_key(self.position.get()), |out| {
            put_message(out, self.holders, self.message);
        })
    }
}

/// Leaves out the holders that are done, if they are shared subscriptions: they have no window that says so.
fn rewrite(
    table: &mut NumberRows<'_>,
    position: Position,
    ledger: &Ledger,
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    let key = position.get();
    let Some(row) = table.get(key)? else {
        return Ok(());
    };
    let parsed = MessageRow::parse(key, row.value())?;
    let (holders, message) = (parsed.holders(key)?, parsed.message(key)?);
    drop(row);
    let left: Vec<_> = holders
        .iter()
        .filter(|holder| {
            let is_group = ledger
                .queue(holder.queue)
                .is_some_and(|queue| queue.is_group);
            !(is_group && ledger.is_done(position, holder.queue))
        })
        .collect();
    let value = buffer.value(&number_key(key), |out| {
        put_message(out, &Holders::of(&left), &message);
    });
    table.insert(key, value)?;
    Ok(())
}

/// Removes rows. Of messages that are not released it stays known who had them.
pub(crate) fn remove_messages(
    transaction: &WriteTransaction,
    table: &mut NumberRows<'_>,
    removals: &[Removal],
    ledger: &mut Ledger,
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    for removal in removals {
        let position = removal.position;
        let key = position.get();
        let Some(row) = table.remove(key)? else {
            // Done with before.
            continue;
        };
        if removal.only_of.is_none() && !ledger.holds_any() {
            continue;
        }
        let parsed = MessageRow::parse(key, row.value())?;
        let holders = parsed.holders(key)?;
        if let Some(queue) = removal.only_of {
            let mut queues = holders.iter().map(|holder| holder.queue);
            if queues.next() != Some(queue) || queues.next().is_some() {
                // It is somebody else's.
                let value = row.value().to_vec();
                drop(row);
                table.insert(key, &*value)?;
                continue;
            }
            ledger.done_alone(queue);
        }
        if ledger.holds_any() {
            let id = parsed.message(key)?.id();
            if ledger.is_held(id) {
                write_known(transaction, id, position, &holders, ledger, buffer)?;
            }
        }
    }
    Ok(())
}

fn write_known(
    transaction: &WriteTransaction,
    id: MsgId,
    position: Position,
    holders: &Holders,
    ledger: &mut Ledger,
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    let key = known_key(id, position);
    let value = buffer.value(&key, |out| {
        put_known(out, holders.iter().map(|holder| holder.queue));
    });
    transaction.open_table(KNOWN)?.insert(&key[..], value)?;
    ledger.hold(id, true);
    Ok(())
}

fn write_retained(
    transaction: &WriteTransaction,
    changes: &[RetainedChange],
    buffer: &mut ValueBuffer,
) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(RETAINED)?;
    for change in changes {
        match change {
            RetainedChange::Set(message) => {
                let key = message.topic().as_bytes();
                let value = buffer.value(key, |out| out.extend_from_slice(message.as_image()));
                table.insert(key, value)?;
            }
            RetainedChange::Deleted { topic } => {
                table.remove(topic.as_bytes())?;
            }
        }
    }
    Ok(())
}
