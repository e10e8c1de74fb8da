//! Exhaustive exploration at small scope: every order of events, not a sample.
//!
//! Two clients, two messages, and production code: the session crate's client, and the pumps, shards and
//! index of the broker core, or the session crate's server alone. Whatever may happen next is a step that
//! the exploration chooses: a packet arrives, an application acknowledges, a record is committed, a message
//! reaches another shard, a connection is lost, the broker crashes. It takes every step in every state it can
//! reach, and asks in each state whether a rule is broken, and where nothing is left to happen, whether all
//! that was promised is there and nothing is held back. `docs/simulation-exhaustive.md` says what that
//! shows and what it does not.
//!
//! # What makes the orders fewer
//!
//! - What a shard writes for a client is put on the link within the step that wrote it. It would only
//!   have waited in one more place: a link keeps packets as long as it likes, and loses them, as an output
//!   buffer does, and no buffer here is ever full.
//! - Being lost and connecting again are one step: a CONNECT that was sent and has not arrived is, to all
//!   others, a client that has not come back.
//! - A credit between shards is taken as soon as it is first in its queue, in scopes where no window is
//!   ever used up; see `Credits`.
//! - No time passes, so no timer fires.
//!
//! Two orders that lead to one state are followed from there once. A state is told by all that decides
//! its future ([`model::StateText`]): where that is in doubt, it is in.

mod broker;
mod client;
mod command;
mod explore;
mod model;
mod packet;
mod pair;
mod peer;
mod promises;
mod scope;
mod server;
mod watch;
mod world;

pub use self::command::exhaustive;
pub use self::explore::{Exploration, Violation};
pub use self::scope::{Plant, Scope, Suite};
