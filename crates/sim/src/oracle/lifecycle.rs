//! Sessions begin, are taken over, end; wills become due.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_broker_core::session::codec::{ProtocolVersion, QoS};
use whimbrel_broker_core::{CloseReason, Event};

use super::session::{Connection, Session, Will};
use super::turns::Turns;
use super::{Moment, Oracle};
use crate::client::client_number;
use crate::payload::MessageKey;

/// A CONNECT that reached its shard.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) connection: usize,
    pub(crate) client: usize,
    pub(crate) shard: usize,
    pub(crate) version: ProtocolVersion,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_secs: u16,
    pub(crate) session_expiry_secs: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_size_max: Option<u32>,
    pub(crate) topic_alias_max: u16,
    pub(crate) will: Option<ArrivalWill>,
    pub(crate) is_local: bool,
}

/// The will of a CONNECT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrivalWill {
    pub(crate) key: MessageKey,
    pub(crate) delay_secs: u32,
}

impl Oracle {
    /// Time went on. Call [`overdue`](Self::overdue) when what is due was handled.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Checks that nothing that was due by now is still to happen.
    pub(crate) fn overdue(&mut self) {
        let now = self.now_ms;
        let late = self.living().find_map(|session| {
            let client = session.client;
            if session.will_due_ms.is_some_and(|due| due <= now) {
                return Some(("a will is late", client));
            }
            let expired = session.expires_ms.is_some_and(|due| due <= now);
            let silent = session
                .connection
                .and_then(|connection| self.connections.get(&connection))
                .and_then(Connection::keep_alive_ends_ms)
                .is_some_and(|due| due < now);
            if silent {
                return Some(("a silent client was not closed", client)); // [MQTT-3.1.2-22]
            }
            expired.then_some(("a session outlived its expiry", client))
        });
        if let Some((rule, client)) = late {
            self.fail(rule, format!("client c{client}"));
        }
    }

    /// A CONNECT is about to be handled by its shard.
    pub(crate) fn arrives(&mut self, arrival: Arrival) {
        self.arriving.insert(arrival.client, arrival);
    }

    /// Whether the CONNECT of a connection was handled and has begun a new session.
    pub(crate) fn began_session(&self, connection: usize) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|found| !found.expects_session_present)
    }

    /// Whether the broker has input of a connection that it has not looked at.
    pub(crate) fn input_waits(&mut self, connection: usize, waits: bool) {
        let now = self.now_ms;
        if let Some(connection) = self.connections.get_mut(&connection) {
            if connection.input_waits {
                connection.waited_ms = now;
            }
            connection.input_waits = waits;
        }
    }

    /// A packet that breaks the protocol was put on the link.
    pub(crate) fn garbled(&mut self, connection: usize) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.is_garbled = true;
        }
    }

    /// The connection's transport is gone, and its shard was told.
    pub(crate) fn detached(&mut self, connection: usize) {
        let open = self
            .connections
            .get(&connection)
            .is_some_and(|found| !found.closed);
        if open {
            self.fail(
                "a lost connection was not noticed",
                format!("connection {connection}"),
            );
        }
    }

    /// The broker told its observers something.
    pub(crate) fn observed(&mut self, event: &Event) {
        let moment = self.moment();
        match event {
            Event::Connected {
                client_id,
                session_present,
            } => self.connected(client_number(client_id), *session_present, moment),
            Event::Disconnected { client_id, reason } => {
                self.disconnected(client_number(client_id), *reason, moment);
            }
            Event::SessionEnded { client_id } => {
                self.session_ended(client_number(client_id), moment);
            }
            Event::Subscribed { client_id, filter } => {
                self.subscribed(client_number(client_id), filter, moment);
            }
            Event::Unsubscribed { client_id, filter } => {
                let client = client_number(client_id);
                let post = self.post;
                let known = self
                    .session_of(client)
                    .is_some_and(|session| session.unsubscribe(filter, moment, post));
                if !known {
                    let detail = format!("client c{client}, {filter}");
                    self.fail("unsubscribed from what was not subscribed to", detail);
                }
            }
            Event::WillPublished { client_id, topic } => {
                self.will_published(client_number(client_id), topic.as_str(), moment);
            }
            _ => {}
        }
    }

    pub(super) fn session_of(&mut self, client: usize) -> Option<&mut Session> {
        let index = *self.by_client.get(&client)?;
        self.sessions.get_mut(index)
    }

    fn connected(&mut self, client: usize, session_present: bool, moment: Moment) {
        let Some(arrival) = self.arriving.remove(&client) else {
            return self.fail("connected without CONNECT", format!("client c{client}"));
        };
        let known = self.by_client.get(&client).copied();
        // [MQTT-3.2.2-2, MQTT-3.2.2-3, MQTT-3.1.2-4 to -6]
        if session_present != known.is_some() || session_present && arrival.clean_start {
            let detail = format!("client c{client}: present {session_present}, known {known:?}");
            self.fail("session present is wrong", detail);
        }
        let index = known.unwrap_or_else(|| {
            let index = self.sessions.len();
            let mut session = Session::new(index, client, arrival.shard, moment.order);
            // What it is again if a crash takes its beginning back.
            session.ended = Some(moment.order);
            self.sessions.push(session);
            self.by_client.insert(client, index);
            index
        });
        self.change(index);
        let asked = match arrival.version {
            ProtocolVersion::V5 => arrival.session_expiry_secs,
            _ if arrival.clean_start => 0,
            _ => self.v3_session_expiry_secs,
        };
        let expiry_secs = asked.min(self.session_expiry_secs_max);
        let life = self.life;
        let session = &mut self.sessions[index];
        let was_open = session.connection.is_some();
        session.ended = None;
        session.shard = arrival.shard;
        session.connection = Some(arrival.connection);
        session.connections += 1;
        session.packet_size_max = arrival.packet_size_max;
        session.disconnected = None;
        session.expires_ms = None;
        // Cancels a will that was not due yet [MQTT-3.1.3-9].
        let lost_will = session
            .will_due_ms
            .take()
            .is_some_and(|due| due <= moment.ms);
        session.will = arrival.will.map(|will| Will {
            key: will.key,
            delay_secs: will.delay_secs,
        });
        session.set_expiry(expiry_secs, moment.order);
        self.connections.insert(
            arrival.connection,
            Connection {
                session: index,
                life,
                version: arrival.version,
                attached: moment.order,
                expects_session_present: known.is_some(),
                keep_alive_secs: arrival.keep_alive_secs,
                receive_maximum: arrival.receive_maximum,
                packet_size_max: arrival.packet_size_max,
                topic_alias_max: arrival.topic_alias_max,
                aliases: BTreeMap::new(),
                opened_record: None,
                subscribed_records: VecDeque::new(),
                unsubscribed_records: VecDeque::new(),
                asked: VecDeque::new(),
                unanswered: VecDeque::new(),
                is_garbled: false,
                is_durable: expiry_secs > 0,
                is_local: arrival.is_local,
                accepted: false,
                closed: false,
                disconnect: None,
                last_input_ms: moment.ms,
                input_waits: false,
                waited_ms: moment.ms,
                turns: Turns::default(),
                output_empty_ms: moment.ms,
                up: Vec::new(),
                down: Vec::new(),
            },
        );
        if let Some(early) = self.early.remove(&arrival.connection) {
            self.fed(arrival.connection, &early);
        }
        if was_open {
            self.fail("two connections of one client", format!("client c{client}"));
        }
        if lost_will {
            self.fail("a due will was cancelled", format!("client c{client}"));
        }
    }

    fn disconnected(&mut self, client: usize, reason: CloseReason, moment: Moment) {
        let expiry_max = self.session_expiry_secs_max;
        let arriving = self.arriving.contains_key(&client);
        let Some(index) = self.by_client.get(&client).copied() else {
            return self.fail(
                "disconnected without a session",
                format!("client c{client}"),
            );
        };
        self.change(index);
        let wall_ms = self.wall.at(moment.ms);
        let session = &mut self.sessions[index];
        let Some(connection) = session
            .connection
            .take()
            .and_then(|connection| self.connections.get_mut(&connection))
        else {
            return self.fail("disconnected twice", format!("client c{client}"));
        };
        connection.closed = true;
        let mut keeps_will = true;
        let mut wrong = None;
        match reason {
            CloseReason::Disconnect => match connection.disconnect {
                Some(farewell) => {
                    keeps_will = farewell.keeps_will;
                    if let Some(secs) = farewell.session_expiry_secs {
                        session.set_expiry(secs.min(expiry_max), moment.order);
                    }
                }
                None => wrong = Some("a DISCONNECT that nobody sent"),
            },
            CloseReason::TakenOver if !arriving => wrong = Some("taken over by nobody"),
            CloseReason::KeepAlive => {
                let keep_alive_ms = u64::from(connection.keep_alive_secs) * 1_500;
                let early = moment.ms < connection.last_input_ms + keep_alive_ms;
                if keep_alive_ms == 0 || early && !connection.input_waits {
                    wrong = Some("closed for keep alive too early"); // [MQTT-3.1.2-22]
                }
            }
            CloseReason::ProtocolError if !connection.is_garbled => {
                wrong = Some("a correct client was closed for a protocol error");
            }
            _ => {}
        }
        session.part(moment, wall_ms);
        if !keeps_will {
            session.will = None; // [MQTT-3.14.4-3]
        }
        if let Some(will) = session.will {
            let delay = u64::from(will.delay_secs.min(session.expiry_secs)) * 1000;
            session.will_due_ms = Some(moment.ms + delay);
        }
        if let Some(rule) = wrong {
            self.fail(rule, format!("client c{client} at {} ms", moment.ms));
        }
    }

    fn session_ended(&mut self, client: usize, moment: Moment) {
        let discarded = self
            .arriving
            .get(&client)
            .is_some_and(|arrival| arrival.clean_start);
        let Some(index) = self.by_client.remove(&client) else {
            return self.fail("an unknown session ended", format!("client c{client}"));
        };
        self.change(index);
        let post = self.post;
        let session = &mut self.sessions[index];
        let expired = session.expires_ms.is_some_and(|due| due <= moment.ms);
        let was_open = session.connection.is_some();
        let lost_will = session.will.is_some() && session.disconnected.is_some();
        session.ended = Some(moment.order);
        for subscription in &mut session.subscriptions {
            subscription.end(moment.order, post);
        }
        if was_open || !(expired || discarded) {
            self.fail("a session ended too early", format!("client c{client}"));
        }
        if lost_will {
            self.fail(
                "a will was lost with its session",
                format!("client c{client}"),
            );
        }
    }

    fn subscribed(&mut self, client: usize, filter: &str, moment: Moment) {
        let Some(&index) = self.by_client.get(&client) else {
            return self.fail("subscribed without a session", format!("client c{client}"));
        };
        let post = self.post;
        let session = &mut self.sessions[index];
        let asked = session
            .connection
            .and_then(|connection| self.connections.get_mut(&connection))
            .and_then(|connection| connection.asked.pop_front());
        match asked.filter(|asked| asked.filter == filter) {
            Some(asked) => session.subscribe(&asked, moment, post),
            None => self.fail("subscribed to what was not asked for", filter.to_owned()),
        }
    }

    fn will_published(&mut self, client: usize, topic: &str, moment: Moment) {
        let discarded = self
            .arriving
            .get(&client)
            .is_some_and(|arrival| arrival.clean_start);
        let Some(index) = self.by_client.get(&client).copied() else {
            return self.fail("a will without a session", format!("client c{client}"));
        };
        self.change(index);
        let session = &mut self.sessions[index];
        let due = session.will_due_ms.take();
        let Some(will) = session.will.take() else {
            return self.fail("a will that nobody left", format!("client c{client}"));
        };
        // A session that ends does not wait for the delay [MQTT-3.1.2-8, MQTT-3.1.3-9].
        let timely = due.is_some_and(|due| due == moment.ms || discarded && due > moment.ms);
        if !timely {
            let detail = format!("client c{client} at {} ms, due {due:?}", moment.ms);
            self.fail("a will at the wrong time", detail);
        }
        let Some(message) = self.messages.get_mut(&will.key) else {
            return;
        };
        let retain = message.retain;
        let wrong_topic = message.topic != topic;
        message.promised = message.qos > QoS::AtMostOnce;
        let qos = message.qos;
        self.taken(will.key, index, qos, moment);
        if retain {
            self.retain(topic, Some(will.key), moment);
        }
        if wrong_topic {
            self.fail(
                "a will on another topic",
                format!("{} on {topic}", will.key),
            );
        }
    }
}
