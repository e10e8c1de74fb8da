//! Enhanced authentication at the client: AUTH, before CONNACK and after it.

use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::{AckProperties, AuthRef, ConnAck, Connect, PacketType, ReasonCode};

use super::{ClientConnection, State};
use crate::authentication::{Exchange, Turn, in_turn};
use crate::diagnostics::Fit;
use crate::event::ClientEvent;
use crate::timer::Timer;
use crate::{ProtocolError, Tick, UsageError};

impl<M> ClientConnection<M> {
    /// Answers the server's [`ClientEvent::Auth`] with AUTH 0x18 and the method of CONNECT [MQTT-4.12.0-3]
    /// [MQTT-4.12.0-5].
    ///
    /// # Errors
    ///
    /// [`UsageError::NoAuthenticationStep`] where the server asks for nothing [MQTT-4.12.0-7],
    /// [`UsageError::TooLarge`] where it accepts no AUTH of this size, and [`UsageError::Encode`] for data that
    /// are too long; nothing was written.
    pub fn authenticate(
        &mut self,
        now: Tick,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        let reason = ReasonCode::ContinueAuthentication;
        self.put_auth(now, Turn::Own, reason, data, properties)
    }

    /// Begins to authenticate anew: AUTH 0x19 with the method of CONNECT [MQTT-4.12.1-1].
    ///
    /// Other traffic goes on meanwhile [U5-093]. It is over with a [`ClientEvent::Auth`] that says success, or
    /// with the connection; all of it has the time that CONNACK has.
    ///
    /// # Errors
    ///
    /// [`UsageError::NotConnected`] before CONNACK, [`UsageError::NoAuthenticationStep`] without a method in
    /// CONNECT [MQTT-4.12.0-7] or while one is under way, and those of [`authenticate`](Self::authenticate).
    pub fn reauthenticate(
        &mut self,
        now: Tick,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        if self.state != State::Connected {
            return Err(UsageError::NotConnected);
        }
        let reason = ReasonCode::ReAuthenticate;
        self.put_auth(now, Turn::Over, reason, data, properties)?;
        let deadline = now.saturating_add(self.config.connack_timeout_ms);
        self.timers.set(Timer::Handshake, Some(deadline));
        Ok(())
    }

    pub(super) fn handle_auth<'a>(
        &mut self,
        auth: AuthRef<'a>,
    ) -> Result<ClientEvent<'a, M>, ProtocolError> {
        self.check_problem_information(PacketType::Auth, auth.properties)?;
        // [U5-090] [MQTT-4.12.0-6]
        let exchange = self.authentication.as_deref_mut();
        let exchange = exchange.ok_or(ProtocolError::UnexpectedAuth)?;
        match auth.reason {
            ReasonCode::ContinueAuthentication => {
                exchange.receive(&auth, Turn::Peer, Turn::Own)?;
            }
            // Before CONNACK, success is CONNACK's to say.
            ReasonCode::Success if self.state == State::Connected => {
                exchange.receive(&auth, Turn::Peer, Turn::Over)?;
                self.timers.set(Timer::Handshake, None);
            }
            reason => return Err(ProtocolError::AuthReason { reason }),
        }
        Ok(ClientEvent::Auth(auth))
    }

    /// A successful CONNACK names the method of CONNECT, and none where CONNECT had none [MQTT-4.12.0-5]
    /// [MQTT-4.12.0-6].
    pub(super) fn finish_authentication(&mut self, connack: &ConnAck) -> Result<(), ProtocolError> {
        let said = connack.properties.authentication.as_ref();
        match (&mut self.authentication, said) {
            (None, None) => Ok(()),
            (Some(exchange), Some(said)) => {
                exchange.check_method(&said.method)?;
                exchange.finish();
                Ok(())
            }
            (None, Some(_)) | (Some(_), None) => Err(ProtocolError::AuthenticationMethod),
        }
    }

    fn put_auth(
        &mut self,
        now: Tick,
        turn: Turn,
        reason: ReasonCode,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        if !matches!(self.state, State::AwaitConnAck | State::Connected) {
            return Err(UsageError::NotConnected);
        }
        let exchange = in_turn(self.authentication.as_deref(), turn)?;
        let mut packet = exchange.packet(reason, data, properties);
        match self.flow.put_packet(&mut packet)? {
            Fit::Written => {}
            Fit::TooLarge => return Err(UsageError::TooLarge),
        }
        if let Some(exchange) = &mut self.authentication {
            exchange.note_sent(Turn::Peer);
        }
        self.note_sent(now);
        Ok(())
    }
}

/// What CONNECT begins with; before MQTT 5 it carries no method.
pub(super) fn begun(connect: &Connect) -> Option<Box<Exchange>> {
    let authentication = connect.properties.authentication.as_ref();
    let authentication = authentication.filter(|_| connect.version.is_v5())?;
    let method = authentication.method.clone();
    Some(Box::new(Exchange::new(method, Turn::Peer)))
}
