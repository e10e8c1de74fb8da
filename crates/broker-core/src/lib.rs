//! The deterministic core of an MQTT broker: everything it decides, and nothing it waits for.
//!
//! Routing, sessions, retained messages, wills, shared subscriptions and the obligations behind
//! every acknowledgement, for MQTT 3.1, 3.1.1 and 5.0, as state machines without sockets, threads,
//! clock or locks of their own. A runtime polls sockets and timers around it
//! (`whimbrel-broker` with tokio; a simulator in one thread with a seed).
//!
//! # Contract
//!
//! - A [`Shard`] owns the sessions that [`placement`] gives it. All shards of a process share one
//!   [`Index`]. Every call takes the moment and the index as [`Env`].
//! - What a shard asks for comes out as [`Effects`]: messages for other shards, connections to
//!   wake, records for the journal. Bytes for a client are in the connection's output buffer.
//! - The same calls in the same order give the same effects: there is no other input.
//! - Full is a value, never a wait: a connection whose next PUBLISH can't be taken answers
//!   [`InputStatus::Blocked`], and is woken later.
//!
//! # Limits
//!
//! [`CoreLimits`] bounds every queue, table and cache; each drop is counted by [`DropCause`].

mod backlog;
mod bundle;
mod config;
mod effects;
mod holders;
mod ids;
mod index;
mod journal;
mod lazy_box;
mod map;
mod match_cache;
mod message;
mod placement;
mod pump;
mod queue;
mod record;
mod record_image;
mod recovery;
mod shard;
mod stats;
mod time;
mod timers;

pub use whimbrel_session as session;

#[cfg(mutants)]
pub use whimbrel_session::mutants;

pub use crate::config::{ConfigError, CoreConfig, CoreLimits, QueueFull};
pub use crate::effects::{CloseReason, Effects, Event, Forward, LocalOutcome, ShardMessage};
pub use crate::holders::{Holders, HoldersError};
pub use crate::ids::{
    ConnectionKey, FilterId, GroupId, MsgId, SHARDS_MAX, SessionKey, SessionRef, ShardId,
};
pub use crate::index::Index;
pub use crate::journal::{
    Batch, Holder, Journal, JournalError, JournalFigures, Load, Maintenance, Replay, Replayed,
    ShardRecords, StoredMessage,
};
pub use crate::message::{Message, MessageParts};
pub use crate::placement::placement;
pub use crate::pump::{ConnectionPump, Gate, Handshake, OpenGate, assigned_client_id};
pub use crate::record::{
    ExchangeRecord, Form, GroupRecord, Position, QueueId, Record, RetainedChange, SessionRecord,
    SubscriptionRecord, WindowRecord,
};
pub use crate::record_image::RecordError;
pub use crate::recovery::Recovery;
pub use crate::shard::{
    Attach, AuthenticationAnswer, Env, Grants, Inflight, InputStatus, LocalDelivery, LocalPublish,
    LocalSubscribe, Received, Residue, Shard, Verdict,
};
pub use crate::stats::{DropCause, ShardStats};
pub use crate::time::{Now, UnixMillis};
