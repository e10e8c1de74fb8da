//! Enhanced authentication: whose turn it is, for both sides of a connection.

use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{AckProperties, Auth, AuthRef, Authentication, Packet, ReasonCode};

use crate::{ProtocolError, UsageError};

/// The authentication method of a connection, and how far its exchange is.
///
/// ```text
///   server:           challenge                 client:      AUTH 0x18 comes
///   CONNECT ──▶ Own ─────────────▶ Peer         CONNECT ──▶ Peer ───────────▶ Own
///              ▲ │ ▲                │                      ▲ │ ▲               │
///    AUTH 0x19 │ │ └────────────────┘        reauthenticate│ │ └───────────────┘
///        comes │ │   AUTH 0x18 comes                       │ │   authenticate
///              │ ▼ CONNACK, AUTH 0x00                      │ ▼ CONNACK, AUTH 0x00
///              Over                                        Over
/// ```
#[derive(Debug)]
pub(crate) struct Exchange {
    method: ByteStr,
    turn: Turn,
}

/// Who is to say something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Own,
    Peer,
    /// Nobody: the client is authenticated.
    Over,
}

impl Exchange {
    pub(crate) fn new(method: ByteStr, turn: Turn) -> Self {
        Self { method, turn }
    }

    /// Whether it is the exchange of this method [MQTT-4.12.0-5].
    pub(crate) fn check_method(&self, method: &str) -> Result<(), ProtocolError> {
        if self.method == *method {
            return Ok(());
        }
        Err(ProtocolError::AuthenticationMethod)
    }

    /// An AUTH of the peer has come, which is legal in `expected` only.
    pub(crate) fn receive(
        &mut self,
        auth: &AuthRef<'_>,
        expected: Turn,
        next: Turn,
    ) -> Result<(), ProtocolError> {
        self.check_method(auth.method)?;
        if self.turn != expected {
            return Err(ProtocolError::UnexpectedAuth);
        }
        self.turn = next;
        Ok(())
    }

    /// Whether nobody is to say anything next.
    pub(crate) fn is_over(&self) -> bool {
        self.turn == Turn::Over
    }

    /// Our own AUTH was written.
    pub(crate) fn note_sent(&mut self, next: Turn) {
        self.turn = next;
    }

    /// CONNACK was written or has come.
    pub(crate) fn finish(&mut self) {
        self.turn = Turn::Over;
    }

    /// The method with data, for AUTH and CONNACK.
    pub(crate) fn with_data(&self, data: Option<Bytes>) -> Authentication {
        Authentication {
            method: self.method.clone(),
            data,
        }
    }

    pub(crate) fn packet(
        &self,
        reason: ReasonCode,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Packet {
        Packet::Auth(Box::new(Auth {
            reason,
            authentication: self.with_data(data),
            properties,
        }))
    }
}

/// The exchange, if it is in the turn that a call of our own needs.
pub(crate) fn in_turn(exchange: Option<&Exchange>, turn: Turn) -> Result<&Exchange, UsageError> {
    exchange
        .filter(|exchange| exchange.turn == turn)
        .ok_or(UsageError::NoAuthenticationStep)
}
