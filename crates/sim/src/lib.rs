//! Deterministic simulation of the broker core, with an oracle.
//!
//! One thread and one seed: the production pumps, shards and index, clients made of the session
//! crate's own client, links that cut, delay and lose bytes, and a journal that commits late. The
//! oracle knows the standard and what was seen on the links, and nothing of how the core works.
//!
//! ```
//! use whimbrel_sim::{Options, run};
//!
//! let options = Options::new(7, 300);
//! let outcome = run(&options);
//! assert_eq!(outcome.finding, None);
//! assert_eq!(outcome.hash, run(&options).hash, "one seed, one run");
//! ```
//!
//! Beside the sample of seeds there are worlds so small that every order of events is taken in them: see
//! [`Scope`], and [`exhaustive`] for the command line.
//!
//! # Contract
//!
//! - A run is a function of its seed and number of steps: same code, same trace hash.
//! - A panic of the core is a finding like any other.
//! - After the steps of a run faults stop; then everything that was promised has to be there, and
//!   when all sessions have ended, nothing else may be.
//!
//! - A broker with a journal that dies starts again from it, and owes what it owed.
//!
//! # Limits
//!
//! No enhanced authentication, and no hooks that replace messages.

mod changes;
mod client;
mod crash;
mod finding;
mod honest;
mod journal;
mod link;
mod local;
mod ops;
mod oracle;
mod payload;
mod plan;
mod process;
mod quiet;
mod recorder;
mod rng;
mod run;
mod shrink;
mod small_scope;
mod trace;
mod world;

pub use crate::changes::{Changes, UnknownChange};
pub use crate::finding::Finding;
pub use crate::payload::{MessageKey, NoMessageKey};
pub use crate::run::{Options, Outcome, run};
pub use crate::shrink::{Shrunk, shrink};
pub use crate::small_scope::{Exploration, Plant, Scope, Suite, Violation, exhaustive};

#[cfg(mutants)]
pub use whimbrel_broker_core::mutants;
