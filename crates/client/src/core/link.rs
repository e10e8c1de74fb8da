//! What the driver does with [`Core`]: one link after the other.

use std::sync::Arc;
use std::task::Waker;

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    AckProperties, Disconnect, DisconnectRef, PacketType, PropertiesRef, ProtocolVersion,
    ReasonCode, WriteBuf,
};
use whimbrel_session::{
    ClientConnection, ClientEvent, Connected, Epoch, InboundPublish, SessionState, Stage, Tick,
};

use super::inbox::Arrival;
use super::requests::Request;
use super::{CLAIM_MS, Core, Kept, PublicationKey, Verdict};
use crate::error::Refusal;
use crate::state::Established;
use crate::{Closed, ConnectionError, DisconnectError, Message, PublishError, SubscribeError};

/// How a link ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By the own DISCONNECT.
    InOrder,
    /// Without the own doing.
    Lost(ConnectionError),
    /// To have the server deliver again what there was no room for.
    ForRedelivery,
}

/// What one step of a link has brought about.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// CONNACK has accepted the connection.
    pub(crate) established: Option<Arc<Established>>,
    /// The link is to be closed once the output is flushed.
    pub(crate) ended: Option<Ended>,
    /// Input waits for the output to be written, or for acknowledgements.
    pub(crate) is_held: bool,
}

impl Core {
    /// Begins a connection: CONNECT is in the output.
    ///
    /// With `may_hold_back` the driver has TCP acknowledge what comes while nothing is sent.
    pub(crate) fn begin(&mut self, now: Tick, may_hold_back: bool) -> Result<(), ConnectionError> {
        self.may_hold_back = may_hold_back;
        self.epoch = Epoch(self.epoch.0.wrapping_add(1));
        self.handed_out = 0;
        let mut connect = self
            .options
            .connect_packet(self.client_id.as_ref(), !self.has_begun);
        self.authentication = self.options.authenticator.as_ref().map(|by| by.begin());
        if let Some(exchange) = &mut self.authentication {
            let data = exchange.first().map_err(authentication_failed)?;
            if let Some(authentication) = &mut connect.properties.authentication {
                authentication.data = data;
            }
        }
        // A session that the server has, and this process has nothing of, is no surprise.
        let claims = !connect.clean_start;
        let session = self.session.take();
        let session = session.or_else(|| claims.then(SessionState::new));
        let mut connection = ClientConnection::new(self.epoch, &self.options.config);
        let begun = connection.connect(now, connect, session);
        let result = begun.map_err(|error| ConnectionError::Connect(Arc::new(error)));
        self.connection = Some(connection);
        result
    }

    /// Handles whole packets at the start of `input`; returns how many bytes are done with.
    pub(crate) fn handle_input(&mut self, now: Tick, input: &[u8], step: &mut Step) -> usize {
        let mut consumed = 0;
        while step.ended.is_none() {
            let Some(connection) = &mut self.connection else {
                break;
            };
            let Some(rest) = input.get(consumed..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            match connection.handle_input(now, rest) {
                Ok(handled) => {
                    step.is_held = handled.hold.is_some();
                    if handled.consumed == 0 {
                        break;
                    }
                    consumed += handled.consumed;
                    if let Some(event) = handled.event {
                        self.handle_event(now, event, step);
                    }
                }
                Err(error) => step.ended = Some(Ended::Lost(error.into())),
            }
        }
        consumed
    }

    /// What time and the application ask for, once input is handled.
    pub(crate) fn advance_link(&mut self, now: Tick, step: &mut Step) {
        let timeout = self
            .connection
            .as_mut()
            .and_then(|found| found.handle_timeout(now));
        if let Some(kind) = timeout {
            step.ended = Some(Ended::Lost(ConnectionError::TimedOut(kind)));
            return;
        }
        for ack in self.inbox.drop_unclaimed(now) {
            self.finish(now, ack, Verdict::Accept);
        }
        self.advance(now);
        if step.ended.is_none() && self.is_open && self.inbox.wants_redelivery() {
            // In order, or the server would publish the will.
            if let Some(connection) = &mut self.connection {
                let _ = connection.disconnect(Disconnect::new(ReasonCode::Success));
            }
            step.ended = Some(Ended::ForRedelivery);
        }
        self.advance_closing(now, step);
    }

    /// Whether input is to be left unread until the application has taken some.
    pub(crate) fn is_reading_paused(&mut self, now: Tick) -> bool {
        let awaits_answer = !self.is_open
            || !self.requests.is_empty()
            || !self.queue.is_empty()
            || self.closing.is_some()
            || self.reauthentication.is_some();
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let is_paused = self.inbox.is_full() && !awaits_answer && connection.in_flight() == 0;
        if is_paused {
            connection.pause_input();
        } else {
            connection.resume_input(now);
        }
        is_paused
    }

    /// Moves the output to `writing`, which is empty, once all that it says is written down.
    ///
    /// # Errors
    ///
    /// The outbox can't be written: nothing may leave.
    pub(crate) fn take_output(&mut self, writing: &mut WriteBuf) -> Result<(), ConnectionError> {
        self.journal.flush().map_err(ConnectionError::Outbox)?;
        if let Some(connection) = &mut self.connection {
            std::mem::swap(connection.output(), writing);
            self.handed_out += writing.len() as u64;
        }
        Ok(())
    }

    /// Whether anybody waits for QoS 0 messages to be written.
    pub(crate) fn awaits_writing(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// All but the last so many bytes that were handed out are written.
    pub(crate) fn note_written(&mut self, left: usize) {
        let written = self.handed_out - left as u64;
        while let Some(&(end, key)) = self.unwritten.front()
            && end <= written
        {
            self.unwritten.pop_front();
            self.complete(key, Ok(ReasonCode::Success));
        }
    }

    /// When [`advance_link`](Self::advance_link) is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Tick> {
        let connection = self.connection.as_ref();
        let timeouts = [
            connection.and_then(ClientConnection::poll_timeout),
            self.closing.as_ref().map(|closing| closing.due),
            self.inbox.unclaimed_due(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// To be woken when there is something to do.
    pub(crate) fn register_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(waker),
            known @ None => *known = Some(waker.clone()),
        }
    }

    /// When an orderly end is given up, if one is asked for.
    pub(crate) fn closing_due(&self) -> Option<Tick> {
        self.closing.as_ref().map(|closing| closing.due)
    }

    /// Whether an orderly end has nothing left to wait for.
    pub(crate) fn has_nothing_to_send(&self) -> bool {
        // What is to be asked ends with a session that is not kept, and there is nobody to be asked.
        let asks = self.is_open || !self.options.ends_session();
        self.queue.is_empty()
            && self.unwritten.is_empty()
            && self.unacknowledged() == 0
            && (!asks || self.requests.is_empty())
    }

    /// Nothing more is to be sent on this connection.
    pub(crate) fn stop_sending(&mut self) {
        self.is_open = false;
    }

    /// The link is gone.
    pub(crate) fn end_link(&mut self, error: Option<&ConnectionError>) {
        self.is_open = false;
        self.authentication = None;
        if let Some(reauthentication) = &mut self.reauthentication {
            let error = error.cloned().unwrap_or(ConnectionError::Closed);
            reauthentication.finish(Err(error));
        }
        if let Some(connection) = self.connection.take() {
            self.session = connection.into_state();
        }
        // Not written whole, so that the server has not seen them.
        while let Some((_, key)) = self.unwritten.pop_back() {
            self.queue.push_front(key);
        }
        self.requests.note_lost();
    }

    /// The client is over: everybody who waits is told.
    pub(crate) fn finish_client(&mut self, closed: &Closed) {
        if self.closed.is_some() {
            return;
        }
        let open = self.publications.open();
        self.disconnected = Some(match closed {
            Closed::Disconnected if open.is_empty() => Ok(()),
            Closed::Disconnected => Err(DisconnectError::Unacknowledged { left: open.len() }),
            closed => Err(closed.clone().into()),
        });
        self.closed = Some(closed.clone());
        for key in open {
            self.let_go(key, Err(PublishError::Closed(closed.clone())));
        }
        // What can't be written now is done again by the next process.
        let _ = self.journal.flush();
        self.queue.clear();
        self.unwritten.clear();
        let error = SubscribeError::Closed(closed.clone());
        self.inbox.end_all(&error);
        self.requests.end_all(&error);
        self.admission.wake_all();
        if let Some(reauthentication) = &mut self.reauthentication {
            reauthentication.finish(Err(ConnectionError::Closed));
        }
    }

    fn advance_closing(&mut self, now: Tick, step: &mut Step) {
        let Some(closing) = self.closing.as_ref().filter(|_| step.ended.is_none()) else {
            return;
        };
        if now < closing.due && !self.has_nothing_to_send() {
            return;
        }
        step.ended = Some(Ended::InOrder);
        let Some(connection) = self.connection.as_mut().filter(|_| self.is_open) else {
            return;
        };
        let mut disconnect = closing.disconnect.clone();
        if !connection.version().is_v5() {
            if disconnect.reason == ReasonCode::DisconnectWithWill {
                // Only the missing DISCONNECT says so [3:MQTT-3.1.2-8].
                return;
            }
            disconnect = Disconnect::new(ReasonCode::Success);
        } else if self.options.ends_session() {
            disconnect.session_expiry_secs.get_or_insert(0);
        }
        // What can't be said leaves the close to speak for itself.
        let _ = connection.disconnect(disconnect);
    }

    fn handle_event(&mut self, now: Tick, event: ClientEvent<'_, PublicationKey>, step: &mut Step) {
        match event {
            ClientEvent::ConnAck(connected) => self.handle_conn_ack(now, *connected, step),
            ClientEvent::Publish(inbound) => self.handle_publish(now, inbound),
            ClientEvent::Release { packet_id, token } => {
                self.journal.note(Kept::Released(packet_id));
                if let Some(connection) = &mut self.connection {
                    let acknowledged = connection.ack(now, token, ReasonCode::Success);
                    debug_assert!(acknowledged.is_ok(), "{acknowledged:?}");
                }
            }
            ClientEvent::Received { packet_id, token } => {
                self.journal.note(Kept::Received(packet_id));
                if let Some(connection) = &mut self.connection {
                    if let Some(&mut key) = connection.item_mut(packet_id) {
                        self.publications.let_body_go(key);
                    }
                    let acknowledged = connection.ack(now, token, ReasonCode::Success);
                    debug_assert!(acknowledged.is_ok(), "{acknowledged:?}");
                }
            }
            ClientEvent::Delivered {
                item,
                reason,
                properties,
                ..
            } => {
                let outcome = if reason.is_error() {
                    Err(PublishError::Refused(refusal(reason, properties)))
                } else {
                    Ok(reason)
                };
                self.complete(item, outcome);
            }
            ClientEvent::SubAck(ack) => {
                if let Some(Request::Subscribe(key)) = self.requests.answered(ack.id) {
                    self.inbox.note_granted(key, ack.codes().collect());
                }
            }
            ClientEvent::UnsubAck(ack) => {
                if let Some(Request::Unsubscribe { answer, .. }) = self.requests.answered(ack.id) {
                    let codes: Vec<_> = ack.codes().collect();
                    let refused = codes.iter().any(|code| code.is_error());
                    let result = if refused {
                        Err(SubscribeError::Refused { codes })
                    } else {
                        Ok(())
                    };
                    self.requests.answer(answer, result);
                }
            }
            ClientEvent::Auth(auth) => self.handle_auth(now, auth.reason, auth.properties, step),
            ClientEvent::Disconnected(disconnect) => {
                step.ended = Some(Ended::Lost(ConnectionError::Disconnected(said(
                    &disconnect,
                ))));
            }
        }
    }

    fn handle_conn_ack(
        &mut self,
        now: Tick,
        connected: Connected<PublicationKey>,
        step: &mut Step,
    ) {
        let Connected { connack, discarded } = connected;
        let properties = &connack.properties;
        if connack.reason.is_error() {
            step.ended = Some(Ended::Lost(ConnectionError::Refused(Refusal {
                reason: connack.reason,
                reason_string: properties.reason_string.clone(),
                server_reference: properties.server_reference.clone(),
            })));
            return;
        }
        if let Some(exchange) = &mut self.authentication {
            let data = properties
                .authentication
                .as_ref()
                .and_then(|said| said.data.as_deref());
            if let Err(error) = exchange.finish(data) {
                step.ended = Some(Ended::Lost(authentication_failed(error)));
                return;
            }
        }
        let Some(connection) = &self.connection else {
            return;
        };
        let version = connection.version();
        // MQTT 3.1 has no Session Present: there the session went on if nothing was discarded.
        let is_present = match version {
            ProtocolVersion::V31 => self.has_begun && !self.options.connect.clean_start,
            ProtocolVersion::V311 | ProtocolVersion::V5 => connack.session_present,
        };
        self.takes_subscription_ids = version.is_v5() && properties.subscription_id_available;
        if let Some(assigned) = &properties.assigned_client_id {
            self.client_id = Some(assigned.clone());
        }
        self.is_open = true;
        if is_present {
            if !self.has_begun {
                self.inbox
                    .keep_unclaimed_until(now.saturating_add(CLAIM_MS));
            }
            let unfinished = self.inbox.note_resumed(self.session_epoch);
            if let Some(connection) = &mut self.connection {
                for packet_id in unfinished {
                    connection.forget_received(packet_id);
                }
            }
        } else {
            self.session_epoch = self.epoch;
            self.inbox.note_began();
            let wanted = self.inbox.wanted_keys();
            self.requests.begin_anew(wanted);
            self.republish(discarded);
            self.journal.note(Kept::SessionBegan);
        }
        self.has_begun = true;
        step.established = Some(Arc::new(Established::new(connack, version, is_present)));
    }

    /// The server has forgotten the session. What it had not taken is published again, as new and before all else; what
    /// it had taken, by a PUBREC, is done with.
    fn republish(&mut self, discarded: Option<SessionState<PublicationKey>>) {
        let Some(session) = discarded else {
            return;
        };
        for exchange in session.into_parts().exchanges.into_iter().rev() {
            match exchange.stage {
                Stage::AwaitPubComp { .. } => self.complete(exchange.item, Ok(ReasonCode::Success)),
                Stage::AwaitPubAck | Stage::AwaitPubRec => self.queue.push_front(exchange.item),
            }
        }
    }

    fn handle_publish(&mut self, now: Tick, inbound: InboundPublish<'_>) {
        let message = Message::new(inbound.publish, inbound.topic);
        let arrival = self.inbox.arrive(now, self.epoch, &message, inbound.token);
        let Some(connection) = &mut self.connection else {
            return;
        };
        match arrival {
            Arrival::Kept | Arrival::Unwanted(None) => {}
            Arrival::Unwanted(Some(token)) => {
                if token.acknowledged_by() == PacketType::PubRec {
                    self.journal.note(Kept::Held(token.packet_id()));
                }
                let acknowledged = connection.ack(now, token, ReasonCode::Success);
                debug_assert!(acknowledged.is_ok(), "{acknowledged:?}");
            }
            Arrival::Withheld(token) => connection.withhold(now, token),
        }
    }

    fn handle_auth(
        &mut self,
        now: Tick,
        reason: ReasonCode,
        properties: PropertiesRef<'_>,
        step: &mut Step,
    ) {
        let (Some(connection), Some(exchange)) = (&mut self.connection, &mut self.authentication)
        else {
            return;
        };
        let data = properties.authentication_data();
        let answered = if reason == ReasonCode::Success {
            exchange
                .finish(data)
                .map_err(authentication_failed)
                .map(|()| {
                    if let Some(reauthentication) = &mut self.reauthentication {
                        reauthentication.finish(Ok(()));
                    }
                })
        } else {
            exchange
                .answer(data)
                .map_err(authentication_failed)
                .and_then(|data| {
                    let sent = connection.authenticate(now, data, AckProperties::new());
                    sent.map_err(|error| ConnectionError::Connect(Arc::new(error)))
                })
        };
        if let Err(error) = answered {
            step.ended = Some(Ended::Lost(error));
        }
    }
}

fn authentication_failed(reason: String) -> ConnectionError {
    ConnectionError::Authentication(reason.into())
}

fn refusal(reason: ReasonCode, properties: PropertiesRef<'_>) -> Refusal {
    Refusal {
        reason,
        reason_string: properties.reason_string().map(ByteStr::from),
        server_reference: None,
    }
}

fn said(disconnect: &DisconnectRef<'_>) -> Refusal {
    Refusal {
        server_reference: disconnect.properties.server_reference().map(ByteStr::from),
        ..refusal(disconnect.reason, disconnect.properties)
    }
}
