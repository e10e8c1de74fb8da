//! A server that is a script of raw bytes, against the client's side of a connection.
//!
//! What binds clients is shown here, in bytes as the standards print them. Both versions whose
//! statements are numbered run the same script where they say the same.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Connect, FanOut, FanOutBuffer, ProtocolVersion, QoS, ReasonCode, SubscribeFilter,
    SubscriptionId, SubscriptionOptions,
};
use whimbrel_session::{
    AckToken, ClientConfig, ClientConnection, ClientEvent, Epoch, ProtocolError, PublishOptions,
    Redeliver, Refused, RequestRefused, SessionState, SubscribeRequest, Tick, TimeoutKind,
};

use crate::support::{NOW, source};

pub(crate) const V311: ProtocolVersion = ProtocolVersion::V311;
pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;
pub(crate) const NUMBERED: [ProtocolVersion; 2] = [V311, V5];

/// CONNACK with success, for a session that is not there.
pub(crate) fn accepted(version: ProtocolVersion) -> &'static [u8] {
    if version.is_v5() {
        b"\x20\x03\0\0\0"
    } else {
        b"\x20\x02\0\0"
    }
}

/// CONNACK with success, for a session that goes on.
pub(crate) fn resumed(version: ProtocolVersion) -> &'static [u8] {
    if version.is_v5() {
        b"\x20\x03\x01\0\0"
    } else {
        b"\x20\x02\x01\0"
    }
}

/// PUBLISH to topic "t": `first` is its first byte, and `id` none for QoS 0.
pub(crate) fn publish(
    version: ProtocolVersion,
    first: u8,
    id: Option<u16>,
    payload: &str,
) -> Vec<u8> {
    publish_with(version, first, id, &[], payload)
}

/// PUBLISH with these properties, which are left out before version 5.
pub(crate) fn publish_with(
    version: ProtocolVersion,
    first: u8,
    id: Option<u16>,
    properties: &[u8],
    payload: &str,
) -> Vec<u8> {
    let mut body = b"\0\x01t".to_vec();
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    if version.is_v5() {
        body.push(u8::try_from(properties.len()).expect("short"));
        body.extend(properties);
    }
    body.extend(payload.as_bytes());
    packet(first, &body)
}

/// PUBACK and its like, without a reason.
pub(crate) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// A packet of less than 128 bytes behind its header.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("short");
    assert!(length < 128);
    [&[first, length], body].concat()
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

/// A CONNECT for a session that outlives its connection, without keep alive.
pub(crate) fn persistent(version: ProtocolVersion) -> Connect {
    let mut connect = Connect::new(version, "c");
    connect.clean_start = false;
    connect.keep_alive_secs = 0;
    if version.is_v5() {
        connect.properties.session_expiry_secs = 3_600;
    }
    connect
}

/// What the client makes of what the script says.
#[derive(Debug)]
pub(crate) enum Told {
    Connected {
        reason: ReasonCode,
        server_reference: Option<String>,
        /// Items of the session that the server has lost.
        discarded: Vec<u32>,
    },
    Message {
        topic: String,
        payload: String,
        token: Option<AckToken>,
    },
    /// PUBREC or PUBREL, to be answered.
    Step(AckToken),
    Delivered(u32),
    Answered,
    Disconnected {
        reason: ReasonCode,
        server_reference: Option<String>,
    },
}

impl Told {
    pub(crate) fn token(self) -> AckToken {
        match self {
            Self::Message {
                token: Some(token), ..
            }
            | Self::Step(token) => token,
            other => panic!("{other:?} needs no acknowledgement"),
        }
    }

    pub(crate) fn payload(&self) -> &str {
        match self {
            Self::Message { payload, .. } => payload,
            other => panic!("{other:?} is no message"),
        }
    }
}

/// A client whose server is the test.
pub(crate) struct Scripted {
    pub(crate) client: ClientConnection<u32>,
    pub(crate) now: Tick,
}

impl Scripted {
    /// A client that has not sent its CONNECT.
    pub(crate) fn ready() -> Self {
        Self {
            client: ClientConnection::new(Epoch(1), &ClientConfig::default()),
            now: NOW,
        }
    }

    /// A client whose CONNECT has arrived and is not answered.
    pub(crate) fn asking(connect: Connect, session: Option<SessionState<u32>>) -> Self {
        let mut side = Self::ready();
        let sent = side.client.connect(side.now, connect, session);
        sent.expect("the first CONNECT");
        assert_eq!(side.hears()[0], 0x10, "CONNECT");
        side
    }

    /// A client that is connected to a server that has no session of it.
    pub(crate) fn connected(version: ProtocolVersion) -> Self {
        let mut side = Self::asking(persistent(version), None);
        side.says_one(accepted(version));
        side
    }

    /// The same client on its next connection, to a server that has its session.
    pub(crate) fn reconnected(self, version: ProtocolVersion) -> Self {
        let session = self.client.into_state();
        let mut side = Self::asking(persistent(version), session);
        side.says_one(resumed(version));
        side
    }

    /// The script says these bytes, which are whole packets.
    pub(crate) fn says(&mut self, bytes: &[u8]) -> Result<Vec<Told>, ProtocolError> {
        let mut told = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let handled = self.client.handle_input(self.now, rest)?;
            assert_ne!(handled.consumed, 0, "whole packets that are not held back");
            told.extend(handled.event.map(Told::from));
            rest = &rest[handled.consumed..];
        }
        Ok(told)
    }

    /// The script says one packet that means one event.
    pub(crate) fn says_one(&mut self, bytes: &[u8]) -> Told {
        let mut told = self.says(bytes).expect("a valid packet");
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }

    /// What the script has received since it last looked.
    pub(crate) fn hears(&mut self) -> Vec<u8> {
        let output = self.client.output();
        let mut bytes = Vec::new();
        while !output.is_empty() {
            let chunk = output.chunk().to_vec();
            output.advance(chunk.len());
            bytes.extend(chunk);
        }
        bytes
    }

    pub(crate) fn publish(&mut self, qos: QoS, item: u32) -> Result<(), Refused<u32>> {
        let options = PublishOptions { qos, retain: false };
        self.publish_with(options, item, &item.to_string())
    }

    pub(crate) fn publish_with(
        &mut self,
        options: PublishOptions,
        item: u32,
        payload: &str,
    ) -> Result<(), Refused<u32>> {
        let mut buffer = FanOutBuffer::new();
        let mut message = FanOut::new(source(payload.as_bytes()), &mut buffer);
        let sent = self.client.publish(self.now, &mut message, options, item);
        sent.map(drop)
    }

    pub(crate) fn subscribe(
        &mut self,
        filter: &str,
        subscription_id: Option<u32>,
    ) -> Result<(), RequestRefused> {
        let filter = SubscribeFilter {
            filter: ByteStr::from(filter),
            options: SubscriptionOptions::new(QoS::AtLeastOnce),
        };
        let request = SubscribeRequest {
            filters: vec![filter],
            subscription_id: subscription_id.and_then(SubscriptionId::new),
            ..SubscribeRequest::default()
        };
        self.client.subscribe(self.now, request).map(drop)
    }

    pub(crate) fn ack(&mut self, token: AckToken) {
        let acknowledged = self.client.ack(self.now, token, ReasonCode::Success);
        acknowledged.expect("a code of every acknowledgement");
    }

    /// Sends again what may be sent again now, and returns the items.
    pub(crate) fn resend(&mut self) -> Vec<u32> {
        let mut items = Vec::new();
        while let Some(item) = self.client.next_resend(self.now).map(|next| *next.item) {
            let payload = item.to_string();
            let mut buffer = FanOutBuffer::new();
            let mut message = FanOut::new(source(payload.as_bytes()), &mut buffer);
            let redeliver = Redeliver::default();
            let sent = self.client.resend(self.now, &mut message, redeliver);
            sent.expect("room");
            items.push(item);
        }
        items
    }

    /// So many milliseconds pass; returns why the connection ended, if it did.
    pub(crate) fn passes(&mut self, milliseconds: u64) -> Option<TimeoutKind> {
        self.now = self.now.saturating_add(milliseconds);
        self.client.handle_timeout(self.now)
    }
}

impl From<ClientEvent<'_, u32>> for Told {
    fn from(event: ClientEvent<'_, u32>) -> Self {
        match event {
            ClientEvent::Auth(_) => panic!("no script authenticates"),
            ClientEvent::ConnAck(connected) => {
                let reference = connected.connack.properties.server_reference;
                Self::Connected {
                    reason: connected.connack.reason,
                    server_reference: reference.as_deref().map(str::to_owned),
                    discarded: connected
                        .discarded
                        .map_or_else(Vec::new, crate::support::items),
                }
            }
            ClientEvent::Publish(inbound) => Self::Message {
                topic: inbound.topic.as_str().to_owned(),
                payload: String::from_utf8_lossy(inbound.publish.payload()).into_owned(),
                token: inbound.token,
            },
            ClientEvent::Release { token, .. } | ClientEvent::Received { token, .. } => {
                Self::Step(token)
            }
            ClientEvent::Delivered { item, .. } => Self::Delivered(item),
            ClientEvent::SubAck(_) | ClientEvent::UnsubAck(_) => Self::Answered,
            ClientEvent::Disconnected(disconnect) => {
                let disconnect = disconnect.into_owned();
                Self::Disconnected {
                    reason: disconnect.reason,
                    server_reference: disconnect.server_reference.as_deref().map(str::to_owned),
                }
            }
        }
    }
}
