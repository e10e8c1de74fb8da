//! A client of an exploration: the session crate's own, and what its application would keep.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicName};
use whimbrel_broker_core::session::codec::{
    Connect, FanOut, FanOutBuffer, MessageProperties, Payload, ProtocolVersion, PublishSource, QoS,
    ReasonCode, SubscribeFilter, SubscriptionOptions, WriteBuf,
};
use whimbrel_broker_core::session::{
    AckToken, ClientConfig, ClientConnection, ClientEvent, Epoch, ProtocolError, PublishOptions,
    Redeliver, SessionState, SubscribeRequest, Tick,
};

use super::model::StateText;
use super::packet::{message_of, payload_of};

/// What stays the same over all connections of a client.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) client_id: String,
    pub(crate) version: ProtocolVersion,
    /// Publications open in either direction.
    pub(crate) window: NonZeroU16,
    /// The `QoS` of each message, by its number.
    pub(crate) qos: &'static [QoS],
}

/// A client over all its connections. Items are numbers of messages.
#[derive(Debug)]
pub(crate) struct Client {
    terms: Terms,
    epoch: u32,
    connection: ClientConnection<u8>,
    /// Bytes that are no whole packet yet.
    carry: Vec<u8>,
    /// Acknowledgements the application has not given yet, in order of receipt.
    owed: VecDeque<Owed>,
}

/// An acknowledgement that the application is to give.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) token: AckToken,
    /// The message it is for, if it answers a PUBLISH.
    pub(crate) message: Option<u8>,
}

/// What a client tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// CONNACK; with what the client had open and the broker does not know.
    Accepted {
        session_present: bool,
        discarded: Vec<u8>,
    },
    /// A message it sees for the first time.
    Message {
        message: u8,
        qos: QoS,
    },
    /// An own message is settled.
    Settled {
        message: u8,
        reason: ReasonCode,
    },
    Subscribed,
    /// The broker ended the connection, or refused it.
    Ended {
        reason: ReasonCode,
    },
}

impl Client {
    /// A client without a session, with its CONNECT in the output.
    pub(crate) fn new(terms: Terms) -> Self {
        let connection = connect(&terms, 1, SessionState::new());
        Self {
            terms,
            epoch: 1,
            connection,
            carry: Vec::new(),
            owed: VecDeque::new(),
        }
    }

    /// The connection is gone: a new one goes on with the session, its CONNECT is in the output.
    ///
    /// `settle` hears of each acknowledgement that was not given, and may correct the session.
    pub(crate) fn reconnect(&mut self, mut settle: impl FnMut(&mut SessionState<u8>, Owed)) {
        let fresh = ClientConnection::new(Epoch(0), &ClientConfig::default());
        let old = std::mem::replace(&mut self.connection, fresh);
        let mut state = old.into_state().unwrap_or_default();
        for owed in std::mem::take(&mut self.owed) {
            settle(&mut state, owed);
        }
        self.carry.clear();
        self.epoch += 1;
        self.connection = connect(&self.terms, self.epoch, state);
    }

    /// Bytes came. What the application hears of is added to `heard`.
    pub(crate) fn handle_input(
        &mut self,
        bytes: &[u8],
        heard: &mut Vec<Heard>,
    ) -> Result<(), ProtocolError> {
        self.carry.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.carry);
        let mut rest = &input[..];
        loop {
            let handled = self.connection.handle_input(NOW, rest)?;
            let (consumed, event) = (handled.consumed, handled.event);
            if let Some(event) = event {
                hear(event, &mut self.owed, heard);
            }
            rest = &rest[consumed..];
            if consumed == 0 {
                break;
            }
        }
        self.carry.extend_from_slice(rest);
        self.resend();
        Ok(())
    }

    /// Publishes a message; `false` if it has to wait.
    pub(crate) fn publish(&mut self, message: u8) -> bool {
        let options = PublishOptions {
            qos: self.terms.qos[usize::from(message)],
            retain: false,
        };
        let connection = &mut self.connection;
        with_fan_out(message, |fan_out| {
            connection.publish(NOW, fan_out, options, message).is_ok()
        })
    }

    /// Whether a message could be published now.
    pub(crate) fn may_publish(&self) -> bool {
        self.connection.credit_available()
    }

    /// Subscribes to every message.
    pub(crate) fn subscribe(&mut self) {
        let request = SubscribeRequest {
            filters: vec![SubscribeFilter {
                filter: ByteStr::from(TOPIC),
                options: SubscriptionOptions {
                    qos: QoS::ExactlyOnce,
                    ..SubscriptionOptions::default()
                },
            }],
            ..SubscribeRequest::default()
        };
        let sent = self.connection.subscribe(NOW, request);
        debug_assert!(sent.is_ok(), "{sent:?}");
    }

    /// Acknowledgements that the application may give now.
    pub(crate) fn owes(&self) -> usize {
        self.owed.len()
    }

    /// The application gives one of them.
    pub(crate) fn acknowledge(&mut self, index: usize) {
        if let Some(owed) = self.owed.remove(index) {
            let given = self.connection.ack(NOW, owed.token, ReasonCode::Success);
            debug_assert!(given.is_ok(), "{given:?}");
        }
    }

    /// The application forgets one of them: a fault of it.
    pub(crate) fn forget(&mut self, index: usize) {
        self.owed.remove(index);
    }

    /// Takes all that is to go on the link.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        take_output(self.connection.output())
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.terms.version
    }

    /// The session in the end.
    pub(crate) fn into_state(self) -> SessionState<u8> {
        self.connection.into_state().unwrap_or_default()
    }

    pub(crate) fn write_state(&self, text: &mut StateText) {
        text.debug(&self.epoch);
        text.debug(&self.connection);
        text.debug(&self.owed);
        text.bytes(&self.carry);
    }

    /// Sends again what the session has open, as far as the window goes.
    fn resend(&mut self) {
        while let Some(resend) = self.connection.next_resend(NOW) {
            let message = *resend.item;
            let connection = &mut self.connection;
            let sent = with_fan_out(message, |fan_out| {
                connection
                    .resend(NOW, fan_out, Redeliver::default())
                    .is_ok()
            });
            if !sent {
                break;
            }
        }
    }
}

fn connect(terms: &Terms, epoch: u32, state: SessionState<u8>) -> ClientConnection<u8> {
    let mut config = ClientConfig::default();
    config.in_flight_max = terms.window;
    config.receive_maximum = terms.window;
    let mut connection = ClientConnection::new(Epoch(epoch), &config);
    let connect = connect_packet(terms);
    let begun = connection.connect(NOW, connect, Some(state));
    debug_assert!(begun.is_ok(), "{begun:?}");
    connection
}

fn connect_packet(terms: &Terms) -> Connect {
    let mut connect = Connect::new(terms.version, terms.client_id.as_str());
    connect.clean_start = false;
    connect.keep_alive_secs = 0;
    if terms.version.is_v5() {
        connect.properties.session_expiry_secs = u32::MAX;
        connect.properties.receive_maximum = terms.window;
    }
    connect
}

fn hear(event: ClientEvent<'_, u8>, owed: &mut VecDeque<Owed>, heard: &mut Vec<Heard>) {
    match event {
        ClientEvent::ConnAck(connected) => {
            let reason = connected.connack.reason;
            heard.push(if reason.is_error() {
                Heard::Ended { reason }
            } else {
                Heard::Accepted {
                    session_present: connected.connack.session_present,
                    discarded: connected.discarded.map_or_else(Vec::new, |session| {
                        session.exchanges().map(|exchange| *exchange.item).collect()
                    }),
                }
            });
        }
        // Only clients that name an authentication method are asked.
        ClientEvent::Auth(auth) => heard.push(Heard::Ended {
            reason: auth.reason,
        }),
        ClientEvent::Publish(publish) => {
            let message = message_of(publish.publish.payload());
            let qos = publish.publish.qos();
            heard.push(Heard::Message { message, qos });
            owed.extend(publish.token.map(|token| Owed {
                token,
                message: Some(message),
            }));
        }
        ClientEvent::Release { token, .. } | ClientEvent::Received { token, .. } => {
            owed.push_back(Owed {
                token,
                message: None,
            });
        }
        ClientEvent::Delivered { item, reason, .. } => heard.push(Heard::Settled {
            message: item,
            reason,
        }),
        ClientEvent::SubAck(_) => heard.push(Heard::Subscribed),
        ClientEvent::UnsubAck(_) => {}
        ClientEvent::Disconnected(disconnect) => heard.push(Heard::Ended {
            reason: disconnect.reason,
        }),
    }
}

/// Builds the packet template of a message for the time of one call.
pub(crate) fn with_fan_out<T>(message: u8, run: impl FnOnce(&mut FanOut<'_>) -> T) -> T {
    let payload = payload_of(message);
    let properties = MessageProperties::builder()
        .build()
        .expect("no properties are valid ones");
    let source = PublishSource {
        topic: TopicName::new(TOPIC).expect("a valid topic"),
        properties: properties.as_properties(),
        payload: Payload::Borrowed(&payload),
        message_expiry_secs: None,
    };
    let mut buffer = FanOutBuffer::new();
    run(&mut FanOut::new(source, &mut buffer))
}

/// Takes everything out of an output buffer.
pub(crate) fn take_output(output: &mut WriteBuf) -> Vec<u8> {
    let mut taken = Vec::with_capacity(output.len());
    while !output.is_empty() {
        let chunk = output.chunk();
        let length = chunk.len();
        taken.extend_from_slice(chunk);
        output.advance(length);
    }
    taken
}

/// No time passes in an exploration, so no timer fires.
pub(crate) const NOW: Tick = Tick(0);

/// The topic of every message.
const TOPIC: &str = "t";
