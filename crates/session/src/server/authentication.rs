//! Enhanced authentication at the server: AUTH, before CONNACK and after it.

use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::{
    AckProperties, AuthRef, Decoded, PacketRef, PacketType, ReasonCode, decode_ref,
};

use super::{ServerConnection, State};
use crate::authentication::{Turn, in_turn};
use crate::diagnostics::{self, Fit};
use crate::event::{ServerEvent, ServerInput};
use crate::{ProtocolError, Tick, UsageError};

impl<M> ServerConnection<M> {
    /// Asks the client for more: AUTH 0x18 with the method of its CONNECT [MQTT-4.12.0-2] [MQTT-4.12.0-5].
    ///
    /// An answer to [`ServerEvent::Connect`] whose CONNECT names a method, and to every
    /// [`ServerEvent::Auth`]; the client's answer is the next [`ServerEvent::Auth`]. All of an exchange has the
    /// handshake timeout.
    ///
    /// # Errors
    ///
    /// [`UsageError::NoAuthenticationStep`] where no step of the client waits for an answer,
    /// [`UsageError::TooLarge`] where the client accepts no AUTH of this size, and [`UsageError::Encode`] for
    /// data that are too long; nothing was written.
    pub fn challenge(
        &mut self,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        self.put_auth(ReasonCode::ContinueAuthentication, data, properties)?;
        if self.state == State::AwaitAccept {
            self.state = State::Authenticating;
        }
        self.note_auth_sent(Turn::Peer);
        Ok(())
    }

    /// Says that the client has authenticated itself anew: AUTH 0x00.
    ///
    /// The first authentication of a connection ends with [`accept`](Self::accept). One that fails ends with
    /// [`refuse`](Self::refuse), or later with [`disconnect`](Self::disconnect) [MQTT-4.12.1-2].
    ///
    /// # Errors
    ///
    /// Those of [`challenge`](Self::challenge), `NoAuthenticationStep` also before CONNACK.
    pub fn confirm_authentication(
        &mut self,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        if self.state != State::Connected {
            return Err(UsageError::NoAuthenticationStep);
        }
        self.put_auth(ReasonCode::Success, data, properties)?;
        self.note_auth_sent(Turn::Over);
        self.handshake_due = Tick::NEVER;
        Ok(())
    }

    /// The client's next step before CONNACK: AUTH, or that it gives up.
    pub(super) fn handle_authenticating<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<ServerInput<'a, M>, ProtocolError> {
        // Known from the first byte: nothing else is buffered before CONNACK [MQTT-3.1.2-30].
        let packet_type = input.first().copied().and_then(PacketType::from_first_byte);
        if let Some(packet_type) = packet_type
            && !matches!(packet_type, PacketType::Auth | PacketType::Disconnect)
        {
            return Err(ProtocolError::NotAuthenticated { packet_type });
        }
        let decoded = decode_ref(input, self.flow.version, &self.config.limits)?;
        let Some(Decoded { packet, length }) = decoded else {
            return Ok(ServerInput::consumed(0));
        };
        let event = match packet {
            PacketRef::Auth(auth) => {
                let event = self.handle_continued(auth)?;
                self.state = State::AwaitAccept;
                event
            }
            PacketRef::Disconnect(disconnect) => self.handle_disconnect(disconnect)?,
            _ => {
                let packet_type = packet.packet_type();
                return Err(ProtocolError::NotAuthenticated { packet_type });
            }
        };
        Ok(ServerInput {
            consumed: length,
            event: Some(event),
            hold: None,
        })
    }

    /// AUTH after CONNACK: a new authentication, or the next step of one [U5-093].
    pub(super) fn handle_auth<'a>(
        &mut self,
        now: Tick,
        auth: AuthRef<'a>,
    ) -> Result<ServerEvent<'a, M>, ProtocolError> {
        if auth.reason != ReasonCode::ReAuthenticate {
            return self.handle_continued(auth);
        }
        // [U5-090]
        let exchange = self.authentication.as_deref_mut();
        let exchange = exchange.ok_or(ProtocolError::UnexpectedAuth)?;
        exchange.receive(&auth, Turn::Over, Turn::Own)?;
        self.handshake_due = now.saturating_add(self.config.handshake_timeout_ms);
        Ok(ServerEvent::Auth(auth))
    }

    /// AUTH 0x18, the client's answer to ours [MQTT-4.12.0-3].
    fn handle_continued<'a>(
        &mut self,
        auth: AuthRef<'a>,
    ) -> Result<ServerEvent<'a, M>, ProtocolError> {
        let reason = auth.reason;
        if reason != ReasonCode::ContinueAuthentication {
            return Err(ProtocolError::AuthReason { reason });
        }
        let exchange = self.authentication.as_deref_mut();
        let exchange = exchange.ok_or(ProtocolError::UnexpectedAuth)?;
        exchange.receive(&auth, Turn::Peer, Turn::Own)?;
        Ok(ServerEvent::Auth(auth))
    }

    /// The client's next step may wait unseen: a new authentication has no time to keep meanwhile.
    pub(super) fn pause_authentication(&mut self) {
        if self.state == State::Connected {
            self.handshake_due = Tick::NEVER;
        }
    }

    /// One that is under way has its time from now on.
    pub(super) fn resume_authentication(&mut self, now: Tick) {
        let exchange = self.authentication.as_deref();
        let is_under_way = exchange.is_some_and(|exchange| !exchange.is_over());
        if self.state == State::Connected && is_under_way && self.handshake_due == Tick::NEVER {
            self.handshake_due = now.saturating_add(self.config.handshake_timeout_ms);
        }
    }

    fn put_auth(
        &mut self,
        reason: ReasonCode,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        if !matches!(self.state, State::AwaitAccept | State::Connected) {
            return Err(UsageError::NoAuthenticationStep);
        }
        let exchange = in_turn(self.authentication.as_deref(), Turn::Own)?;
        let mut packet = exchange.packet(reason, data, properties);
        if !self.flow.limits.problem_information {
            diagnostics::strip(&mut packet); // [MQTT-3.1.2-29]
        }
        match self.flow.put_packet(&mut packet)? {
            Fit::Written => Ok(()),
            Fit::TooLarge => Err(UsageError::TooLarge),
        }
    }

    fn note_auth_sent(&mut self, next: Turn) {
        if let Some(exchange) = &mut self.authentication {
            exchange.note_sent(next);
        }
    }
}
