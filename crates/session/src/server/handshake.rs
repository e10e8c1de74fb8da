//! CONNECT and its answer.

use std::num::NonZeroU32;

use whimbrel_codec::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, DecodeError, DecodeErrorKind, Decoded,
    Packet, PacketRef, PacketType, ProtocolVersion, ReasonCode, decode_ref,
};

use super::{Requested, ServerConnection, State};
use crate::authentication::{Exchange, Turn};
use crate::config::PACKET_SIZE_MAX;
use crate::diagnostics::Fit;
use crate::event::{ServerEvent, ServerInput};
use crate::flow::FlowLimits;
use crate::{ProtocolError, ServerConfig, SessionExpiry, SessionState, Tick, UsageError};

/// How a CONNECT is accepted.
#[derive(Debug)]
pub struct Accept<M> {
    /// The session that is resumed, and resent from: Session Present is 1. `None` begins a new one:
    /// Session Present is 0 [MQTT-3.2.2-2] [MQTT-3.2.2-3].
    pub resumed: Option<SessionState<M>>,
    /// What MQTT 5 clients are told.
    ///
    /// Session expiry and server keep alive in it are in force from now on, and an assigned client id is the
    /// caller's to give. Of an enhanced authentication the data count: its method is that of CONNECT
    /// [MQTT-4.12.0-5], and without one there neither is here [MQTT-4.12.0-6]. Response information is told to
    /// those that asked for it [MQTT-3.1.2-28]. What the configuration decides is filled in from there: receive
    /// maximum, topic alias maximum, maximum packet size, maximum QoS, and whether retained messages, wildcards,
    /// subscription identifiers and shared subscriptions are available.
    pub properties: ConnAckProperties,
}

impl<M> Accept<M> {
    /// Begins a new session.
    pub fn new_session() -> Self {
        Self {
            resumed: None,
            properties: ConnAckProperties::default(),
        }
    }

    /// Resumes a session.
    pub fn resume(session: SessionState<M>) -> Self {
        Self {
            resumed: Some(session),
            properties: ConnAckProperties::default(),
        }
    }
}

impl<M> ServerConnection<M> {
    /// Accepts the CONNECT: writes CONNACK 0x00, then the PUBRELs that a resumed session has open.
    ///
    /// What the session had handed to the caller on an earlier connection counts as done: a QoS 2 message
    /// whose PUBREC was not sent as taken, so its repeat gets PUBREC at once. So accept only when the records
    /// begun for it are durable, or have been corrected with [`SessionState::settle`]. That goes for packet ids
    /// too: what was [prepared](Self::prepare) on an earlier connection is sent on this one without another
    /// [`recorded`](Self::recorded).
    ///
    /// # Errors
    ///
    /// [`UsageError::NoConnectWaiting`] where there is nothing to accept, for instance since the handshake
    /// timed out, [`UsageError::TooLarge`] where the client accepts no CONNACK of this size, and the connection
    /// is closing, [`UsageError::Encode`] for texts that are too long. The session comes back by
    /// [`into_state`](Self::into_state).
    pub fn accept(&mut self, now: Tick, accept: Accept<M>) -> Result<(), UsageError> {
        let Accept {
            resumed,
            properties,
        } = accept;
        if self.state != State::AwaitAccept {
            self.keep(resumed);
            return Err(UsageError::NoConnectWaiting);
        }
        let connack = ConnAck {
            session_present: resumed.is_some(),
            reason: ReasonCode::Success,
            properties: self.announce(properties),
        };
        let keep_alive_secs = self.agreed_keep_alive_secs(&connack.properties);
        let session_expiry = connack.properties.session_expiry_secs;
        let mut packet = Packet::ConnAck(Box::new(connack));
        match self.flow.put_packet(&mut packet) {
            Ok(Fit::Written) => {}
            Ok(Fit::TooLarge) => {
                self.keep(resumed);
                self.close();
                return Err(UsageError::TooLarge);
            }
            Err(error) => {
                self.keep(resumed);
                return Err(error);
            }
        }
        if let Some(seconds) = session_expiry {
            self.session_expiry = SessionExpiry::from_secs(seconds);
        }
        self.state = State::Connected;
        if let Some(exchange) = &mut self.authentication {
            exchange.finish();
        }
        self.has_session = true;
        self.flow.start(resumed, self.config.topic_alias_maximum);
        self.handshake_due = Tick::NEVER;
        self.keep_alive.start(now, keep_alive_secs);
        Ok(())
    }

    /// Refuses the CONNECT and closes.
    ///
    /// MQTT 3.x clients get the return code that fits; where none does, no CONNACK is sent [3:MQTT-3.2.2-6].
    ///
    /// # Errors
    ///
    /// [`UsageError::NoConnectWaiting`] where there is nothing to refuse, [`UsageError::ReasonNotAllowed`] for a
    /// code that is no failure of CONNACK.
    pub fn refuse(&mut self, reason: ReasonCode) -> Result<(), UsageError> {
        self.refuse_with(reason, ConnAckProperties::default())
    }

    /// Like [`refuse`](Self::refuse), with a reason in words or another server to use.
    ///
    /// # Errors
    ///
    /// Those of `refuse`, and [`UsageError::Encode`] for texts that are too long.
    pub fn refuse_with(
        &mut self,
        reason: ReasonCode,
        properties: ConnAckProperties,
    ) -> Result<(), UsageError> {
        let packet_type = PacketType::ConnAck;
        if self.state != State::AwaitAccept {
            return Err(UsageError::NoConnectWaiting);
        }
        if !reason.is_error() || !reason.allowed_in(packet_type) {
            return Err(UsageError::ReasonNotAllowed {
                reason,
                packet_type,
            });
        }
        self.put_failure(reason, properties)?;
        self.close();
        Ok(())
    }

    pub(super) fn handle_first_packet<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<ServerInput<'a, M>, ProtocolError> {
        // Known from the first byte: nothing else is buffered before CONNECT [MQTT-3.1.0-1].
        let packet_type = input.first().copied().and_then(PacketType::from_first_byte);
        if let Some(packet_type) = packet_type.filter(|&found| found != PacketType::Connect) {
            return Err(ProtocolError::FirstPacketNotConnect { packet_type });
        }
        let decoded = decode_ref(input, self.flow.version, &self.config.limits)?;
        let Some(Decoded { packet, length }) = decoded else {
            return Ok(ServerInput::consumed(0));
        };
        let PacketRef::Connect(connect) = packet else {
            let packet_type = packet.packet_type();
            return Err(ProtocolError::FirstPacketNotConnect { packet_type });
        };
        let connect = connect.into_owned();
        self.take_limits(&connect);
        self.state = State::AwaitAccept;
        Ok(ServerInput {
            consumed: length,
            event: Some(ServerEvent::Connect(Box::new(connect))),
            hold: None,
        })
    }

    /// CONNACK with a failure, because the caller has given no answer.
    pub(super) fn answer_connect_with_failure(&mut self, reason: ReasonCode) {
        let written = self.put_failure(reason, ConnAckProperties::default());
        debug_assert!(written.is_ok(), "a bare CONNACK can be encoded");
    }

    /// CONNACK for a CONNECT that can't be decoded, in the form of the version it names.
    ///
    /// MQTT 3.x closes silently but for the meanings its codes have (A8); version 5 may be told all (A9).
    pub(super) fn answer_bad_connect(&mut self, error: &ProtocolError) {
        let ProtocolError::Decode(error) = error else {
            return;
        };
        let Some(version) = version_of_answer(error) else {
            return;
        };
        self.flow.version = version;
        if error.reason_code().allowed_in(PacketType::ConnAck) {
            self.answer_connect_with_error(&ProtocolError::Decode(*error));
        }
    }

    /// CONNACK for a CONNECT, or what came between it and its answer, that broke the protocol.
    pub(super) fn answer_connect_with_error(&mut self, error: &ProtocolError) {
        let reason = Some(error.reason_code())
            .filter(|reason| reason.allowed_in(PacketType::ConnAck))
            .unwrap_or(ReasonCode::ProtocolError);
        let properties = ConnAckProperties {
            reason_string: self.reason_string(error),
            ..ConnAckProperties::default()
        };
        let written = self.put_failure(reason, properties);
        debug_assert!(
            written.is_ok(),
            "a CONNACK with a short reason can be encoded"
        );
    }

    fn take_limits(&mut self, connect: &Connect) {
        let properties = &connect.properties;
        self.flow.version = connect.version;
        let session_expiry = if connect.version.is_v5() {
            SessionExpiry::from_secs(properties.session_expiry_secs)
        } else if connect.clean_start {
            SessionExpiry::AT_CLOSE
        } else {
            // What a clear Clean Session flag asks for (B1).
            SessionExpiry::NEVER
        };
        self.requested = Requested {
            keep_alive_secs: connect.keep_alive_secs,
            session_expiry,
            response_information: properties.request_response_information,
        };
        self.authentication = properties.authentication.as_ref().map(|begun| {
            // The caller is asked first.
            Box::new(Exchange::new(begun.method.clone(), Turn::Own))
        });
        self.session_expiry = session_expiry;
        if connect.version.is_v5() {
            let limits = &mut self.flow.limits;
            // [MQTT-4.9.0-1]
            let receive_maximum = properties.receive_maximum.get();
            limits.in_flight_max = limits.in_flight_max.min(receive_maximum);
            limits.problem_information = properties.request_problem_information;
            limits.sent_alias_max = properties
                .topic_alias_max
                .min(self.config.sent_topic_alias_max);
            if let Some(size_max) = properties.packet_size_max {
                limits.packet_size_max = usize::try_from(size_max.get()).unwrap_or(usize::MAX);
            }
        }
    }

    /// Fills in what the configuration decides.
    fn announce(&self, properties: ConnAckProperties) -> ConnAckProperties {
        let packet_size_max = NonZeroU32::new(self.config.limits.packet_size_max);
        ConnAckProperties {
            receive_maximum: self.config.receive_maximum,
            topic_alias_max: self.config.topic_alias_maximum,
            packet_size_max: packet_size_max.filter(|size_max| size_max.get() < PACKET_SIZE_MAX),
            maximum_qos: self.config.maximum_qos,
            retain_available: self.config.retain_available,
            wildcard_subscription_available: self.config.wildcard_subscription_available,
            subscription_id_available: self.config.subscription_id_available,
            shared_subscription_available: self.config.shared_subscription_available,
            response_information: properties
                .response_information
                .filter(|_| self.requested.response_information),
            authentication: self.authentication.as_ref().map(|exchange| {
                exchange.with_data(properties.authentication.and_then(|said| said.data))
            }),
            ..properties
        }
    }

    /// [MQTT-3.1.2-21]; MQTT 3.x clients can't be told another value than their own (A10).
    fn agreed_keep_alive_secs(&self, properties: &ConnAckProperties) -> u16 {
        let server_keep_alive = properties.server_keep_alive_secs;
        let server_keep_alive = server_keep_alive.filter(|_| self.flow.version.is_v5());
        server_keep_alive.unwrap_or(self.requested.keep_alive_secs)
    }

    fn put_failure(
        &mut self,
        reason: ReasonCode,
        properties: ConnAckProperties,
    ) -> Result<(), UsageError> {
        // [3:MQTT-3.2.2-6]
        let has_code = ConnectReturnCode::from_reason(reason).is_some();
        if !self.flow.version.is_v5() && !has_code {
            return Ok(());
        }
        let connack = ConnAck {
            session_present: false,
            reason,
            properties,
        };
        // Where the client accepts not even this much, it is closed without it.
        let _ = self
            .flow
            .put_packet(&mut Packet::ConnAck(Box::new(connack)))?;
        Ok(())
    }

    /// Keeps a session that could not be begun with, so that it comes out of `into_state`.
    fn keep(&mut self, session: Option<SessionState<M>>) {
        if let Some(session) = session
            && !self.has_session
        {
            self.flow.session = session;
            self.has_session = true;
        }
    }
}

/// The limits before CONNECT names those of the client.
pub(super) fn initial_limits(config: &ServerConfig) -> FlowLimits {
    FlowLimits {
        receive_maximum: config.receive_maximum.get(),
        in_flight_max: config.in_flight_max.get(),
        packet_size_max: usize::MAX,
        output_bytes_max: config.output_bytes_max,
        sent_alias_max: 0,
        problem_information: true,
    }
}

/// The version whose CONNACK a client understands that sent this CONNECT, if it is to get one.
fn version_of_answer(error: &DecodeError) -> Option<ProtocolVersion> {
    match error.kind() {
        // A later version is more likely to understand the latest one we know [MQTT-3.1.2-2].
        DecodeErrorKind::ProtocolLevelUnsupported { level } if level > 5 => {
            Some(ProtocolVersion::V5)
        }
        DecodeErrorKind::ProtocolLevelUnsupported { .. } => Some(ProtocolVersion::V311),
        DecodeErrorKind::ClientIdEmpty => error.version(),
        _ => error.version().filter(|version| version.is_v5()),
    }
}
