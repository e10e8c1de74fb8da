//! The life of a session: begun, resumed, taken over, disconnected, ended; and its will.

use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Authentication, ConnAckProperties, Connect, DisconnectRef, ProtocolVersion, QoS, ReasonCode,
    UserProperties,
};
use whimbrel_session::mutant;
use whimbrel_session::{Accept, Redeliver, Resent, ServerConnection, SessionState, Tick};

use super::connection::{Connection, Endpoint, Phase};
use super::obligation::OnCommit;
use super::session::{Inflight, Session};
use super::source::{Source, SourceBuffers};
use super::{Env, Shard};
use crate::effects::{CloseReason, GroupOutcome};
use crate::lazy_box::LazyBox;
use crate::queue::Outgoing;
use crate::timers::Timer;
use crate::{ConnectionKey, DropCause, Event, Record, SessionKey, map};

/// An authenticated CONNECT, ready for its session's shard.
#[derive(Debug)]
pub struct Attach {
    /// The connection that read the CONNECT.
    pub connection: Box<ServerConnection<Inflight>>,
    /// The CONNECT. Its client id is not empty: an assigned one stands in its place.
    pub connect: Box<Connect>,
    /// What the server adds to its answer.
    pub grants: Grants,
}

/// What the broker or its hooks grant a connection.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grants {
    /// The client id was assigned by the server and is reported in CONNACK [MQTT-3.1.3-7].
    pub client_id_assigned: bool,
    /// Replaces the client's keep alive, in seconds; MQTT 5 only [MQTT-3.1.2-21].
    pub server_keep_alive_secs: Option<u16>,
    /// Data with which an enhanced authentication ends.
    pub authentication_data: Option<Bytes>,
    /// What the client may make its response topics from; told if it asked for it [MQTT-3.1.2-28].
    pub response_information: Option<ByteStr>,
    /// A word for a person who looks at CONNACK.
    pub reason_string: Option<ByteStr>,
    /// User properties for CONNACK.
    pub user_properties: UserProperties,
}

impl Shard {
    /// Gives a connection its session: a new one, or the one that is there, taken over if it has
    /// a connection already. CONNACK follows when that is recorded.
    pub fn attach(&mut self, env: Env<'_>, attach: Attach) -> ConnectionKey {
        let Attach {
            connection,
            connect,
            grants,
        } = attach;
        let key = self.attach_endpoint(env, Endpoint::Wire(connection), *connect, grants);
        self.finish(env);
        key
    }

    pub(super) fn attach_endpoint(
        &mut self,
        env: Env<'_>,
        endpoint: Endpoint,
        connect: Connect,
        grants: Grants,
    ) -> ConnectionKey {
        // What the last connection sent is recorded before this one is accepted, and sends it again.
        self.seal(env);
        let client_id = connect.client_id.clone();
        let records = self.effects.append.len();
        if let Some(known) = self.by_client_id.find(&client_id, &self.sessions) {
            self.take_over(env, known, connect.clean_start);
        }
        let resumed = self.by_client_id.find(&client_id, &self.sessions);
        let session = match resumed {
            Some(session) => session,
            None => self.begin_session(&client_id, connect.version),
        };
        let generation = self.next_generation();
        let index = self.connections.insert(Connection {
            generation,
            session,
            phase: Phase::Accepting,
            endpoint,
            pending: Some(Box::new(Pending {
                session_present: resumed.is_some() && !mutant!(SessionPresentForgotten),
                grants,
                session_expiry_secs: connect.properties.session_expiry_secs,
            })),
            woken: false,
            waits_for: None,
            in_backlog: false,
            timeout_due: Tick::NEVER,
        });
        let key = ConnectionKey {
            index: u32::try_from(index).expect("fewer connections than 32 bits count"),
            generation,
        };
        let expiry_secs = self.granted_expiry_secs(&connect);
        let was_durable = self.session(session).is_some_and(Session::is_durable);
        if was_durable != (expiry_secs > 0) {
            self.refresh_durability(env, session, expiry_secs > 0);
        }
        self.disarm_session(session);
        let known = self.session(session).and_then(|found| found.queue_id);
        let queue_id = known.or_else(|| {
            let is_recorded = expiry_secs > 0 && self.commits.has_journal();
            is_recorded.then(|| self.next_queue_id())
        });
        if let Some(found) = self.session_mut(session) {
            found.queue_id = queue_id;
            found.absence = LazyBox::default();
            found.connection = Some(key);
            found.version = connect.version;
            found.expiry_secs = expiry_secs;
            found.will = connect.will.map(Box::new);
            found.drop_reported = false;
        }
        self.observe(Event::Connected {
            client_id,
            session_present: resumed.is_some(),
        });
        self.append_session(session);
        let then = OnCommit::Accept(key);
        // An in-process client is told nothing, and may publish as soon as it has its key.
        let is_told = self
            .connection(key)
            .is_some_and(|connection| matches!(connection.endpoint, Endpoint::Wire(_)));
        let is_recorded = self.effects.append.len() > records;
        let waits = is_told && is_recorded;
        if waits && !mutant!(ConnAckBeforeRecord) {
            self.after_commit(env, then);
        } else {
            // Nothing was promised that would have to outlive the process.
            self.committed(env, then);
        }
        key
    }

    /// Sends CONNACK, resends what was open, and goes on with the queue.
    pub(super) fn accept(&mut self, env: Env<'_>, key: ConnectionKey) {
        let expiry_max = self.config.session_expiry_secs_max;
        let Some(connection) = self
            .connection_mut(key)
            .filter(|connection| connection.phase == Phase::Accepting)
        else {
            return;
        };
        let session_key = connection.session;
        let pending = connection.pending.take();
        let Some(session) = self.session_mut(session_key) else {
            return;
        };
        let state = session.state.take().unwrap_or_default();
        let client_id = session.client_id();
        let expiry_secs = session.expiry_secs;
        let Some(connection) = self.connection_mut(key) else {
            return;
        };
        connection.phase = Phase::Running;
        match &mut connection.endpoint {
            Endpoint::Wire(wire) => {
                let pending = pending.unwrap_or_default();
                let accept = Accept {
                    resumed: pending.session_present.then_some(*state),
                    properties: ConnAckProperties {
                        assigned_client_id: pending.grants.client_id_assigned.then_some(client_id),
                        server_keep_alive_secs: pending.grants.server_keep_alive_secs,
                        // The session fills in the method.
                        authentication: Some(Authentication {
                            method: ByteStr::default(),
                            data: pending.grants.authentication_data,
                        }),
                        response_information: pending.grants.response_information,
                        reason_string: pending.grants.reason_string,
                        user_properties: pending.grants.user_properties,
                        // Told only where it is not what was asked for (B5).
                        session_expiry_secs: (pending.session_expiry_secs > expiry_max)
                            .then_some(expiry_secs),
                        ..ConnAckProperties::default()
                    },
                };
                if wire.accept(env.now.tick, accept).is_err() {
                    // The CONNACK itself is larger than the client takes.
                    self.close(env, key, CloseReason::ProtocolError);
                    self.wake(key);
                    return;
                }
                if let Some(deadline) = wire.poll_timeout() {
                    connection.timeout_due = deadline;
                    self.timers.arm(deadline, Timer::Connection(key));
                }
            }
            Endpoint::Local(_) | Endpoint::Draining(_) => {}
        }
        self.stats.connects += 1;
        self.wake(key);
        self.resend(env, key);
        self.tell_groups_status(session_key);
        self.refill(env, key);
    }

    /// The client said DISCONNECT.
    pub(super) fn disconnected(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        disconnect: &DisconnectRef<'_>,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return;
        };
        let expiry_max = self.config.session_expiry_secs_max;
        let was_durable = self.session(session).is_some_and(Session::is_durable);
        if let Some(found) = self.session_mut(session) {
            if disconnect.reason == ReasonCode::NORMAL_DISCONNECTION
                && !mutant!(WillAfterDisconnect)
            {
                found.will = None; // [MQTT-3.14.4-3]
            }
            if let Some(expiry_secs) = disconnect.properties.session_expiry_secs()
                && !mutant!(DisconnectExpiryIgnored)
            {
                found.expiry_secs = expiry_secs.min(expiry_max); // [U5-081]
            }
        }
        let is_durable = self.session(session).is_some_and(Session::is_durable);
        if was_durable != is_durable {
            self.refresh_durability(env, session, is_durable);
        }
        self.close(env, key, CloseReason::Disconnect);
    }

    /// Takes a connection's session away from it; its output is still written.
    pub(super) fn close(&mut self, env: Env<'_>, key: ConnectionKey, reason: CloseReason) {
        let Some(connection) = self.connection_mut(key) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        let accepted = connection.phase == Phase::Running;
        connection.phase = Phase::Closing;
        let session_key = connection.session;
        let deadline = std::mem::replace(&mut connection.timeout_due, Tick::NEVER);
        let draining = Endpoint::Draining(Box::default());
        let mut untaken = Vec::new();
        let mut state = None;
        match std::mem::replace(&mut connection.endpoint, draining) {
            Endpoint::Wire(mut wire) => {
                let output = std::mem::take(wire.output());
                connection.endpoint = Endpoint::Draining(Box::new(output));
                state = wire.into_state();
            }
            Endpoint::Local(mut client) => untaken = client.take_group_origins(),
            Endpoint::Draining(_) => {}
        }
        for origin in untaken {
            self.send_group_done(
                origin.group,
                origin.sequence,
                session_key,
                GroupOutcome::Returned,
            );
        }
        if deadline != Tick::NEVER {
            self.timers.disarm(deadline, Timer::Connection(key));
        }
        self.wake(key);
        let Some(session) = self
            .session_mut(session_key)
            .filter(|session| session.connection == Some(key))
        else {
            return;
        };
        session.connection = None;
        session.absence.make().disconnected_at = Some(env.now.wall);
        session.drop_reported = false;
        if accepted {
            session.state = state.map(Box::new);
        }
        if mutant!(TakeoverLosesInFlight) && reason == CloseReason::TakenOver {
            session.state = None;
        }
        let client_id = session.client_id();
        let expiry_secs = session.expiry_secs;
        self.observe(Event::Disconnected { client_id, reason });
        if expiry_secs == 0 {
            self.end_session(env, session_key);
            return;
        }
        self.append_session(session_key);
        if !self.config.queue_qos0_offline {
            self.drop_queued_qos0(session_key);
        }
        self.tell_groups_status(session_key);
        if mutant!(TakeoverLosesQueue) && reason == CloseReason::TakenOver {
            while let Some(lost) = self
                .session_mut(session_key)
                .and_then(|session| session.queue.pop_front())
            {
                self.uncount_queued(&lost);
            }
        }
        if mutant!(GroupInFlightShared) {
            self.return_group_messages(session_key);
        }
        self.return_unsent(session_key, None);
        self.arm_session(env, session_key, reason);
    }

    /// The Session Expiry Interval is over [MQTT-4.1.0-2].
    pub(super) fn session_due(&mut self, env: Env<'_>, key: SessionKey) {
        if let Some(session) = self.session_mut(key) {
            session.absence.make().expiry_due = None;
            self.end_session(env, key);
        }
    }

    pub(super) fn running_connections(&self) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.phase != Phase::Closing)
            .map(|(index, connection)| ConnectionKey {
                index: u32::try_from(index).expect("fewer connections than 32 bits count"),
                generation: connection.generation,
            })
    }

    /// Ends the present connection of a session, and the session too if the new one starts clean.
    fn take_over(&mut self, env: Env<'_>, known: SessionKey, clean_start: bool) {
        let Some(session) = self.session(known) else {
            return;
        };
        if let Some(old) = session.connection {
            self.stats.takeovers += 1;
            // [MQTT-3.1.4-3]; the will is a matter of the table in ambiguities C1 to C8.
            self.disconnect_with(
                env,
                old,
                ReasonCode::SessionTakenOver,
                CloseReason::TakenOver,
            );
        }
        if clean_start && self.session(known).is_some() && !mutant!(CleanStartIgnored) {
            self.end_session(env, known);
        }
    }

    pub(super) fn begin_session(
        &mut self,
        client_id: &ByteStr,
        version: ProtocolVersion,
    ) -> SessionKey {
        let generation = self.next_generation();
        let seed = self.config.seed;
        let index = self.sessions.insert(Session {
            generation,
            client_id: client_id.as_str().into(),
            version,
            connection: None,
            state: Some(Box::new(SessionState::new())),
            absence: LazyBox::default(),
            expiry_secs: 0,
            will: None,
            subscriptions: map::new(seed),
            rare: LazyBox::default(),
            unrouted: 0,
            queue: crate::queue::SessionQueue::default(),
            mark: 0,
            mark_index: 0,
            queue_id: None,
            is_dirty: false,
            drop_reported: false,
        });
        let key = SessionKey {
            index: u32::try_from(index).expect("fewer sessions than 32 bits count"),
            generation,
        };
        self.by_client_id.insert(key, &self.sessions);
        key
    }

    /// Ends a session with all it has.
    fn end_session(&mut self, env: Env<'_>, key: SessionKey) {
        self.disarm_session(key);
        // A session that ends does not wait for its will's delay [U5-030].
        self.publish_will(env, key);
        // Left first, so that what is returned does not come back.
        self.remove_every_subscription(env, key);
        self.return_group_messages(key);
        let Some(session) = self.session(key) else {
            return;
        };
        let client_id = session.client_id();
        self.by_client_id.remove(&client_id, &self.sessions);
        let session = self.sessions.remove(key.index as usize);
        self.stats
            .count_drops(DropCause::SessionEnded, session.queue.len());
        self.queued_messages -= session.queue.len();
        self.queued_bytes -= session.queue.bytes();
        self.disk_bytes -= session.queue.disk_bytes();
        for (&packet_id, inbound) in session.rare.get().iter().flat_map(|rare| &rare.inbound) {
            // What is not with everybody yet is released when it is.
            if inbound.routed || mutant!(TakenOverForgotten) {
                self.append_released(inbound.queue, packet_id, inbound.id);
            }
        }
        if let Some(session) = session.queue_id {
            self.append(|| Record::SessionEnded { session });
        }
        self.observe(Event::SessionEnded { client_id });
        self.shrink_if_sparse();
    }

    /// What groups gave to a session that ends: unsent and `QoS` 1 messages go to other members
    /// [U5-106]; `QoS` 2 messages that were sent go to nobody [MQTT-4.8.2-5].
    fn return_group_messages(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else {
            return;
        };
        let mut open = Vec::new();
        // In the order of sending, and before what was not sent: it goes back in front.
        let Some(state) = &session.state else {
            return self.return_unsent(key, None);
        };
        for exchange in state.exchanges() {
            let Some(outgoing) = exchange.item.outgoing() else {
                continue;
            };
            if let Some(origin) = &outgoing.origin {
                let may_have_it =
                    outgoing.qos == QoS::ExactlyOnce && !state.is_never_sent(exchange.packet_id);
                let outcome = if may_have_it || mutant!(GroupMessageLost) {
                    GroupOutcome::Consumed
                } else {
                    GroupOutcome::Returned
                };
                open.push(((**origin), outcome));
            }
        }
        for (origin, outcome) in open {
            if outcome == GroupOutcome::Consumed {
                self.stats.count_drop(DropCause::SessionEnded);
            }
            self.tell_group(key, origin, outcome);
        }
        self.return_unsent(key, None);
    }

    /// Starts the timers of a session without connection.
    fn arm_session(&mut self, env: Env<'_>, key: SessionKey, reason: CloseReason) {
        let now = env.now.tick;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let expiry = session.expiry_secs;
        let expiry_due = (expiry != u32::MAX).then(|| now.saturating_add(u64::from(expiry) * 1000));
        session.absence.make().expiry_due = expiry_due;
        // The broker's own stop is no reason to say that clients vanished.
        let delay = session
            .will
            .as_ref()
            .filter(|_| reason != CloseReason::ShuttingDown)
            .filter(|_| reason != CloseReason::TakenOver || !mutant!(NoWillOnTakeover))
            .map(|will| {
                if mutant!(WillDelayIgnored) {
                    return 0;
                }
                will.delay_secs
            });
        let will_due = delay
            .filter(|&delay| delay > 0)
            .map(|delay| now.saturating_add(u64::from(delay) * 1000));
        session.absence.make().will_due = will_due;
        if let Some(due) = expiry_due {
            self.timers.arm(due, Timer::SessionExpiry(key));
        }
        if let Some(due) = will_due {
            self.timers.arm(due, Timer::Will(key));
        }
        if delay == Some(0) {
            self.publish_will(env, key);
        }
    }

    fn disarm_session(&mut self, key: SessionKey) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let Some(absence) = session.absence.get_mut() else {
            return;
        };
        let expiry_due = absence.expiry_due.take();
        let mut will_due = absence.will_due.take();
        if mutant!(WillNotCancelled) {
            will_due = None;
        }
        if let Some(due) = expiry_due {
            self.timers.disarm(due, Timer::SessionExpiry(key));
        }
        if let Some(due) = will_due {
            self.timers.disarm(due, Timer::Will(key));
        }
    }

    /// Resends what the session had open, as far as window and output go [MQTT-4.4.0-1].
    pub(super) fn resend(&mut self, env: Env<'_>, key: ConnectionKey) {
        loop {
            let Some(connection) = self.running_mut(key) else {
                return;
            };
            let session = connection.session;
            let Endpoint::Wire(wire) = &mut connection.endpoint else {
                return;
            };
            if !wire.is_resending() {
                return;
            }
            let next = wire
                .next_resend()
                .map(|resend| (resend.item.outgoing().cloned(), resend.is_overdue));
            let Some((next, is_overdue)) = next else {
                // It may have written PUBRELs. Waking for nothing would spin while the window is full.
                if !wire.output().is_empty() {
                    self.wake(key);
                }
                return;
            };
            let mut payload = 0;
            let mut cause = DropCause::TooLarge;
            let is_expired = |outgoing: &Outgoing| outgoing.message.is_expired(env.now.wall);
            let resent = match next {
                Some(outgoing)
                    if is_overdue && is_expired(&outgoing) && !mutant!(OverdueIsSent) =>
                {
                    cause = DropCause::Expired; // [MQTT-3.3.2-5]
                    wire.abandon_resend()
                }
                Some(outgoing) => {
                    let mut buffers = Box::<SourceBuffers>::default();
                    let mut source =
                        Source::of_message(&outgoing.message, env.now.wall, &mut buffers);
                    payload = source.payload_bytes();
                    let form = Redeliver {
                        retain: outgoing.retain,
                        subscription_ids: outgoing.subscription_ids.as_slice(),
                    };
                    wire.resend(source.fan_out(), form)
                }
                // Sessions that keep nothing end with their connection.
                None => wire.abandon_resend(),
            };
            match resent {
                Ok(Resent::Sent) => {
                    self.stats.publishes_sent += 1;
                    self.stats.publish_bytes_sent += payload;
                }
                Ok(Resent::Dropped(item)) => {
                    if let Some(outgoing) = item.into_outgoing() {
                        self.drop_outgoing(session, outgoing, cause);
                    }
                }
                Ok(Resent::Released) => {
                    self.stats.count_drop(DropCause::TooLarge);
                    self.touch_window(session);
                }
                Err(_) => {
                    self.wake(key);
                    return;
                }
            }
            self.wake(key);
        }
    }

    fn granted_expiry_secs(&self, connect: &Connect) -> u32 {
        let asked = match connect.version {
            ProtocolVersion::V5 => connect.properties.session_expiry_secs,
            // Clean session 1 ends with its connection; 0 never does by protocol [B1].
            _ if connect.clean_start => 0,
            _ => self.config.v3_session_expiry_secs,
        };
        asked.min(self.config.session_expiry_secs_max)
    }

    fn drop_queued_qos0(&mut self, key: SessionKey) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let bytes = session.queue.bytes();
        let origins: Vec<_> = session
            .queue
            .take_at_most_once()
            .into_iter()
            .map(|outgoing| outgoing.origin)
            .collect();
        let freed = bytes - session.queue.bytes();
        self.queued_messages -= origins.len();
        self.queued_bytes -= freed;
        self.stats.count_drops(DropCause::Offline, origins.len());
        for origin in origins.into_iter().flatten() {
            // Never sent: another member may have it.
            self.send_group_done(origin.group, origin.sequence, key, GroupOutcome::Returned);
        }
    }

    fn shrink_if_sparse(&mut self) {
        self.by_client_id.shrink_if_sparse(&self.sessions);
        if self.sessions.capacity() > 256 && self.sessions.len() * 8 < self.sessions.capacity() {
            self.sessions.shrink_to_fit();
        }
    }
}

/// What CONNACK will say, until it is sent.
#[derive(Debug, Default)]
pub(super) struct Pending {
    session_present: bool,
    grants: Grants,
    session_expiry_secs: u32,
}
