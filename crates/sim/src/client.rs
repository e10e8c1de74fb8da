//! A simulated client: the session crate's own client, and an application that remembers.

use std::collections::VecDeque;

use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicName};
use whimbrel_broker_core::session::codec::{
    Connect, Disconnect, FanOut, FanOutBuffer, MessageProperties, Payload, ProtocolVersion,
    PublishSource, QoS, ReasonCode, SubscribeFilter, SubscriptionId, SubscriptionOptions,
};
use whimbrel_broker_core::session::{
    AckToken, ClientConfig, ClientConnection, ClientEvent, Epoch, InboundPublish, PublishOptions,
    Redeliver, SessionState, SubscribeRequest, Tick, UnsubscribeRequest,
};

use crate::honest::Honest;
use crate::oracle::{Copy, Oracle};
use crate::payload::{self, MessageKey};
use crate::trace::Trace;

/// What a publisher needs to send a message again.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// `None` for an empty payload.
    pub(crate) key: Option<MessageKey>,
    pub(crate) topic: String,
    pub(crate) length: usize,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry_secs: Option<u32>,
}

/// One client over all its connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    config: ClientConfig,
    /// What it has of its session while it is not connected.
    state: Option<SessionState<Outgoing>>,
    live: Option<Live>,
    pub(crate) next_sequence: u32,
    /// Filters it has asked for and not left.
    pub(crate) filters: Vec<String>,
    /// It has asked for a clean start and does not know yet whether it got one. Until then its old
    /// session may live on, without the state that it has given up.
    pub(crate) insists_on_clean_start: bool,
    epoch: u32,
}

/// A client's connection.
#[derive(Debug)]
struct Live {
    link: usize,
    connection: ClientConnection<Outgoing>,
    input: Vec<u8>,
    /// Acknowledgements it has not sent yet.
    owed: VecDeque<AckToken>,
    version: ProtocolVersion,
    /// CONNACK has come.
    answered: bool,
}

/// How a client stands with its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Offline,
    /// CONNECT is under way.
    Connecting,
    Connected,
    /// The connection is over but for its last bytes.
    Closing,
}

impl Client {
    pub(crate) fn new(number: usize, config: ClientConfig) -> Self {
        Self {
            number,
            config,
            state: None,
            live: None,
            next_sequence: 0,
            filters: Vec::new(),
            insists_on_clean_start: false,
            epoch: 0,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        match &self.live {
            None => Standing::Offline,
            Some(live) if live.connection.is_closing() => Standing::Closing,
            Some(live) if live.connection.is_connected() => Standing::Connected,
            Some(_) => Standing::Connecting,
        }
    }

    /// The link of its connection.
    pub(crate) fn link(&self) -> Option<usize> {
        self.live.as_ref().map(|live| live.link)
    }

    /// The link on which its CONNECT was not answered yet.
    pub(crate) fn unanswered(&self) -> Option<usize> {
        let live = self.live.as_ref()?;
        (!live.answered).then_some(live.link)
    }

    /// The number of its next message.
    pub(crate) fn next_key(&mut self) -> MessageKey {
        self.next_sequence += 1;
        MessageKey {
            publisher: self.number as u16,
            sequence: self.next_sequence,
        }
    }

    /// Begins a connection on a link.
    pub(crate) fn connect(&mut self, now: Tick, link: usize, connect: Connect) {
        let _honest = Honest::begin();
        self.epoch += 1;
        let version = connect.version;
        let mut connection = ClientConnection::new(Epoch(self.epoch), &self.config);
        // A client that asks for its session has one, if only an empty one: the broker may know
        // of a CONNECT whose answer was lost.
        let state = if connect.clean_start {
            self.insists_on_clean_start = true;
            self.filters.clear();
            None
        } else {
            Some(self.state.take().unwrap_or_default())
        };
        self.state = None;
        connection
            .connect(now, connect, state)
            .expect("a fresh connection takes a CONNECT that can be encoded");
        self.live = Some(Live {
            link,
            connection,
            input: Vec::new(),
            owed: VecDeque::new(),
            version,
            answered: false,
        });
    }

    /// The connection is gone; the session is kept.
    pub(crate) fn lose(&mut self) {
        let _honest = Honest::begin();
        if let Some(live) = self.live.take() {
            self.state = live.connection.into_state();
        }
    }

    /// What it has of its session is given up.
    pub(crate) fn forget(&mut self) {
        self.state = None;
        self.filters.clear();
    }

    /// Bytes came from the link.
    pub(crate) fn input(
        &mut self,
        now: Tick,
        bytes: &[u8],
        oracle: &mut Oracle,
        trace: &mut Trace,
    ) {
        let _honest = Honest::begin();
        let number = self.number;
        let Some(live) = &mut self.live else {
            return;
        };
        live.input.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            let handled = live.connection.handle_input(now, &live.input[used..]);
            let handled = match handled {
                Ok(handled) => handled,
                Err(error) => {
                    let detail = format!("c{number} on connection {}: {error:?}", live.link);
                    oracle.fail("the broker broke the protocol", detail);
                    break;
                }
            };
            let consumed = handled.consumed;
            if let Some(event) = handled.event {
                let mut seen = Seen {
                    number,
                    link: live.link,
                    is_v5: live.version.is_v5(),
                    owed: &mut live.owed,
                    answered: &mut live.answered,
                    insists_on_clean_start: &mut self.insists_on_clean_start,
                    oracle: &mut *oracle,
                    trace: &mut *trace,
                };
                seen.event(event);
            }
            used += consumed;
            if consumed == 0 {
                break;
            }
        }
        if let Some(live) = &mut self.live {
            live.input.drain(..used);
        }
        self.resend(now);
    }

    /// Sends acknowledgements it owes, the first `count`, and looks at what waited for them.
    pub(crate) fn acknowledge(
        &mut self,
        now: Tick,
        count: usize,
        oracle: &mut Oracle,
        trace: &mut Trace,
    ) {
        let _honest = Honest::begin();
        let Some(live) = &mut self.live else {
            return;
        };
        for _ in 0..count {
            let Some(token) = live.owed.pop_front() else {
                break;
            };
            live.connection
                .ack(now, token, ReasonCode::Success)
                .expect("success is allowed in every acknowledgement");
        }
        self.input(now, &[], oracle, trace);
    }

    pub(crate) fn owes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.owed.len())
    }

    /// Sends again what the session has open, as far as it goes.
    pub(crate) fn resend(&mut self, now: Tick) {
        let _honest = Honest::begin();
        let Some(live) = &mut self.live else {
            return;
        };
        while let Some(resend) = live.connection.next_resend(now) {
            let outgoing = resend.item.clone();
            let redeliver = Redeliver {
                retain: outgoing.retain,
                subscription_ids: &[],
            };
            let sent = with_fan_out(&outgoing, |fan_out| {
                live.connection.resend(now, fan_out, redeliver).is_ok()
            });
            if !sent {
                break;
            }
        }
    }

    /// Publishes, if the window and the output have room.
    pub(crate) fn publish(&mut self, now: Tick, outgoing: &Outgoing) -> bool {
        let _honest = Honest::begin();
        let Some(live) = &mut self.live else {
            return false;
        };
        let options = PublishOptions {
            qos: outgoing.qos,
            retain: outgoing.retain,
        };
        with_fan_out(outgoing, |fan_out| {
            live.connection
                .publish(now, fan_out, options, outgoing.clone())
                .is_ok()
        })
    }

    /// Whether a message could be published now.
    pub(crate) fn has_room(&self, qos: QoS) -> bool {
        let _honest = Honest::begin();
        self.live.as_ref().is_some_and(|live| {
            live.connection.is_connected()
                && (qos == QoS::AtMostOnce
                    || live.connection.credit_available() && !live.connection.is_resending())
        })
    }

    pub(crate) fn subscribe(
        &mut self,
        now: Tick,
        filters: &[(String, SubscriptionOptions)],
        id: Option<SubscriptionId>,
    ) -> bool {
        let _honest = Honest::begin();
        let Some(live) = &mut self.live else {
            return false;
        };
        let request = SubscribeRequest {
            filters: filters
                .iter()
                .map(|(filter, options)| SubscribeFilter {
                    filter: ByteStr::from(filter.as_str()),
                    options: *options,
                })
                .collect(),
            subscription_id: id,
            ..SubscribeRequest::default()
        };
        let sent = live.connection.subscribe(now, request).is_ok();
        if sent {
            for (filter, _) in filters {
                if !self.filters.contains(filter) {
                    self.filters.push(filter.clone());
                }
            }
        }
        sent
    }

    pub(crate) fn unsubscribe(&mut self, now: Tick, filter: &str) -> bool {
        let _honest = Honest::begin();
        let Some(live) = &mut self.live else {
            return false;
        };
        let request = UnsubscribeRequest {
            filters: vec![ByteStr::from(filter)],
            ..UnsubscribeRequest::default()
        };
        let sent = live.connection.unsubscribe(now, request).is_ok();
        if sent {
            self.filters.retain(|known| known != filter);
        }
        sent
    }

    pub(crate) fn disconnect(&mut self, disconnect: Disconnect) -> bool {
        let _honest = Honest::begin();
        self.live
            .as_mut()
            .is_some_and(|live| live.connection.disconnect(disconnect).is_ok())
    }

    /// Seconds its session was asked to be kept, by CONNECT.
    pub(crate) fn keeps_session(&self) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| !live.connection.session_expiry().is_at_close())
    }

    /// Takes up to `count` bytes that are to go on the link.
    pub(crate) fn output(&mut self, count: usize) -> Vec<u8> {
        let _honest = Honest::begin();
        let mut taken = Vec::new();
        let Some(live) = &mut self.live else {
            return taken;
        };
        let output = live.connection.output();
        while taken.len() < count {
            let chunk = output.chunk();
            let step = chunk.len().min(count - taken.len());
            if step == 0 {
                break;
            }
            taken.extend_from_slice(&chunk[..step]);
            output.advance(step);
        }
        taken
    }

    pub(crate) fn output_is_empty(&mut self) -> bool {
        self.live
            .as_mut()
            .is_none_or(|live| live.connection.output().is_empty())
    }

    pub(crate) fn next_timeout(&self) -> Option<Tick> {
        let _honest = Honest::begin();
        self.live.as_ref()?.connection.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Tick) {
        let _honest = Honest::begin();
        if let Some(live) = &mut self.live {
            live.connection.handle_timeout(now);
        }
    }

    /// Messages it has published and that are not settled.
    pub(crate) fn in_flight(&self) -> usize {
        self.live
            .as_ref()
            .map_or(0, |live| live.connection.in_flight())
    }
}

/// Where the events of a connection go.
struct Seen<'a> {
    number: usize,
    link: usize,
    is_v5: bool,
    owed: &'a mut VecDeque<AckToken>,
    answered: &'a mut bool,
    insists_on_clean_start: &'a mut bool,
    oracle: &'a mut Oracle,
    trace: &'a mut Trace,
}

impl Seen<'_> {
    fn event(&mut self, event: ClientEvent<'_, Outgoing>) {
        let number = self.number;
        match event {
            ClientEvent::ConnAck(connected) => {
                let reason = connected.connack.reason;
                if reason.is_error() {
                    self.oracle.fail(
                        "a correct client was refused",
                        format!("c{number}: {reason:?}"),
                    );
                }
                *self.insists_on_clean_start = false;
                *self.answered = true;
            }
            ClientEvent::Auth(_) => self.oracle.fail(
                "a client without an authentication method was challenged",
                format!("c{number}"),
            ),
            ClientEvent::Publish(publish) => self.publish(publish),
            ClientEvent::Release { token, .. } | ClientEvent::Received { token, .. } => {
                self.owed.push_back(token);
            }
            ClientEvent::Delivered { item, reason, .. } => {
                if let Some(key) = item.key {
                    self.trace.note(&[11, u64::from(reason.as_u8())], || {
                        format!("  c{number} hears {reason:?} for {key}")
                    });
                    self.oracle.settled(key, reason);
                }
            }
            ClientEvent::SubAck(ack) => {
                if let Some(code) = ack.codes().find(|code| code.is_error()) {
                    self.oracle
                        .fail("a subscription was refused", format!("c{number}: {code:?}"));
                }
            }
            ClientEvent::UnsubAck(_) => {}
            ClientEvent::Disconnected(disconnect) => {
                let reason = disconnect.reason;
                let expected = [ReasonCode::SessionTakenOver, ReasonCode::KeepAliveTimeout];
                if !expected.contains(&reason) {
                    self.oracle.fail(
                        "a correct client was disconnected",
                        format!("c{number}: {reason:?}"),
                    );
                }
            }
        }
    }

    fn publish(&mut self, inbound: InboundPublish<'_>) {
        let copy = Copy::of_publish(inbound.topic.as_str(), &inbound.publish, self.is_v5);
        let number = self.number;
        self.trace
            .note(&[12, number as u64, u64::from(copy.qos.bits())], || {
                format!("  c{number} receives {copy:?}")
            });
        self.oracle.received(self.link, &copy);
        self.owed.extend(inbound.token);
    }
}

/// The client id of a client: `c` and its number.
pub(crate) fn client_id(number: usize) -> String {
    format!("c{number}")
}

/// The number in a client id.
pub(crate) fn client_number(client_id: &str) -> usize {
    client_id
        .strip_prefix('c')
        .and_then(|number| number.parse().ok())
        .unwrap_or(usize::MAX)
}

/// Builds the packet template of a message for the time of one call.
fn with_fan_out<T>(outgoing: &Outgoing, run: impl FnOnce(&mut FanOut<'_>) -> T) -> T {
    let payload = outgoing
        .key
        .map(|key| payload::encode(key, outgoing.length))
        .unwrap_or_default();
    let mut properties = MessageProperties::builder();
    if let Some(secs) = outgoing.expiry_secs {
        properties = properties.message_expiry_secs(secs);
    }
    let properties = properties.build().expect("an expiry is a valid property");
    let source = PublishSource {
        topic: TopicName::new(&outgoing.topic).expect("the simulation's topics are valid"),
        properties: properties.as_properties(),
        payload: Payload::Shared(&payload),
        message_expiry_secs: outgoing.expiry_secs,
    };
    let mut buffer = FanOutBuffer::new();
    run(&mut FanOut::new(source, &mut buffer))
}
