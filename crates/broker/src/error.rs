//! What can go wrong for whoever embeds the broker.

use std::io;

use whimbrel_broker_core::{ConfigError, JournalError};
use whimbrel_net::Address;

/// Why a broker did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The core's configuration can't be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener could be reached from other machines while every client would be let in.
    #[error(
        "{address} can be reached from other machines and every client would be let in: set an \
         authenticator, allow anonymous clients, or listen on a loopback address"
    )]
    AnonymousBeyondLoopback {
        /// What was to be listened on.
        address: Address,
    },
    /// A listener's host name has no address.
    #[error("cannot look up {address}")]
    Resolve {
        /// What was to be listened on.
        address: Address,
        /// What the system's resolver says.
        source: io::Error,
    },
    /// A listener can't be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was to be listened on.
        address: Address,
        /// What the system says, such as `AddrInUse`.
        source: io::Error,
    },
    /// The store can't be opened.
    #[cfg(feature = "store")]
    #[error("cannot open the store")]
    Store {
        /// Why, and what to do.
        #[from]
        source: whimbrel_store::OpenError,
    },
    /// What the journal tells can't be what a broker told it, or it can't be read.
    #[error("cannot read back what was stored")]
    Journal {
        /// What is wrong with it.
        #[from]
        source: JournalError,
    },
    /// A thread can't be started.
    #[error("cannot start a thread")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// A thread ended before the broker ran.
    #[error("the broker stopped while it started")]
    Stopped,
}

/// Why [`Broker::attach`](crate::Broker::attach) has no client to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// An in-process client has to have an id.
    #[error("an in-process client needs a client id")]
    EmptyClientId,
    /// The broker stops or has stopped.
    #[error("the broker has stopped")]
    Stopped,
}

/// Why [`Broker::serve`](crate::Broker::serve) did not take a stream, which is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// As many connections as allowed have not sent their CONNECT yet.
    #[error("too many connections have not sent their CONNECT yet")]
    Busy,
}

/// An in-process client has lost its session, or the broker has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the in-process client is detached")]
pub struct Detached;

/// How a broker came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to.
    Orderly,
    /// A thread panicked, which is a bug: the broker stops rather than go on with a state that may
    /// be half changed. Or the journal failed: then it stops rather than acknowledge what may not be kept. The log
    /// says which.
    Failed,
}
