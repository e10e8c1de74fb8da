//! Where a connection goes, and through which layers.

use std::fmt;
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
/// can fail by what the network does only. `Display` prints it as a URL, and `Debug` in full, both
/// without what may be secret: private keys, queries, values of headers.
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

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            #[cfg(feature = "tls")]
            Self::Tls { address, .. } => {
                write!(f, "tls://{}:{}", address.host(), address.port())
            }
            #[cfg(feature = "websocket")]
            Self::WebSocket { address, request } => {
                let (host, port, path) = (address.host(), address.port(), request.path());
                write!(f, "ws://{host}:{port}{path}")
            }
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Self::SecureWebSocket {
                address, request, ..
            } => {
                let (host, port, path) = (address.host(), address.port(), request.path());
                write!(f, "wss://{host}:{port}{path}")
            }
        }
    }
}

impl From<Address> for Transport {
    /// Plain TCP to `address`.
    fn from(address: Address) -> Self {
        Self::Tcp(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        "tcp://[::1]:1883".parse().unwrap()
    }

    #[test]
    fn transports_print_as_urls() {
        assert_eq!(Transport::from(address()).to_string(), "tcp://[::1]:1883");
        #[cfg(unix)]
        assert_eq!(
            Transport::Unix("/run/broker.sock".into()).to_string(),
            "unix:///run/broker.sock"
        );
    }

    #[cfg(all(feature = "tls", feature = "websocket"))]
    #[test]
    fn secrets_are_not_printed() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = crate::Pem::text(certificate.cert.pem());
        let tls = crate::TlsOptions::new().ca(ca).build().unwrap();
        let request = WebSocketRequest::new("/mqtt?signature=5678").unwrap();
        let transports = [
            Transport::Tls {
                address: address(),
                tls: tls.clone(),
            },
            Transport::WebSocket {
                address: address(),
                request: request.clone(),
            },
            Transport::SecureWebSocket {
                address: address(),
                tls,
                request,
            },
        ];
        let printed = transports.each_ref().map(Transport::to_string);
        assert_eq!(
            printed,
            [
                "tls://[::1]:1883",
                "ws://[::1]:1883/mqtt",
                "wss://[::1]:1883/mqtt"
            ]
        );
        assert!(!format!("{transports:?}").contains("5678"));
    }
}
