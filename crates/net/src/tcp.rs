//! A TCP stream, and the form in which it moves between runtimes.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TCP connection whose options are set and whose peer is known.
///
/// Reads and writes go through tokio's traits, or through [`AsRef`] to the stream beneath for
/// `readable` and `try_read`, which let an idle connection hold no buffer.
#[derive(Debug)]
pub struct TcpStream {
    io: tokio::net::TcpStream,
    peer_addr: SocketAddr,
}

impl TcpStream {
    pub(crate) fn new(io: tokio::net::TcpStream, peer_addr: SocketAddr) -> Self {
        Self { io, peer_addr }
    }

    /// The other end's address, as it was when the connection was made. Unlike the system call it
    /// can't fail.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// The stream beneath, without the peer's address: for who keeps many, and knows it from elsewhere or not at all.
    pub fn into_inner(self) -> tokio::net::TcpStream {
        self.io
    }

    /// This end's address.
    ///
    /// # Errors
    /// What the system says of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Has the system acknowledge now what it has received, rather than with the next bytes that are sent or after some
    /// 40 ms: for a reader that holds back its answer and knows that the other end may wait for the acknowledgement
    /// (Nagle's algorithm). Returns whether the system can be told; only Linux can.
    pub fn acknowledge_now(&self) -> bool {
        #[cfg(target_os = "linux")]
        return socket2::SockRef::from(&self.io)
            .set_tcp_quickack(true)
            .is_ok();
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Takes the stream out of its runtime, to be attached to another.
    ///
    /// Bytes that the kernel holds in either direction stay with the connection.
    ///
    /// # Errors
    /// What the system says when the socket leaves the runtime's poller; the connection is then
    /// closed.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(Detached {
            io: self.io.into_std()?,
            peer_addr: self.peer_addr,
        })
    }
}

impl AsRef<tokio::net::TcpStream> for TcpStream {
    fn as_ref(&self) -> &tokio::net::TcpStream {
        &self.io
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

/// A connection that belongs to no runtime, on its way from one to another.
///
/// ```
/// # use whimbrel_net::{Address, Connect, ListenOptions, TcpListener};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut listener = TcpListener::bind("127.0.0.1:0".parse()?, &ListenOptions::default())?;
/// # let _client = Connect::default().connect_tcp(&Address::from(listener.local_addr()?)).await?;
/// let detached = listener.accept().await?.detach()?;
/// std::thread::spawn(move || {
///     let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
///     let stream = runtime.block_on(async { detached.attach() })?;
///     println!("{} is served here now", stream.peer_addr());
///     Ok::<(), std::io::Error>(())
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a dropped stream is a closed connection"]
pub struct Detached {
    io: std::net::TcpStream,
    peer_addr: SocketAddr,
}

impl Detached {
    /// The other end's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// Registers the stream with the current runtime. What has arrived in the meantime is readable
    /// at once.
    ///
    /// # Errors
    /// What the system says when the runtime's poller takes the socket; the connection is then
    /// closed.
    ///
    /// # Panics
    /// Outside the context of a tokio runtime with I/O enabled.
    pub fn attach(self) -> io::Result<TcpStream> {
        Ok(TcpStream::new(
            tokio::net::TcpStream::from_std(self.io)?,
            self.peer_addr,
        ))
    }
}
