//! [`Transport`]: the byte stream under a connection, polled, and how it moves between threads.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use whimbrel_broker_core::session::codec::WriteBuf;

/// A stream on the thread that polls it. Whose it is was told at the handshake, and every connection would keep it.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Foreign(Box<Foreign>),
}

/// A stream between two threads.
#[derive(Debug)]
pub(crate) enum Parcel {
    Tcp(std::net::TcpStream),
    Foreign(Box<Foreign>),
}

/// A stream that an embedder brought.
pub(crate) struct Foreign {
    io: Pin<Box<dyn Stream>>,
    /// Something was written since the last flush.
    is_unflushed: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl Transport {
    /// Takes the stream off this thread.
    pub(crate) fn pack(self) -> io::Result<Parcel> {
        Ok(match self {
            Self::Tcp(stream) => Parcel::Tcp(stream.into_std()?),
            Self::Foreign(foreign) => Parcel::Foreign(foreign),
        })
    }

    /// Reads what is there, up to the length of `buffer`; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Foreign(foreign) =>
                guarded(|| foreign.io.as_mut().poll_read(context, &mut buffer)),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes from the front of `output`, which is not empty, and says how much went out.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        output: &mut WriteBuf,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = output.io_slices(&mut slices);
        let slices = &slices[..count];
        let written = ready!(match self {
            Self::Tcp(stream) => match slices {
                // Unlike its vectored twin it knows from a short write that the socket is full.
                [slice] => Pin::new(stream).poll_write(context, slice),
                slices => Pin::new(stream).poll_write_vectored(context, slices),
            },
            Self::Foreign(foreign) => guarded(|| {
                foreign.is_unflushed = true;
                foreign.io.as_mut().poll_write_vectored(context, slices)
            }),
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        // A stream that claims more than it was given does not get us to panic.
        let written = written.min(output.len());
        output.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Hands on what a buffering stream holds; TCP holds nothing.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Foreign(foreign) if foreign.is_unflushed => {
                ready!(guarded(|| foreign.io.as_mut().poll_flush(context)))?;
                foreign.is_unflushed = false;
                Poll::Ready(Ok(()))
            }
            Self::Tcp(_) | Self::Foreign(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends this side of the stream.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Foreign(foreign) => guarded(|| foreign.io.as_mut().poll_shutdown(context)),
        }
    }
}

impl Parcel {
    pub(crate) fn foreign(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self::Foreign(Box::new(Foreign {
            io: Box::pin(io),
            is_unflushed: false,
        }))
    }

    /// Puts the stream onto this thread.
    pub(crate) fn unpack(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Tcp(stream) => Transport::Tcp(TcpStream::from_std(stream)?),
            Self::Foreign(foreign) => Transport::Foreign(foreign),
        })
    }
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foreign").finish_non_exhaustive()
    }
}

/// A panic in an embedder's stream ends that stream, not the shard under it.
fn guarded<T>(poll: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    catch_unwind(AssertUnwindSafe(poll))
        .unwrap_or_else(|_| Poll::Ready(Err(io::Error::other("the stream panicked"))))
}

/// Pieces given to one write: a shared payload takes two, and past some tens the system call's own
/// cost no longer shows.
const SLICES_MAX: usize = 32;
