//! What clients do, and what befalls their links: drawn from the seed.

use std::num::{NonZeroU16, NonZeroU32};

use whimbrel_broker_core::session::codec::topic::{TopicName, TopicNameBuf};
use whimbrel_broker_core::session::codec::{
    Connect, Disconnect, MessageProperties, ProtocolVersion, QoS, ReasonCode, RetainHandling,
    SubscriptionId, SubscriptionOptions, Will,
};

use crate::client::{Outgoing, Standing, client_id};
use crate::oracle::Published;
use crate::payload;
use crate::recorder::is_denied;
use crate::world::World;

impl World {
    /// Some client does something.
    pub(crate) fn operate(&mut self) {
        let number = self.rng.index(self.plan.clients.len());
        if self.plan.clients[number].is_silent {
            return;
        }
        match self.clients[number].standing() {
            Standing::Offline => {
                if self.rng.percent(60) {
                    self.draw_connect(number);
                }
            }
            Standing::Connecting | Standing::Closing => {}
            Standing::Connected => match self.rng.below(100) {
                0..55 => {
                    for _ in 0..self.rng.between(1, 3) {
                        self.draw_publish(number);
                    }
                }
                55..72 => {
                    let count = self.rng.between(1, 5) as usize;
                    let now = self.tick();
                    let client = &mut self.clients[number];
                    client.acknowledge(now, count, &mut self.oracle, &mut self.trace);
                }
                72..86 => self.draw_subscribe(number, USUAL_FILTERS),
                86..92 => self.draw_unsubscribe(number),
                92..95 => self.draw_disconnect(number),
                95..97 if self.plan.faults.takeovers => self.draw_connect(number),
                97..99 if self.plan.features.storms => self.storm(number),
                _ => {}
            },
        }
    }

    /// Some link suffers something.
    pub(crate) fn fault(&mut self) {
        let faults = self.plan.faults;
        match self.rng.below(12) {
            0 if faults.crashes && self.rng.percent(8) => return self.doom(),
            2 if faults.disk_full && self.rng.percent(30) => return self.fill_disk(),
            1 if faults.clock_jumps && self.rng.percent(20) => return self.set_clock(),
            _ => {}
        }
        let Some(number) = self.pick_link() else {
            return;
        };
        match self.rng.below(10) {
            0..3 if faults.cuts => self.cut(number),
            3 if faults.half_open => {
                if let Some(wire) = self.links.get_mut(&number) {
                    wire.link.frozen = true;
                    self.trace
                        .note(&[20, number as u64], || format!("link {number} freezes"));
                }
            }
            4 if faults.half_open => {
                let frozen = self.links.get(&number).is_some_and(|wire| wire.link.frozen);
                if frozen {
                    self.cut(number);
                }
            }
            5..7 if faults.slow_readers => {
                if let Some(wire) = self.links.get_mut(&number) {
                    wire.link.stalled = !wire.link.stalled;
                }
            }
            7 if faults.garbage && self.rng.percent(30) => self.garble(number),
            8 if faults.cuts => {
                // The broker's side of an abandoned connection may hear of it late.
                let abandoned = self
                    .links
                    .get(&number)
                    .is_some_and(|wire| self.clients[wire.client].link() != Some(number));
                if abandoned {
                    self.cut(number);
                }
            }
            _ => {}
        }
    }

    /// A client sends what is no packet, at a packet boundary.
    fn garble(&mut self, number: usize) {
        let now_ms = self.now_ms;
        let Some(wire) = self.links.get_mut(&number) else {
            return;
        };
        let client = &mut self.clients[wire.client];
        if client.link() == Some(number)
            && client.standing() == Standing::Connected
            && client.output_is_empty()
            && self.process.knows(number)
        {
            self.trace
                .note(&[21, number as u64], || format!("garbage on link {number}"));
            // Packet type 0 is reserved [U311-002] [U5-005].
            wire.link.up.push(now_ms, &[0x00, 0x00]);
            wire.link.up.end();
            self.oracle.garbled(number);
            client.lose();
            wire.link.down.cut(0);
        }
    }

    pub(crate) fn draw_connect(&mut self, number: usize) {
        let persona = self.plan.clients[number];
        let version = persona.version;
        let mut connect = Connect::new(version, client_id(number));
        connect.clean_start = match version {
            // Has no Session Present to find out by whether a session is there.
            ProtocolVersion::V31 => !persona.is_durable,
            _ if self.clients[number].insists_on_clean_start => true,
            _ => self.rng.percent(if persona.is_durable { 8 } else { 80 }),
        };
        connect.keep_alive_secs = if self.plan.features.keep_alive && self.rng.percent(60) {
            self.rng.between(2, 20) as u16
        } else {
            0
        };
        if version.is_v5() {
            let properties = &mut connect.properties;
            properties.session_expiry_secs = if persona.is_durable {
                match self.rng.below(10) {
                    0 => 0,
                    1..4 => self.rng.between(1, 30) as u32,
                    _ => u32::MAX,
                }
            } else {
                0
            };
            if self.rng.percent(30) {
                let window = self.rng.between(1, 10) as u16;
                properties.receive_maximum = NonZeroU16::new(window).unwrap_or(NonZeroU16::MIN);
            }
            properties.packet_size_max = persona.packet_size_max.and_then(NonZeroU32::new);
            properties.topic_alias_max = self.plan.topic_alias_max;
        }
        let will = (self.plan.features.wills && self.rng.percent(50))
            .then(|| self.draw_will(number, version));
        self.connect(number, connect, will);
    }

    fn draw_will(&mut self, number: usize, version: ProtocolVersion) -> Will {
        let key = self.clients[number].next_key();
        let qos = self.draw_qos();
        let retain = self.plan.features.retained && self.rng.percent(40);
        let delay_secs = if version.is_v5() && self.rng.percent(50) {
            self.rng.between(1, 12) as u32
        } else {
            0
        };
        let topic = format!("w/{number}");
        self.oracle.published(Published {
            key,
            topic: topic.clone(),
            qos,
            retain,
            expiry_secs: None,
            payload_length: 10,
            is_will: true,
            is_denied: false,
        });
        Will {
            topic: topic_name(&topic),
            payload: payload::encode(key, 0),
            qos,
            retain,
            delay_secs,
            properties: MessageProperties::new(),
        }
    }

    pub(crate) fn draw_qos(&mut self) -> QoS {
        self.rng
            .pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn draw_publish(&mut self, number: usize) {
        let persona = self.plan.clients[number];
        let features = self.plan.features;
        let own = features.retained && self.rng.percent(15);
        let mut qos = self.draw_qos();
        let topic = if own {
            qos = QoS::from_bits(persona.own_topic_qos).unwrap_or(QoS::AtMostOnce);
            format!("r/{number}q{}", qos.bits())
        } else if features.denied_topics && self.rng.percent(5) {
            "deny/x".to_owned()
        } else if features.storms && self.rng.percent(20) {
            let level = self.rng.below(STORM_TOPICS);
            format!("f/{level}/{level}")
        } else {
            self.rng.pick(&TOPICS).to_owned()
        };
        let retain = own || features.retained && self.rng.percent(15);
        if !self.clients[number].has_room(qos) {
            return;
        }
        let expiry_secs = (features.expiry && !own && persona.version.is_v5())
            .then(|| self.rng.between(1, 20) as u32)
            .filter(|_| self.rng.percent(30));
        let length = match self.rng.below(20) {
            0 if features.large_payloads => self.rng.between(4_000, 9_000),
            0..4 => self.rng.between(80, 400),
            _ => self.rng.between(10, 30),
        } as usize;
        let deletes = retain && self.rng.percent(15);
        let key = self.clients[number].next_key();
        let outgoing = Outgoing {
            key: (!deletes).then_some(key),
            topic: topic.clone(),
            length,
            qos,
            retain,
            expiry_secs: expiry_secs.filter(|_| !deletes),
        };
        if !deletes {
            self.oracle.published(Published {
                key,
                is_denied: is_denied(&topic),
                topic,
                qos,
                retain,
                expiry_secs,
                payload_length: length,
                is_will: false,
            });
        }
        let now = self.tick();
        let sent = self.clients[number].publish(now, &outgoing);
        self.trace.note(&[22, number as u64, u64::from(sent)], || {
            format!("c{number} publishes {outgoing:?}: {sent}")
        });
    }

    pub(crate) fn draw_filter(&mut self) -> String {
        if self.plan.features.shared && self.rng.percent(25) {
            return self.rng.pick(&SHARED_FILTERS).to_owned();
        }
        match self.rng.below(12) {
            0 => format!("r/{}q1", self.rng.index(self.plan.clients.len())),
            1 => format!("r/{}q2", self.rng.index(self.plan.clients.len())),
            2..5 if self.plan.features.storms => self
                .rng
                .pick(&["f/N/+", "f/N/#", "f/+/N"])
                .replace('N', &self.rng.below(STORM_TOPICS).to_string()),
            _ => self.rng.pick(&FILTERS).to_owned(),
        }
    }

    pub(crate) fn draw_options(&mut self, filter: &str, is_v5: bool) -> SubscriptionOptions {
        let mut options = SubscriptionOptions::new(self.draw_qos());
        if filter.starts_with("$share/") && self.plan.features.shared_at_least_once {
            options.qos = QoS::AtLeastOnce;
        }
        if is_v5 {
            options.no_local =
                self.plan.features.no_local && !filter.starts_with('$') && self.rng.percent(25);
            options.retain_as_published = self.rng.percent(40);
            options.retain_handling = self.rng.pick(&[
                RetainHandling::Send,
                RetainHandling::Send,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]);
        }
        options
    }

    fn draw_subscribe(&mut self, number: usize, filters_max: u64) {
        let is_v5 = self.plan.clients[number].version.is_v5();
        let mut filters = Vec::new();
        for _ in 0..self.rng.between(1, filters_max) {
            let filter = match self.clients[number].filters.as_slice() {
                known if !known.is_empty() && self.rng.percent(20) => {
                    known[self.rng.index(known.len())].clone()
                }
                _ => self.draw_filter(),
            };
            let options = self.draw_options(&filter, is_v5);
            filters.push((filter, options));
        }
        let id = (is_v5 && self.rng.percent(60))
            .then(|| SubscriptionId::new(self.rng.between(1, 60) as u32))
            .flatten();
        let now = self.tick();
        let sent = self.clients[number].subscribe(now, &filters, id);
        self.trace.note(&[23, number as u64, u64::from(sent)], || {
            format!("c{number} subscribes {filters:?} {id:?}: {sent}")
        });
    }

    /// A client subscribes to a lot at once, and leaves some of it again.
    fn storm(&mut self, number: usize) {
        for _ in 0..self.rng.between(5, 20) {
            if self.rng.percent(25) {
                self.draw_unsubscribe(number);
            } else {
                self.draw_subscribe(number, STORM_FILTERS);
            }
        }
    }

    fn draw_unsubscribe(&mut self, number: usize) {
        let known = &self.clients[number].filters;
        let filter = if known.is_empty() || self.rng.percent(5) {
            "never/subscribed".to_owned()
        } else {
            known[self.rng.index(known.len())].clone()
        };
        let now = self.tick();
        let sent = self.clients[number].unsubscribe(now, &filter);
        self.trace.note(&[24, number as u64, u64::from(sent)], || {
            format!("c{number} unsubscribes {filter}: {sent}")
        });
    }

    fn draw_disconnect(&mut self, number: usize) {
        let mut disconnect = Disconnect::default();
        if self.plan.clients[number].version.is_v5() {
            if self.rng.percent(40) {
                disconnect.reason = ReasonCode::DisconnectWithWill;
            }
            // Raising it from 0 is a protocol error [U5-082].
            if self.rng.percent(30) && self.clients[number].keeps_session() {
                disconnect.session_expiry_secs = Some(self.rng.pick(&[0, 1, 15, u32::MAX]));
            }
        }
        let text = format!("c{number} says {disconnect:?}");
        let sent = self.clients[number].disconnect(disconnect);
        self.trace
            .note(&[25, number as u64, u64::from(sent)], || text);
    }
}

/// A name of this crate's own making.
pub(crate) fn topic_name(topic: &str) -> TopicNameBuf {
    TopicName::new(topic)
        .expect("the simulation's topics are valid")
        .to_owned()
}

/// The most filters of one SUBSCRIBE.
const USUAL_FILTERS: u64 = 3;
const STORM_FILTERS: u64 = 8;

/// Topics that storms of subscriptions are about.
const STORM_TOPICS: u64 = 25;

/// Topics that anybody publishes to.
pub(crate) const TOPICS: [&str; 9] = [
    "t/a", "t/b", "t/a/b", "t", "x", "s/a", "s/b", "s/a/b", "$d/x",
];

const FILTERS: [&str; 15] = [
    "t/#", "t/+", "t/a", "t/b", "+/a", "#", "t/+/b", "x", "s/#", "r/#", "r/+", "w/#", "w/+",
    "$d/#", "deny/#",
];

const SHARED_FILTERS: [&str; 5] = [
    "$share/g1/s/#",
    "$share/g2/s/+",
    "$share/g1/s/a",
    "$share/g1/t/a",
    "$share/g3/#",
];
