//! An async MQTT client for versions 3.1.1 and 5.0.
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
