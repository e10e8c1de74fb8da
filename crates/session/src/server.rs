//! [`ServerConnection`]: the server's side of one network connection.

mod authentication;
mod handshake;
mod messages;

use std::sync::Arc;

use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{
    AckProperties, AckRef, Decoded, Disconnect, DisconnectRef, Packet, PacketRef, ProtocolVersion,
    QoS, ReasonCode, SubAck, SubscribeRef, UnsubAck, UnsubscribeRef, WriteBuf, decode_ref,
};

use crate::ack::AckKind;
use crate::authentication::Exchange;
use crate::diagnostics::Fit;
use crate::direction;
use crate::event::{Hold, ServerEvent, ServerInput, TimeoutKind};
use crate::flow::{Flow, FlowEvent};
use crate::keep_alive::KeepAlive;
use crate::{
    AckToken, Epoch, ProtocolError, ServerConfig, SessionExpiry, SessionState, Tick, UsageError,
};

pub use self::handshake::Accept;

/// The server's side of one network connection, from its first byte to its last.
///
/// Bytes of the client go into [`handle_input`](Self::handle_input), which decodes one packet and says
/// what the caller has to do about it; bytes for the client collect in [`output`](Self::output). After
/// every call that may have written, the caller flushes the output; after every call at all, it reads
/// [`poll_timeout`](Self::poll_timeout) again and, once that moment has come, calls
/// [`handle_timeout`](Self::handle_timeout). When [`is_closing`](Self::is_closing) turns true, it flushes
/// once more, closes the transport and takes the session out with [`into_state`](Self::into_state).
///
/// `M` is what the caller needs to encode a message once more after a reconnect; it is given to
/// [`deliver`](Self::deliver) and comes back when the exchange is over.
#[derive(Debug)]
pub struct ServerConnection<M> {
    state: State,
    config: Arc<ServerConfig>,
    flow: Flow<M>,
    keep_alive: KeepAlive,
    /// When the handshake or a new authentication has taken too long; [`Tick::NEVER`] while there is none.
    handshake_due: Tick,
    requested: Requested,
    /// Of a CONNECT that names a method.
    authentication: Option<Box<Exchange>>,
    /// In force, from CONNECT, CONNACK or DISCONNECT.
    session_expiry: SessionExpiry,
    /// `flow` has a session that is to come out again.
    has_session: bool,
}

/// ```text
///                  CONNECT                accept
///   AwaitConnect ──────────▶ AwaitAccept ────────▶ Connected
///        │                    │   ▲   │                │ DISCONNECT, either way
///        │          challenge │   │   │ refuse,        │ error, timeout
///        │                    ▼   │   │ timeout        │
///        │ error,   Authenticating AUTH               │
///        │ timeout            │       │                │
///        ▼                    ▼       ▼                ▼
///      Closing ◀──────────────┴───────┴────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitConnect,
    AwaitAccept,
    /// The client is to send AUTH.
    Authenticating,
    Connected,
    /// Nothing is read or written any more.
    Closing,
}

/// What CONNECT asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Requested {
    keep_alive_secs: u16,
    session_expiry: SessionExpiry,
    /// [MQTT-3.1.2-28]
    response_information: bool,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a token is used up by its acknowledgement"
)]
impl<M> ServerConnection<M> {
    /// A connection that waits for CONNECT from `now` on.
    ///
    /// Its tokens carry `epoch`. Connections that are given the same `Arc` share one configuration.
    pub fn new(now: Tick, epoch: Epoch, config: impl Into<Arc<ServerConfig>>) -> Self {
        let config = config.into();
        Self {
            state: State::AwaitConnect,
            flow: Flow::new(
                epoch,
                ProtocolVersion::V311,
                handshake::initial_limits(&config),
            ),
            keep_alive: KeepAlive::off(now),
            handshake_due: now.saturating_add(config.handshake_timeout_ms),
            config,
            requested: Requested::default(),
            authentication: None,
            session_expiry: SessionExpiry::AT_CLOSE,
            has_session: false,
        }
    }

    /// Decodes and handles at most one packet at the start of `input`.
    ///
    /// Call again with what is left until nothing is consumed. An event is to be acted upon before the
    /// next call. While the connection is closing, all input is consumed and ignored [MQTT-3.1.4-6].
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] where the client broke the protocol. The CONNACK or DISCONNECT that the standard
    /// allows as an answer is in the output already, and the connection is closing.
    pub fn handle_input<'a>(
        &mut self,
        now: Tick,
        input: &'a [u8],
    ) -> Result<ServerInput<'a, M>, ProtocolError> {
        let handled = match self.state {
            State::AwaitConnect => self.handle_first_packet(input),
            State::AwaitAccept => return Ok(ServerInput::held(Hold::Handshake)),
            State::Authenticating => self.handle_authenticating(input),
            State::Connected => self.handle_packet(now, input),
            State::Closing => return Ok(ServerInput::consumed(input.len())),
        };
        self.flow.assert_invariants();
        handled.map_err(|error| self.fail(error))
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP, whichever `token` is for, once it is the turn of its packet
    /// [MQTT-4.6.0-2].
    ///
    /// A PUBREC of 0x80 or above frees the id. MQTT 3.x knows no reasons: every one acknowledges.
    /// A token of another connection does nothing.
    ///
    /// # Errors
    ///
    /// [`UsageError::WrongToken`] for the token of a SUBSCRIBE or UNSUBSCRIBE, [`UsageError::ReasonNotAllowed`]
    /// for a code that the standard does not list for the packet; the packet stays unacknowledged.
    pub fn ack(&mut self, token: AckToken, reason: ReasonCode) -> Result<(), UsageError> {
        self.flow.ack(&token, reason)
    }

    /// Like [`ack`](Self::ack), with a reason in words. It is left out where the client did not ask for it
    /// [MQTT-3.1.2-29] or accepts no packet of that size [MQTT-3.4.2-2].
    ///
    /// # Errors
    ///
    /// Those of `ack`, and [`UsageError::Encode`] for texts that are too long.
    pub fn ack_with(
        &mut self,
        token: AckToken,
        reason: ReasonCode,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        self.flow.ack_with(&token, reason, properties)
    }

    /// Sends SUBACK with one code for each filter, in their order [MQTT-3.8.4-6].
    ///
    /// MQTT 3.1.1 clients get 0x80 for every failure. A SUBACK that the client does not accept for its
    /// size ends the connection.
    ///
    /// # Errors
    ///
    /// [`UsageError::WrongToken`], [`UsageError::CodeCount`] or [`UsageError::ReasonNotAllowed`]; the packet
    /// stays unacknowledged.
    pub fn ack_subscribe(
        &mut self,
        token: AckToken,
        codes: &[ReasonCode],
    ) -> Result<(), UsageError> {
        self.check_codes(&token, AckKind::SubAck, codes)?;
        let packet = Packet::SubAck(Box::new(SubAck {
            id: token.packet_id(),
            codes: codes.to_vec(),
            properties: AckProperties::new(),
        }));
        self.settle_request(&token, packet)
    }

    /// Sends UNSUBACK, in MQTT 5 with one code for each filter [MQTT-3.11.3-1].
    ///
    /// # Errors
    ///
    /// Those of [`ack_subscribe`](Self::ack_subscribe).
    pub fn ack_unsubscribe(
        &mut self,
        token: AckToken,
        codes: &[ReasonCode],
    ) -> Result<(), UsageError> {
        self.check_codes(&token, AckKind::UnsubAck, codes)?;
        let packet = Packet::UnsubAck(Box::new(UnsubAck {
            id: token.packet_id(),
            codes: codes.to_vec(),
            properties: AckProperties::new(),
        }));
        self.settle_request(&token, packet)
    }

    /// Never acknowledges the packet: how an MQTT 3.x publisher is refused without closing.
    ///
    /// Later acknowledgements no longer wait for it. A QoS 2 id is free, so that the client's repeat on its
    /// next connection is a new message.
    pub fn withhold(&mut self, token: AckToken) {
        self.flow.withhold(&token);
    }

    /// Ends the connection; MQTT 5 clients that were accepted are told `reason`.
    ///
    /// After it nothing is written [MQTT-3.14.4-1].
    ///
    /// # Errors
    ///
    /// [`UsageError::ReasonNotAllowed`] for a code that a server can't send.
    pub fn disconnect(&mut self, reason: ReasonCode) -> Result<(), UsageError> {
        self.disconnect_with(Disconnect::new(reason))
    }

    /// Like [`disconnect`](Self::disconnect), with a reason in words or another server to use.
    ///
    /// A Session Expiry Interval is left out: servers never send one [MQTT-3.14.2-2].
    ///
    /// # Errors
    ///
    /// Those of `disconnect`, and [`UsageError::Encode`] for texts that are too long.
    pub fn disconnect_with(&mut self, disconnect: Disconnect) -> Result<(), UsageError> {
        direction::check_server_disconnect(disconnect.reason)?;
        // [MQTT-3.14.0-1]
        if self.state == State::Connected && self.flow.version.is_v5() {
            let disconnect = Disconnect {
                session_expiry_secs: None,
                ..disconnect
            };
            // A client that accepts not even this much is only closed.
            let _ = self
                .flow
                .put_packet(&mut Packet::Disconnect(Box::new(disconnect)))?;
        }
        self.close();
        Ok(())
    }

    /// The caller has stopped reading for reasons of its own: keep alive and the time for a new authentication stand
    /// still, since packets may wait unseen.
    pub fn pause_input(&mut self, now: Tick) {
        self.keep_alive.pause(now);
        self.pause_authentication();
    }

    /// The caller reads again.
    pub fn resume_input(&mut self, now: Tick) {
        self.keep_alive.resume(now);
        self.resume_authentication(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Tick> {
        let due = match self.state {
            State::Connected => self.handshake_due.min(self.silent_at()),
            _ => self.handshake_due,
        };
        (due != Tick::NEVER).then_some(due)
    }

    /// Ends the connection if it has run out of time.
    ///
    /// Returns why, if it has. MQTT 5 clients are told: 0x8D for keep alive [MQTT-3.1.2-22], CONNACK 0x88
    /// where the caller did not answer CONNECT in time, 0x87 where the client did not finish an
    /// authentication.
    pub fn handle_timeout(&mut self, now: Tick) -> Option<TimeoutKind> {
        let kind = if self.handshake_due <= now && self.handshake_due != Tick::NEVER {
            match self.state {
                State::Connected => {
                    self.tell_reason(ReasonCode::NotAuthorized); // [MQTT-4.12.1-2]
                    TimeoutKind::Authentication
                }
                State::AwaitAccept => {
                    self.answer_connect_with_failure(ReasonCode::ServerUnavailable);
                    TimeoutKind::Connect
                }
                State::Authenticating => {
                    self.answer_connect_with_failure(ReasonCode::NotAuthorized);
                    TimeoutKind::Connect
                }
                State::AwaitConnect | State::Closing => TimeoutKind::Connect,
            }
        } else if self.poll_timeout()? <= now {
            self.tell_reason(ReasonCode::KeepAliveTimeout);
            TimeoutKind::KeepAlive
        } else {
            return None;
        };
        self.close();
        Some(kind)
    }

    /// Bytes for the client.
    pub fn output(&mut self) -> &mut WriteBuf {
        &mut self.flow.output
    }

    /// How many packets were written into the output since this was last asked.
    pub fn take_packets_sent(&mut self) -> u64 {
        self.flow.take_packets_sent()
    }

    /// Whether the connection is to be closed once the output is flushed.
    pub fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// The version that packets are read and written in: that of CONNECT, 3.1.1 before it.
    pub fn version(&self) -> ProtocolVersion {
        self.flow.version
    }

    /// How long the session is to outlive this connection: CONNECT's value, or that of the CONNACK or
    /// DISCONNECT that replaced it [U5-037, U5-081].
    pub fn session_expiry(&self) -> SessionExpiry {
        self.session_expiry
    }

    /// QoS 1 and 2 publications open towards the client, counted on this connection; those that are prepared
    /// among them.
    pub fn in_flight(&self) -> usize {
        self.flow.session.outbound.in_flight()
    }

    /// Whether [`deliver`](Self::deliver) has room in its window for a message of QoS 1 or 2.
    pub fn credit_available(&self) -> bool {
        self.state == State::Connected && self.flow.has_send_room()
    }

    /// QoS 1 and 2 publications that the client may still send before it has to wait.
    ///
    /// MQTT 5 clients keep to it themselves. MQTT 3.x clients don't know it: at 0 their next such PUBLISH is
    /// not decoded, and the caller reads no more until an acknowledgement is given.
    pub fn receive_credit(&self) -> usize {
        self.flow.receive_credit()
    }

    /// Gives back memory that a burst has left; for connections that have turned idle.
    pub fn release_memory(&mut self) {
        self.flow.release_memory();
    }

    /// The session as this connection leaves it, if it was accepted.
    pub fn into_state(self) -> Option<SessionState<M>> {
        self.has_session.then(|| self.flow.into_session())
    }

    fn handle_packet<'a>(
        &mut self,
        now: Tick,
        input: &'a [u8],
    ) -> Result<ServerInput<'a, M>, ProtocolError> {
        let Some(&first_byte) = input.first() else {
            return Ok(ServerInput::consumed(0));
        };
        if let Some(hold) = self.flow.hold(first_byte) {
            return Ok(ServerInput::held(hold));
        }
        let decoded = decode_ref(input, self.flow.version, &self.config.limits)?;
        let Some(Decoded { packet, length }) = decoded else {
            return Ok(ServerInput::consumed(0));
        };
        // Only complete packets count [MQTT-3.1.2-22].
        self.keep_alive.heard(now);
        let event = match packet {
            PacketRef::Publish(publish) => {
                self.check_publish(publish.qos(), publish.retain())?;
                // [MQTT-3.3.4-6]
                if publish.properties().subscription_ids().next().is_some() {
                    return Err(ProtocolError::SubscriptionIdFromClient);
                }
                self.flow.handle_publish(publish)?.map(ServerEvent::Publish)
            }
            PacketRef::PubAck(ack) => self.exchange_event(&ack, Flow::handle_pub_ack)?,
            PacketRef::PubRec(ack) => self.exchange_event(&ack, Flow::handle_pub_rec)?,
            PacketRef::PubRel(ack) => self.exchange_event(&ack, Flow::handle_pub_rel)?,
            PacketRef::PubComp(ack) => self.exchange_event(&ack, Flow::handle_pub_comp)?,
            PacketRef::Subscribe(subscribe) => Some(self.handle_subscribe(subscribe)?),
            PacketRef::Unsubscribe(unsubscribe) => Some(self.handle_unsubscribe(unsubscribe)),
            PacketRef::PingReq => {
                self.flow.put_pingresp(); // [MQTT-3.12.4-1]
                None
            }
            PacketRef::Disconnect(disconnect) => Some(self.handle_disconnect(disconnect)?),
            PacketRef::Connect(_) => return Err(ProtocolError::ConnectTwice), // [MQTT-3.1.0-2]
            PacketRef::Auth(auth) => Some(self.handle_auth(now, auth)?),
            PacketRef::ConnAck(_)
            | PacketRef::SubAck(_)
            | PacketRef::UnsubAck(_)
            | PacketRef::PingResp => {
                return Err(ProtocolError::WrongDirection {
                    packet_type: packet.packet_type(),
                });
            }
        };
        Ok(ServerInput {
            consumed: length,
            event,
            hold: None,
        })
    }

    fn check_publish(&self, qos: QoS, retain: bool) -> Result<(), ProtocolError> {
        // MQTT 3.x clients are not told, so they can't break it.
        if !self.flow.version.is_v5() {
            return Ok(());
        }
        if qos > self.config.maximum_qos {
            return Err(ProtocolError::QosNotSupported);
        }
        if retain && !self.config.retain_available {
            return Err(ProtocolError::RetainNotSupported);
        }
        Ok(())
    }

    fn exchange_event<'a>(
        &mut self,
        ack: &AckRef<'_>,
        handle: impl FnOnce(&mut Flow<M>, &AckRef<'_>) -> Result<Option<FlowEvent<M>>, ProtocolError>,
    ) -> Result<Option<ServerEvent<'a, M>>, ProtocolError> {
        let event = handle(&mut self.flow, ack)?;
        Ok(event.map(|event| match event {
            FlowEvent::Delivered {
                packet_id,
                item,
                reason,
            } => ServerEvent::Delivered {
                packet_id,
                item,
                reason,
            },
            FlowEvent::Received { packet_id, token } => ServerEvent::Received { packet_id, token },
            FlowEvent::Release { packet_id, token } => ServerEvent::Release { packet_id, token },
        }))
    }

    fn handle_subscribe<'a>(
        &mut self,
        subscribe: SubscribeRef<'a>,
    ) -> Result<ServerEvent<'a, M>, ProtocolError> {
        direction::check_filters(&subscribe, self.flow.version, &self.config)?;
        let filters = subscribe.filters().len();
        let token = self
            .flow
            .owe_request(AckKind::SubAck, subscribe.id, filters);
        Ok(ServerEvent::Subscribe { subscribe, token })
    }

    fn handle_unsubscribe<'a>(&mut self, unsubscribe: UnsubscribeRef<'a>) -> ServerEvent<'a, M> {
        let filters = unsubscribe.filters().len();
        let token = self
            .flow
            .owe_request(AckKind::UnsubAck, unsubscribe.id, filters);
        ServerEvent::Unsubscribe { unsubscribe, token }
    }

    fn handle_disconnect<'a>(
        &mut self,
        disconnect: DisconnectRef<'a>,
    ) -> Result<ServerEvent<'a, M>, ProtocolError> {
        let reason = disconnect.reason;
        if !direction::client_disconnects_with(reason) {
            return Err(ProtocolError::DisconnectReason { reason });
        }
        if let Some(seconds) = disconnect.properties.session_expiry_secs() {
            // Compared with what CONNECT said, not with what is in force (B2).
            if seconds > 0 && self.requested.session_expiry.is_at_close() {
                return Err(ProtocolError::SessionExpiryRaised);
            }
            self.session_expiry = SessionExpiry::from_secs(seconds);
        }
        self.close();
        Ok(ServerEvent::Disconnect(disconnect))
    }

    fn check_codes(
        &self,
        token: &AckToken,
        kind: AckKind,
        codes: &[ReasonCode],
    ) -> Result<(), UsageError> {
        let packet_type = kind.packet_type();
        if token.kind() != kind {
            return Err(UsageError::WrongToken {
                packet_type: token.acknowledged_by(),
            });
        }
        let expected = self.flow.requested_filters(token);
        if expected.is_some_and(|filters| filters != codes.len()) {
            return Err(UsageError::CodeCount { packet_type });
        }
        match codes.iter().find(|code| !code.allowed_in(packet_type)) {
            Some(&reason) => Err(UsageError::ReasonNotAllowed {
                reason,
                packet_type,
            }),
            None => Ok(()),
        }
    }

    fn settle_request(&mut self, token: &AckToken, packet: Packet) -> Result<(), UsageError> {
        match self
            .flow
            .settle_with_packet(token, ReasonCode::Success, packet)?
        {
            Fit::Written => Ok(()),
            // The client waits for an answer that it does not accept [MQTT-3.1.2-24].
            Fit::TooLarge => self.disconnect(ReasonCode::ImplementationSpecificError),
        }
    }

    /// Answers a broken protocol and closes [MQTT-4.8.0-1, U5-111].
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        match self.state {
            State::AwaitConnect => self.answer_bad_connect(&error),
            State::Connected => {
                let reason = Some(error.reason_code())
                    .filter(|&reason| direction::check_server_disconnect(reason).is_ok())
                    .unwrap_or(ReasonCode::ProtocolError);
                let mut disconnect = Disconnect::new(reason);
                disconnect.reason_string = self.reason_string(&error);
                self.tell(disconnect);
            }
            State::Authenticating => self.answer_connect_with_error(&error),
            State::AwaitAccept | State::Closing => {}
        }
        self.close();
        error
    }

    /// Writes a DISCONNECT that gives `reason`, where there is one to write.
    fn tell_reason(&mut self, reason: ReasonCode) {
        self.tell(Disconnect::new(reason));
    }

    fn tell(&mut self, disconnect: Disconnect) {
        if self.state == State::Connected && self.flow.version.is_v5() {
            let mut packet = Packet::Disconnect(Box::new(disconnect));
            let written = self.flow.put_packet(&mut packet);
            debug_assert!(
                written.is_ok(),
                "a DISCONNECT with a short reason can be encoded"
            );
        }
    }

    /// What was wrong in words, for a client that is to be told and did not say that it does not care.
    fn reason_string(&self, error: &ProtocolError) -> Option<ByteStr> {
        let is_told = self.config.reason_strings && self.flow.limits.problem_information;
        is_told.then(|| error.to_reason_string())
    }

    /// When the client will have been silent for too long.
    fn silent_at(&self) -> Tick {
        self.keep_alive.deadline().unwrap_or(Tick::NEVER)
    }

    fn close(&mut self) {
        self.state = State::Closing;
        self.handshake_due = Tick::NEVER;
        self.flow.mute();
    }
}

impl<M> ServerInput<'_, M> {
    fn consumed(consumed: usize) -> Self {
        Self {
            consumed,
            event: None,
            hold: None,
        }
    }

    fn held(hold: Hold) -> Self {
        Self {
            consumed: 0,
            event: None,
            hold: Some(hold),
        }
    }
}

// An idle connection has to be small: brokers hold many.
const _: () = assert!(size_of::<ServerConnection<Box<()>>>() <= 320);
