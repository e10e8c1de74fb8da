//! Byte streams and listeners for protocols whose connections live for weeks.
//!
//! A broker's sockets differ from a web server's: most are idle, many belong to devices that vanish
//! without a FIN, and a listener must outlive every shortage it meets. This crate is the small
//! layer over `tokio`'s sockets that sets the options such connections need, keeps `accept` going
//! when the process is out of descriptors, and moves an open stream from one runtime to another. It
//! knows bytes and addresses and no protocol above them.
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use whimbrel_net::{Address, Connect, ListenOptions, TcpListener, Transport};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: Address = "tcp://127.0.0.1:0".parse()?;
//! let mut listener = TcpListener::bind(address.resolve().await?[0], &ListenOptions::default())?;
//! let server = Address::from(listener.local_addr()?);
//!
//! let mut client = Connect::default().connect(&Transport::Tcp(server)).await?;
//! let mut accepted = listener.accept().await?;
//! client.write_all(b"hello").await?;
//! let mut bytes = [0; 5];
//! accepted.read_exact(&mut bytes).await?;
//! assert_eq!(&bytes, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Contract
//! - Every stream, accepted or connected, has all of its [`StreamOptions`] before the caller sees
//!   it.
//! - [`TcpListener::accept`] returns an error only when the listener itself is broken. A connection
//!   that died in the queue is skipped; a shortage of descriptors or memory is waited out with a
//!   growing delay, and counted in [`AcceptCounters`].
//! - Every future is cancel-safe: dropped at an await, it loses no connection and forgets no delay.
//! - A [`Detached`] stream carries what the kernel has received and nothing else: bytes already
//!   read are the caller's to carry along.
//!
//! # Limits
//! TCP only for now; TLS and WebSocket will be features that add their own types. Linux honours
//! every option; elsewhere those that the system lacks are left out, as said on each. Name
//! resolution uses the system's resolver on tokio's blocking pool, and IPv6 zone ids are not part
//! of [`Address`].
//!
//! # Versions
//! Rust 1.90 or newer. Before 1.0 a minor release may change the API; the public API exposes `std`
//! and `tokio` types only.

mod accept;
mod address;
mod connect;
mod connect_error;
mod listener;
mod options;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod transport;
#[cfg(unix)]
mod unix;
#[cfg(feature = "websocket")]
mod websocket;

pub use accept::AcceptCounters;
pub use address::{Address, AddressError, Host, Scheme};
pub use connect::Connect;
pub use connect_error::{ConnectError, ConnectStage};
pub use listener::TcpListener;
pub use options::{Keepalive, ListenOptions, OptionsError, StreamOptions};
pub use stream::Stream;
pub use tcp::{Detached, TcpStream};
#[cfg(feature = "tls")]
pub use tls::{
    DangerousTlsOptions, Pem, PemOrigin, PemPurpose, TlsConfig, TlsError, TlsFault, TlsOptions,
    TlsOptionsError, TlsStream,
};
pub use transport::Transport;
#[cfg(feature = "websocket")]
pub use websocket::{
    WebSocketError, WebSocketFault, WebSocketRequest, WebSocketRequestError, WebSocketStream,
};
