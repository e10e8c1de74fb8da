//! Loads an MQTT broker, any broker, measures it, and checks every message.
//!
//! # What it is
//!
//! Thousands of small clients on a few threads, over the session engine of `whimbrel-session` and the sockets of
//! `whimbrel-net`: storms of connections, idle ones, pairs, fan-in, fan-out, shared subscriptions, many subscriptions,
//! retained messages and messages for clients that are away, in MQTT 3.1, 3.1.1 and 5.0, at every QoS.
//!
//! # Why another one
//!
//! A figure for a broker that loses messages is worth nothing, so each payload has the number of its publisher, its own
//! number and a checksum, and what is lost, repeated, overtaken, corrupt or astray is counted at full speed. An open
//! loop counts latency from when a message *was to be* sent. And the generator tells how busy it was itself.
//!
//! ```no_run
//! use whimbrel_load::codec::QoS;
//! use whimbrel_load::{Amount, Messages, Options, Pace, Scenario, Shape};
//!
//! let scenario = Scenario::Messages(Messages {
//!     shape: Shape::Pairs,
//!     publishers: 10,
//!     subscribers: 10,
//!     qos: QoS::AtLeastOnce,
//!     qos_sub: QoS::AtLeastOnce,
//!     size: 64,
//!     amount: Amount::Messages(100_000),
//!     pace: Pace::InFlight(100),
//!     churn: None,
//! });
//! let options = Options::new("tcp://127.0.0.1:1883".parse()?, scenario);
//! let report = whimbrel_load::run(&options, |_| {})?;
//! print!("{report}");
//! assert!(report.is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! - [`run`] blocks until the run is over, which [`Options::timeout`] bounds. What is missing then is in the report.
//! - No client reconnects, but for those of [`Offline`], which leave in order: one that loses its connection ends the run,
//!   and is a fault. So no message may come twice, at any QoS.
//! - In a closed loop a message has its place in the publisher's window until *every* receiver has it, at QoS 0 too. A
//!   message that a later one has overtaken, or that did not come within [`Options::stall`], gives its place back.
//! - Order is checked for each publisher at each subscriber. Among the members of a shared subscription the standard
//!   promises none: it is counted and is no fault.
//! - Whatever the broker sends, nothing panics.
//!
//! # Limits
//!
//! Plain TCP, one address of this machine: some 28,000 connections to one port of the broker, which is what the system
//! has ports for. One socket a client: raise the limit of open files. A million clients, 64 threads, ten million
//! pairs of publisher and subscriber. CPU and memory of the broker and of the generator on Linux only.
//!
//! # Features
//!
//! None. The minimum Rust version is that of the workspace; raising it is a minor release.
#![forbid(unsafe_code)]

pub use whimbrel_net as net;
pub use whimbrel_session::codec;

pub use crate::error::{Gone, RunError};
pub use crate::findings::Findings;
pub use crate::meter::Percentiles;
pub use crate::options::{
    Afterwards, Amount, Idle, Messages, Offline, Options, OptionsError, PAYLOAD_BYTES_MIN, Pace,
    Retained, Scenario, Shape, Storm,
};
pub use crate::progress::{Progress, Stage};
pub use crate::report::{
    ConnectFigures, GeneratorFigures, OfflineFigures, ProcessFigures, Report, RetainedFigures,
    SubscriptionFigures, TrafficFigures,
};
pub use crate::run::run;

mod addressee;
mod churn;
mod clock;
mod conclude;
mod director;
mod error;
mod filters;
mod findings;
mod idle;
mod link;
mod meter;
mod offline;
mod options;
mod pacer;
mod payload;
mod process;
mod progress;
mod publisher;
mod report;
mod retained;
mod run;
mod shared;
mod spread;
mod store;
mod storm;
mod subscriber;
mod tracker;
mod window;
mod worker;
