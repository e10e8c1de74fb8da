//! Session and QoS engine of MQTT 3.1, 3.1.1 and 5.0, sans-IO.
#![forbid(unsafe_code)]

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
mod outbound;
mod server;
mod state;
mod tick;
mod timer;
