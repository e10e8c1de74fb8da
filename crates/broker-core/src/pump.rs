//! [`ConnectionPump`]: the logic of one network connection; what is left to I/O is polling.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    AckProperties, Auth, AuthRef, ConnAckProperties, Connect, QoS, ReasonCode, SubscribeRef,
    WriteBuf,
};
use whimbrel_session::{
    Epoch, InboundPublish, ServerConfig, ServerConnection, ServerEvent, Tick, UsageError,
};

use crate::shard::{Attach, Grants, Inflight, InputStatus, Verdict};
use crate::{ConnectionKey, Env, Shard};

/// One network connection, from its first byte to its last.
///
/// ```text
/// Handshake ──CONNECT read, authenticated──▶ Attached ──▶ Closed
///     └───────────refused, malformed, timed out──────────────┘
/// ```
///
/// Until CONNECT is read it belongs to no shard and can be moved between threads; then it is
/// attached to the shard of its session, and stays there.
#[derive(Debug)]
pub struct ConnectionPump {
    state: State,
    /// Input that is not a whole packet yet, or that waits for credit; never empty.
    carry: Option<Box<BytesMut>>,
}

#[derive(Debug)]
enum State {
    Handshake {
        connection: Box<ServerConnection<Inflight>>,
        maximum_qos: QoS,
        retain_available: bool,
    },
    Attached(ConnectionKey),
    Closed,
}

/// How far a connection's handshake is.
#[derive(Debug)]
pub enum Handshake {
    /// More input is needed.
    NeedInput,
    /// CONNECT is there: [`ConnectionPump::attach`] or [`ConnectionPump::refuse`] it, or
    /// [`ConnectionPump::challenge`] it if it names an authentication method.
    Connect(Box<Connect>),
    /// The answer to a challenge is there: go on as with CONNECT.
    Auth(Box<Auth>),
    /// It failed: write the output, if there is any, and close.
    Failed,
}

/// What hooks have to say about packets, asked before the shard sees them and while it is not borrowed.
pub trait Gate {
    /// A PUBLISH.
    fn publish(&mut self, publish: &InboundPublish<'_>) -> Verdict;
    /// A SUBSCRIBE.
    fn subscribe(&mut self, subscribe: &SubscribeRef<'_>) -> Verdict;
    /// An AUTH of a client that authenticates itself anew: [`Verdict::Pending`] promises an answer by
    /// [`Shard::answer_authentication`]. A gate that knows no method ends the connection.
    fn authenticate(&mut self, _auth: &AuthRef<'_>) -> Verdict {
        Verdict::Disconnect(ReasonCode::NotAuthorized)
    }
}

/// Lets everything pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn publish(&mut self, _: &InboundPublish<'_>) -> Verdict {
        Verdict::Allow
    }

    fn subscribe(&mut self, _: &SubscribeRef<'_>) -> Verdict {
        Verdict::Allow
    }
}

impl ConnectionPump {
    /// A connection that was just opened. Those that are given the same `Arc` share one configuration.
    #[must_use]
    pub fn new(now: Tick, config: impl Into<Arc<ServerConfig>>) -> Self {
        let config = config.into();
        let (maximum_qos, retain_available) = (config.maximum_qos, config.retain_available);
        // Tokens are kept with the key of their connection, which tells connections apart.
        let connection = ServerConnection::new(now, Epoch::default(), config);
        Self {
            state: State::Handshake {
                connection: Box::new(connection),
                maximum_qos,
                retain_available,
            },
            carry: None,
        }
    }

    /// Reads on until CONNECT is there. What follows it is kept for later [U5-034].
    pub fn handshake(&mut self, now: Tick, input: &[u8]) -> Handshake {
        let mut carry = self.carry.take().unwrap_or_default();
        carry.extend_from_slice(input);
        let step = self.handshake_step(now, &mut carry);
        if !carry.is_empty() {
            self.carry = Some(carry);
        }
        step
    }

    fn handshake_step(&mut self, now: Tick, carry: &mut BytesMut) -> Handshake {
        let State::Handshake {
            connection,
            maximum_qos,
            retain_available,
        } = &mut self.state
        else {
            return Handshake::Failed;
        };
        match connection.handle_input(now, carry) {
            Ok(decoded) => {
                let consumed = decoded.consumed;
                match decoded.event {
                    Some(ServerEvent::Connect(connect)) => {
                        carry.advance(consumed);
                        // [MQTT-3.2.2-12, MQTT-3.2.2-13]; clients of MQTT 3.x can't know.
                        let will = connect.will.as_ref();
                        let refusal = match will.filter(|_| connect.version.is_v5()) {
                            Some(will) if will.qos > *maximum_qos => {
                                Some(ReasonCode::QosNotSupported)
                            }
                            Some(will) if will.retain && !*retain_available => {
                                Some(ReasonCode::RetainNotSupported)
                            }
                            _ => None,
                        };
                        if let Some(reason) = refusal {
                            let told = connection.refuse(reason);
                            debug_assert!(told.is_ok(), "{told:?}");
                            return Handshake::Failed;
                        }
                        Handshake::Connect(connect)
                    }
                    Some(ServerEvent::Auth(auth)) => {
                        let auth = Box::new(auth.into_owned());
                        carry.advance(consumed);
                        Handshake::Auth(auth)
                    }
                    // The client gives up.
                    Some(ServerEvent::Disconnect(_)) => Handshake::Failed,
                    _ => Handshake::NeedInput,
                }
            }
            Err(_) => Handshake::Failed,
        }
    }

    /// When the handshake times out; `None` once it is over.
    #[must_use]
    pub fn handshake_timeout(&self) -> Option<Tick> {
        match &self.state {
            State::Handshake { connection, .. } => connection.poll_timeout(),
            State::Attached(_) | State::Closed => None,
        }
    }

    /// Ends a handshake that takes longer than [its timeout](Self::handshake_timeout): a client that waits for an
    /// answer to CONNECT, or owes one to a challenge, is told by CONNACK in the [output](Self::handshake_output).
    pub fn expire_handshake(&mut self) {
        if let State::Handshake { connection, .. } = &mut self.state
            && let Some(due) = connection.poll_timeout()
        {
            connection.handle_timeout(due);
        }
    }

    /// The output of a connection that has no shard yet.
    pub fn handshake_output(&mut self) -> Option<&mut WriteBuf> {
        match &mut self.state {
            State::Handshake { connection, .. } => Some(connection.output()),
            State::Attached(_) | State::Closed => None,
        }
    }

    /// Refuses the CONNECT; the answer is in the [output](Self::handshake_output).
    ///
    /// # Errors
    ///
    /// [`UsageError`] if no CONNECT waits, or CONNACK has no such code; closing says it then.
    pub fn refuse(
        &mut self,
        reason: ReasonCode,
        properties: ConnAckProperties,
    ) -> Result<(), UsageError> {
        match &mut self.state {
            State::Handshake { connection, .. } => connection.refuse_with(reason, properties),
            State::Attached(_) | State::Closed => Err(UsageError::NoConnectWaiting),
        }
    }

    /// Asks a client whose CONNECT names an authentication method for more; AUTH is in the
    /// [output](Self::handshake_output), and its answer comes by [`handshake`](Self::handshake).
    ///
    /// # Errors
    ///
    /// [`UsageError`] if no step of the client waits for an answer, or the client does not accept an AUTH of
    /// this size.
    pub fn challenge(
        &mut self,
        data: Option<Bytes>,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        match &mut self.state {
            State::Handshake { connection, .. } => connection.challenge(data, properties),
            State::Attached(_) | State::Closed => Err(UsageError::NoAuthenticationStep),
        }
    }

    /// Attaches the connection to the shard of its session.
    pub fn attach(
        &mut self,
        env: Env<'_>,
        shard: &mut Shard,
        connect: Box<Connect>,
        grants: Grants,
    ) -> Option<ConnectionKey> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Handshake { connection, .. } => {
                let key = shard.attach(
                    env,
                    Attach {
                        connection,
                        connect,
                        grants,
                    },
                );
                self.state = State::Attached(key);
                Some(key)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The connection at its shard.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionKey> {
        match self.state {
            State::Attached(key) => Some(key),
            State::Handshake { .. } | State::Closed => None,
        }
    }

    /// Works through `input`, and through what was kept before; call it with empty input to go on
    /// after a wake. While the status is [`InputStatus::Blocked`], nothing more is to be read.
    pub fn handle_input(
        &mut self,
        env: Env<'_>,
        shard: &RefCell<Shard>,
        gate: &mut impl Gate,
        input: &[u8],
    ) -> InputStatus {
        let State::Attached(key) = self.state else {
            return InputStatus::Closing;
        };
        let Some(mut carry) = self.carry.take() else {
            let Progress { consumed, status } = work(env, shard, gate, key, input);
            let rest = &input[consumed..];
            self.carry = (!rest.is_empty()).then(|| Box::new(BytesMut::from(rest)));
            return status;
        };
        carry.extend_from_slice(input);
        let Progress { consumed, status } = work(env, shard, gate, key, &carry);
        carry.advance(consumed);
        if !carry.is_empty() {
            self.carry = Some(carry);
        }
        status
    }

    /// Bytes kept because they are no whole packet yet, or wait for credit.
    #[must_use]
    pub fn carried(&self) -> usize {
        self.carry.as_ref().map_or(0, |carry| carry.len())
    }

    /// Forgets the connection: its transport is gone.
    pub fn detach(&mut self, env: Env<'_>, shard: &mut Shard) {
        if let State::Attached(key) = std::mem::replace(&mut self.state, State::Closed) {
            shard.detach(env, key);
        }
    }
}

struct Progress {
    consumed: usize,
    status: InputStatus,
}

fn work(
    env: Env<'_>,
    shard: &RefCell<Shard>,
    gate: &mut impl Gate,
    key: ConnectionKey,
    input: &[u8],
) -> Progress {
    let mut consumed = 0;
    loop {
        let received = shard.borrow_mut().receive(env, key, &input[consumed..]);
        consumed += received.consumed;
        let status = received.status;
        let done = received.consumed == 0 && received.event.is_none();
        if let Some(event) = received.event {
            let verdict = match &event {
                ServerEvent::Publish(publish) => gate.publish(publish),
                ServerEvent::Subscribe { subscribe, .. } => gate.subscribe(subscribe),
                ServerEvent::Auth(auth) => gate.authenticate(auth),
                _ => Verdict::Allow,
            };
            shard.borrow_mut().apply(env, key, event, verdict);
        }
        if done || status != InputStatus::Open {
            return Progress { consumed, status };
        }
    }
}

/// A client id for a client that left the choice to the server [MQTT-3.1.3-6].
///
/// Keyed with the broker's secret, so that one client can't guess another's and take it over.
#[must_use]
pub fn assigned_client_id(secret: [u64; 2], count: u64) -> ByteStr {
    let part = |half: u64| {
        // SipHash in the standard library: a keyed function of the count.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(secret[0]);
        hasher.write_u64(count);
        hasher.write_u64(half);
        hasher.write_u64(secret[1]);
        hasher.finish()
    };
    ByteStr::from(format!("auto-{:016x}{:016x}", part(0), part(1)))
}
