//! [`stats`]: what is in a store.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use whimbrel_broker_core::QueueId;

use super::survey::Survey;
use super::{OnProgress, ToolError};
use crate::row::Row;
use crate::tables::{META_FORMAT, META_INCARNATION, Table};

/// The most queues that [`StoreStats::longest_queues`] names.
const QUEUES_NAMED_MAX: usize = 10;

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// The format.
    pub format: u32,
    /// How often the store was opened.
    pub incarnation: u32,
    /// Bytes of the database file.
    pub file_bytes: u64,
    /// Each table.
    pub tables: BTreeMap<Table, TableStats>,
    /// Sessions that had a connection when the broker stopped.
    pub sessions_connected: u64,
    /// Sessions with a will that is still to be published.
    pub wills: u64,
    /// The queues that were recorded as holders of the most messages: the longest first. Some of the messages may be
    /// done with; a start finds out.
    pub longest_queues: Vec<QueueStats>,
}

/// What is in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// Its rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// How much a queue holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The queue's number.
    pub queue: u64,
    /// The client id, or the share name and filter as in a SUBSCRIBE.
    pub name: String,
    /// Messages.
    pub messages: u64,
    /// Bytes of their images.
    pub bytes: u64,
}

/// Counts what is in a store.
///
/// # Errors
///
/// [`ToolError`] where there is no store, another process has it, or it is damaged.
pub fn stats(directory: &Path, progress: OnProgress<'_>) -> Result<StoreStats, ToolError> {
    let survey = Survey::of_directory(directory)?;
    let mut stats = StoreStats {
        file_bytes: survey.file_bytes(),
        ..StoreStats::default()
    };
    let mut queues: HashMap<QueueId, QueueStats> = HashMap::new();
    survey.visit_sound(progress, &mut |row, bytes| {
        let table = stats.tables.entry(row.table()).or_default();
        table.rows += 1;
        table.bytes += bytes as u64;
        match row {
            Row::Meta { name, number } => match &*name {
                META_FORMAT => stats.format = number,
                META_INCARNATION => stats.incarnation = number,
                _ => {}
            },
            Row::Session(session) => {
                stats.sessions_connected += u64::from(session.disconnected_at.is_none());
                stats.wills += u64::from(session.will.is_some());
                let queue = queues.entry(session.session).or_default();
                queue.name = session.client_id.to_string();
            }
            Row::Group(group) => {
                let queue = queues.entry(group.group).or_default();
                queue.name = format!("$share/{}/{}", group.share, group.filter);
            }
            Row::Message {
                holders, message, ..
            } => {
                for holder in holders.iter() {
                    // Queues that ended have no name, and their messages are on their way out.
                    if let Some(queue) = queues.get_mut(&holder.queue) {
                        queue.messages += 1;
                        queue.bytes += message.size() as u64;
                    }
                }
            }
            _ => {}
        }
    })?;
    let mut longest: Vec<QueueStats> = queues
        .into_iter()
        .filter(|(_, queue)| queue.messages > 0)
        .map(|(id, queue)| QueueStats {
            queue: id.get(),
            ..queue
        })
        .collect();
    longest.sort_by_key(|queue| (std::cmp::Reverse(queue.messages), queue.queue));
    longest.truncate(QUEUES_NAMED_MAX);
    stats.longest_queues = longest;
    Ok(stats)
}
