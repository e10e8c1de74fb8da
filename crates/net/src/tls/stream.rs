//! A TLS connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client;

use super::fault::explain;
use crate::tcp::TcpStream;

/// A TLS connection over TCP.
///
/// A read ends with `Ok(0)` only after the server's closing message; a connection that just ends is
/// an error with [`TlsFault::Truncated`](crate::TlsFault::Truncated) inside, since an attacker could
/// have cut it. Shutdown sends our closing message and ends the writing side; reads go on.
#[derive(Debug)]
pub struct TlsStream {
    io: client::TlsStream<TcpStream>,
}

impl TlsStream {
    pub(super) fn new(io: client::TlsStream<TcpStream>) -> Self {
        Self { io }
    }

    /// The TCP connection beneath.
    pub fn tcp(&self) -> &TcpStream {
        self.io.get_ref().0
    }

    /// The application protocol that the server chose among those offered, if it chose one.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.io.get_ref().1.alpn_protocol()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io)
            .poll_read(context, buffer)
            .map_err(explain)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io)
            .poll_write(context, bytes)
            .map_err(explain)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io)
            .poll_write_vectored(context, slices)
            .map_err(explain)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io)
            .poll_flush(context)
            .map_err(explain)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io)
            .poll_shutdown(context)
            .map_err(explain)
    }
}
