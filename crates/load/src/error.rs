//! [`RunError`]: why a run came to nothing. [`Gone`]: why a connection did.

use std::io;
use std::time::Duration;

use thiserror::Error;
use whimbrel_net::ConnectError;
use whimbrel_session::codec::ReasonCode;
use whimbrel_session::{ProtocolError, RequestRefused, TimeoutKind, UsageError};

use crate::OptionsError;

/// Why a run could not measure anything.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The options can't be meant.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The broker's name could not be looked up.
    #[error("cannot resolve {host}, check the name or use an IP address")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// There is no such process, or none that may be looked at.
    #[error("cannot read CPU and memory of process {pid}")]
    Process {
        /// Its number.
        pid: u32,
        /// The system's answer.
        source: io::Error,
    },
    /// A client could not connect or subscribe.
    #[error("client {client} could not be set up")]
    Setup {
        /// Its client identifier.
        client: String,
        /// What happened.
        source: Gone,
    },
    /// Not all clients were ready in time.
    #[error(
        "{ready} of {clients} clients were ready in {limit:?}; give it more time or fewer clients"
    )]
    SetupTimedOut {
        /// Clients that were.
        ready: u64,
        /// Clients that were to be.
        clients: u64,
        /// The time that they had.
        limit: Duration,
    },
    /// Not all filters were subscribed to in time.
    #[error(
        "{made} of {filters} subscriptions were made in {limit:?}; give it more time or fewer of them"
    )]
    SubscribingTimedOut {
        /// Subscriptions that were.
        made: u64,
        /// Subscriptions that were to be.
        filters: u64,
        /// The time that they had.
        limit: Duration,
    },
    /// The system gave no thread or no poller.
    #[error("cannot start a thread for clients")]
    Thread(#[source] io::Error),
    /// A thread ended by a panic, which is a defect of this crate.
    #[error("a thread of clients panicked")]
    Panicked,
}

/// Why a client is connected no more, or never was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Gone {
    /// There was no connection to be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The system ended it.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The broker closed it without a word.
    #[error("the broker closed the connection")]
    Closed,
    /// CONNACK said no.
    #[error("CONNACK refused with {0}")]
    Refused(ReasonCode),
    /// The broker sent DISCONNECT.
    #[error("the broker disconnected with {0}")]
    Disconnected(ReasonCode),
    /// The broker did not answer in time.
    #[error("the broker was silent ({0:?})")]
    Silent(TimeoutKind),
    /// The broker broke the protocol.
    #[error("the broker broke the protocol")]
    Protocol(#[from] ProtocolError),
    /// SUBACK said no.
    #[error("SUBACK refused with {0}")]
    NotSubscribed(ReasonCode),
    /// The broker asked for an authentication that was not offered.
    #[error("the broker asks for an enhanced authentication")]
    Authentication,
    /// CONNECT could not be sent.
    #[error("CONNECT could not be sent")]
    Unsendable(#[from] UsageError),
    /// SUBSCRIBE could not be sent.
    #[error("SUBSCRIBE could not be sent")]
    Request(#[from] RequestRefused),
    /// A message could not be sent: the broker said in CONNACK that it takes no such.
    #[error("a message could not be sent: {0}")]
    Unpublishable(String),
}
