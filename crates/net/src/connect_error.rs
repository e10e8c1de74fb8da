//! Why a connection was not made.

#[cfg(unix)]
use std::path::PathBuf;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use thiserror::Error;

#[cfg(feature = "tls")]
use crate::tls::TlsFault;
#[cfg(feature = "websocket")]
use crate::websocket::WebSocketFault;
use crate::{
    address::{Address, Host},
    options::OptionsError,
};

/// Why [`Connect::connect`](crate::Connect::connect) gave up; each message says what to look at.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host's name could not be looked up.
    #[error("cannot resolve {host}, check the name or use an IP address")]
    Resolve {
        /// The host that was looked up.
        host: Host,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The last address tried did not take the connection.
    #[error("cannot connect to {remote}, check that a server listens there")]
    Connect {
        /// The socket address that was tried.
        remote: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// None of the host's addresses is of the family of [`Connect::local`](crate::Connect::local).
    #[error(
        "{address} has no address that {local} can connect to, connect from an address of the other family"
    )]
    LocalFamily {
        /// The address that was asked for.
        address: Address,
        /// The address of this machine.
        local: IpAddr,
    },
    /// The time ran out.
    #[error("no connection to {address} within {limit:?}, {stage}")]
    TimedOut {
        /// The address that was asked for.
        address: Address,
        /// What was being waited for.
        stage: ConnectStage,
        /// [`Connect::timeout`](crate::Connect::timeout).
        limit: Duration,
    },
    /// The TLS handshake failed.
    #[cfg(feature = "tls")]
    #[error("no TLS connection to {address}: {fault}")]
    Tls {
        /// The address that was asked for.
        address: Address,
        /// What is wrong.
        fault: TlsFault,
        /// What the TLS library or the system says.
        source: io::Error,
    },
    /// The WebSocket handshake failed.
    #[cfg(feature = "websocket")]
    #[error("no WebSocket connection to {address}: {fault}")]
    WebSocket {
        /// The address that was asked for.
        address: Address,
        /// What is wrong.
        fault: WebSocketFault,
        /// What the WebSocket library or the system says.
        source: io::Error,
    },
    /// The Unix socket did not take the connection.
    #[cfg(unix)]
    #[error("cannot connect to {}, check that a server listens on this socket and that you may write to it", path.display())]
    Unix {
        /// The path of the socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path does not fit into a socket address.
    #[cfg(unix)]
    #[error("{} is too long for a Unix socket, use a path of up to {length_max} bytes", path.display())]
    UnixPathTooLong {
        /// The path as given.
        path: PathBuf,
        /// The length in bytes that this system takes.
        length_max: usize,
    },
    /// The path can't be that of a Unix socket: it is empty or has a zero byte in it.
    #[cfg(unix)]
    #[error("the path of a Unix socket is empty or has a zero byte in it, write its full path")]
    UnixPath,
    /// An option is out of range.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// What a connection was waiting for when its time ran out; printed as what to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectStage {
    /// The name look-up, or the TCP handshake.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The answer to the WebSocket request.
    WebSocket,
}

impl fmt::Display for ConnectStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "check the route and the firewalls on it",
            Self::Tls => "the server took it but does not answer in TLS, check that the port is for TLS",
            Self::WebSocket => {
                "the server took it but does not answer in HTTP, check that the port is for WebSocket"
            }
        })
    }
}
