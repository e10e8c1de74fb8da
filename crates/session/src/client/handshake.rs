//! CONNECT and its answer.

use std::num::NonZeroU32;

use whimbrel_codec::{
    ConnAck, Connect, Decoded, Packet, PacketRef, ProtocolVersion, QoS, decode_ref,
};

use super::subscription_ids::GivenIds;
use super::{ClientConnection, State, Terms, authentication};
use crate::config::PACKET_SIZE_MAX;
use crate::event::{ClientEvent, ClientInput, Connected};
use crate::timer::Timer;
use crate::{ProtocolError, SessionExpiry, SessionState, Tick, UsageError};

impl<M> ClientConnection<M> {
    /// Writes CONNECT. Its limits hold for this connection; the largest packet that the configuration lets
    /// through is announced with it.
    ///
    /// `session` is what this client has of an earlier connection: `None` says that it has no session, so that
    /// Session Present 1 is a protocol error [MQTT-3.2.2-4]. Its exchanges are resent if the server has the
    /// session too, and come back with CONNACK if it has not [MQTT-3.2.2-5].
    ///
    /// # Errors
    ///
    /// [`UsageError::ConnectTwice`], and [`UsageError::Encode`] for a CONNECT that has no form on the wire. The
    /// session comes back by [`into_state`](Self::into_state).
    pub fn connect(
        &mut self,
        now: Tick,
        mut connect: Connect,
        session: Option<SessionState<M>>,
    ) -> Result<(), UsageError> {
        if self.local_session.is_none() {
            self.local_session = session;
        }
        if self.state != State::Ready {
            return Err(UsageError::ConnectTwice);
        }
        if connect.version.is_v5() {
            // What is not announced could not be held against the server [U5-022].
            let announced = connect.properties.packet_size_max;
            let size_max = announced.map_or(u32::MAX, NonZeroU32::get);
            let size_max = size_max.min(self.limits.packet_size_max);
            self.limits.packet_size_max = size_max;
            let limited = NonZeroU32::new(size_max).filter(|&max| max.get() < PACKET_SIZE_MAX);
            connect.properties.packet_size_max = limited;
        }
        self.flow.version = connect.version;
        self.take_own_limits(now, &connect);
        self.authentication = authentication::begun(&connect);
        let _ = self
            .flow
            .put_packet(&mut Packet::Connect(Box::new(connect)))?;
        let _ = self.flow.take_wrote();
        self.state = State::AwaitConnAck;
        let deadline = now.saturating_add(self.config.connack_timeout_ms);
        self.timers.set(Timer::Handshake, Some(deadline));
        Ok(())
    }

    pub(super) fn handle_first_packet<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<ClientInput<'a, M>, ProtocolError> {
        let decoded = decode_ref(input, self.flow.version, &self.limits)?;
        let Some(Decoded { packet, length }) = decoded else {
            return Ok(ClientInput::consumed(0));
        };
        let event = match packet {
            PacketRef::ConnAck(connack) => self.handle_conn_ack(connack.into_owned())?,
            PacketRef::Auth(auth) => self.handle_auth(auth)?,
            _ => {
                let packet_type = packet.packet_type();
                return Err(ProtocolError::FirstPacketNotConnAck { packet_type });
            }
        };
        Ok(ClientInput {
            consumed: length,
            event: Some(event),
            hold: None,
        })
    }

    fn handle_conn_ack<'a>(
        &mut self,
        connack: ConnAck,
    ) -> Result<ClientEvent<'a, M>, ProtocolError> {
        if connack.reason.is_error() {
            self.close();
            return Ok(ClientEvent::ConnAck(Box::new(Connected {
                connack,
                discarded: None,
            })));
        }
        self.finish_authentication(&connack)?;
        let local = self.local_session.take();
        let is_present = match self.flow.version {
            // Has no Session Present; a server that was asked to keep the session has kept it [3:MQTT-4.4.0-1].
            ProtocolVersion::V31 => local.is_some() && !self.terms.clean_start,
            ProtocolVersion::V311 | ProtocolVersion::V5 => connack.session_present,
        };
        let claims_session = local.is_some() && !self.terms.clean_start;
        if is_present && !claims_session {
            self.local_session = local;
            return Err(ProtocolError::SessionPresent);
        }
        self.take_server_limits(&connack);
        if is_present {
            self.given_ids = GivenIds::Unknown;
        }
        let (resumed, discarded) = if is_present {
            (local, None)
        } else {
            (None, local)
        };
        self.state = State::Connected;
        self.has_session = true;
        self.timers.set(Timer::Handshake, None);
        // CONNECT is the last packet that was sent [MQTT-3.1.2-20].
        self.arm_keep_alive(self.terms.connect_sent);
        self.flow.start(resumed, self.terms.topic_alias_max);
        Ok(ClientEvent::ConnAck(Box::new(Connected {
            connack,
            discarded: discarded.filter(|session| !session.is_empty()),
        })))
    }

    fn take_own_limits(&mut self, now: Tick, connect: &Connect) {
        let properties = &connect.properties;
        let is_v5 = connect.version.is_v5();
        let session_expiry = if is_v5 {
            SessionExpiry::from_secs(properties.session_expiry_secs)
        } else if connect.clean_start {
            SessionExpiry::AT_CLOSE
        } else {
            SessionExpiry::NEVER
        };
        self.terms = Terms {
            connect_sent: now,
            clean_start: connect.clean_start,
            keep_alive_secs: connect.keep_alive_secs,
            session_expiry_requested: session_expiry,
            session_expiry,
            topic_alias_max: if is_v5 { properties.topic_alias_max } else { 0 },
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            problem_information: !is_v5 || properties.request_problem_information,
        };
        if is_v5 {
            self.flow.limits.receive_maximum = properties.receive_maximum.get();
        }
    }

    fn take_server_limits(&mut self, connack: &ConnAck) {
        if !self.flow.version.is_v5() {
            return;
        }
        let properties = &connack.properties;
        let terms = &mut self.terms;
        terms.maximum_qos = properties.maximum_qos;
        terms.retain_available = properties.retain_available;
        // [MQTT-3.2.2-21]
        if let Some(keep_alive_secs) = properties.server_keep_alive_secs {
            terms.keep_alive_secs = keep_alive_secs;
        }
        if let Some(seconds) = properties.session_expiry_secs {
            terms.session_expiry = SessionExpiry::from_secs(seconds);
        }
        let limits = &mut self.flow.limits;
        // [MQTT-4.9.0-1]
        limits.in_flight_max = limits.in_flight_max.min(properties.receive_maximum.get());
        // [MQTT-3.2.2-17] [MQTT-3.2.2-18]
        limits.sent_alias_max = properties
            .topic_alias_max
            .min(self.config.sent_topic_alias_max);
        // [MQTT-3.2.2-15]
        if let Some(size_max) = properties.packet_size_max {
            limits.packet_size_max = usize::try_from(size_max.get()).unwrap_or(usize::MAX);
        }
    }
}
