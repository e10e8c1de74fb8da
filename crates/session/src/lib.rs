//! MQTT sessions and QoS flows, for clients and servers, of versions 3.1, 3.1.1 and 5.0.
//!
//! # What it is
//!
//! The part of MQTT between packets and an application: who may say what and when, packet identifiers, the QoS 1
//! and 2 exchanges, flow control, keep alive, topic aliases, and what survives a lost connection. [`ServerConnection`]
//! and [`ClientConnection`] are the two sides of one network connection; [`SessionState`] is what they take over
//! from the connection before. All of it is sans-IO: bytes and time go in, bytes and events come out. There is no
//! socket, clock, thread or task in it.
//!
//! # Why another one
//!
//! An acknowledgement is a promise, so it is a value: every event that needs one brings an [`AckToken`], to be used
//! when the message is safe, in any order and at any time. The connection keeps the order in which acknowledgements
//! have to leave. And it is bounded: whatever is full says so and gives the message back ([`Refused`]), and input is
//! left unread ([`Hold`]) rather than queued.
//!
//! ```
//! use whimbrel_session::codec::{Connect, Packet, ProtocolVersion, ReasonCode};
//! use whimbrel_session::{Accept, Epoch, ServerConfig, ServerConnection, ServerEvent, Tick};
//!
//! let mut server = ServerConnection::<()>::new(Tick(0), Epoch(1), ServerConfig::default());
//! let mut input = Vec::new();
//! let connect = Connect::new(ProtocolVersion::V311, "sensor");
//! Packet::Connect(Box::new(connect)).encode(ProtocolVersion::V311, &mut input)?;
//! input.extend(b"\x32\x08\x00\x01t\x00\x07abc"); // PUBLISH "abc" to t, QoS 1, id 7
//!
//! let mut rest = &input[..];
//! while !rest.is_empty() {
//!     let handled = server.handle_input(Tick(0), rest)?;
//!     rest = &rest[handled.consumed..];
//!     match handled.event {
//!         Some(ServerEvent::Connect(_)) => server.accept(Tick(0), Accept::new_session())?,
//!         // Here the message would be stored first.
//!         Some(ServerEvent::Publish(publish)) => {
//!             server.ack(publish.token.expect("QoS 1"), ReasonCode::Success)?;
//!         }
//!         other => panic!("{other:?}"),
//!     }
//! }
//! assert_eq!(server.output().chunk(), b"\x20\x02\x00\x00\x40\x02\x00\x07"); // CONNACK, PUBACK 7
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! * One mutation, then drain, then read the timeout: after any call the output may have grown, and
//!   [`poll_timeout`](ServerConnection::poll_timeout) may have changed.
//! * An event borrows from the input only. It is acted upon before the next packet is handled.
//! * QoS 1 arrives at least once and QoS 2 exactly once, each in order, across any number of connections, as long as both
//!   sides hand their [`SessionState`] on and acknowledge what they have made safe.
//! * Exactly once holds across a restart of the server if its session is recorded: a QoS 2 message is
//!   [prepared](ServerConnection::prepare), and leaves when the record of its packet id is committed.
//! * A quota is never exceeded, a packet id in use is never given out again, and after an own DISCONNECT nothing is
//!   written.
//! * Whatever the peer sends, nothing panics. What it breaks is a [`ProtocolError`] with a reason code and a clause,
//!   and the answer that the standard allows is in the output already.
//! * What our own caller breaks is a [`UsageError`], and nothing has changed. A token of an earlier connection is no
//!   error: it does nothing.
//!
//! Where the standard leaves room: an acknowledgement for an unknown id is ignored, one that does not fit its exchange
//! breaks the protocol; a repeat of a QoS 2 id that is held gets PUBREC again, whatever DUP says; nothing is resent on
//! a live connection; a repeated PUBREC gets PUBREL again; an MQTT 3.x SUBSCRIBE with an invalid filter closes, while
//! version 5 leaves it to SUBACK; an MQTT 3.1 client takes its session as present when it has asked to keep it.
//!
//! # Limits
//!
//! * Open publications: the peer's Receive Maximum and `in_flight_max` towards it, `receive_maximum` from it. Before
//!   version 5 a client is not told; it is not read while that many of its messages wait.
//! * Packet ids in use, and the memory for them: the window spans at most four times its limit (at least 64 ids), so a
//!   peer that leaves one id open stops the flow instead of growing it.
//! * Output: `output_bytes_max`, and 16 KiB of answers beyond it before the peer is not read any more.
//! * Acknowledgements that wait: the Receive Maximum and 256 more.
//! * Topic aliases of the peer: `topic_alias_maximum`, each with one topic; of our own: `sent_topic_alias_max`.
//! * QoS 2 ids held for a peer that never releases them: the 65,535 there are.
//!
//! # Features
//!
//! None. The minimum Rust version is that of the workspace; raising it is a minor release. [`codec`] is the layer below,
//! in whose types this API speaks.
#![forbid(unsafe_code)]

/// Whether a planted bug is in force: the constant `false` but in builds with `--cfg mutants`.
///
/// For the tests of this workspace alone; a normal build has nothing of it.
#[cfg(not(mutants))]
#[doc(hidden)]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

/// Whether a planted bug is in force; see [`mutants`].
#[cfg(mutants)]
#[doc(hidden)]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_active($crate::mutants::Mutant::$name)
    };
}

pub use whimbrel_codec as codec;

pub use crate::ack::{AckToken, Epoch};
pub use crate::alias::TopicRef;
pub use crate::client::{
    ClientConnection, PublishOptions, RequestRefused, SubscribeRequest, UnsubscribeRequest,
};
pub use crate::config::{ClientConfig, ServerConfig};
pub use crate::error::{ProtocolError, Refused, UsageError};
pub use crate::event::{
    ClientEvent, ClientInput, Connected, Hold, InboundPublish, ServerEvent, ServerInput,
    TimeoutKind,
};
pub use crate::expiry::SessionExpiry;
pub use crate::flow::{Deliver, Redeliver, Resend, ResendRefused, Resent};
pub use crate::server::{Accept, ServerConnection};
pub use crate::state::{Exchange, RestoreError, SessionParts, SessionState, Stage};
pub use crate::tick::Tick;

mod ack;
mod alias;
mod authentication;
mod client;
mod config;
mod diagnostics;
mod direction;
mod error;
mod event;
mod expiry;
mod flow;
mod inbound;
mod keep_alive;
#[cfg(mutants)]
pub mod mutants;
mod outbound;
mod server;
mod state;
mod tick;
mod timer;
