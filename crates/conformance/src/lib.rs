//! The normative statements of MQTT 3.1, 3.1.1 and 5.0 as black-box tests against any broker.
//!
//! # What it is
//!
//! A table of every normative statement, cases that show them over a TCP connection, and a runner that gives a verdict on
//! each statement: pass, fail with what was sent, expected and received, skip with a reason, or not visible over a
//! network. It knows no broker but by its address; bytes that a codec would refuse to build are sent as they are.
//!
//! ```no_run
//! use whimbrel_conformance::{RunOptions, run};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let target = "mqtt://127.0.0.1:1883".parse()?;
//! let report = run(&target, &RunOptions::default(), |progress| {
//!     eprintln!("{}/{} {}", progress.done, progress.total, progress.case);
//! })
//! .await?;
//! println!("{report}");
//! assert!(!report.has_failures());
//! # Ok(())
//! # }
//! ```
//!
//! # Contract
//!
//! * Cases are independent: each has client ids and topics of its own, runs at once with others and in any order, and
//!   what it leaves behind is cleared away.
//! * A case about something illegal first shows that the well-formed twin is served, so that a broker which refuses
//!   everything fails it.
//! * What the standard makes optional never fails a broker. Cases read what CONNACK announces.
//! * A run takes at most two minutes, a case at most 20 seconds. Waits follow the latency of the broker.
//!
//! # Writing a case
//!
//! A file in `src/cases/` starts with its table, and `src/cases.rs` names it. A case is an `async fn` from a [`Context`]
//! to an [`Outcome`]: most use a [`Client`] that keeps the rules, down to its [`Link`] for what does not, bytes from
//! [`wire`], and [`proof`] for what has to be refused.
//!
//! # Limits
//!
//! TCP only, without TLS. What binds clients is not tested.

#![forbid(unsafe_code)]

mod case;
mod cases;
mod client;
mod context;
mod link;
pub mod proof;
mod report;
mod run;
mod statement;
mod target;
mod timing;
mod transcript;
mod verdict;
pub mod wire;

pub use whimbrel_codec as codec;

pub use case::{Case, CaseFuture};
pub use client::{Client, ConnectOptions, Message};
pub use context::{Announced, Context, SESSION_EXPIRY_SECS};
pub use link::{Event, Link};
pub use report::{CaseReport, Report, Section, StatementReport, Summary};
pub use run::{Order, Probe, Progress, RunError, RunOptions, run};
pub use statement::Statement;
pub use target::{Target, TargetError};
pub use timing::Timing;
pub use transcript::describe;
pub use verdict::{Failure, Outcome, Stop, Verdict};
