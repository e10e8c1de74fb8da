//! [`Link`]: one raw connection to the broker, for packets and for bytes that are none.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use whimbrel_codec::{
    Ack, ConnAck, DecodeError, Disconnect, Limits, Packet, PacketId, ProtocolVersion, Publish,
    ReasonCode, SubAck, UnsubAck, decode_ref,
};

use crate::context::Context;
use crate::transcript::{describe, hex};
use crate::verdict::{Outcome, Stop};

/// One TCP connection to the broker, with a transcript of everything that passes over it.
///
/// `expect_…` methods wait for one packet and fail the case when it does not come. Packets of other types that come
/// meanwhile are kept, in order, and found by later calls: a PUBLISH may overtake a SUBACK, an acknowledgement a PUBLISH.
/// Only what ends the connection, or what a server may never send, fails at once.
#[derive(Debug)]
pub struct Link {
    context: Context,
    name: String,
    stream: TcpStream,
    input: BytesMut,
    /// Read, but not yet asked for. At most [`KEPT_MAX`].
    kept: VecDeque<(Packet, Bytes)>,
    /// The bytes of the packet that was read or given out last.
    last: Bytes,
    /// The broker has closed the connection, or writing failed.
    closed: bool,
    /// In which form the next CONNACK may come, besides the one of this version.
    other_version: Option<ProtocolVersion>,
}

/// What came, or that nothing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole packet.
    Packet(Packet),
    /// Bytes that no server may send in this version.
    Illegal {
        /// The bytes that have come.
        bytes: Bytes,
        /// What is wrong with them.
        error: String,
    },
    /// The broker closed the connection.
    Closed,
    /// Nothing in the time given.
    Silence,
}

impl Link {
    /// Opens a connection. `name` tells it from others in the transcript.
    ///
    /// # Errors
    /// A failure when the broker does not accept it.
    pub async fn open(context: &Context, name: &str) -> Outcome<Link> {
        let target = context.target();
        let address = (target.host.as_str(), target.port);
        let stream = match timeout(context.timing().answer, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(context.fail("a TCP connection", error.to_string())),
            Err(_) => return Err(context.fail("a TCP connection", "no answer")),
        };
        // Without it, small packets wait for each other; a tester that is only slower then still works.
        let _ = stream.set_nodelay(true);
        Ok(Link {
            context: context.clone(),
            name: name.to_owned(),
            stream,
            input: BytesMut::new(),
            kept: VecDeque::new(),
            last: Bytes::new(),
            closed: false,
            other_version: None,
        })
    }

    /// The case's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    fn version(&self) -> ProtocolVersion {
        self.context.version()
    }

    /// Sends a packet.
    ///
    /// A broker that has closed the connection meanwhile is no failure here: the next expectation will see it.
    ///
    /// # Errors
    /// A failure when the broker does not read for as long as an answer may take.
    pub async fn send(&mut self, packet: &Packet) -> Outcome {
        let mut bytes = Vec::new();
        if let Err(error) = packet.encode(self.version(), &mut bytes) {
            return Err(self.fail("a packet that can be encoded", error.to_string()));
        }
        self.context.note_leftovers(packet);
        self.write(&describe(packet), &bytes).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As [`send`](Link::send).
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Outcome {
        let limits = Limits::PROTOCOL;
        let what = match decode_ref(bytes, self.version(), &limits) {
            Ok(Some(decoded)) => describe(&decoded.packet.into_owned()),
            Ok(None) => "bytes that are part of a packet".to_owned(),
            Err(error) => format!("bytes that are no packet: {error}"),
        };
        self.write(&what, bytes).await
    }

    async fn write(&mut self, what: &str, bytes: &[u8]) -> Outcome {
        self.context.transcript().sent(&self.name, what, bytes);
        if self.closed {
            return Ok(());
        }
        let answer = self.context.timing().answer;
        match timeout(answer, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            // What the broker sent before it closed can still be read.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(self.fail("that the broker reads", "it does not")),
        }
    }

    /// What comes next, kept packets first; waits at most for `within`.
    pub async fn next(&mut self, within: Duration) -> Event {
        match self.kept.pop_front() {
            Some((packet, bytes)) => {
                self.last = bytes;
                Event::Packet(packet)
            }
            None => self.read(Instant::now() + within).await,
        }
    }

    /// The next event from the socket, past the kept packets.
    async fn read(&mut self, deadline: Instant) -> Event {
        loop {
            if let Some(event) = self.take_packet() {
                return event;
            }
            if self.closed {
                return Event::Closed;
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut self.input)).await;
            match read {
                Err(_) => return Event::Silence,
                Ok(Ok(0)) => self.note_closed("closed by the broker"),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.note_closed("reset by the broker");
                }
                Ok(Err(error)) => self.note_closed(&error.to_string()),
            }
        }
    }

    fn note_closed(&mut self, how: &str) {
        self.closed = true;
        self.context.transcript().note(&self.name, how);
    }

    /// Takes a CONNACK in the form of `other` too: a broker that is asked for a version it does not know has to choose one.
    pub fn allow_connack_of(&mut self, other: ProtocolVersion) {
        self.other_version = Some(other);
    }

    fn take_packet(&mut self) -> Option<Event> {
        let limits = &Limits::PROTOCOL;
        let decoded = decode_ref(&self.input, self.version(), limits);
        let decoded = match (decoded, self.other_version) {
            (Err(_), Some(other)) => decode_ref(&self.input, other, limits),
            (decoded, _) => decoded,
        };
        let (packet, length) = match decoded {
            Ok(Some(decoded)) => (decoded.packet.into_owned(), decoded.length),
            Ok(None) => return None,
            Err(error) => return Some(self.illegal(error.to_string(), Some(error))),
        };
        let bytes = self.input.split_to(length).freeze();
        let what = describe(&packet);
        self.context
            .transcript()
            .received(&self.name, &what, &bytes);
        if !may_come_from_a_server(&packet, self.version()) {
            let error = format!("a server never sends {}", packet.packet_type());
            return Some(Event::Illegal { bytes, error });
        }
        self.last = bytes;
        Some(Event::Packet(packet))
    }

    /// The bytes, as they came, of the packet that was given out last.
    pub fn last_bytes(&self) -> &Bytes {
        &self.last
    }

    fn illegal(&mut self, error: String, cause: Option<DecodeError>) -> Event {
        let bytes = self.input.split().freeze();
        let what = format!("no packet of this version: {error} {cause:?}");
        self.context
            .transcript()
            .received(&self.name, &what, &bytes);
        // There is no telling where the next packet starts.
        self.closed = true;
        Event::Illegal { bytes, error }
    }

    /// Waits for the first packet of which `take` makes something. `expected` says what that is.
    ///
    /// # Errors
    /// A failure when it does not come in time, or the connection ends first.
    pub async fn expect<T>(
        &mut self,
        expected: &str,
        mut take: impl FnMut(&Packet) -> Option<T>,
    ) -> Outcome<T> {
        for index in 0..self.kept.len() {
            let taken = self.kept.get(index).and_then(|(packet, _)| take(packet));
            if let Some(value) = taken {
                if let Some((_, bytes)) = self.kept.remove(index) {
                    self.last = bytes;
                }
                return Ok(value);
            }
        }
        let deadline = Instant::now() + self.context.timing().answer;
        loop {
            let event = self.read(deadline).await;
            let Event::Packet(packet) = event else {
                return Err(self.fail_with(expected, &event));
            };
            if let Some(value) = take(&packet) {
                return Ok(value);
            }
            if matches!(packet, Packet::Disconnect(_)) || self.kept.len() >= KEPT_MAX {
                return Err(self.fail_with(expected, &Event::Packet(packet)));
            }
            self.kept.push_back((packet, self.last.clone()));
        }
    }

    /// The CONNACK that accepts the connection, as the very first packet.
    ///
    /// # Errors
    /// A failure when something else comes.
    pub async fn expect_accepted(&mut self) -> Outcome<ConnAck> {
        let expected = "CONNACK 0x00 Success";
        match self.next(self.context.timing().answer).await {
            Event::Packet(Packet::ConnAck(connack)) if connack.reason == ReasonCode::Success => {
                Ok(*connack)
            }
            event => Err(self.fail_with(expected, &event)),
        }
    }

    /// A refusal of CONNECT: the connection closed, before that a CONNACK with one of `codes` or nothing. In 5.0 0x80 is
    /// always taken. What 3.x has no code for is in `codes` as its 5.0 relative; without `codes`, only silence will do.
    ///
    /// # Errors
    /// A failure when the connection is accepted, stays open, or has another code.
    pub async fn expect_connect_refused(&mut self, codes: &[ReasonCode]) -> Outcome {
        let expected = if codes.is_empty() {
            "the connection closed without CONNACK".to_owned()
        } else {
            format!("the connection closed, at most after CONNACK with {codes:?}")
        };
        match self.next(self.context.timing().answer).await {
            Event::Closed => Ok(()),
            Event::Packet(Packet::ConnAck(connack)) => {
                self.check_refusal(&connack, codes, &expected)?;
                self.expect_end(&expected).await
            }
            event => Err(self.fail_with(&expected, &event)),
        }
    }

    /// A refusal of CONNECT that has to have a CONNACK with one of `codes`, then the end of the connection.
    ///
    /// # Errors
    /// A failure when anything else happens.
    pub async fn expect_connack_with(&mut self, codes: &[ReasonCode]) -> Outcome<ConnAck> {
        let expected = format!("CONNACK with {codes:?}, then the connection closed");
        match self.next(self.context.timing().answer).await {
            Event::Packet(Packet::ConnAck(connack)) => {
                self.check_refusal(&connack, codes, &expected)?;
                self.expect_end(&expected).await?;
                Ok(*connack)
            }
            event => Err(self.fail_with(&expected, &event)),
        }
    }

    fn check_refusal(&self, connack: &ConnAck, codes: &[ReasonCode], expected: &str) -> Outcome {
        let unspecified = self.context.is_v5() && connack.reason == ReasonCode::UnspecifiedError;
        let right = (codes.contains(&connack.reason) || unspecified && !codes.is_empty())
            && !connack.session_present;
        let received = describe(&Packet::ConnAck(Box::new(connack.clone())));
        self.context.check(right, expected, received)
    }

    /// The end of the connection as an answer to a broken rule: in 5.0 at most one DISCONNECT with one of `codes` (or
    /// 0x80) before it, in 3.x none. PUBLISH packets that were under way may come before.
    ///
    /// # Errors
    /// A failure when the connection stays open, a packet is answered, or the code is another.
    pub async fn expect_closed_with(&mut self, codes: &[ReasonCode]) -> Outcome {
        let expected = if self.context.is_v5() {
            format!("the connection closed, at most after DISCONNECT with {codes:?}")
        } else {
            "the connection closed".to_owned()
        };
        let deadline = Instant::now() + self.context.timing().answer;
        self.kept
            .retain(|(packet, _)| !matches!(packet, Packet::Publish(_)));
        if let Some((packet, _)) = self.kept.pop_front() {
            return Err(self.fail_with(&expected, &Event::Packet(packet)));
        }
        loop {
            match self.read(deadline).await {
                Event::Closed => return Ok(()),
                Event::Packet(Packet::Publish(_)) => {}
                Event::Packet(Packet::Disconnect(disconnect)) => {
                    self.check_disconnect(&disconnect, codes, &expected)?;
                    return self.expect_end(&expected).await;
                }
                event => return Err(self.fail_with(&expected, &event)),
            }
        }
    }

    fn check_disconnect(
        &self,
        disconnect: &Disconnect,
        codes: &[ReasonCode],
        expected: &str,
    ) -> Outcome {
        let reason = disconnect.reason;
        let right = codes.contains(&reason) || reason == ReasonCode::UnspecifiedError;
        let received = describe(&Packet::Disconnect(Box::new(disconnect.clone())));
        self.context.check(right, expected, received)
    }

    /// The end of the connection, whatever DISCONNECT comes before it.
    ///
    /// # Errors
    /// A failure when it stays open or another packet comes.
    pub async fn expect_closed(&mut self) -> Outcome {
        self.expect_closed_with(&ReasonCode::ALL).await
    }

    /// The end of the connection within `within` (which is then counted instead of the usual time), with a DISCONNECT of
    /// one of `codes` or none; returns how long it took.
    ///
    /// # Errors
    /// A failure when it stays open or another packet comes.
    pub async fn expect_closed_within(
        &mut self,
        within: Duration,
        codes: &[ReasonCode],
    ) -> Outcome<Duration> {
        let expected = format!("the connection closed within {} ms", within.as_millis());
        let start = Instant::now();
        match self.read(start + within).await {
            Event::Closed => Ok(start.elapsed()),
            Event::Packet(Packet::Disconnect(disconnect)) => {
                self.check_disconnect(&disconnect, codes, &expected)?;
                let took = start.elapsed();
                self.expect_end(&expected).await?;
                Ok(took)
            }
            event => Err(self.fail_with(&expected, &event)),
        }
    }

    /// Nothing but the end of the connection.
    async fn expect_end(&mut self, expected: &str) -> Outcome {
        match self.next(self.context.timing().answer).await {
            Event::Closed => Ok(()),
            Event::Silence => Err(self.fail(expected, "the connection stays open")),
            event => Err(self.fail_with(expected, &event)),
        }
    }

    /// The code of the DISCONNECT (5.0) with which the broker ends the connection, `None` for a bare close.
    ///
    /// # Errors
    /// A failure when it does not end.
    pub async fn expect_disconnect(&mut self) -> Outcome<Option<Disconnect>> {
        let expected = "DISCONNECT or the connection closed";
        let deadline = Instant::now() + self.context.timing().answer;
        loop {
            match self.read(deadline).await {
                Event::Closed => return Ok(None),
                Event::Packet(Packet::Publish(_)) => {}
                Event::Packet(Packet::Disconnect(disconnect)) => {
                    self.expect_end(expected).await?;
                    return Ok(Some(*disconnect));
                }
                event => return Err(self.fail_with(expected, &event)),
            }
        }
    }

    /// No packet at all, and the connection still there, for as long as a silence lasts.
    ///
    /// # Errors
    /// A failure with what comes instead.
    pub async fn expect_silence(&mut self) -> Outcome {
        match self.next(self.context.timing().silence).await {
            Event::Silence => Ok(()),
            event => Err(self.fail_with("nothing", &event)),
        }
    }

    /// Sends PINGREQ and waits for PINGRESP: the connection is served.
    ///
    /// # Errors
    /// A failure when it is not.
    pub async fn expect_alive(&mut self) -> Outcome {
        self.send(&Packet::PingReq).await?;
        self.expect_pingresp().await
    }

    /// PINGRESP.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_pingresp(&mut self) -> Outcome {
        let take = |packet: &Packet| matches!(packet, Packet::PingResp).then_some(());
        self.expect("PINGRESP", take).await
    }

    /// PUBACK for `id`.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_puback(&mut self, id: PacketId) -> Outcome<Ack> {
        let take = |packet: &Packet| match packet {
            Packet::PubAck(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        };
        self.expect(&format!("PUBACK {id}"), take).await
    }

    /// PUBREC for `id`.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_pubrec(&mut self, id: PacketId) -> Outcome<Ack> {
        let take = |packet: &Packet| match packet {
            Packet::PubRec(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        };
        self.expect(&format!("PUBREC {id}"), take).await
    }

    /// PUBREL for `id`.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_pubrel(&mut self, id: PacketId) -> Outcome<Ack> {
        let take = |packet: &Packet| match packet {
            Packet::PubRel(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        };
        self.expect(&format!("PUBREL {id}"), take).await
    }

    /// PUBCOMP for `id`.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_pubcomp(&mut self, id: PacketId) -> Outcome<Ack> {
        let take = |packet: &Packet| match packet {
            Packet::PubComp(ack) if ack.id == id => Some(ack.clone()),
            _ => None,
        };
        self.expect(&format!("PUBCOMP {id}"), take).await
    }

    /// SUBACK for `id`.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_suback(&mut self, id: PacketId) -> Outcome<SubAck> {
        let take = |packet: &Packet| match packet {
            Packet::SubAck(suback) if suback.id == id => Some(SubAck::clone(suback)),
            _ => None,
        };
        self.expect(&format!("SUBACK {id}"), take).await
    }

    /// UNSUBACK for `id`.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_unsuback(&mut self, id: PacketId) -> Outcome<UnsubAck> {
        let take = |packet: &Packet| match packet {
            Packet::UnsubAck(unsuback) if unsuback.id == id => Some(UnsubAck::clone(unsuback)),
            _ => None,
        };
        self.expect(&format!("UNSUBACK {id}"), take).await
    }

    /// The next PUBLISH, whatever it is; it is not acknowledged.
    ///
    /// # Errors
    /// As [`expect`](Link::expect).
    pub async fn expect_publish(&mut self) -> Outcome<Publish> {
        let take = |packet: &Packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        };
        self.expect("a PUBLISH", take).await
    }

    /// No PUBLISH for as long as a silence lasts; other packets are kept.
    ///
    /// # Errors
    /// A failure with the PUBLISH, or when the connection ends.
    pub async fn expect_no_publish(&mut self) -> Outcome {
        let expected = "no PUBLISH";
        let mut kept = self.kept.iter().map(|(packet, _)| packet);
        let publish = kept.find(|packet| matches!(packet, Packet::Publish(_)));
        if let Some(publish) = publish.cloned() {
            return Err(self.fail_with(expected, &Event::Packet(publish)));
        }
        let deadline = Instant::now() + self.context.timing().silence;
        loop {
            match self.read(deadline).await {
                Event::Silence => return Ok(()),
                Event::Packet(packet)
                    if !matches!(packet, Packet::Publish(_) | Packet::Disconnect(_))
                        && self.kept.len() < KEPT_MAX =>
                {
                    self.kept.push_back((packet, self.last.clone()));
                }
                event => return Err(self.fail_with(expected, &event)),
            }
        }
    }

    /// A failure: `expected` did not happen, `received` did.
    pub fn fail(&self, expected: impl Into<String>, received: impl Into<String>) -> Stop {
        self.context.fail(expected, received)
    }

    /// A failure: `expected` did not come, `event` did.
    pub fn fail_with(&self, expected: &str, event: &Event) -> Stop {
        let mut received = match event {
            Event::Packet(packet) => describe(packet),
            Event::Illegal { bytes, error } => format!("{error} [{}]", hex(bytes)),
            Event::Closed => "the connection was closed".to_owned(),
            Event::Silence => "nothing".to_owned(),
        };
        if !self.kept.is_empty() {
            let kept: Vec<String> = self
                .kept
                .iter()
                .map(|(packet, _)| describe(packet))
                .collect();
            received = format!("{received}; before it {}", kept.join("; "));
        }
        self.fail(expected, received)
    }
}

/// Whether a server may send this packet in this version.
fn may_come_from_a_server(packet: &Packet, version: ProtocolVersion) -> bool {
    match packet {
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
            false
        }
        Packet::Disconnect(_) | Packet::Auth(_) => version.is_v5(),
        _ => true,
    }
}

/// A case that lets more packets lie has gone astray.
const KEPT_MAX: usize = 1_024;
