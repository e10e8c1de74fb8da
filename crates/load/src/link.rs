//! [`Link`]: one client's connection: a socket, and the session engine behind it.

use std::cell::RefCell;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use whimbrel_net::{Address, TcpStream};
use whimbrel_session::codec::{
    Connect, Disconnect, Limits, PublishRef, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions,
};
use whimbrel_session::{
    ClientConfig, ClientConnection, ClientEvent, Epoch, InboundPublish, RequestRefused,
    SessionState, SubscribeRequest, Tick, TopicRef, UnsubscribeRequest,
};

use crate::clock::{self, Clock};
use crate::error::Gone;

/// A connection over which CONNACK has come.
///
/// It holds no buffer while nothing is under way: what is read goes through the buffer of its thread.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// Each publication of QoS 1 and 2 keeps the time from which its latency counts.
    pub(crate) connection: ClientConnection<u64>,
    clock: Clock,
    /// What has come of a packet that is not whole, or that waits until the output is taken.
    input: Vec<u8>,
    /// The first packet of `input` waits for the output.
    is_held: bool,
    timer: Pin<Box<Sleep>>,
    /// When `timer` ends; it may be early, never late.
    armed: Option<Tick>,
    /// Somebody has found the output full: [`turn`](Self::turn) ends when it is empty.
    pub(crate) wants_output: bool,
    /// What the last SUBACK granted: the lowest QoS, or the first refusal.
    granted: Option<ReasonCode>,
    /// SUBACK and UNSUBACK that have come.
    pub(crate) answers: u64,
    /// CONNACK said that the broker has the session.
    pub(crate) is_resumed: bool,
}

/// What a client does with what comes.
pub(crate) trait Handler {
    /// A message has come, at `now`. It is acknowledged by the link.
    fn message(&mut self, now: u64, topic: &str, message: &PublishRef<'_>) {
        let _ = (now, topic, message);
    }

    /// A message that was sent at `sent` was acknowledged to the end.
    fn delivered(&mut self, now: u64, sent: u64, reason: ReasonCode) {
        let _ = (now, sent, reason);
    }
}

/// Nothing but the connection itself is of interest.
#[derive(Debug)]
pub(crate) struct Ignore;

impl Handler for Ignore {}

/// What is the same for all connections of a run.
#[derive(Clone, Debug)]
pub(crate) struct LinkOptions {
    address: Address,
    net: whimbrel_net::Connect,
    config: ClientConfig,
}

impl LinkOptions {
    /// Connections to `address` for packets of up to so many bytes, with so many publications in flight.
    pub(crate) fn new(address: Address, packet_bytes: usize, in_flight_max: NonZeroU16) -> Self {
        let mut net = whimbrel_net::Connect::default();
        net.timeout = CONNECT_TIMEOUT;
        let mut config = ClientConfig::default();
        let packet_size = u32::try_from(packet_bytes).unwrap_or(u32::MAX);
        let default = Limits::DEFAULT.packet_size_max;
        config.limits.packet_size_max = default.max(packet_size);
        config.connack_timeout_ms = u64::try_from(CONNECT_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        config.ping_timeout_ms = PING_TIMEOUT_MILLIS;
        config.in_flight_max = in_flight_max;
        Self {
            address,
            net,
            config,
        }
    }
}

impl Link {
    /// Connects and waits for CONNACK.
    pub(crate) async fn open(
        options: &LinkOptions,
        connect: Connect,
        clock: Clock,
        scratch: &RefCell<Vec<u8>>,
    ) -> Result<Self, Gone> {
        Self::resume(options, connect, None, clock, scratch, &mut Ignore).await
    }

    /// Connects with what the client has of its session, and waits for CONNACK. Messages may come right behind it.
    pub(crate) async fn resume(
        options: &LinkOptions,
        connect: Connect,
        session: Option<SessionState<u64>>,
        clock: Clock,
        scratch: &RefCell<Vec<u8>>,
        handler: &mut impl Handler,
    ) -> Result<Self, Gone> {
        let stream = options.net.connect_tcp(&options.address).await?;
        let epoch = Epoch(session.is_some().into());
        let mut connection = ClientConnection::new(epoch, &options.config);
        connection.connect(clock.tick(), connect, session)?;
        let mut link = Self {
            stream,
            connection,
            clock,
            input: Vec::new(),
            is_held: false,
            timer: Box::pin(sleep_until(Instant::now())),
            armed: None,
            wants_output: false,
            granted: None,
            answers: 0,
            is_resumed: false,
        };
        while !link.connection.is_connected() {
            link.turn(scratch, handler).await?;
        }
        link.connection.release_memory();
        Ok(link)
    }

    /// Subscribes and waits for SUBACK: the lowest QoS that was granted. Messages may come before it.
    pub(crate) async fn subscribe(
        &mut self,
        filters: &[String],
        qos: QoS,
        scratch: &RefCell<Vec<u8>>,
        handler: &mut impl Handler,
    ) -> Result<QoS, Gone> {
        self.granted = None;
        self.request_subscription(filters, qos)?;
        loop {
            match self.granted()? {
                Some(granted) => return Ok(granted),
                None => self.turn(scratch, handler).await?,
            }
        }
    }

    /// Puts SUBSCRIBE into the output.
    pub(crate) fn request_subscription(
        &mut self,
        filters: &[String],
        qos: QoS,
    ) -> Result<(), RequestRefused> {
        let filter = |filter: &String| SubscribeFilter {
            filter: filter.as_str().into(),
            options: SubscriptionOptions::new(qos),
        };
        let request = SubscribeRequest {
            filters: filters.iter().map(filter).collect(),
            ..SubscribeRequest::default()
        };
        self.connection.subscribe(self.clock.tick(), request)?;
        Ok(())
    }

    /// Puts UNSUBSCRIBE into the output.
    pub(crate) fn request_end_of_subscription(
        &mut self,
        filter: &str,
    ) -> Result<(), RequestRefused> {
        let request = UnsubscribeRequest {
            filters: vec![filter.into()],
            ..UnsubscribeRequest::default()
        };
        self.connection.unsubscribe(self.clock.tick(), request)?;
        Ok(())
    }

    /// What the last SUBACK granted, if one has come since the last SUBSCRIBE was waited for.
    pub(crate) fn granted(&self) -> Result<Option<QoS>, Gone> {
        match self.granted {
            None => Ok(None),
            Some(ReasonCode::Success) => Ok(Some(QoS::AtMostOnce)),
            Some(ReasonCode::GrantedQos1) => Ok(Some(QoS::AtLeastOnce)),
            Some(ReasonCode::GrantedQos2) => Ok(Some(QoS::ExactlyOnce)),
            Some(reason) => Err(Gone::NotSubscribed(reason)),
        }
    }

    /// Writes what is to be sent, reads what has come, and keeps the connection alive; until packets were handled, or
    /// the output that somebody wants is empty. Dropped at any time it loses nothing.
    pub(crate) async fn turn(
        &mut self,
        scratch: &RefCell<Vec<u8>>,
        handler: &mut impl Handler,
    ) -> Result<(), Gone> {
        std::future::poll_fn(|context| {
            let turned = self.poll_turn(context, scratch, handler);
            if let Poll::Ready(Err(Gone::Protocol(_))) = &turned {
                // The DISCONNECT that says what was wrong, if the socket takes it at once.
                let _ = self.poll_write(context);
            }
            turned
        })
        .await
    }

    /// Sends DISCONNECT and closes; a broker that does not take it is left without.
    pub(crate) async fn close(mut self) {
        if self.connection.disconnect(Disconnect::default()).is_err() {
            return;
        }
        let written = std::future::poll_fn(|context| self.poll_write(context));
        // The connection is over either way.
        let _ = timeout(CLOSE_TIMEOUT, written).await;
    }

    /// Sends DISCONNECT and waits until the broker has closed the connection, as it has to [MQTT-3.14.4-2] and does once
    /// it knows that the client is away. Returns what the client keeps of its session.
    pub(crate) async fn leave(mut self) -> Result<Option<SessionState<u64>>, Gone> {
        self.connection.disconnect(Disconnect::default())?;
        let left = async {
            std::future::poll_fn(|context| self.poll_write(context)).await?;
            let mut rest = [0; 256];
            // What a broker still sends to who has left is of no interest, nor how exactly it closes.
            while matches!(self.stream.read(&mut rest).await, Ok(1..)) {}
            Ok::<(), Gone>(())
        };
        if let Ok(left) = timeout(LEAVE_TIMEOUT, left).await {
            left?;
        }
        Ok(self.connection.into_state())
    }

    fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        scratch: &RefCell<Vec<u8>>,
        handler: &mut impl Handler,
    ) -> Poll<Result<(), Gone>> {
        let mut is_done = self.poll_flush(context)?;
        for _ in 0..READS_PER_TURN {
            match self.poll_read(context, scratch, handler) {
                Poll::Ready(handled) => is_done |= handled?,
                Poll::Pending => break,
            }
        }
        self.poll_timer(context)?;
        // The acknowledgements of what was read, and PINGREQ.
        is_done |= self.poll_flush(context)?;
        if is_done {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Whether output that is wanted has become empty.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Result<bool, Gone> {
        let is_empty = match self.poll_write(context) {
            Poll::Ready(written) => {
                written?;
                true
            }
            Poll::Pending => false,
        };
        Ok(is_empty && std::mem::take(&mut self.wants_output))
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.connection.output().is_empty() {
            let output = self.connection.output();
            let written = Pin::new(&mut self.stream).poll_write(context, output.chunk());
            let count = ready!(written)?;
            if count == 0 {
                return Poll::Ready(Err(Gone::Closed));
            }
            self.connection.output().advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once. Ready with whether packets were handled, pending when there is nothing to read or reading has to wait
    /// for the output.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &RefCell<Vec<u8>>,
        handler: &mut impl Handler,
    ) -> Poll<Result<bool, Gone>> {
        if self.connection.output().len() > OUTPUT_HIGH {
            // The broker does not read: nothing that would be answered is read from it.
            return Poll::Pending;
        }
        if std::mem::take(&mut self.is_held) {
            let consumed = self.handle_kept(self.clock.nanos(), handler)?;
            return Poll::Ready(Ok(consumed > 0));
        }
        let mut scratch = scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let now = self.clock.nanos();
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(Gone::Closed));
        }
        if self.input.is_empty() {
            let consumed = self.handle(now, bytes, handler)?;
            self.input.extend_from_slice(&bytes[consumed..]);
            return Poll::Ready(Ok(consumed > 0));
        }
        self.input.extend_from_slice(bytes);
        let consumed = self.handle_kept(now, handler)?;
        Poll::Ready(Ok(consumed > 0))
    }

    fn handle_kept(&mut self, now: u64, handler: &mut impl Handler) -> Result<usize, Gone> {
        let mut input = std::mem::take(&mut self.input);
        let consumed = self.handle(now, &input, handler)?;
        input.drain(..consumed);
        self.input = input;
        Ok(consumed)
    }

    /// Handles all packets that are whole, and returns how many bytes they had.
    fn handle(
        &mut self,
        now: u64,
        input: &[u8],
        handler: &mut impl Handler,
    ) -> Result<usize, Gone> {
        let tick = clock::tick(now);
        let mut consumed = 0;
        loop {
            let handled = self.connection.handle_input(tick, &input[consumed..])?;
            if handled.consumed == 0 {
                self.is_held = handled.hold.is_some();
                return Ok(consumed);
            }
            consumed += handled.consumed;
            let Some(event) = handled.event else { continue };
            let token = match event {
                ClientEvent::Publish(InboundPublish {
                    topic,
                    publish,
                    token,
                }) => {
                    let name = match &topic {
                        TopicRef::Borrowed(name) => name.as_str(),
                        TopicRef::Aliased(name) => name.as_str(),
                    };
                    handler.message(now, name, &publish);
                    token
                }
                ClientEvent::Delivered { item, reason, .. } => {
                    handler.delivered(now, item, reason);
                    None
                }
                ClientEvent::Received { token, .. } | ClientEvent::Release { token, .. } => {
                    Some(token)
                }
                ClientEvent::SubAck(ack) => {
                    self.answers += 1;
                    let refused = ack.codes().find(|reason| reason.is_error());
                    let lowest = || ack.codes().min_by_key(|reason| reason.as_u8());
                    self.granted = refused.or_else(lowest);
                    None
                }
                ClientEvent::ConnAck(connected) => {
                    let reason = connected.connack.reason;
                    if reason.is_error() {
                        return Err(Gone::Refused(reason));
                    }
                    self.is_resumed = connected.connack.session_present;
                    None
                }
                ClientEvent::Disconnected(disconnect) => {
                    return Err(Gone::Disconnected(disconnect.reason));
                }
                ClientEvent::Auth(_) => return Err(Gone::Authentication),
                ClientEvent::UnsubAck(_) => {
                    self.answers += 1;
                    None
                }
            };
            if let Some(token) = token {
                self.connection.ack(tick, token, ReasonCode::Success)?;
            }
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Result<(), Gone> {
        loop {
            let Some(due) = self.connection.poll_timeout() else {
                return Ok(());
            };
            // The keep alive is moved with each packet; the timer stays, and is set anew when it ends too early.
            if self.armed.is_none_or(|armed| due < armed) {
                self.timer.as_mut().reset(self.clock.instant(due).into());
                self.armed = Some(due);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.armed = None;
            if let Some(kind) = self.connection.handle_timeout(self.clock.tick()) {
                return Err(Gone::Silent(kind));
            }
        }
    }
}

/// A thread's buffer for what is read.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;
/// Reads after which other connections have their turn.
const READS_PER_TURN: usize = 16;
/// Output at which nothing is read any more.
const OUTPUT_HIGH: usize = 256 * 1024;
/// For the handshakes of TCP and of MQTT each: a storm keeps brokers busy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const PING_TIMEOUT_MILLIS: u64 = 30_000;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A broker that has not closed by then is taken to know all the same that the client has left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
