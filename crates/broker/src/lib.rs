//! An embeddable MQTT 3.1, 3.1.1 and 5.0 broker.
//!
//! The deterministic core of `whimbrel-broker-core` with what it needs to serve real clients:
//! threads, sockets and timers, over tokio. It starts inside any program, on threads of its own,
//! and asks the program through small traits who may connect and what may be published.
//!
//! ```
//! use whimbrel_broker::{Broker, StartError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Broker::builder().listen("tcp://127.0.0.1:0".parse()?).start().await?;
//! println!("serving on {:?}", broker.local_addrs());
//! let mut sensor = broker.attach("sensor").await?;
//! broker.shutdown().await;
//! assert!(sensor.recv().await.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! # Contract
//!
//! - A connection lives on the thread that owns its session, so taking a session over, expiry and
//!   acknowledgements need no locks; messages cross threads in batches.
//! - Backpressure, never a wait: a publisher whose messages can't be taken is no longer read, a
//!   subscriber that does not read has its queue bounded by [`CoreLimits`], and nobody else notices.
//! - Output is written once a turn, by one system call for all that is there; no timer delays it.
//! - Hooks ([`Authenticator`], [`Authorizer`], [`Interceptor`], [`Observer`]) are called outside
//!   of the core. One that panics is taken as a refusal.
//! - With a journal ([`Builder::journal`], or `Builder::data_dir` with the feature `store`), what lets a peer forget
//!   something waits until its record is committed, and a broker that starts goes on where the one before it was.
//!   Without one, state lasts as long as the [`Broker`].
//! - A panic in the broker itself, or a journal that fails, stops the whole broker ([`Broker::stopped`]): it does
//!   not go on acknowledging.
//!
//! # Features
//!
//! - `store`: `Builder::data_dir`, a journal in files with `whimbrel-store`. Off by default.
//!
//! # Limits
//!
//! TCP only, and foreign streams through [`Broker::serve`]. [`BrokerConfig`] bounds connections, and with [`CoreLimits`] all that they
//! make the broker hold.
//!
//! # Versions
//!
//! Rust 1.90 or newer. Before 1.0 a minor release may change the API; the public API exposes `std`,
//! `bytes` and tokio's `AsyncRead` and `AsyncWrite`.

#![forbid(unsafe_code)]

mod admission;
mod arrival;
mod broker;
mod builder;
mod clock;
mod config;
mod connection;
mod driver;
mod drop_log;
mod error;
mod exchange;
mod farewell;
mod fresh;
mod gate;
mod handshake;
mod hooks;
mod in_process;
mod inbox;
mod journal;
mod listening;
mod mailbox;
mod outbox;
mod restart;
mod shared;
mod stats;
mod system;
mod thread;
mod transport;
mod wakers;

pub use whimbrel_broker_core as core;
pub use whimbrel_net as net;
#[cfg(feature = "store")]
pub use whimbrel_store as store;

pub use whimbrel_broker_core::session::codec::{self, ReasonCode, bytes, topic};
pub use whimbrel_broker_core::{
    CloseReason, ConfigError, CoreConfig, CoreLimits, DropCause, Event, Journal, JournalError,
    JournalFigures, LocalDelivery, LocalPublish, LocalSubscribe, Message, QueueFull, ShardStats,
};
pub use whimbrel_net::{Address, ListenOptions};

pub use crate::admission::{Acceptance, Admission, Refusal};
pub use crate::broker::Broker;
pub use crate::builder::Builder;
pub use crate::config::{BrokerConfig, Durability};
pub use crate::error::{AttachError, Detached, ServeError, StartError, Stopped};
pub use crate::exchange::{AuthenticationExchange, AuthenticationStep, Deciding};
pub use crate::hooks::{
    Access, Authenticator, Authorizer, ClientInfo, ConnectRequest, EventMask, IncomingPublish,
    Interception, Interceptor, Observer,
};
pub use crate::in_process::InProcessClient;
pub use crate::stats::{BrokerStats, JournalStats};
