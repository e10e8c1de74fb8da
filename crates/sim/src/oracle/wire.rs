//! The packets on a link, as they enter and leave the broker.

use whimbrel_broker_core::session::codec::{
    ConnAckRef, Limits, PacketRef, ProtocolVersion, PublishRef, QoS, ReasonCode, decode_ref,
};

use super::Oracle;
use super::copies::Copy;
use super::finals::may_be_too_large;
use super::message::Position;
use super::session::{ExchangeKind, Farewell, Sent, Session};
use super::turns::Answer;
use crate::payload::{self, MessageKey};

impl Oracle {
    /// Bytes of a client are about to be given to the broker.
    pub(crate) fn fed(&mut self, number: usize, bytes: &[u8]) {
        let now = self.now_ms;
        let Some(connection) = self.connections.get_mut(&number) else {
            self.early
                .entry(number)
                .or_default()
                .extend_from_slice(bytes);
            return;
        };
        if connection.closed {
            return;
        }
        let mut up = std::mem::take(&mut connection.up);
        up.extend_from_slice(bytes);
        let version = connection.version;
        let session = connection.session;
        let is_garbled = connection.is_garbled;
        let mut used = 0;
        loop {
            let decoded = match decode_ref(&up[used..], version, &Limits::PROTOCOL) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => break,
                Err(_) if is_garbled => break,
                Err(error) => {
                    let detail = format!("connection {number}: {error:?} in {:02x?}", &up[used..]);
                    return self.fail("a client sent what can't be decoded", detail);
                }
            };
            used += decoded.length;
            let Some(connection) = self.connections.get_mut(&number) else {
                return;
            };
            connection.last_input_ms = now;
            let session = &mut self.sessions[session];
            match decoded.packet {
                PacketRef::Publish(publish) => {
                    let key = payload::decode(publish.payload());
                    if let Some(id) = publish.packet_id() {
                        let answer = match publish.qos() {
                            QoS::ExactlyOnce => Answer::PubRec,
                            _ => Answer::PubAck,
                        };
                        connection.turns.owe(answer, id.get());
                        if let Some(key) = key {
                            session.inbound.insert(id.get(), key);
                        }
                    }
                    self.tell_of(key, || {
                        format!("arrives on connection {number}, {:?}", publish.delivery())
                    });
                }
                PacketRef::PubAck(ack) | PacketRef::PubComp(ack) => {
                    let sent = session.in_flight.remove(&ack.id.get());
                    let client = session.client;
                    self.tell_of(sent.and_then(|sent| sent.key), || {
                        format!("finished by c{client}, id {}", ack.id)
                    });
                }
                PacketRef::PubRec(ack) if ack.reason.is_error() => {
                    session.in_flight.remove(&ack.id.get());
                }
                PacketRef::PubRec(ack) => connection.turns.owe(Answer::PubRel, ack.id.get()),
                PacketRef::PubRel(ack) => connection.turns.owe(Answer::PubComp, ack.id.get()),
                PacketRef::Disconnect(disconnect) => {
                    connection.disconnect = Some(Farewell {
                        keeps_will: disconnect.reason != ReasonCode::NORMAL_DISCONNECTION,
                        session_expiry_secs: disconnect.properties.session_expiry_secs(),
                    });
                }
                _ => {}
            }
        }
        up.drain(..used);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.up = up;
        }
    }

    /// Everything written to a connection so far has left.
    pub(crate) fn output_is_empty(&mut self, number: usize) {
        let now = self.now_ms;
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.output_empty_ms = now;
        }
    }

    /// Bytes for a client have left the broker.
    pub(crate) fn left(&mut self, number: usize, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let mut down = std::mem::take(&mut connection.down);
        down.extend_from_slice(bytes);
        let version = connection.version;
        let size_max = connection.packet_size_max;
        let mut used = 0;
        loop {
            match decode_ref(&down[used..], version, &Limits::PROTOCOL) {
                Ok(Some(decoded)) => {
                    used += decoded.length;
                    // [MQTT-3.1.2-24]
                    if size_max.is_some_and(|max| decoded.length > max as usize) {
                        let detail = format!("{} bytes on connection {number}", decoded.length);
                        self.fail("larger than the client accepts", detail);
                    }
                    self.packet_left(number, version, &decoded.packet);
                }
                Ok(None) => break,
                Err(error) => {
                    let detail = format!("connection {number}: {error:?}");
                    self.fail("the broker sent what can't be decoded", detail);
                    break;
                }
            }
        }
        down.drain(..used);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.down = down;
        }
    }

    fn packet_left(&mut self, number: usize, version: ProtocolVersion, packet: &PacketRef<'_>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let accepted = connection.accepted;
        let session = connection.session;
        if !accepted && !matches!(packet, PacketRef::ConnAck(_)) {
            let detail = format!("{} on connection {number}", packet.packet_type());
            return self.fail("a packet before CONNACK", detail); // [MQTT-3.2.0-1]
        }
        let turn = match packet {
            PacketRef::PubAck(ack) => Some((Answer::PubAck, ack.id.get())),
            PacketRef::PubRec(ack) => Some((Answer::PubRec, ack.id.get())),
            PacketRef::PubRel(ack) => Some((Answer::PubRel, ack.id.get())),
            PacketRef::PubComp(ack) => Some((Answer::PubComp, ack.id.get())),
            _ => None,
        };
        if let Some((answer, id)) = turn {
            self.in_turn(number, session, answer, id);
        }
        match packet {
            PacketRef::ConnAck(connack) => self.connack_left(number, version, connack),
            PacketRef::Publish(publish) => self.publish_left(number, publish),
            PacketRef::PubAck(ack) if !ack.reason.is_error() => {
                self.promise_left(session, ack.id.get(), "PUBACK");
            }
            PacketRef::PubRec(ack) if !ack.reason.is_error() => {
                self.promise_left(session, ack.id.get(), "PUBREC");
            }
            PacketRef::PubComp(ack) => self.pubcomp_left(session, ack.id.get()),
            PacketRef::PubRel(ack) => self.pubrel_left(number, session, ack.id.get()),
            PacketRef::SubAck(_) => {
                self.answered(number, 0);
                let record = self.connections.get_mut(&number).and_then(|connection| {
                    let record = connection.subscribed_records.pop_front();
                    connection.is_durable.then_some(record)
                });
                self.request_left(session, record, "SUBACK");
            }
            PacketRef::UnsubAck(_) => {
                let record = self.connections.get_mut(&number).and_then(|connection| {
                    let record = connection.unsubscribed_records.pop_front();
                    connection.is_durable.then_some(record)
                });
                self.request_left(session, record, "UNSUBACK");
            }
            _ => {}
        }
    }

    /// Where queues are small, acknowledgements may be withheld for good.
    fn in_turn(&mut self, number: usize, session: usize, answer: Answer, id: u16) {
        let key = self.sessions[session].inbound.get(&id).copied();
        if answer != Answer::PubRel {
            self.tell_of(key, || format!("{answer:?} leaves on connection {number}"));
        }
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let skipped = connection.turns.answer(answer, id).unwrap_or(0);
        if skipped > 0 && !self.queues_are_small && !self.disk.was_full {
            let detail = format!("{answer:?} {id} on connection {number} before {skipped} others");
            self.fail("acknowledged out of turn", detail);
        }
    }

    fn connack_left(&mut self, number: usize, version: ProtocolVersion, connack: &ConnAckRef<'_>) {
        let now = self.now_ms;
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        connection.accepted = true;
        connection.waited_ms = now;
        let durable = connection.is_durable && !connection.is_local;
        let record = connection.opened_record;
        let expected = connection.expects_session_present && version != ProtocolVersion::V31;
        if connack.session_present != expected {
            let detail = format!("{} on connection {number}", connack.session_present);
            self.fail("session present is not what it should be", detail);
        }
        if durable && self.journal {
            let committed = record.is_some_and(|record| self.is_committed(record));
            if !committed {
                let detail = format!("connection {number}, record {record:?}");
                self.fail("CONNACK before its record", detail);
            }
        }
    }

    fn publish_left(&mut self, number: usize, publish: &PublishRef<'_>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let alias = publish.properties().topic_alias().map_or(0, u16::from);
        // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
        if alias > connection.topic_alias_max {
            let detail = format!("alias {alias} on connection {number}");
            return self.fail("a topic alias that the client does not take", detail);
        }
        let topic = match publish.topic() {
            Some(topic) => topic.as_str().to_owned(),
            None => match connection.aliases.get(&alias) {
                Some(topic) => topic.clone(),
                None => {
                    let detail = format!("alias {alias} on connection {number}");
                    return self.fail("a topic alias that stands for nothing", detail);
                }
            },
        };
        if alias > 0 {
            connection.aliases.insert(alias, topic.clone());
        }
        let is_v5 = connection.version.is_v5();
        let window = connection.receive_maximum.min(self.in_flight_max);
        let session = connection.session;
        let closed = connection.closed;
        let earliest_ms = connection.output_empty_ms;
        let copy = Copy::of_publish(&topic, publish, is_v5);
        let qos = copy.qos;
        self.tell_of(copy.key, || {
            let client = self.sessions[session].client;
            let delivery = publish.delivery();
            format!("leaves for c{client} on connection {number}: {delivery:?}")
        });
        // What a connection still writes after it was taken over is no news of the session.
        let id = publish.packet_id().filter(|_| !closed);
        if let Some(id) = id {
            let sent = Sent {
                key: copy.key,
                qos: copy.qos,
                connection: number,
            };
            let in_flight = &mut self.sessions[session].in_flight;
            let old = in_flight.insert(id.get(), sent);
            let open = in_flight
                .values()
                .filter(|sent| sent.connection == number)
                .count();
            let first_connection = self.sessions[session].connections == 1;
            let detail = || format!("{id} on connection {number}, {old:?}, now {sent:?}");

            if let Some(old) = old {
                if old.connection == number {
                    // [MQTT-4.4.0-1] forbids it live, [MQTT-2.2.1-4] otherwise.
                    self.fail("sent again on a live connection", detail());
                } else if old.key != sent.key || old.qos != sent.qos {
                    self.fail("packet identifier used while it was taken", detail());
                } else if !copy.dup {
                    self.fail("sent again without DUP", detail()); // [MQTT-3.3.1-1]
                }
            } else if copy.dup && first_connection {
                self.fail("DUP on a first delivery", detail()); // [MQTT-3.3.1-3]
            }
            if qos == QoS::ExactlyOnce {
                self.check_prepared(number, session, id.get());
            }
            if open > usize::from(window) {
                let detail = format!(
                    "{open} of {window} on connection {number}: {:?}",
                    self.sessions[session].in_flight
                );
                self.fail("more in flight than the client allows", detail); // [MQTT-3.3.4-9]
            }
        }
        self.check_copy(session, &copy, earliest_ms);
    }

    /// PUBACK or PUBREC: what it promises has to be stored.
    fn promise_left(&mut self, session: usize, id: u16, what: &'static str) {
        let Some(key) = self.sessions[session].inbound.get(&id).copied() else {
            return;
        };
        let Some(message) = self.messages.get(&key) else {
            return;
        };
        if message.is_denied {
            return;
        }
        if message.ingress.is_empty() {
            return self.fail(
                "acknowledged before it was taken",
                format!("{what} for {key}"),
            );
        }
        if !self.journal || self.queues_are_small {
            return;
        }
        let retained_waits = message.retain && !message.is_retained_stored;
        let missing = if message.qos == QoS::ExactlyOnce {
            let owed = self.owed_sessions(key).next().is_some();
            let stored = message
                .inbound_stored
                .is_some_and(|stored| self.is_committed(stored.position));
            owed && !stored
        } else {
            self.is_owed_unstored(key)
        };
        if missing || retained_waits {
            let committed = &self.committed;
            let owed: Vec<_> = self.owed_sessions(key).map(|owed| owed.client).collect();
            let detail = format!(
                "{what} for {key}, owed to clients {owed:?}, committed {committed:?}: {message:?}"
            );
            self.fail("acknowledged before it was stored", detail);
        } else if message
            .inbound_stored
            .is_some_and(|stored| self.is_committed(stored.position))
            && let Some(message) = self.messages.get_mut(&key)
        {
            // The broker has taken it over, whatever becomes of its publisher.
            message.promised = true;
        }
    }

    fn pubcomp_left(&mut self, session: usize, id: u16) {
        let Some(key) = self.sessions[session].inbound.remove(&id) else {
            return;
        };
        let Some(message) = self.messages.get(&key) else {
            return;
        };
        if !self.journal || self.queues_are_small || message.is_denied {
            return;
        }
        // A session that ends with its connection has no one who could release the message to a later life.
        let outlives = self.sessions[session].expiry_secs > 0;
        let unreleased = outlives
            && message
                .inbound_stored
                .is_some_and(|stored| stored.session == session && !self.is_lost(stored.position))
            && !message
                .inbound_released
                .is_some_and(|position| self.is_committed(position));
        if unreleased || self.is_owed_unstored(key) {
            let committed = &self.committed;
            let detail = format!("{key}, committed {committed:?}: {message:?}");
            self.fail("PUBCOMP before its records", detail);
        }
    }

    fn pubrel_left(&mut self, number: usize, session: usize, id: u16) {
        if !self.is_exchange_stored(session, id, ExchangeKind::PubComp)
            && !self.lost_its_message(session, id)
        {
            let detail = format!("id {id} on connection {number}");
            self.fail("PUBREL before its record", detail);
        }
    }

    /// Whether a start found the identifier of a `QoS` 2 exchange and not its message, which was none of the journal's: the
    /// client, which may hold the identifier, is told to release it.
    fn lost_its_message(&self, session: usize, id: u16) -> bool {
        let exchange = self.sessions[session]
            .exchanges
            .get(&(id, ExchangeKind::PubRec));
        self.life > 0
            && exchange.is_some_and(|exchange| {
                exchange.place.is_none()
                    && exchange.since.life < self.life
                    && self.is_committed(exchange.since)
            })
    }

    /// `QoS` 2 is sent under an identifier that the journal has.
    fn check_prepared(&mut self, number: usize, session: usize, id: u16) {
        if !self.is_exchange_stored(session, id, ExchangeKind::PubRec) {
            let detail = format!("id {id} on connection {number}");
            self.fail("PUBLISH before the record of its identifier", detail);
        }
    }

    /// Whether an exchange is recorded in this stage, where it has to be.
    fn is_exchange_stored(&self, session: usize, id: u16, kind: ExchangeKind) -> bool {
        let found = &self.sessions[session];
        if !self.journal || found.durable_since.is_none() {
            return true;
        }
        let exchange = found.exchanges.get(&(id, kind));
        exchange.is_some_and(|exchange| self.is_committed(exchange.since))
    }

    fn request_left(
        &mut self,
        session: usize,
        record: Option<Option<Position>>,
        what: &'static str,
    ) {
        let Some(record) = record else {
            return;
        };
        let committed = record.is_some_and(|record| self.is_committed(record));
        if self.journal && !committed {
            let client = self.sessions[session].client;
            self.fail(
                "acknowledged before it was stored",
                format!("{what} for c{client}"),
            );
        }
    }

    /// Whether the journal does not have the message for some session that has to have it.
    fn is_owed_unstored(&self, key: MessageKey) -> bool {
        let message = &self.messages[&key];
        // What has expired is stored nowhere any more.
        if message.may_have_expired(&self.wall, self.now_ms) {
            return false;
        }
        let enqueued = &message.enqueued;
        self.owed_sessions(key).any(|session| {
            let record = session.queue.and_then(|queue| enqueued.get(&queue));
            !record.is_some_and(|&record| self.is_committed(record))
        })
    }

    /// Sessions that outlive their connection and are to have the message above `QoS` 0.
    fn owed_sessions(&self, key: MessageKey) -> impl Iterator<Item = &Session> {
        let message = &self.messages[&key];
        let ingress = message.first_ingress();
        self.living().filter(move |session| {
            session.durable_since < ingress
                && session.durable_since.is_some()
                && !may_be_too_large(session.packet_size_max, message)
                && message.qos > QoS::AtMostOnce
                && session.possible(message).any(|subscription| {
                    subscription.is_ordinary()
                        && subscription.is_sure_of(message)
                        && subscription.qos > QoS::AtMostOnce
                })
        })
    }
}
