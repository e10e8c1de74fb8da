//! Byte streams and listeners for protocols whose connections live for weeks.
//!
//! A broker's sockets differ from a web server's: most are idle, many belong to devices that vanish
//! without a FIN, and a listener must outlive every shortage it meets. This crate is the small
//! layer over `tokio`'s sockets that sets the options such connections need, keeps `accept` going
//! when the process is out of descriptors, and moves an open stream from one runtime to another.
//! For the client's side it opens one [`Stream`] over TCP, TLS, WebSocket, both, or a Unix socket.
//! It knows bytes and addresses and no protocol above them.
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
//! WebSocket over TLS, with the features `tls` and `websocket`:
//!
//! ```
//! # #[cfg(all(feature = "tls", feature = "websocket"))]
//! async fn connect() -> Result<whimbrel_net::Stream, Box<dyn std::error::Error>> {
//!     use whimbrel_net::{Connect, Pem, TlsOptions, Transport, WebSocketRequest};
//!
//!     let transport = Transport::SecureWebSocket {
//!         address: "tcp://broker.example:443".parse()?,
//!         tls: TlsOptions::new().ca(Pem::file("ca.pem")).build()?,
//!         request: WebSocketRequest::new("/mqtt")?.subprotocol("mqtt")?,
//!     };
//!     Ok(Connect::default().connect(&transport).await?)
//! }
//! ```
//!
//! # Contract
//! - Every TCP stream, accepted or connected, has all of its [`StreamOptions`] before the caller
//!   sees it, under TLS and WebSocket too.
//! - [`TcpListener::accept`] returns an error only when the listener itself is broken. A connection
//!   that died in the queue is skipped; a shortage of descriptors or memory is waited out with a
//!   growing delay, and counted in [`AcceptCounters`].
//! - [`Connect::connect`] is over at [`Connect::timeout`], whichever layer it waits for. What can be
//!   wrong with certificates, keys, paths and headers is found when they are built, not then.
//! - Every future is cancel-safe: dropped at an await, it loses no connection and forgets no delay.
//! - A [`Detached`] stream carries what the kernel has received and nothing else: bytes already
//!   read are the caller's to carry along.
//! - A stream reads to `Ok(0)` only where its outermost layer was closed in its own words. Over TLS
//!   and WebSocket, a connection that merely ends is an error.
//! - Errors say what to do; what happened is their `source()`. No error and no `Debug` shows a key
//!   or a header's value.
//!
//! # Limits
//! Of servers this crate has TCP listeners only. The first address that takes the TCP connection is
//! the one that is used: TLS and WebSocket are not tried with the next. Linux honours every option;
//! elsewhere those that the system lacks are left out, as said on each. Name resolution uses the
//! system's resolver on tokio's blocking pool, and IPv6 zone ids are not part of [`Address`].
//!
//! TLS is 1.2 and 1.3 with rustls and `ring`. A server's certificate needs alternative names (a
//! common name is not looked at) and may not be that of a CA; there are no revocation lists, no
//! pre-shared keys, no encrypted private keys and no early data. PEM files may have 8 MiB.
//!
//! WebSocket is RFC 6455 over HTTP/1.1: no extensions, no redirects, no proxies. A message from the
//! server may have 16 MiB unless `WebSocketRequest::message_bytes_max` says otherwise, and is held
//! in memory until all of it has come; the answer to the request 64 KiB; frames that we send 64 KiB
//! each.
//!
//! # Features
//! Both are off by default, and only add types.
//! - `tls`: TLS, which builds `ring` with a C compiler.
//! - `websocket`: WebSocket, and with `tls` WebSocket over TLS.
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
