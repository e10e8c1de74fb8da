//! How a byte stream to the server is opened.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use whimbrel_net::{Address, AddressError, TcpConnect, TcpStream};

use crate::ConnectionError;

/// Opens the byte stream of each attempt: through a proxy, a tunnel, or in memory.
pub trait Connector: Send + Sync + 'static {
    /// Opens one. The client bounds the time that it may take.
    fn connect(&self) -> ConnectFuture;
}

/// What a [`Connector`] is doing.
pub type ConnectFuture = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// What a [`Connector`] opens.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl<F> Connector for F
where
    F: Fn() -> ConnectFuture + Send + Sync + 'static,
{
    fn connect(&self) -> ConnectFuture {
        self()
    }
}

/// Where the server is.
#[derive(Clone)]
pub(crate) enum Target {
    Tcp(Address),
    /// A host that is no name; the error belongs to the attempt.
    Invalid {
        host: String,
        error: AddressError,
    },
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
            Ok(address) => Self::Tcp(address),
            Err(error) => Self::Invalid {
                host: host.to_owned(),
                error,
            },
        }
    }

    pub(crate) async fn open(&self, tcp: &TcpConnect) -> Result<Link, ConnectionError> {
        match self {
            Self::Tcp(address) => match tcp.connect(address).await {
                Ok(stream) => Ok(Link::Tcp(stream)),
                Err(error) => Err(ConnectionError::Unreachable(Arc::new(error))),
            },
            Self::Invalid { error, .. } => Err(ConnectionError::Unreachable(Arc::new(*error))),
            Self::Custom(connector) => {
                let opened = tokio::time::timeout(tcp.timeout, connector.connect());
                let opened = opened
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                match opened {
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
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Invalid { host, .. } => write!(f, "{host:?}"),
            Self::Custom(_) => f.write_str("a connector"),
        }
    }
}

/// An open byte stream to the server.
pub(crate) enum Link {
    Tcp(TcpStream),
    Custom(Box<dyn ByteStream>),
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Custom(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Custom(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Custom(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Custom(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Custom(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Custom(stream) => stream.is_write_vectored(),
        }
    }
}
