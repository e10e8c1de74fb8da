//! Judges of what a broker promises across its own death: real processes, real sockets, a real disk.
//!
//! # What it is
//!
//! * [`crash`]: loads a broker, kills it with SIGKILL at a random moment, starts it again on the same directory, and
//!   checks after every round that nothing acknowledged is lost, nothing of QoS 2 comes twice, and everything comes in order.
//! * [`sync_order`]: reads a trace of a broker's system calls and proves that each acknowledgement left after the
//!   `fdatasync` that covers what it promises. A kill leaves the page cache alone, so that [`crash`] can't tell.
//! * [`full_disk`]: the same promises on a disk that fills while the broker runs.
//! * [`figures`]: what all of this costs.
//!
//! # Why its own client
//!
//! It stands on the codec alone. Sessions, packet identifiers and QoS phases of its clients are its own, so that a wrong
//! idea of them in `whimbrel-session` is not found right by the same idea here. The state of its clients outlives the
//! broker, as that of a client that keeps its session on a disk would.
//!
//! # Contract
//!
//! * A broker is a command line with `{port}`, `{dir}` and `{shards}`; any broker will do ([`BrokerCommand`]).
//! * Everything random comes from one seed; what the machine makes of it in time is not repeatable.
//! * Every violation says what, whom, and when it was acknowledged.
#![forbid(unsafe_code)]

pub mod crash;
pub mod figures;
pub mod full_disk;
pub mod sync_order;

mod account;
mod broker;
mod failure;
mod link;
mod message;
mod process;
mod publisher;
mod rng;
mod standing;
mod subscriber;
mod wait;

pub use account::{Account, Violation};
pub use broker::BrokerCommand;
pub use failure::Failure;
