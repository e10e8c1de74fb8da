//! [`ClientConnection`]: the client's side of one network connection.

mod authentication;
mod handshake;
mod request;
mod subscription_ids;

use whimbrel_codec::{
    AckProperties, AckRef, Decoded, Disconnect, DisconnectRef, FanOut, Limits, Packet, PacketId,
    PacketRef, PacketType, PropertiesRef, ProtocolVersion, QoS, ReasonCode, WriteBuf, decode_ref,
    encode_pingreq,
};

use crate::authentication::Exchange;
use crate::direction;
use crate::event::{ClientEvent, ClientInput, Hold, TimeoutKind};
use crate::flow::{Deliver, Flow, FlowEvent, FlowLimits, Redeliver, Resend, ResendRefused, Resent};
use crate::timer::{Timer, TimerTable};
use crate::{
    AckToken, ClientConfig, Epoch, ProtocolError, Refused, SessionExpiry, SessionState, Tick,
    UsageError,
};

use self::subscription_ids::GivenIds;

pub use self::request::{RequestRefused, SubscribeRequest, UnsubscribeRequest};

/// The client's side of one network connection, from CONNECT to its last byte.
///
/// The mirror of [`ServerConnection`](crate::ServerConnection), and driven alike: bytes of the server go into
/// [`handle_input`](Self::handle_input), bytes for it collect in [`output`](Self::output), and
/// [`handle_timeout`](Self::handle_timeout) is called when [`poll_timeout`](Self::poll_timeout) says so; it
/// also sends PINGREQ. Whatever may write takes `now`, because the keep alive counts from the last packet
/// that was sent [MQTT-3.1.2-20].
#[derive(Debug)]
pub struct ClientConnection<M> {
    state: State,
    config: ClientConfig,
    limits: Limits,
    flow: Flow<M>,
    timers: TimerTable,
    /// What the server still holds for this client, as far as this side knows. Until CONNACK.
    local_session: Option<SessionState<M>>,
    terms: Terms,
    /// Of a CONNECT that names a method.
    authentication: Option<Box<Exchange>>,
    given_ids: GivenIds,
    /// `flow` has a session that is to come out again.
    has_session: bool,
    /// The caller does not read.
    is_paused: bool,
    /// PINGREQ was sent, and no PINGRESP has come since.
    is_ping_open: bool,
}

/// ```text
///            connect                CONNACK 0x00
///   Ready ────────────▶ AwaitConnAck ─────────▶ Connected
///                             │                     │ DISCONNECT, either way
///                             │ refused,            │ error, timeout
///                             ▼ error, timeout      ▼
///                          Closing ◀────────────────┘
/// ```
///
/// An enhanced authentication goes on in `AwaitConnAck`, a new one in `Connected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    AwaitConnAck,
    Connected,
    /// Nothing is read or written any more.
    Closing,
}

/// What CONNECT asked for and CONNACK has changed.
#[derive(Clone, Copy, Debug)]
struct Terms {
    connect_sent: Tick,
    clean_start: bool,
    keep_alive_secs: u16,
    /// What CONNECT said [U5-082].
    session_expiry_requested: SessionExpiry,
    session_expiry: SessionExpiry,
    topic_alias_max: u16,
    maximum_qos: QoS,
    retain_available: bool,
    /// Whether the client wants reasons in words [U5-026].
    problem_information: bool,
}

/// How a client publishes a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// The QoS.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a token is used up by its acknowledgement"
)]
impl<M> ClientConnection<M> {
    /// A connection that has not sent its CONNECT.
    ///
    /// Its tokens carry `epoch`.
    pub fn new(epoch: Epoch, config: &ClientConfig) -> Self {
        let limits = FlowLimits {
            receive_maximum: config.receive_maximum.get(),
            in_flight_max: config.in_flight_max.get(),
            packet_size_max: usize::MAX,
            output_bytes_max: config.output_bytes_max,
            sent_alias_max: 0,
            problem_information: true,
        };
        Self {
            state: State::Ready,
            config: *config,
            limits: config.limits,
            flow: Flow::new(epoch, ProtocolVersion::V5, limits),
            timers: TimerTable::new(),
            local_session: None,
            terms: Terms::default(),
            authentication: None,
            given_ids: GivenIds::none(),
            has_session: false,
            is_paused: false,
            is_ping_open: false,
        }
    }

    /// Decodes and handles at most one packet at the start of `input`.
    ///
    /// Call again with what is left until nothing is consumed. An event is to be acted upon before the
    /// next call. While the connection is closing, all input is consumed and ignored.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] where the server broke the protocol. An MQTT 5 DISCONNECT is in the output already
    /// [U5-110], and the connection is closing.
    pub fn handle_input<'a>(
        &mut self,
        now: Tick,
        input: &'a [u8],
    ) -> Result<ClientInput<'a, M>, ProtocolError> {
        let handled = match self.state {
            State::Ready => return Ok(ClientInput::held(Hold::Handshake)),
            State::AwaitConnAck => self.handle_first_packet(input),
            State::Connected => self.handle_packet(input),
            State::Closing => return Ok(ClientInput::consumed(input.len())),
        };
        self.flow.assert_invariants();
        let handled = handled.map_err(|error| self.fail(error));
        self.note_sent(now);
        handled
    }

    /// Publishes a message.
    ///
    /// QoS 1 and 2 begin an exchange that keeps `item` until [`ClientEvent::Delivered`], or until the
    /// session's end; its id is returned. A QoS 0 item is dropped.
    ///
    /// # Errors
    ///
    /// [`Refused`] gives the item back; nothing was written.
    pub fn publish(
        &mut self,
        now: Tick,
        message: &mut FanOut<'_>,
        options: PublishOptions,
        item: M,
    ) -> Result<Option<PacketId>, Refused<M>> {
        if self.state != State::Connected {
            return Err(Refused::NotConnected(item));
        }
        // [MQTT-3.2.2-11]
        if options.qos > self.terms.maximum_qos {
            return Err(Refused::QosNotSupported(item));
        }
        // [MQTT-3.2.2-14]
        if options.retain && !self.terms.retain_available {
            return Err(Refused::RetainNotSupported(item));
        }
        let deliver = Deliver {
            qos: options.qos,
            retain: options.retain,
            subscription_ids: &[], // [MQTT-3.3.4-6]
        };
        let sent = self.flow.send(message, deliver, item);
        self.note_sent(now);
        sent
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP, whichever `token` is for, once it is the turn of its packet
    /// [MQTT-4.6.0-2].
    ///
    /// A PUBREC of 0x80 or above frees the id. MQTT 3.x knows no reasons: every one acknowledges.
    /// A token of another connection does nothing.
    ///
    /// # Errors
    ///
    /// [`UsageError::ReasonNotAllowed`] for a code that the standard does not list for the packet; the packet
    /// stays unacknowledged.
    pub fn ack(
        &mut self,
        now: Tick,
        token: AckToken,
        reason: ReasonCode,
    ) -> Result<(), UsageError> {
        let acknowledged = self.flow.ack(&token, reason);
        self.note_sent(now);
        acknowledged
    }

    /// Like [`ack`](Self::ack), with a reason in words. It is left out where the server accepts no packet of
    /// that size [MQTT-3.4.2-2].
    ///
    /// # Errors
    ///
    /// Those of `ack`, and [`UsageError::Encode`] for texts that are too long.
    pub fn ack_with(
        &mut self,
        now: Tick,
        token: AckToken,
        reason: ReasonCode,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        let acknowledged = self.flow.ack_with(&token, reason, properties);
        self.note_sent(now);
        acknowledged
    }

    /// Never acknowledges the packet. Later acknowledgements no longer wait for it.
    pub fn withhold(&mut self, now: Tick, token: AckToken) {
        self.flow.withhold(&token);
        self.note_sent(now);
    }

    /// Lets go of a QoS 2 message of the server that counts as received because its connection was lost before this side had
    /// accepted it: when the server sends it again, it is handed over again. To be called on
    /// [`ClientEvent::ConnAck`], before the next input.
    pub fn forget_received(&mut self, packet_id: PacketId) {
        self.flow.session.forget_received(packet_id);
    }

    /// Counts a QoS 2 message of an earlier connection as received, which it was let go of: a repeat gets PUBREC and is not
    /// handed over [MQTT-4.3.3-10].
    pub fn hold_received(&mut self, packet_id: PacketId) {
        self.flow.session.inbound.hold(packet_id);
    }

    /// Whether a resumed session has messages that are to be sent again before any new one of QoS 1 or 2.
    pub fn is_resending(&self) -> bool {
        self.flow.is_resending()
    }

    /// The next message that is to be sent again [MQTT-4.4.0-1], in the order of first sending
    /// [MQTT-4.6.0-1]: encode it and call [`resend`](Self::resend).
    ///
    /// PUBRELs, which go before it, are written here as far as the output takes them. `None` while the window
    /// or, for PUBRELs, the output is full, and when all is sent: then [`is_resending`](Self::is_resending) is
    /// false. Ask again after `Delivered` events and flushes.
    pub fn next_resend(&mut self, now: Tick) -> Option<Resend<'_, M>> {
        self.flow.continue_resume();
        self.note_sent(now);
        self.flow.next_resend()
    }

    /// Sends what [`next_resend`](Self::next_resend) names, with DUP and its own id.
    ///
    /// # Errors
    ///
    /// [`ResendRefused`] where the output is full or nothing is to be sent now.
    pub fn resend(
        &mut self,
        now: Tick,
        message: &mut FanOut<'_>,
        redeliver: Redeliver<'_>,
    ) -> Result<Resent<M>, ResendRefused> {
        let resent = self.flow.resend(message, redeliver);
        self.note_sent(now);
        resent
    }

    /// Does not send what [`next_resend`](Self::next_resend) names, because the message is gone.
    ///
    /// # Errors
    ///
    /// [`ResendRefused::NothingToResend`].
    pub fn abandon_resend(&mut self, now: Tick) -> Result<Resent<M>, ResendRefused> {
        let resent = self.flow.abandon_resend();
        self.note_sent(now);
        resent
    }

    /// What `publish` was given for this exchange, for instance to let go of a message body that
    /// [`ClientEvent::Received`] has made superfluous.
    pub fn item_mut(&mut self, packet_id: PacketId) -> Option<&mut M> {
        self.flow.session.outbound.item_mut(packet_id)
    }

    /// Sends DISCONNECT; after it nothing is written [MQTT-3.14.4-1].
    ///
    /// # Errors
    ///
    /// [`UsageError::NotConnected`] before CONNECT or while closing, [`UsageError::ReasonNotAllowed`] for a
    /// code that a client can't send, [`UsageError::SessionExpiryRaised`] where CONNECT asked for none
    /// [U5-082], and [`UsageError::Encode`] for texts that are too long.
    pub fn disconnect(&mut self, disconnect: Disconnect) -> Result<(), UsageError> {
        if !matches!(self.state, State::AwaitConnAck | State::Connected) {
            return Err(UsageError::NotConnected);
        }
        direction::check_client_disconnect(disconnect.reason)?;
        if let Some(seconds) = disconnect.session_expiry_secs {
            if seconds > 0 && self.terms.session_expiry_requested.is_at_close() {
                return Err(UsageError::SessionExpiryRaised);
            }
            self.terms.session_expiry = SessionExpiry::from_secs(seconds);
        }
        // Where the server accepts not even this much, it sees the close only.
        let _ = self
            .flow
            .put_packet(&mut Packet::Disconnect(Box::new(disconnect)))?;
        self.close();
        Ok(())
    }

    /// The caller has stopped reading for reasons of its own: a PINGRESP may wait unseen, and its time stands still.
    pub fn pause_input(&mut self) {
        self.is_paused = true;
        self.timers.set(Timer::PingResp, None);
    }

    /// The caller reads again; a PINGRESP that is owed has its whole time.
    pub fn resume_input(&mut self, now: Tick) {
        if std::mem::take(&mut self.is_paused) && self.is_ping_open {
            self.await_ping_resp(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Tick> {
        self.timers.next()
    }

    /// Sends PINGREQ if it is time, or ends the connection if it has run out of time, and says why.
    pub fn handle_timeout(&mut self, now: Tick) -> Option<TimeoutKind> {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::KeepAlive => self.ping(now),
                Timer::Handshake => {
                    let kind = match self.state {
                        State::Connected => TimeoutKind::Authentication,
                        State::Ready | State::AwaitConnAck | State::Closing => TimeoutKind::Connect,
                    };
                    self.close();
                    return Some(kind);
                }
                Timer::PingResp => {
                    self.close();
                    return Some(TimeoutKind::Ping);
                }
            }
        }
        None
    }

    /// Bytes for the server.
    pub fn output(&mut self) -> &mut WriteBuf {
        &mut self.flow.output
    }

    /// Whether the connection is to be closed once the output is flushed.
    pub fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Whether CONNACK has accepted the connection and nothing has ended it.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// The version that packets are read and written in: that of CONNECT, 5.0 before it.
    pub fn version(&self) -> ProtocolVersion {
        self.flow.version
    }

    /// How long the server keeps the session after this connection [U5-037, U5-081].
    pub fn session_expiry(&self) -> SessionExpiry {
        self.terms.session_expiry
    }

    /// The keep alive in force, in seconds; 0 is none [MQTT-3.2.2-21].
    pub fn keep_alive_secs(&self) -> u16 {
        self.terms.keep_alive_secs
    }

    /// QoS 1 and 2 publications open towards the server, counted on this connection.
    pub fn in_flight(&self) -> usize {
        self.flow.session.outbound.in_flight()
    }

    /// Whether [`publish`](Self::publish) has room in its window for a message of QoS 1 or 2.
    pub fn credit_available(&self) -> bool {
        self.state == State::Connected && self.flow.has_send_room()
    }

    /// QoS 1 and 2 messages for which [`publish`](Self::publish) has room in its window.
    pub fn send_credit(&self) -> usize {
        if self.credit_available() {
            self.flow.send_credit()
        } else {
            0
        }
    }

    /// Gives back memory that a burst has left; for connections that have turned idle.
    pub fn release_memory(&mut self) {
        self.flow.release_memory();
    }

    /// The session as this connection leaves it: what [`connect`](Self::connect) was given, if the server has
    /// not accepted, and `None` if there was none.
    pub fn into_state(self) -> Option<SessionState<M>> {
        if self.has_session {
            Some(self.flow.into_session())
        } else {
            self.local_session
        }
    }

    fn handle_packet<'a>(&mut self, input: &'a [u8]) -> Result<ClientInput<'a, M>, ProtocolError> {
        let Some(&first_byte) = input.first() else {
            return Ok(ClientInput::consumed(0));
        };
        if let Some(hold) = self.flow.hold(first_byte) {
            return Ok(ClientInput::held(hold));
        }
        let decoded = decode_ref(input, self.flow.version, &self.limits)?;
        let Some(Decoded { packet, length }) = decoded else {
            return Ok(ClientInput::consumed(0));
        };
        let packet_type = packet.packet_type();
        let event = match packet {
            PacketRef::Publish(publish) => {
                // [U5-048]
                let mut ids = publish.properties().subscription_ids();
                if !ids.all(|id| self.given_ids.allow(id)) {
                    return Err(ProtocolError::SubscriptionIdUnknown);
                }
                self.flow.handle_publish(publish)?.map(ClientEvent::Publish)
            }
            PacketRef::PubAck(ack) => {
                self.exchange_event(packet_type, &ack, Flow::handle_pub_ack)?
            }
            PacketRef::PubRec(ack) => {
                self.exchange_event(packet_type, &ack, Flow::handle_pub_rec)?
            }
            PacketRef::PubRel(ack) => {
                self.exchange_event(packet_type, &ack, Flow::handle_pub_rel)?
            }
            PacketRef::PubComp(ack) => {
                self.exchange_event(packet_type, &ack, Flow::handle_pub_comp)?
            }
            PacketRef::SubAck(ack) => {
                self.check_problem_information(packet_type, ack.properties)?;
                self.handle_sub_ack(ack)?
            }
            PacketRef::UnsubAck(ack) => {
                self.check_problem_information(packet_type, ack.properties)?;
                self.handle_unsub_ack(ack)?
            }
            PacketRef::PingResp => {
                self.is_ping_open = false;
                self.timers.set(Timer::PingResp, None);
                None
            }
            PacketRef::Disconnect(disconnect) => Some(self.handle_disconnect(disconnect)?),
            PacketRef::Auth(auth) => Some(self.handle_auth(auth)?),
            PacketRef::ConnAck(_)
            | PacketRef::Connect(_)
            | PacketRef::Subscribe(_)
            | PacketRef::Unsubscribe(_)
            | PacketRef::PingReq => return Err(ProtocolError::WrongDirection { packet_type }),
        };
        Ok(ClientInput {
            consumed: length,
            event,
            hold: None,
        })
    }

    fn exchange_event<'a>(
        &mut self,
        packet_type: PacketType,
        ack: &AckRef<'a>,
        handle: impl FnOnce(&mut Flow<M>, &AckRef<'_>) -> Result<Option<FlowEvent<M>>, ProtocolError>,
    ) -> Result<Option<ClientEvent<'a, M>>, ProtocolError> {
        self.check_problem_information(packet_type, ack.properties)?;
        let event = handle(&mut self.flow, ack)?;
        Ok(event.map(|event| match event {
            FlowEvent::Delivered {
                packet_id,
                item,
                reason,
            } => ClientEvent::Delivered {
                packet_id,
                item,
                reason,
                properties: ack.properties,
            },
            FlowEvent::Received { packet_id, token } => ClientEvent::Received { packet_id, token },
            FlowEvent::Release { packet_id, token } => ClientEvent::Release { packet_id, token },
        }))
    }

    /// [U5-026]
    fn check_problem_information(
        &self,
        packet_type: PacketType,
        properties: PropertiesRef<'_>,
    ) -> Result<(), ProtocolError> {
        let is_plain =
            properties.reason_string().is_none() && properties.user_properties().next().is_none();
        if self.terms.problem_information || is_plain {
            return Ok(());
        }
        Err(ProtocolError::ProblemInformation { packet_type })
    }

    fn handle_disconnect<'a>(
        &mut self,
        disconnect: DisconnectRef<'a>,
    ) -> Result<ClientEvent<'a, M>, ProtocolError> {
        let reason = disconnect.reason;
        // Servers of MQTT 3.x only close.
        if !self.flow.version.is_v5() {
            let packet_type = PacketType::Disconnect;
            return Err(ProtocolError::WrongDirection { packet_type });
        }
        if !direction::server_disconnects_with(reason) {
            return Err(ProtocolError::DisconnectReason { reason });
        }
        if disconnect.properties.session_expiry_secs().is_some() {
            return Err(ProtocolError::SessionExpiryFromServer);
        }
        self.close();
        Ok(ClientEvent::Disconnected(disconnect))
    }

    fn ping(&mut self, now: Tick) {
        encode_pingreq(&mut self.flow.output);
        self.is_ping_open = true;
        if !self.is_paused && !self.timers.is_set(Timer::PingResp) {
            self.await_ping_resp(now);
        }
        self.arm_keep_alive(now);
    }

    fn await_ping_resp(&mut self, now: Tick) {
        let deadline = now.saturating_add(self.config.ping_timeout_ms);
        self.timers.set(Timer::PingResp, Some(deadline));
    }

    /// Counts the keep alive anew if anything was sent; receiving does not count (F2).
    fn note_sent(&mut self, now: Tick) {
        if self.flow.take_wrote() && self.state == State::Connected {
            self.arm_keep_alive(now);
        }
    }

    fn arm_keep_alive(&mut self, now: Tick) {
        let interval_ms = u64::from(self.terms.keep_alive_secs) * 1_000;
        let deadline = (interval_ms > 0).then(|| now.saturating_add(interval_ms));
        self.timers.set(Timer::KeepAlive, deadline);
    }

    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        if self.flow.version.is_v5() {
            let reason = error.reason_code();
            let reason = match direction::check_client_disconnect(reason) {
                Ok(()) => reason,
                Err(_) => ReasonCode::ProtocolError,
            };
            let mut packet = Packet::Disconnect(Box::new(Disconnect::new(reason)));
            let written = self.flow.put_packet(&mut packet);
            debug_assert!(written.is_ok(), "a bare DISCONNECT can be encoded");
        }
        self.close();
        error
    }

    fn close(&mut self) {
        self.state = State::Closing;
        self.timers.clear();
        self.flow.mute();
    }
}

impl<M> ClientInput<'_, M> {
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

impl Default for Terms {
    fn default() -> Self {
        Self {
            connect_sent: Tick::NEVER,
            clean_start: true,
            keep_alive_secs: 0,
            session_expiry_requested: SessionExpiry::AT_CLOSE,
            session_expiry: SessionExpiry::AT_CLOSE,
            topic_alias_max: 0,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            problem_information: true,
        }
    }
}
