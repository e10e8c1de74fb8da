//! A TCP listener that outlives what it accepts.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Poll, ready},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    accept::{AcceptCounters, AcceptLoop},
    options::{ListenOptions, OptionsError, StreamOptions},
    tcp::TcpStream,
};

/// Accepts TCP connections and sets the options of each.
#[derive(Debug)]
pub struct TcpListener {
    io: tokio::net::TcpListener,
    stream_options: StreamOptions,
    accept_loop: AcceptLoop,
}

impl TcpListener {
    /// Opens a listening socket on `address` and registers it with the current runtime.
    ///
    /// Port 0 takes a free port, which [`local_addr`](Self::local_addr) tells. On Unix an address
    /// whose old connections linger in TIME_WAIT can be taken at once (`SO_REUSEADDR`); on
    /// Windows that option would let another program steal the port, so it is not set.
    ///
    /// # Errors
    /// `InvalidInput` holding an [`OptionsError`] for an option out of range; otherwise what the
    /// system says, such as `AddrInUse`, `AddrNotAvailable` or `PermissionDenied`.
    ///
    /// # Panics
    /// Outside the context of a tokio runtime with I/O enabled.
    pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        options.stream.validate()?;
        let backlog = i32::try_from(options.backlog)
            .ok()
            .filter(|backlog| *backlog > 0);
        let backlog = backlog.ok_or(OptionsError::Backlog)?;

        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(options.ipv6_only)?;
        }
        // Set here too, so that an option which this system refuses fails the bind and not each
        // connection.
        options.stream.apply(&SockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(Self {
            io: tokio::net::TcpListener::from_std(socket.into())?,
            stream_options: options.stream,
            accept_loop: AcceptLoop::new(),
        })
    }

    /// The address that is listened on, with the port the system chose if 0 was asked for.
    ///
    /// # Errors
    /// What the system says of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The next connection, with its options set.
    ///
    /// A connection that is dead on arrival is skipped. When descriptors or memory run out
    /// (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) the call waits 5 ms before it tries again,
    /// then twice as long each time, up to a second, until one succeeds: the waiting clients
    /// stay in the backlog, and the thread stays free for the connections whose end would help.
    /// Cancel-safe: a dropped call loses no connection and does not cut a wait short.
    ///
    /// # Errors
    /// Only what waiting can't mend, such as a listening socket that is no longer valid.
    pub async fn accept(&mut self) -> io::Result<TcpStream> {
        let Self {
            io,
            stream_options,
            accept_loop,
        } = self;
        accept_loop
            .next(|context| {
                let (stream, peer) = ready!(io.poll_accept(context))?;
                Poll::Ready(match stream_options.apply(&SockRef::from(&stream)) {
                    Ok(()) => Ok(TcpStream::new(stream, peer)),
                    // The options passed at bind, so it is the peer that has gone (EINVAL on
                    // macOS).
                    Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
                })
            })
            .await
    }

    /// What this listener has met so far; the counters go on being updated.
    pub fn counters(&self) -> Arc<AcceptCounters> {
        Arc::clone(self.accept_loop.counters())
    }
}
