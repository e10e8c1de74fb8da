//! Clients with wills, most of which never return.

use std::time::{Duration, Instant};

use whimbrel_codec::{Connect, MessageProperties, ProtocolVersion, QoS, Will};

use crate::account::Violation;
use crate::link::{Link, LinkError};
use crate::message::{self, MessageName};
use crate::publisher::{Env, topic};
use crate::rng::Rng;
use crate::subscriber::{Catalogue, Listed, Subscriber};

/// All clients with wills of a run.
#[derive(Debug)]
pub(crate) struct WillClients {
    clients: Vec<WillClient>,
    qos: QoS,
    rng: Rng,
}

#[derive(Debug)]
struct WillClient {
    client_id: String,
    version: ProtocolVersion,
    name: MessageName,
    fate: Fate,
    delay_secs: u32,
    expiry_secs: u32,
    link: Option<Link>,
    /// The last moment at which it was certainly connected.
    last_seen: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its will is due.
    NeverReturns,
    /// It is back before its will is due, after every start.
    Returns,
    /// It sends DISCONNECT at once.
    Leaves,
    /// The broker died so soon after its DISCONNECT, which nobody acknowledges, that it may not know of it.
    Unclear,
}

impl WillClients {
    pub(crate) fn new(qos: QoS, rng: Rng) -> Self {
        Self {
            clients: Vec::new(),
            qos,
            rng,
        }
    }

    /// Connects new clients, as many as there are fates.
    pub(crate) fn connect_some(&mut self, env: &Env<'_>, catalogue: &mut Catalogue) {
        for fate in [Fate::NeverReturns, Fate::Leaves, Fate::Returns] {
            if fate == Fate::Returns && self.clients.len() >= RETURNING_UNTIL {
                continue;
            }
            let client = self.new_client(fate);
            let listed = Listed {
                topic: client.topic(),
                qos: self.qos,
            };
            catalogue.add_stream((client.name.publisher, client.name.stream), listed);
            self.clients.push(client);
            let client = self.clients.last_mut().expect("pushed above");
            let mut connected = client.connect(env, self.qos);
            if fate == Fate::Leaves {
                let left = client.link.take().map_or(Ok(()), Link::disconnect);
                connected = connected.and(left);
            }
            if let Err(error) = connected {
                let text = format!("{} could not connect: {error:?}", client.client_id);
                env.account.found(Violation::Refused, text);
                // Whether the broker has its will is open.
                self.clients.pop();
            }
        }
    }

    /// Some of those that are connected go before the broker dies.
    pub(crate) fn leave(&mut self) {
        for client in &mut self.clients {
            if client.link.is_some() {
                client.last_seen = Instant::now();
            }
            match client.fate {
                Fate::NeverReturns if self.rng.one_in(2) => client.link = None,
                Fate::Leaves if client.last_seen.elapsed() < KNOWN_AFTER => {
                    client.fate = Fate::Unclear;
                }
                _ => {}
            }
        }
    }

    /// The broker is dead: so are the connections.
    pub(crate) fn cut(&mut self) {
        for client in &mut self.clients {
            client.link = None;
        }
    }

    /// After a start, those who return do so at once.
    pub(crate) fn come_back(&mut self, env: &Env<'_>) {
        for client in &mut self.clients {
            if client.fate != Fate::Returns {
                continue;
            }
            if let Err(error) = client.connect(env, self.qos) {
                let text = format!("{} could not return: {error:?}", client.client_id);
                env.account.found(Violation::Refused, text);
            }
        }
    }

    /// How long after the last start all wills that are due have come.
    pub(crate) fn longest_delay(&self) -> Duration {
        let lost = self.clients.iter();
        let lost = lost.filter(|client| client.fate == Fate::NeverReturns);
        let dues = lost.map(WillClient::due_secs);
        let longest = dues.max().unwrap_or(0).max(FLOOR_SECS);
        Duration::from_secs(longest.into()) + TOLERANCE
    }

    /// Compares what came to `watcher` with what was due.
    pub(crate) fn judge(&self, env: &Env<'_>, watcher: &Subscriber) {
        let arrivals = watcher.arrivals.as_deref().unwrap_or_default();
        for client in &self.clients {
            let came = arrivals.iter().find(|arrival| arrival.name == client.name);
            let describe = || {
                format!(
                    "the will of {} (MQTT {}, delay {} s, session {} s)",
                    client.client_id, client.version, client.delay_secs, client.expiry_secs
                )
            };
            match (client.fate, came) {
                (Fate::NeverReturns, None) => {
                    let text = format!("{} did not come", describe());
                    env.account.found(Violation::Will, text);
                }
                (Fate::NeverReturns, Some(arrival)) => {
                    let due = Duration::from_secs(client.due_secs().into());
                    let after = arrival.at.saturating_duration_since(client.last_seen);
                    if after + EARLY < due {
                        let text = format!("{} came after {after:?} already", describe());
                        env.account.found(Violation::Will, text);
                    }
                }
                (Fate::Returns | Fate::Leaves, Some(_)) => {
                    let text = format!("{} came, but it {:?}", describe(), client.fate);
                    env.account.found(Violation::Will, text);
                }
                (Fate::Returns | Fate::Leaves, None) | (Fate::Unclear, _) => {}
            }
        }
    }

    fn new_client(&mut self, fate: Fate) -> WillClient {
        let number = self.clients.len() as u16;
        let versions = [
            ProtocolVersion::V5,
            ProtocolVersion::V311,
            ProtocolVersion::V31,
        ];
        // A session that ends before the delay does brings the will with its end.
        let (delay_secs, expiry_secs) =
            self.rng
                .pick(&[(0, 1_000), (2, 1_000), (7, 1_000), (60, 4)]);
        let (version, delay_secs, expiry_secs) = match (fate, self.rng.pick(&versions)) {
            // Only MQTT 5 can wait until it is back.
            (Fate::Returns, _) => (ProtocolVersion::V5, 60, 1_000),
            (_, ProtocolVersion::V5) => (ProtocolVersion::V5, delay_secs, expiry_secs),
            (_, old) => (old, 0, u32::MAX),
        };
        WillClient {
            client_id: format!("will-{number}"),
            version,
            name: MessageName {
                publisher: WILLS,
                stream: number,
                number: 0,
            },
            fate,
            delay_secs,
            expiry_secs,
            link: None,
            last_seen: Instant::now(),
        }
    }
}

impl WillClient {
    fn topic(&self) -> String {
        format!("w/{}", self.name.stream)
    }

    fn due_secs(&self) -> u32 {
        self.delay_secs.min(self.expiry_secs)
    }

    fn connect(&mut self, env: &Env<'_>, qos: QoS) -> Result<(), LinkError> {
        let mut connect = Connect::new(self.version, self.client_id.as_str());
        connect.clean_start = false;
        connect.keep_alive_secs = 0;
        connect.properties.session_expiry_secs = self.expiry_secs;
        connect.will = Some(Will {
            topic: topic(&self.topic()),
            payload: message::payload(self.name, 40).into(),
            qos,
            retain: false,
            delay_secs: self.delay_secs,
            properties: MessageProperties::new(),
        });
        let (link, _) = Link::open(env.port, &connect)?;
        self.link = Some(link);
        self.last_seen = Instant::now();
        Ok(())
    }
}

/// The publisher's number in the names of wills.
const WILLS: u16 = 9_000;
/// Clients that return are among the first only: two of them are enough.
const RETURNING_UNTIL: usize = 5;
/// What a broker may wait after its own start, so that it does not announce the death of clients that are about to return.
const FLOOR_SECS: u32 = 5;
/// A DISCONNECT is known to a broker by then, and on its disk.
const KNOWN_AFTER: Duration = Duration::from_millis(500);
/// What timers of a second and a busy machine may add.
const TOLERANCE: Duration = Duration::from_secs(3);
/// What the clocks of two processes may differ in what they call the end of a connection.
const EARLY: Duration = Duration::from_millis(500);
