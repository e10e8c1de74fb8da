//! An async MQTT client for versions 3.1.1 and 5.0 that reconnects, resumes and forgets nothing it has accepted.
//!
//! # What it is
//!
//! [`Client`] is a handle, and its [`Driver`] a future that does the work: it connects, reads, writes, keeps alive and comes
//! back. Everything else is a value or a future: a publication resolves at its last acknowledgement, a subscription is a
//! bounded [`Stream`](futures_core::Stream), a request resolves with its response.
//!
//! ```no_run
//! use whimbrel_client::codec::QoS;
//! use whimbrel_client::{Client, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::spawn(Options::from_url("mqtt://localhost:1883?client_id=kitchen")?)?;
//! let mut commands = client.subscribe("kitchen/commands/+").await?;
//! client.publish("kitchen/state", "here").qos(QoS::AtLeastOnce).retain(true).await?;
//! while let Some(command) = commands.recv().await {
//!     println!("{}: {:?}", command.topic(), command.payload());
//!     client.publish("kitchen/done", command.payload_bytes()).qos(QoS::ExactlyOnce).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Why another one
//!
//! * *The library drives the loop.* Nobody forgets to poll it, and waiting for an acknowledgement in the receive loop does not
//!   lock up.
//! * *Accepted is a promise.* What a publication's future has accepted is sent, and sent again after reconnects, until it is
//!   acknowledged or refused; with an outbox (feature `outbox`) even by the next process.
//! * *Subscriptions last.* A server that has lost the session gets them again, before anything is published.
//! * *An error says who refused what, and why*, in the server's own words where it gave any.
//!
//! # Contract
//!
//! * Messages leave in the order of their acceptance, whatever their QoS and with or without a connection.
//! * QoS 1 arrives at least once and QoS 2 exactly once as long as the server keeps the session; if it has lost it, what it had
//!   not taken is published again.
//! * A message is acknowledged when the next one is asked for ([`Subscription`]), or when the application says so
//!   ([`ManualSubscription`]): one that was not worked off comes again.
//! * Every future is cancel-safe; what a drop means stands with each. In short: a message is published if it was accepted, a
//!   subscription is ended if it was asked for, a message is taken if it was returned.
//! * No call blocks, and no lock is held over an await. An outbox writes a file in the call that accepts.
//! * MQTT 3.1.1 and 5 have one API. What 3.1.1 can't carry is refused, not left out.
//!
//! # Limits
//!
//! * Accepted messages: [`Options::queue_bytes_max`]; then publishing waits its turn. In flight:
//!   [`Options::in_flight_max`] and the server's Receive Maximum.
//! * Messages that wait for the application: [`Subscribe::capacity`] for each subscription and
//!   [`Options::receive_bytes_max`] for all. At the bound the client reads no further. While it waits for an answer of the
//!   server itself, it reads on up to twice the bound; there QoS 0 gives way, counted by
//!   [`Subscription::dropped`], and QoS 1 and 2 are left to be delivered again after a reconnect that the client makes by itself.
//!   A session that ends with its connection, as a clean one of MQTT 3.1.1, has nothing to deliver again: what is too much for
//!   both bounds there is lost.
//! * Acknowledgements leave in the order of the messages [MQTT-4.6.0-2], over all subscriptions of a client: one that is held
//!   back for long holds back the others. Use a client of its own for slow work.
//! * MQTT 3.1.1 has no subscription identifiers: there a message goes to each subscription whose filter matches, so overlapping
//!   ones may see it more than once.
//! * Packets that come: [`Options::packet_size_max`].
//!
//! # Features
//!
//! * `tls`, on by default: `mqtts://` and `wss://`, by rustls.
//! * `websocket`, on by default: `ws://` and `wss://`.
//! * `outbox`: accepted messages in a file ([`Options::outbox`](Options), the module `outbox`).
//!
//! # Versions
//!
//! Rust 1.90 or newer; needs a tokio runtime with I/O and time. Before 1.0 a minor release may change the API. [`codec`] and
//! [`net`] are the layers below, in whose types this API speaks.
#![forbid(unsafe_code)]

pub use whimbrel_net as net;
pub use whimbrel_session::codec;

pub use crate::authenticator::{Authentication, Authenticator};
pub use crate::client::Client;
pub use crate::connector::{ByteStream, ConnectFuture, Connector};
pub use crate::disconnect::Disconnecting;
pub use crate::driver::Driver;
pub use crate::error::{
    Closed, ConnectionError, DisconnectError, OptionsError, OutboxFailure, PublishError,
    ReauthenticateError, Refusal, RequestError, SubscribeError,
};
pub use crate::message::Message;
pub use crate::options::Options;
pub use crate::publish::{Enqueueing, Publish, Publishing, Receipt, Topic};
pub use crate::reconnect::Reconnect;
pub use crate::request::Request;
pub use crate::state::{ConnectionState, Established};
pub use crate::subscribe::{Subscribe, Subscribing, SubscribingManually};
pub use crate::subscription::{
    ManualSubscription, Rejection, Subscription, Unacked, Unsubscribing,
};
pub use crate::url::UrlError;

mod authenticator;
mod client;
mod connector;
mod core;
mod disconnect;
mod driver;
mod error;
mod input;
mod message;
mod options;
mod publish;
mod reconnect;
mod request;
mod shared;
mod state;
mod subscribe;
mod subscription;
mod target;
mod url;

#[cfg(feature = "outbox")]
pub mod outbox;
