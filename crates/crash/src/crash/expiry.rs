//! Sessions and messages that expire by wall clock, also while the broker is dead.

use std::time::{Duration, Instant};

use whimbrel_codec::{Connect, MessageProperties, ProtocolVersion, QoS};

use crate::account::Violation;
use crate::link::{Link, LinkError};
use crate::message::{self, MessageName};
use crate::publisher::{Env, publish_once};
use crate::rng::Rng;
use crate::standing::{Presence, Standing};
use crate::subscriber::{Catalogue, Listed, Subscriber};

/// Sessions that end some time after their connection.
#[derive(Debug)]
pub(crate) struct ExpiringSessions {
    sessions: Vec<ExpiringSession>,
    rng: Rng,
}

#[derive(Debug)]
struct ExpiringSession {
    client_id: String,
    expiry_secs: u32,
    standing: Standing,
    link: Option<Link>,
}

impl ExpiringSessions {
    pub(crate) fn new(rng: Rng) -> Self {
        let sessions = [3, 6, 6, 10, 10_000].into_iter().zip(0..);
        let sessions = sessions.map(|(expiry_secs, number)| ExpiringSession {
            client_id: format!("expiring-{number}"),
            expiry_secs,
            standing: Standing::new(Some(Duration::from_secs(expiry_secs.into()))),
            link: None,
        });
        Self {
            sessions: sessions.collect(),
            rng,
        }
    }

    /// Some of those that are away return and look whether their session is there; some of those leave at once.
    pub(crate) fn visit(&mut self, env: &Env<'_>) {
        for session in &mut self.sessions {
            if session.link.is_some() || !self.rng.one_in(4) {
                continue;
            }
            let stays = self.rng.one_in(2);
            if let Err(error) = session.visit(env, stays) {
                let text = format!("{} was cut off: {error:?}", session.client_id);
                env.account.found(Violation::Refused, text);
            }
        }
    }

    /// The broker is about to be killed.
    pub(crate) fn seen(&mut self) {
        for session in &mut self.sessions {
            if session.link.is_some() {
                session.standing.seen();
            }
        }
    }

    /// It has started again: who was connected until its death counts as gone since now.
    pub(crate) fn started(&mut self) {
        for session in &mut self.sessions {
            if session.link.take().is_some() {
                session.standing.gone();
            }
        }
    }
}

impl ExpiringSession {
    fn visit(&mut self, env: &Env<'_>, stays: bool) -> Result<(), LinkError> {
        let expected = self.standing.presence();
        let mut connect = Connect::new(ProtocolVersion::V5, self.client_id.as_str());
        connect.clean_start = false;
        connect.keep_alive_secs = 0;
        connect.properties.session_expiry_secs = self.expiry_secs;
        let (link, connack) = Link::open(env.port, &connect)?;
        let is_wrong = match expected {
            Presence::Present => !connack.session_present,
            Presence::Absent => connack.session_present,
            Presence::Open => false,
        };
        if is_wrong {
            let text = format!(
                "{}, expiry {} s: Session Present is {} where the session is {expected:?}: {:?}",
                self.client_id, self.expiry_secs, connack.session_present, self.standing
            );
            env.account.found(Violation::SessionPresent, text);
        }
        self.standing.connected();
        if stays {
            self.link = Some(link);
            return Ok(());
        }
        link.disconnect()?;
        self.standing.gone();
        Ok(())
    }
}

/// Messages with an expiry, for a subscriber that is away until the end.
#[derive(Debug, Default)]
pub(crate) struct ExpiringMessages {
    sent: Vec<ExpiringMessage>,
}

#[derive(Clone, Copy, Debug)]
struct ExpiringMessage {
    name: MessageName,
    before: Instant,
    after: Instant,
    expiry_secs: u32,
}

impl ExpiringMessages {
    /// Publishes one that expires soon and one that does not.
    pub(crate) fn publish(
        &mut self,
        env: &Env<'_>,
        catalogue: &mut Catalogue,
    ) -> Result<(), LinkError> {
        for expiry_secs in [SOON_SECS, LATE_SECS] {
            let number = self.sent.len() as u16;
            let name = MessageName {
                publisher: EXPIRING,
                stream: number,
                number: 0,
            };
            let topic = format!("x/{number}");
            let listed = Listed {
                topic: topic.clone(),
                qos: QoS::AtLeastOnce,
            };
            catalogue.add_stream((EXPIRING, number), listed);
            let properties = MessageProperties::builder().message_expiry_secs(expiry_secs);
            let properties = properties.build().expect("a number has a form");
            let before = Instant::now();
            publish_once(
                env.port,
                "expiring-publisher",
                [(topic, message::payload(name, 32), properties)],
            )?;
            self.sent.push(ExpiringMessage {
                name,
                before,
                after: Instant::now(),
                expiry_secs,
            });
        }
        Ok(())
    }

    /// Compares what came with what was still valid.
    pub(crate) fn judge(&self, env: &Env<'_>, reader: &Subscriber) {
        let arrivals = reader.arrivals.as_deref().unwrap_or_default();
        for sent in &self.sent {
            let arrival = arrivals.iter().find(|arrival| arrival.name == sent.name);
            let Some(arrival) = arrival else {
                if sent.expiry_secs == LATE_SECS {
                    let text = format!("{}, which lasts {LATE_SECS} s, is lost", sent.name);
                    env.account.found(Violation::Lost, text);
                }
                continue;
            };
            let expiry = Duration::from_secs(sent.expiry_secs.into());
            let age_min = arrival.at.saturating_duration_since(sent.after);
            let age_max = arrival.at.saturating_duration_since(sent.before);
            if age_min > expiry + TOLERANCE {
                let text = format!("{} came {:?} late", sent.name, age_min - expiry);
                env.account.found(Violation::Expiry, text);
                continue;
            }
            // [MQTT-3.3.2-6]
            let left = arrival
                .expiry_secs
                .map(|secs| Duration::from_secs(secs.into()));
            let is_right = left.is_some_and(|left| {
                left <= expiry.saturating_sub(age_min) + TOLERANCE
                    && left + TOLERANCE >= expiry.saturating_sub(age_max)
            });
            if !is_right {
                let text = format!(
                    "{} of {expiry:?} came after {age_min:?} and said {left:?} were left",
                    sent.name
                );
                env.account.found(Violation::Expiry, text);
            }
        }
    }
}

/// The publisher's number in the names of these messages.
const EXPIRING: u16 = 9_001;
const SOON_SECS: u32 = 2;
const LATE_SECS: u32 = 3_600;
/// Two roundings to whole seconds.
const TOLERANCE: Duration = Duration::from_millis(2_100);
