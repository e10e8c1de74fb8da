//! A WebSocket connection as a stream of bytes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream as _;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream as Messages,
    tungstenite::{
        Bytes, Error as Tungstenite, Message,
        handshake::client::Response,
        http::header,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::fault::{WebSocketError, WebSocketFault, explain, of_stream};
use crate::stream::Stream;

/// A WebSocket connection that carries bytes in binary frames, over TCP or TLS.
///
/// Where a frame begins and ends means nothing (RFC 6455 §5.4, and so [5:MQTT-6.0.0-2]): each
/// write, vectored or not, becomes one frame of up to 64 KiB, and reads run across frames. Pings
/// are answered while the stream is read. A text frame is an error and closes the connection with
/// status 1003. Shutdown sends a close frame; then reads go on until the server's close frame,
/// which is the end of the stream.
#[derive(Debug)]
pub struct WebSocketStream {
    messages: Messages<Stream>,
    /// What is left of the message that was received last.
    unread: Bytes,
    reading: Reading,
    /// Our close frame is queued or sent.
    is_closing: bool,
    subprotocol: Option<String>,
    close_code: Option<u16>,
}

/// What the reading side has come to.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Open,
    /// The server said goodbye: end of stream.
    Ended,
    /// Said again at each read: what follows a fault can't be trusted.
    Failed(WebSocketFault),
}

impl WebSocketStream {
    pub(super) fn new(messages: Messages<Stream>, response: &Response) -> Self {
        let subprotocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        Self {
            messages,
            unread: Bytes::new(),
            reading: Reading::Open,
            is_closing: false,
            subprotocol: subprotocol
                .and_then(|name| name.to_str().ok())
                .map(str::to_owned),
            close_code: None,
        }
    }

    /// The subprotocol that the server chose, which is one of those offered; `None` if none was.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The status code of the server's close frame (RFC 6455 §7.4), once that was read and had one.
    pub fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// The stream beneath: TCP or TLS.
    pub fn below(&self) -> &Stream {
        self.messages.get_ref()
    }

    /// Ends the reading side with `fault`, and tells the server why as far as the socket takes it.
    fn fail(&mut self, fault: WebSocketFault, source: Option<Tungstenite>) -> io::Error {
        self.reading = Reading::Failed(fault);
        let code = match fault {
            WebSocketFault::TextFrame => Some(CloseCode::Unsupported),
            WebSocketFault::MessageTooLong => Some(CloseCode::Size),
            WebSocketFault::Protocol => Some(CloseCode::Protocol),
            _ => None,
        };
        if let Some(code) = code
            && !self.is_closing
        {
            self.is_closing = true;
            let reason = Default::default();
            // The connection is over whether or not the server hears of it.
            let _ = Pin::new(&mut self.messages)
                .start_send(Message::Close(Some(CloseFrame { code, reason })));
        }
        WebSocketError::new(fault, source).into()
    }

    /// Queues one frame made by `payload`, once the one before has left.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        payload: impl Fn() -> Bytes,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(Pin::new(&mut self.messages).poll_ready(context)).map_err(explain)?;
            match Pin::new(&mut self.messages).start_send(Message::Binary(payload())) {
                Ok(()) => return Poll::Ready(Ok(())),
                // Answers to pings fill the buffer; it is empty after a flush, so this ends.
                Err(Tungstenite::WriteBufferFull(_)) => {
                    ready!(Pin::new(&mut self.messages).poll_flush(context)).map_err(explain)?;
                }
                Err(error) => return Poll::Ready(Err(explain(error))),
            }
        }
    }
}

impl AsyncRead for WebSocketStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..EMPTY_MESSAGES_PER_READ_MAX {
            if !this.unread.is_empty() {
                let length = this.unread.len().min(buffer.remaining());
                buffer.put_slice(&this.unread.split_to(length));
                return Poll::Ready(Ok(()));
            }
            match this.reading {
                Reading::Open => {}
                Reading::Ended => return Poll::Ready(Ok(())),
                Reading::Failed(fault) => {
                    return Poll::Ready(Err(WebSocketError::new(fault, None).into()));
                }
            }
            match ready!(Pin::new(&mut this.messages).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                // [5:MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(this.fail(WebSocketFault::TextFrame, None)));
                }
                Some(Ok(Message::Close(frame))) => {
                    this.close_code = frame.map(|frame| u16::from(frame.code));
                    this.reading = Reading::Ended;
                    this.is_closing = true;
                    // Another look at the messages sends our answer; there are none to come.
                    let _ = Pin::new(&mut this.messages).poll_next(context);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None => this.reading = Reading::Ended,
                Some(Err(error)) => match of_stream(&error) {
                    // After our close frame a server may just go.
                    Some(WebSocketFault::Truncated) if this.is_closing => {
                        this.reading = Reading::Ended;
                    }
                    Some(fault) => return Poll::Ready(Err(this.fail(fault, Some(error)))),
                    None => {
                        this.reading = Reading::Failed(WebSocketFault::Io);
                        return Poll::Ready(Err(explain(error)));
                    }
                },
            }
        }
        // Let others have their turn before more of a flood of pings.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for WebSocketStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let payload = bytes.get(..FRAME_BYTES_MAX).unwrap_or(bytes);
        if payload.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut()
            .poll_send(context, || Bytes::copy_from_slice(payload))
            .map_ok(|()| payload.len())
    }

    /// One frame for all of the slices, up to its greatest length.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let length = total.min(FRAME_BYTES_MAX);
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let gather = || {
            let mut payload = Vec::with_capacity(length);
            for slice in slices {
                let room = length - payload.len();
                payload.extend_from_slice(slice.get(..room).unwrap_or(slice));
            }
            Bytes::from(payload)
        };
        self.get_mut()
            .poll_send(context, gather)
            .map_ok(|()| length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().messages)
            .poll_flush(context)
            .map_err(explain)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_closing {
            // A buffer full of answers to pings would have no room for the close frame.
            ready!(Pin::new(&mut this.messages).poll_flush(context)).map_err(explain)?;
            this.is_closing = true;
        }
        Pin::new(&mut this.messages)
            .poll_close(context)
            .map_err(explain)
    }
}

/// Frames leave at once, and what a slow socket leaves behind is one frame and a few answers to
/// pings.
pub(super) fn config(message_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
}

/// A write that is longer becomes several frames; the copy of one is all that a slow socket costs.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Two frames of full length with their headers of up to 14 bytes; what is over is for pongs.
const WRITE_BUFFER_BYTES_MAX: usize = 2 * (FRAME_BYTES_MAX + 14);
/// What is asked of the stream beneath at a time; a longer frame gets the room it needs.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Pings and empty messages that one read passes over before it yields.
const EMPTY_MESSAGES_PER_READ_MAX: usize = 64;
