//! The server's side of a pair: the session crate's own, and what its owner would keep.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use whimbrel_broker_core::session::codec::{ProtocolVersion, QoS, ReasonCode};
use whimbrel_broker_core::session::{
    Accept, Deliver, Epoch, ProtocolError, Redeliver, ServerConfig, ServerConnection, ServerEvent,
    SessionState,
};

use super::client::{Heard, NOW, Owed, take_output, with_fan_out};
use super::model::StateText;
use super::packet::message_of;

/// A server of one client, over all its connections. Items are numbers of messages.
#[derive(Debug)]
pub(crate) struct Server {
    config: ServerConfig,
    /// The `QoS` of each message, by its number.
    qos: &'static [QoS],
    epoch: u32,
    connection: ServerConnection<u8>,
    /// The session, while no connection has it.
    stored: Option<SessionState<u8>>,
    /// CONNECT has come and waits for its answer.
    asked: bool,
    carry: Vec<u8>,
    owed: VecDeque<Owed>,
}

impl Server {
    pub(crate) fn new(window: NonZeroU16, qos: &'static [QoS]) -> Self {
        let mut config = ServerConfig::default();
        config.receive_maximum = window;
        config.in_flight_max = window;
        Self {
            connection: ServerConnection::new(NOW, Epoch(1), config),
            config,
            qos,
            epoch: 1,
            stored: None,
            asked: false,
            carry: Vec::new(),
            owed: VecDeque::new(),
        }
    }

    /// The connection is gone, and a new one waits for its CONNECT.
    ///
    /// `settle` hears of each acknowledgement that was not given, and may correct the session.
    pub(crate) fn reconnect(&mut self, mut settle: impl FnMut(&mut SessionState<u8>, Owed)) {
        self.epoch += 1;
        let fresh = ServerConnection::new(NOW, Epoch(self.epoch), self.config);
        let old = std::mem::replace(&mut self.connection, fresh);
        // One that was never accepted has none, and the one before it stays.
        if let Some(state) = old.into_state() {
            self.stored = Some(state);
        }
        for owed in std::mem::take(&mut self.owed) {
            if let Some(state) = &mut self.stored {
                settle(state, owed);
            }
        }
        self.carry.clear();
        self.asked = false;
    }

    /// Bytes came.
    pub(crate) fn handle_input(
        &mut self,
        bytes: &[u8],
        heard: &mut Vec<Heard>,
    ) -> Result<(), ProtocolError> {
        self.carry.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.carry);
        let mut rest = &input[..];
        loop {
            let handled = self.connection.handle_input(NOW, rest)?;
            let (consumed, event) = (handled.consumed, handled.event);
            rest = &rest[consumed..];
            match event {
                Some(ServerEvent::Connect(_)) => self.asked = true,
                Some(ServerEvent::Publish(publish)) => {
                    let message = message_of(publish.publish.payload());
                    let qos = publish.publish.qos();
                    heard.push(Heard::Message { message, qos });
                    self.owed.extend(publish.token.map(|token| Owed {
                        token,
                        message: Some(message),
                    }));
                }
                Some(ServerEvent::Release { token, .. } | ServerEvent::Received { token, .. }) => {
                    self.owed.push_back(Owed {
                        token,
                        message: None,
                    });
                }
                Some(ServerEvent::Delivered { item, reason, .. }) => heard.push(Heard::Settled {
                    message: item,
                    reason,
                }),
                Some(ServerEvent::Disconnect(disconnect)) => heard.push(Heard::Ended {
                    reason: disconnect.reason,
                }),
                Some(
                    ServerEvent::Auth(_)
                    | ServerEvent::Subscribe { .. }
                    | ServerEvent::Unsubscribe { .. },
                )
                | None => {}
            }
            if consumed == 0 {
                break;
            }
        }
        self.carry.extend_from_slice(rest);
        self.resend();
        Ok(())
    }

    /// Whether CONNECT waits for its answer.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Accepts the connection, with the session if there is one.
    pub(crate) fn accept(&mut self) {
        self.asked = false;
        let accept = match self.stored.take() {
            Some(session) => Accept::resume(session),
            None => Accept::new_session(),
        };
        let accepted = self.connection.accept(NOW, accept);
        debug_assert!(accepted.is_ok(), "{accepted:?}");
        self.resend();
    }

    /// Delivers a message; `false` if it has to wait.
    pub(crate) fn deliver(&mut self, message: u8) -> bool {
        let deliver = Deliver {
            qos: self.qos[usize::from(message)],
            ..Deliver::default()
        };
        let connection = &mut self.connection;
        with_fan_out(message, |fan_out| {
            connection.deliver(fan_out, deliver, message).is_ok()
        })
    }

    /// Whether a message could be delivered now.
    pub(crate) fn may_deliver(&self) -> bool {
        self.connection.credit_available()
    }

    /// Acknowledgements that the owner may give now.
    pub(crate) fn owes(&self) -> usize {
        self.owed.len()
    }

    /// The owner gives one of them.
    pub(crate) fn acknowledge(&mut self, index: usize) {
        if let Some(owed) = self.owed.remove(index) {
            let given = self.connection.ack(owed.token, ReasonCode::Success);
            debug_assert!(given.is_ok(), "{given:?}");
        }
    }

    /// Takes all that is to go on the link.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        take_output(self.connection.output())
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.connection.version()
    }

    /// The session in the end.
    pub(crate) fn into_state(self) -> SessionState<u8> {
        let state = self.connection.into_state();
        state.or(self.stored).unwrap_or_default()
    }

    pub(crate) fn write_state(&self, text: &mut StateText) {
        let Self {
            // The same in every state.
            config: _,
            qos: _,
            epoch,
            connection,
            stored,
            asked,
            carry,
            owed,
        } = self;
        text.debug(epoch);
        text.debug(connection);
        text.debug(stored);
        text.debug(asked);
        text.bytes(carry);
        text.debug(owed);
    }

    /// Sends again what the session has open, as far as the window goes.
    fn resend(&mut self) {
        while let Some(resend) = self.connection.next_resend() {
            let message = *resend.item;
            let connection = &mut self.connection;
            let sent = with_fan_out(message, |fan_out| {
                connection.resend(fan_out, Redeliver::default()).is_ok()
            });
            if !sent {
                break;
            }
        }
    }
}
