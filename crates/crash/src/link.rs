//! [`Link`]: one network connection of one of the judge's clients.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use thiserror::Error;
use whimbrel_codec::{
    ConnAck, Connect, DecodeError, Limits, Packet, PacketId, ProtocolVersion, ReasonCode, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, UserProperties, decode_ref,
};

/// A connection over which CONNECT and CONNACK have gone.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    version: ProtocolVersion,
    input: Vec<u8>,
    /// Where the first packet of `input` begins.
    start: usize,
    output: Vec<u8>,
    read_timeout: Duration,
}

/// Why a connection came to nothing, or to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The broker closed it, or is not there.
    #[error("the connection ended")]
    Closed(#[source] io::Error),
    /// What came is no packet.
    #[error("the broker sent what is no packet")]
    Decode(#[source] DecodeError),
    /// CONNACK said no.
    #[error("CONNACK refused with {0:?}")]
    Refused(ReasonCode),
    /// The broker sent DISCONNECT.
    #[error("the broker disconnected with {0:?}")]
    Disconnected(ReasonCode),
    /// Another packet was due.
    #[error("{0} came where another packet was due")]
    Unexpected(String),
    /// Nothing came.
    #[error("no answer in {0:?}")]
    Silent(Duration),
}

impl Link {
    /// Connects to loopback and waits for CONNACK.
    pub(crate) fn open(port: u16, connect: &Connect) -> Result<(Self, ConnAck), LinkError> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(LinkError::Closed)?;
        stream.set_nodelay(true).map_err(LinkError::Closed)?;
        stream
            .set_write_timeout(Some(ANSWER_TIMEOUT))
            .map_err(LinkError::Closed)?;
        let mut link = Self {
            stream,
            version: connect.version,
            input: Vec::new(),
            start: 0,
            output: Vec::new(),
            read_timeout: Duration::ZERO,
        };
        link.put(&Packet::Connect(Box::new(connect.clone())));
        link.flush()?;
        match link.answer()? {
            Packet::ConnAck(connack) if connack.reason.is_error() => {
                Err(LinkError::Refused(connack.reason))
            }
            Packet::ConnAck(connack) => Ok((link, *connack)),
            other => Err(LinkError::Unexpected(format!("{:?}", other.packet_type()))),
        }
    }

    /// The port on the client's side, which names the connection in a trace of the broker.
    pub(crate) fn local_port(&self) -> Result<u16, LinkError> {
        let address = self.stream.local_addr().map_err(LinkError::Closed)?;
        Ok(address.port())
    }

    /// Adds a packet to what [`flush`](Self::flush) will send.
    pub(crate) fn put(&mut self, packet: &Packet) {
        let encoded = packet.encode(self.version, &mut self.output);
        encoded.expect("the judge's packets have a form in every version");
    }

    /// Adds bytes that are encoded already.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Bytes that are to be sent.
    pub(crate) fn output_length(&self) -> usize {
        self.output.len()
    }

    /// Sends what was put.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        if !self.output.is_empty() {
            let sent = self.stream.write_all(&self.output);
            self.output.clear();
            sent.map_err(LinkError::Closed)?;
        }
        Ok(())
    }

    /// Waits for input. False when none came in time.
    pub(crate) fn fill(&mut self, timeout: Duration) -> Result<bool, LinkError> {
        self.input.drain(..self.start);
        self.start = 0;
        if timeout != self.read_timeout {
            let set = self.stream.set_read_timeout(Some(timeout));
            set.map_err(LinkError::Closed)?;
            self.read_timeout = timeout;
        }
        let length = self.input.len();
        self.input.resize(length + READ_BYTES, 0);
        let read = self.stream.read(&mut self.input[length..]);
        self.input
            .truncate(length + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(LinkError::Closed(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(LinkError::Closed(error)),
        }
    }

    /// The next packet that has come whole.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, LinkError> {
        let input = self.input.get(self.start..).unwrap_or_default();
        let decoded = decode_ref(input, self.version, &Limits::PROTOCOL);
        let Some(decoded) = decoded.map_err(LinkError::Decode)? else {
            return Ok(None);
        };
        let packet = decoded.packet.into_owned();
        self.start += decoded.length;
        match packet {
            Packet::Disconnect(disconnect) => Err(LinkError::Disconnected(disconnect.reason)),
            packet => Ok(Some(packet)),
        }
    }

    /// The bytes that have come and were not looked at, for who counts packets without decoding them.
    pub(crate) fn unread(&self) -> &[u8] {
        self.input.get(self.start..).unwrap_or_default()
    }

    /// So many bytes of [`unread`](Self::unread) are done with.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Waits for the next packet.
    pub(crate) fn answer(&mut self) -> Result<Packet, LinkError> {
        let end = Instant::now() + ANSWER_TIMEOUT;
        loop {
            if let Some(packet) = self.next()? {
                return Ok(packet);
            }
            if Instant::now() >= end {
                return Err(LinkError::Silent(ANSWER_TIMEOUT));
            }
            self.fill(POLL)?;
        }
    }

    /// Sends DISCONNECT and closes.
    pub(crate) fn disconnect(mut self) -> Result<(), LinkError> {
        self.put(&Packet::Disconnect(Box::default()));
        self.flush()
    }
}

/// A SUBSCRIBE with one QoS for all filters.
pub(crate) fn subscribe_packet(
    id: PacketId,
    filters: impl IntoIterator<Item = (String, SubscriptionOptions)>,
) -> Packet {
    let filters = filters
        .into_iter()
        .map(|(filter, options)| SubscribeFilter {
            filter: filter.into(),
            options,
        });
    Packet::Subscribe(Subscribe {
        id,
        filters: filters.collect(),
        subscription_id: None,
        user_properties: UserProperties::new(),
    })
}

/// An UNSUBSCRIBE of one filter.
pub(crate) fn unsubscribe_packet(id: PacketId, filter: &str) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        id,
        filters: vec![filter.into()],
        user_properties: UserProperties::new(),
    })
}

/// Whether every filter of a SUBSCRIBE was granted.
pub(crate) fn is_granted(suback: &SubAck) -> bool {
    suback.codes.iter().all(|reason| !reason.is_error())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// How long an answer may take before the connection counts as dead: beyond any commit, on a busy machine too.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often who waits looks at what else may have happened.
pub(crate) const POLL: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 64 * 1024;
