//! A connection at its shard: one packet in, one event handled, output into its buffer.

use whimbrel_session::codec::{Disconnect, ReasonCode, WriteBuf};
use whimbrel_session::mutant;
use whimbrel_session::{Hold, ServerConnection, ServerEvent, Tick};

use super::local::LocalClient;
use super::publish::Verdict;
use super::session::{InboundRelease, Inflight};
use super::{Env, OnCommit, Shard};
use crate::effects::CloseReason;
use crate::{ConnectionKey, SessionKey};

/// A client's connection, as long as its transport is there.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) generation: u32,
    pub(super) session: SessionKey,
    pub(super) phase: Phase,
    pub(super) endpoint: Endpoint,
    /// What CONNACK will say, while it is not sent.
    pub(super) pending: Option<Box<super::connect::Pending>>,
    /// Stands in `effects.wake`.
    pub(super) woken: bool,
    /// What its reader waits for; a wake tells it to go on.
    pub(super) waits_for: Option<WaitsFor>,
    /// Stands in the shard's backlog.
    pub(super) in_backlog: bool,
    /// When the armed timer fires; [`Tick::NEVER`] while none is armed.
    pub(super) timeout_due: Tick,
}

/// ```text
/// Accepting ──record committed──▶ Running ──▶ Closing ──transport gone──▶ removed
///     └────────────refused, taken over, lost──────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// CONNACK waits for its record; nothing is read.
    Accepting,
    /// Has the session.
    Running,
    /// Gave the session back; what is in the output is still to be written.
    Closing,
}

/// Why a connection's next PUBLISH is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// A window to another shard, or the end of a wide fan-out.
    Shard,
    /// Its own unacknowledged packets, or its own unread output.
    Client,
}

/// Where messages for a client go.
#[derive(Debug)]
pub(super) enum Endpoint {
    Wire(Box<ServerConnection<Inflight>>),
    Local(Box<LocalClient>),
    /// The session is gone from it; this is still to be written.
    Draining(Box<WriteBuf>),
}

impl Connection {
    pub(super) fn output(&mut self) -> Option<&mut WriteBuf> {
        match &mut self.endpoint {
            Endpoint::Wire(connection) => Some(connection.output()),
            Endpoint::Draining(output) => Some(output),
            Endpoint::Local(_) => None,
        }
    }

    pub(super) fn wire(&mut self) -> Option<&mut ServerConnection<Inflight>> {
        match &mut self.endpoint {
            Endpoint::Wire(connection) => Some(connection),
            Endpoint::Local(_) | Endpoint::Draining(_) => None,
        }
    }
}

/// Whether a connection's input is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputStatus {
    /// Yes.
    Open,
    /// Not before the connection is woken: no credit, or CONNACK is not out yet.
    Blocked,
    /// No more: write the output, then close the transport and call
    /// [`Shard::detach`](crate::Shard::detach).
    Closing,
}

/// What one call of [`Shard::receive`] found.
#[derive(Debug)]
pub struct Received<'a> {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What came, if it concerns the shard: hand it to [`Shard::apply`], before the next call.
    pub event: Option<ServerEvent<'a, Inflight>>,
    /// Whether to go on. With [`InputStatus::Open`], no event and nothing consumed, more bytes
    /// are needed.
    pub status: InputStatus,
}

impl Received<'_> {
    fn stopped(status: InputStatus) -> Self {
        Self {
            consumed: 0,
            event: None,
            status,
        }
    }
}

impl Shard {
    /// Decodes the next packet of a connection's input.
    ///
    /// The event borrows from `input` only, so that hooks can be asked about it while the shard is
    /// not borrowed.
    pub fn receive<'a>(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        input: &'a [u8],
    ) -> Received<'a> {
        let congested = self.is_congested();
        let Some(connection) = self.connection_mut(key) else {
            return Received::stopped(InputStatus::Closing);
        };
        match connection.phase {
            Phase::Accepting => return Received::stopped(InputStatus::Blocked),
            Phase::Closing => return Received::stopped(InputStatus::Closing),
            Phase::Running => {}
        }
        let Some(&first) = input.first() else {
            return Received::stopped(InputStatus::Open);
        };
        let is_publish = first >> 4 == PUBLISH_TYPE;
        let Endpoint::Wire(wire) = &mut connection.endpoint else {
            return Received::stopped(InputStatus::Closing);
        };
        if is_publish && congested {
            wire.pause_input(env.now.tick);
            if connection.waits_for.replace(WaitsFor::Shard) != Some(WaitsFor::Shard) {
                self.blocked.push(key);
            }
            return Received::stopped(InputStatus::Blocked);
        }
        match wire.handle_input(env.now.tick, input) {
            Ok(decoded) if decoded.hold.is_some() => {
                // A client that does not read its answers is no reason to spare it the keep alive.
                if decoded.hold != Some(Hold::Output) {
                    wire.pause_input(env.now.tick);
                }
                connection.waits_for = Some(WaitsFor::Client);
                Received::stopped(InputStatus::Blocked)
            }
            Ok(decoded) => {
                let has_output = !wire.output().is_empty();
                if decoded.consumed > 0 {
                    self.stats.packets_received += 1;
                }
                if has_output {
                    self.wake(key);
                }
                Received {
                    consumed: decoded.consumed,
                    event: decoded.event,
                    status: InputStatus::Open,
                }
            }
            Err(_) => {
                self.stats.protocol_error_closes += 1;
                self.close(env, key, CloseReason::ProtocolError);
                self.finish(env);
                Received::stopped(InputStatus::Closing)
            }
        }
    }

    /// Carries out what [`receive`](Self::receive) found, under the verdict of the hooks.
    pub fn apply(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        event: ServerEvent<'_, Inflight>,
        verdict: Verdict,
    ) {
        match event {
            ServerEvent::Publish(publish) => self.publish(env, key, publish, verdict),
            ServerEvent::Release { packet_id, token } => {
                self.inbound_released(env, key, packet_id, token);
            }
            ServerEvent::Delivered { item, reason, .. } => self.delivered(env, key, item, reason),
            ServerEvent::Received { token, .. } => self.outbound_received(env, key, token),
            ServerEvent::Subscribe { subscribe, token } => {
                self.subscribe(env, key, &subscribe, token, verdict);
            }
            ServerEvent::Unsubscribe { unsubscribe, token } => {
                self.unsubscribe(env, key, &unsubscribe, token);
            }
            ServerEvent::Auth(_) => self.authenticating(env, key, verdict),
            ServerEvent::Disconnect(disconnect) => self.disconnected(env, key, &disconnect),
            // A connection is attached after its CONNECT, and there is only one.
            ServerEvent::Connect(_) => self.close(env, key, CloseReason::ProtocolError),
        }
        self.finish(env);
    }

    /// Goes on delivering after the socket took some of the output.
    pub fn flushed(&mut self, env: Env<'_>, key: ConnectionKey) {
        self.count_packets_sent(key);
        self.unblock(env, key, WaitsFor::Client);
        self.resend(env, key);
        self.refill(env, key);
        self.finish(env);
    }

    /// Forgets a connection whose transport is gone. If it still had its session, that was a
    /// network failure.
    pub fn detach(&mut self, env: Env<'_>, key: ConnectionKey) {
        if self.connection(key).is_some() {
            self.close(env, key, CloseReason::NetworkError);
            self.count_packets_sent(key);
            self.connections.remove(key.index as usize);
        }
        self.finish(env);
    }

    /// Ends a connection from this side: MQTT 5 clients are told `reason`, or 0x80 where DISCONNECT has no such
    /// code.
    pub fn disconnect(&mut self, env: Env<'_>, key: ConnectionKey, reason: ReasonCode) {
        self.disconnect_with(env, key, reason, CloseReason::Administrative);
        self.finish(env);
    }

    /// Ends every connection because the broker shuts down [DISCONNECT 0x8B].
    ///
    /// Sessions that outlive their connections stay, and so do their wills.
    pub fn shut_down(&mut self, env: Env<'_>) {
        let running: Vec<_> = self.running_connections().collect();
        for key in running {
            self.disconnect_with(
                env,
                key,
                ReasonCode::ServerShuttingDown,
                CloseReason::ShuttingDown,
            );
        }
        self.finish(env);
    }

    /// The client id of a connection's session.
    #[must_use]
    pub fn client_id(&self, key: ConnectionKey) -> Option<&str> {
        let session = self.connection(key)?.session;
        self.session(session).map(|session| &*session.client_id)
    }

    pub(super) fn disconnect_with(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        reason: ReasonCode,
        close: CloseReason,
    ) {
        self.disconnect_saying(env, key, Disconnect::new(reason), close);
    }

    pub(super) fn disconnect_saying(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        disconnect: Disconnect,
        close: CloseReason,
    ) {
        if let Some(connection) = self.connection_mut(key)
            && connection.phase == Phase::Running
            && let Some(wire) = connection.wire()
        {
            // Hooks may give any code.
            let told = wire
                .disconnect_with(disconnect)
                .or_else(|_| wire.disconnect(ReasonCode::UnspecifiedError));
            debug_assert!(told.is_ok(), "{told:?}");
        }
        self.close(env, key, close);
    }

    /// Lets the reader go on if it waits for `what`.
    pub(super) fn unblock(&mut self, env: Env<'_>, key: ConnectionKey, what: WaitsFor) {
        if let Some(connection) = self.connection_mut(key)
            && connection.waits_for == Some(what)
        {
            connection.waits_for = None;
            if let Some(wire) = connection.wire() {
                wire.resume_input(env.now.tick);
            }
            // The pause may have outlasted the armed timer, which found nothing to do then.
            self.arm_connection(key);
            self.wake(key);
        }
    }

    fn count_packets_sent(&mut self, key: ConnectionKey) {
        let wire = self.connection_mut(key).and_then(Connection::wire);
        let sent = wire.map_or(0, ServerConnection::take_packets_sent);
        self.stats.packets_sent += sent;
    }

    /// PUBREC came: PUBREL goes out once that is recorded [DESIGN §6].
    fn outbound_received(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        token: whimbrel_session::AckToken,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return;
        };
        let then = OnCommit::Acknowledge {
            connection: key,
            token,
        };
        if mutant!(PubRelBeforeRecord) {
            self.touch_window(session);
            return self.committed(env, then);
        }
        self.after_window(env, session, then);
    }

    /// PUBREL came: PUBCOMP goes out once every target has the message and that is recorded.
    fn inbound_released(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        packet_id: whimbrel_session::codec::PacketId,
        token: whimbrel_session::AckToken,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return;
        };
        let release = InboundRelease {
            connection: key,
            token,
        };
        self.release_inbound(env, session, packet_id.get(), release);
    }
}

const PUBLISH_TYPE: u8 = 3;

// Every idle connection has one (docs/performance.md, "Memory").
const _: () = assert!(size_of::<Connection>() <= 48);
