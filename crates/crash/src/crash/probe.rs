//! [`SubscriptionProbe`]: a session whose subscriptions change in every round.

use std::collections::BTreeSet;
use std::time::Instant;

use whimbrel_codec::{
    Ack, Connect, MessageProperties, Packet, PacketId, ProtocolVersion, QoS, SubscriptionOptions,
};

use crate::account::Violation;
use crate::link::{self, Link, LinkError, POLL};
use crate::message::{self, MessageName};
use crate::publisher::{Env, publish_once};
use crate::rng::Rng;

/// After each start, a message to every topic it ever subscribed to tells which of its subscriptions are there.
#[derive(Debug)]
pub(crate) struct SubscriptionProbe {
    states: Vec<State>,
    questions: u32,
    rng: Rng,
}

/// What the broker has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Subscribed,
    Unsubscribed,
    /// A request was not answered.
    Open,
}

impl SubscriptionProbe {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            states: Vec::new(),
            questions: 0,
            rng,
        }
    }

    /// Subscribes to topics that are new and unsubscribes from one that is not, until the broker is dead.
    pub(crate) fn run(&mut self, env: &Env<'_>) {
        let changed = self.change_until_dead(env);
        if let Err(error) = changed
            && !env.is_dead()
        {
            let text = format!("{CLIENT_ID} was cut off: {error:?}");
            env.account.found(Violation::Refused, text);
        }
    }

    fn change_until_dead(&mut self, env: &Env<'_>) -> Result<(), LinkError> {
        let (mut link, _) = Link::open(env.port, &connect())?;
        while !env.is_dead() {
            if self.states.len() >= SUBSCRIPTIONS_MAX {
                link.fill(POLL)?;
                continue;
            }
            let subscribed = self.states.iter().enumerate();
            let subscribed = subscribed.filter(|(_, state)| **state == State::Subscribed);
            let subscribed: Vec<usize> = subscribed.map(|(number, _)| number).collect();
            let is_removal = subscribed.len() > 3 && self.rng.one_in(3);
            let (number, request, outcome) = if is_removal {
                let number = self.rng.pick(&subscribed);
                let packet = link::unsubscribe_packet(PacketId::MIN, &topic(number));
                (number, packet, State::Unsubscribed)
            } else {
                let number = self.states.len();
                self.states.push(State::Open);
                let filter = (topic(number), SubscriptionOptions::new(QoS::AtLeastOnce));
                let packet = link::subscribe_packet(PacketId::MIN, [filter]);
                (number, packet, State::Subscribed)
            };
            self.states[number] = State::Open;
            link.put(&request);
            link.flush()?;
            loop {
                match link.answer()? {
                    Packet::SubAck(_) | Packet::UnsubAck(_) => break,
                    // What the broker sends again of the last question.
                    Packet::Publish(publish) => {
                        let id = publish.packet_id().unwrap_or(PacketId::MIN);
                        link.put(&Packet::PubAck(Ack::success(id)));
                        link.flush()?;
                    }
                    other => {
                        return Err(LinkError::Unexpected(format!("{:?}", other.packet_type())));
                    }
                }
            }
            self.states[number] = outcome;
        }
        Ok(())
    }

    /// Asks, and compares.
    pub(crate) fn check(&mut self, env: &Env<'_>) -> Result<(), LinkError> {
        if self.states.is_empty() {
            return Ok(());
        }
        let (mut link, connack) = Link::open(env.port, &connect())?;
        if !connack.session_present && self.states.contains(&State::Subscribed) {
            let text = format!("the session of {CLIENT_ID} is gone");
            env.account.found(Violation::SessionPresent, text);
        }
        self.questions += 1;
        // The end comes last, as all are of one publisher; its topic is one that is certainly subscribed to.
        let end = topic(END);
        let filter = (end.clone(), SubscriptionOptions::new(QoS::AtLeastOnce));
        link.put(&link::subscribe_packet(PacketId::MIN, [filter]));
        link.flush()?;
        while !matches!(link.answer()?, Packet::SubAck(_)) {}
        let numbers = (0..self.states.len()).chain([END]);
        let question = self.questions;
        let messages = numbers.map(|number| {
            let payload = message::payload(name(number, question), 16);
            (topic(number), payload, MessageProperties::new())
        });
        publish_once(env.port, "subscription-asker", messages)?;
        let mut came = BTreeSet::new();
        let begin = Instant::now();
        while !came.contains(&END) {
            if begin.elapsed() > link::ANSWER_TIMEOUT {
                return Err(LinkError::Silent(link::ANSWER_TIMEOUT));
            }
            let Packet::Publish(publish) = link.answer()? else {
                continue;
            };
            let id = publish.packet_id().unwrap_or(PacketId::MIN);
            link.put(&Packet::PubAck(Ack::success(id)));
            link.flush()?;
            // Those of an earlier question may still be in flight.
            let read = message::read(publish.payload());
            if let Some(name) = read.filter(|name| name.number == self.questions) {
                came.insert(usize::from(name.stream));
            }
        }
        link.disconnect()?;
        for (number, state) in self.states.iter().enumerate() {
            let is_wrong = match state {
                State::Subscribed => !came.contains(&number),
                State::Unsubscribed => came.contains(&number),
                State::Open => false,
            };
            if is_wrong {
                let text = format!("{}, last acknowledged as {state:?}", topic(number));
                env.account.found(Violation::Subscription, text);
            }
        }
        Ok(())
    }
}

fn connect() -> Connect {
    let mut connect = Connect::new(ProtocolVersion::V311, CLIENT_ID);
    connect.clean_start = false;
    connect.keep_alive_secs = 0;
    connect
}

fn topic(number: usize) -> String {
    format!("p/{number}")
}

fn name(number: usize, question: u32) -> MessageName {
    MessageName {
        publisher: 9_002,
        stream: number as u16,
        number: question,
    }
}

const CLIENT_ID: &str = "subscription-probe";
/// The topic whose message ends a question.
const END: usize = 60_000;
/// Enough to see a loss, few enough to ask about all after each start.
const SUBSCRIPTIONS_MAX: usize = 400;
