//! [`Target`]: where the server is, and how it is reached.

use std::fmt;
use std::sync::Arc;

use whimbrel_net::{Address, AddressError, Connect, Transport};
#[cfg(feature = "tls")]
use whimbrel_net::{TlsConfig, TlsOptions};
#[cfg(feature = "websocket")]
use whimbrel_net::{WebSocketRequest, WebSocketRequestError};

use crate::connector::{Connector, Link};
use crate::{ConnectionError, OptionsError};

/// Where the server is, as the application has said it.
#[derive(Clone)]
pub(crate) enum Target {
    Layers(Layers),
    Transport(Transport),
    Custom(Arc<dyn Connector>),
    /// A host or address that is none.
    Invalid(AddressError),
}

/// TCP, and what goes on top of it.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    pub(crate) address: Address,
    #[cfg(feature = "tls")]
    pub(crate) tls: Tls,
    #[cfg(feature = "websocket")]
    pub(crate) websocket: Option<WebSocketRequest>,
}

#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub(crate) enum Tls {
    Off,
    /// With the system's authorities.
    System,
    Given(TlsConfig),
}

/// A [`Target`] whose every part was found good.
#[derive(Clone)]
pub(crate) enum Opener {
    Transport(Box<Transport>),
    Custom(Arc<dyn Connector>),
}

impl Target {
    pub(crate) fn host(host: &str, port: u16) -> Self {
        let text = if host.contains(':') && !host.starts_with('[') {
            format!("tcp://[{host}]:{port}")
        } else {
            format!("tcp://{host}:{port}")
        };
        match text.parse() {
            Ok(address) => Self::Layers(Layers::tcp(address)),
            Err(error) => Self::Invalid(error),
        }
    }

    pub(crate) fn opener(&self) -> Result<Opener, OptionsError> {
        match self {
            Self::Layers(layers) => Ok(Opener::Transport(Box::new(layers.transport()?))),
            Self::Transport(transport) => Ok(Opener::Transport(Box::new(transport.clone()))),
            Self::Custom(connector) => Ok(Opener::Custom(connector.clone())),
            Self::Invalid(error) => Err(OptionsError::Address(*error)),
        }
    }
}

impl Layers {
    pub(crate) fn tcp(address: Address) -> Self {
        Self {
            address,
            #[cfg(feature = "tls")]
            tls: Tls::Off,
            #[cfg(feature = "websocket")]
            websocket: None,
        }
    }

    fn transport(&self) -> Result<Transport, OptionsError> {
        let address = self.address.clone();
        #[cfg(feature = "tls")]
        let tls = match &self.tls {
            Tls::Off => None,
            Tls::System => Some(TlsOptions::new().build()?),
            Tls::Given(config) => Some(config.clone()),
        };
        #[cfg(all(feature = "tls", feature = "websocket"))]
        if let (Some(tls), Some(request)) = (&tls, &self.websocket) {
            return Ok(Transport::SecureWebSocket {
                address,
                tls: tls.clone(),
                request: request.clone(),
            });
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = tls {
            return Ok(Transport::Tls { address, tls });
        }
        #[cfg(feature = "websocket")]
        if let Some(request) = &self.websocket {
            return Ok(Transport::WebSocket {
                address,
                request: request.clone(),
            });
        }
        Ok(Transport::Tcp(address))
    }
}

/// What MQTT asks a WebSocket server for [MQTT-6.0.0-3].
#[cfg(feature = "websocket")]
pub(crate) fn websocket_request(path: &str) -> Result<WebSocketRequest, WebSocketRequestError> {
    WebSocketRequest::new(path)?.subprotocol("mqtt")
}

impl Opener {
    pub(crate) async fn open(&self, connect: &Connect) -> Result<Link, ConnectionError> {
        match self {
            Self::Transport(transport) => match connect.connect(transport).await {
                Ok(stream) => Ok(Link::Net(stream)),
                Err(error) => Err(ConnectionError::Unreachable(Arc::new(error))),
            },
            Self::Custom(connector) => {
                let opened = tokio::time::timeout(connect.timeout, connector.connect());
                let timed_out = |_| Err(std::io::ErrorKind::TimedOut.into());
                match opened.await.unwrap_or_else(timed_out) {
                    Ok(stream) => Ok(Link::Custom(stream)),
                    Err(error) => Err(ConnectionError::Unreachable(Arc::new(error))),
                }
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layers(layers) => layers.fmt(f),
            Self::Transport(transport) => transport.fmt(f),
            Self::Custom(_) => f.write_str("a connector"),
            Self::Invalid(error) => write!(f, "invalid: {error}"),
        }
    }
}
