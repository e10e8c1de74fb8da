//! Where a connection goes, and through which layers.

#[cfg(unix)]
use std::path::PathBuf;

use crate::address::Address;
#[cfg(feature = "tls")]
use crate::tls::TlsConfig;
#[cfg(feature = "websocket")]
use crate::websocket::WebSocketRequest;

/// Where [`Connect`](crate::Connect) goes, and through which layers.
///
/// Everything in it has been parsed and checked, so that a client which connects again and again
/// can fail by what the network does only. `Debug` prints no private key and no header's value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Plain TCP.
    Tcp(Address),
    /// A Unix stream socket. Linux takes a path that begins with a zero byte for an abstract name.
    #[cfg(unix)]
    Unix(PathBuf),
    /// TLS over TCP.
    #[cfg(feature = "tls")]
    Tls {
        /// Where to connect; its host is also the name that the server's certificate must have,
        /// unless [`TlsOptions::server_name`](crate::TlsOptions::server_name) says another.
        address: Address,
        /// Whom to trust and what to offer.
        tls: TlsConfig,
    },
    /// WebSocket over TCP.
    #[cfg(feature = "websocket")]
    WebSocket {
        /// Where to connect.
        address: Address,
        /// What to ask the server for.
        request: WebSocketRequest,
    },
    /// WebSocket over TLS over TCP.
    #[cfg(all(feature = "tls", feature = "websocket"))]
    SecureWebSocket {
        /// Where to connect, as in [`Transport::Tls`].
        address: Address,
        /// Whom to trust and what to offer.
        tls: TlsConfig,
        /// What to ask the server for.
        request: WebSocketRequest,
    },
}

impl From<Address> for Transport {
    /// Plain TCP to `address`.
    fn from(address: Address) -> Self {
        Self::Tcp(address)
    }
}
