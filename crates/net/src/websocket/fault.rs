//! What went wrong in WebSocket, in words that say what to do.

use std::io;

use thiserror::Error;
use tokio_tungstenite::tungstenite::{
    Error as Tungstenite,
    error::{CapacityError, ProtocolError},
};

/// What is wrong with a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum WebSocketFault {
    /// The server answered the request with something else than a switch to WebSocket.
    #[error(
        "the server answers with HTTP status {0}, check the path, and the headers if it wants some"
    )]
    Status(u16),
    /// The server chose no subprotocol, or one that was not offered.
    #[error("the server does not take the offered subprotocols, check them and the path")]
    Subprotocol,
    /// What came is not HTTP.
    #[error("the server does not speak HTTP on this port, check the port")]
    NotHttp,
    /// The server switches, but not to WebSocket as RFC 6455 has it.
    #[error(
        "the server's answer is not one of WebSocket, check the path and the proxies on the way"
    )]
    NotWebSocket,
    /// The connection ended during the handshake.
    #[error(
        "the server ended the connection instead of an answer, check that the port is for WebSocket"
    )]
    EndedInHandshake,
    /// The server sent a text frame.
    #[error("the server sent a text frame where only binary frames carry bytes, check the path")]
    TextFrame,
    /// A message from the server is longer than allowed.
    #[error("the server sent a WebSocket message longer than the limit set for the connection")]
    MessageTooLong,
    /// The server broke the rules of RFC 6455.
    #[error("the server broke the WebSocket protocol, a proxy on the way may be the cause")]
    Protocol,
    /// The connection ended without a close frame, so that bytes may be missing.
    #[error("the connection ended without a WebSocket goodbye, bytes may be missing")]
    Truncated,
    /// Nothing can be written after a close frame, of either side.
    #[error("the WebSocket connection is closed for writing")]
    Closed,
    /// The connection beneath failed.
    #[error("the connection under WebSocket failed")]
    Io,
}

/// A fault of an open WebSocket stream. It is inside the `io::Error` that a read or write returns,
/// and [`io::Error::get_ref`] gives it.
#[derive(Debug, Error)]
#[error("{fault}")]
pub struct WebSocketError {
    fault: WebSocketFault,
    source: Option<Tungstenite>,
}

impl WebSocketError {
    pub(super) fn new(fault: WebSocketFault, source: Option<Tungstenite>) -> Self {
        Self { fault, source }
    }

    /// What is wrong.
    pub fn fault(&self) -> WebSocketFault {
        self.fault
    }
}

impl From<WebSocketError> for io::Error {
    fn from(error: WebSocketError) -> Self {
        let kind = match error.fault {
            WebSocketFault::Truncated => io::ErrorKind::UnexpectedEof,
            WebSocketFault::Closed => io::ErrorKind::BrokenPipe,
            WebSocketFault::Io => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

pub(super) fn of_handshake(error: Tungstenite) -> (WebSocketFault, io::Error) {
    let fault = match &error {
        Tungstenite::Http(response) => WebSocketFault::Status(response.status().as_u16()),
        Tungstenite::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            WebSocketFault::Subprotocol
        }
        Tungstenite::Protocol(ProtocolError::HandshakeIncomplete) => {
            WebSocketFault::EndedInHandshake
        }
        Tungstenite::Protocol(
            ProtocolError::HttparseError(_) | ProtocolError::WrongHttpVersion,
        )
        | Tungstenite::Capacity(_)
        | Tungstenite::AttackAttempt
        | Tungstenite::HttpFormat(_) => WebSocketFault::NotHttp,
        Tungstenite::Io(error) if is_reset(error.kind()) => WebSocketFault::EndedInHandshake,
        Tungstenite::Io(_) => WebSocketFault::Io,
        _ => WebSocketFault::NotWebSocket,
    };
    let source = match error {
        Tungstenite::Io(error) => error,
        error => io::Error::other(error),
    };
    (fault, source)
}

/// The fault of an open connection; `None` for errors of the system, and of TLS beneath.
pub(super) fn of_stream(error: &Tungstenite) -> Option<WebSocketFault> {
    match error {
        Tungstenite::Io(_) => None,
        Tungstenite::Capacity(CapacityError::MessageTooLong { .. }) => {
            Some(WebSocketFault::MessageTooLong)
        }
        Tungstenite::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Some(WebSocketFault::Truncated)
        }
        Tungstenite::Protocol(ProtocolError::SendAfterClosing)
        | Tungstenite::ConnectionClosed
        | Tungstenite::AlreadyClosed => Some(WebSocketFault::Closed),
        _ => Some(WebSocketFault::Protocol),
    }
}

/// The error of an open connection, with words that say what to do.
pub(super) fn explain(error: Tungstenite) -> io::Error {
    match (of_stream(&error), error) {
        (Some(fault), error) => WebSocketError::new(fault, Some(error)).into(),
        (None, Tungstenite::Io(error)) => error,
        (None, error) => io::Error::other(error),
    }
}

fn is_reset(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
