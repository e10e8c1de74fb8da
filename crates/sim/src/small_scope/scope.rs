//! [`Scope`]: what is explored, by name.

use whimbrel_broker_core::session::codec::ProtocolVersion::{self, V5, V311};
use whimbrel_broker_core::session::codec::QoS::{self, AtLeastOnce, ExactlyOnce};

use super::explore::{Exploration, Violation, explore, shortest};
use super::pair::{PairScope, PairWorld};
use super::world::{BrokerScope, BrokerWorld, Faults};

/// A world small enough that all its states can be looked at.
#[derive(Clone, Debug)]
pub struct Scope {
    name: String,
    shape: Shape,
    plant: Option<Plant>,
}

#[derive(Clone, Debug)]
enum Shape {
    Broker(BrokerScope),
    Pair(PairScope),
}

/// Which scopes are explored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// With every change: less than a minute.
    Change,
    /// Those and larger ones: minutes.
    Full,
}

/// A fault of the surroundings that no correct session or broker can make up for: exploring it
/// has to find something, or the exploration looks at nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plant {
    /// A link brings the last PUBLISH of the connection before once more, after the CONNECT.
    LinkRepeatsPublish,
    /// A receiver that loses its connection gives up messages that it was shown and has kept.
    ForgetfulReceiver,
    /// The subscriber never acknowledges.
    ForgottenAcknowledgement,
    /// What the subscriber's shard says to the publisher's is lost.
    LostHop,
    /// Two messages from one shard to another change places.
    SwappedHops,
}

impl Scope {
    /// The scopes of a suite.
    #[must_use]
    pub fn suite(suite: Suite) -> Vec<Self> {
        let mut scopes = change();
        if suite == Suite::Full {
            scopes.append(&mut more());
        }
        scopes
    }

    /// Every scope there is, those that are too large for a suite at the end.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut scopes = Self::suite(Suite::Full);
        scopes.append(&mut large());
        scopes
    }

    /// The scope with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|scope| scope.name == name)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same with a planted fault.
    #[must_use]
    pub fn planted(mut self, plant: Plant) -> Self {
        self.plant = Some(plant);
        self
    }

    /// Explores it.
    #[must_use]
    pub fn explore(&self) -> Exploration {
        match self.shape {
            Shape::Broker(scope) => explore(|| BrokerWorld::begin(scope, self.plant)),
            Shape::Pair(scope) => explore(|| PairWorld::begin(scope, self.plant)),
        }
    }

    /// The shortest way to a broken rule, if one is found in reasonable time.
    #[must_use]
    pub fn shortest_violation(&self) -> Option<Violation> {
        match self.shape {
            Shape::Broker(scope) => shortest(|| BrokerWorld::begin(scope, self.plant)),
            Shape::Pair(scope) => shortest(|| PairWorld::begin(scope, self.plant)),
        }
    }

    fn broker(name: &str, scope: BrokerScope) -> Self {
        Self {
            name: name.to_owned(),
            shape: Shape::Broker(scope),
            plant: None,
        }
    }

    fn pair(name: &str, scope: PairScope) -> Self {
        Self {
            name: name.to_owned(),
            shape: Shape::Pair(scope),
            plant: None,
        }
    }
}

/// What is explored with every change.
fn change() -> Vec<Scope> {
    vec![
        Scope::pair("pair-qos1-v311", pair(V311, QOS1, QOS1).cut()),
        Scope::pair("pair-qos2-v311", pair(V311, QOS2, QOS2).window(1).losses(1)),
        Scope::pair("pair-qos2-v5", pair(V5, QOS2, QOS2).window(1).cut()),
        Scope::pair("pair-mixed-v5", pair(V5, MIXED, REVERSED).window(1).cut()),
        Scope::broker("qos1-v5", broker(V5, QOS1).losses(2).window(1).slow()),
        Scope::broker(
            "impatient-qos1-v311-shards",
            broker(V311, QOS1).shards().impatient().losses(1).window(1),
        ),
        Scope::broker(
            "impatient-mixed-v311",
            broker(V311, MIXED).impatient().losses(1).window(1),
        ),
        Scope::broker("qos1-v311", broker(V311, QOS1).losses(1).slow()),
        Scope::broker("qos1-v5-shards", broker(V5, QOS1).shards().losses(1).slow()),
        Scope::broker("qos2-v5", broker(V5, QOS2).losses(1)),
        Scope::broker(
            "qos2-v311-shards",
            broker(V311, QOS2).shards().losses(1).window(1),
        ),
        Scope::broker("mixed-v5-shards", broker(V5, MIXED).shards().losses(1)),
        Scope::broker(
            "reversed-v311-shards",
            broker(V311, REVERSED).shards().losses(1).window(1),
        ),
        Scope::broker(
            "narrow-qos1-v5-shards",
            broker(V5, QOS1).shards().narrow().losses(1),
        ),
        Scope::broker("takeover-qos1-v311", broker(V311, QOS1).half(1).slow()),
        Scope::broker("takeover-qos2-v5", broker(V5, QOS2).half(1).window(1)),
        Scope::broker("crash-qos2-v5", broker(V5, QOS2).crashes(1)),
        Scope::broker(
            "crash-qos1-v311-shards",
            broker(V311, QOS1).shards().narrow().crashes(1).slow(),
        ),
    ]
}

/// What is explored besides when there is time.
fn more() -> Vec<Scope> {
    vec![
        Scope::pair("pair-qos2-v311-wide", pair(V311, QOS2, QOS2)),
        Scope::pair("pair-mixed-v5-wide", pair(V5, MIXED, REVERSED).cut()),
        Scope::pair(
            "pair-qos2-v5-losses",
            pair(V5, QOS2, QOS2).window(1).losses(3),
        ),
        Scope::broker("qos1-v5-losses", broker(V5, QOS1).losses(2).slow()),
        Scope::broker(
            "qos1-v5-shards-losses",
            broker(V5, QOS1).shards().losses(2).window(1).slow(),
        ),
        Scope::broker("qos2-v5-slow", broker(V5, QOS2).losses(1).slow()),
        Scope::broker(
            "qos2-v5-losses",
            broker(V5, QOS2).losses(2).window(1).slow(),
        ),
        Scope::broker("qos2-v5-shards", broker(V5, QOS2).shards().losses(1)),
        Scope::broker(
            "qos2-v311-shards-losses",
            broker(V311, QOS2).shards().losses(2).window(1),
        ),
        Scope::broker(
            "qos2-v311-to-v5-shards",
            broker(V311, QOS2)
                .to(V5)
                .shards()
                .losses(1)
                .window(1)
                .slow(),
        ),
        Scope::broker(
            "qos2-v5-to-v311-shards",
            broker(V5, QOS2)
                .to(V311)
                .shards()
                .losses(1)
                .window(1)
                .slow(),
        ),
        Scope::broker(
            "narrow-qos2-v5-shards",
            broker(V5, QOS2).shards().narrow().losses(1).window(1),
        ),
        Scope::broker(
            "reversed-v5-shards",
            broker(V5, REVERSED).shards().losses(1).slow(),
        ),
        Scope::broker("takeover-qos2-v5-wide", broker(V5, QOS2).half(1)),
        Scope::broker(
            "takeover-mixed-v5-shards",
            broker(V5, MIXED).shards().half(1).losses(1).window(1),
        ),
        Scope::broker(
            "crash-losses-qos1-v5-shards",
            broker(V5, QOS1).shards().crashes(1).losses(1),
        ),
        Scope::broker(
            "crash-losses-mixed-v5-shards",
            broker(V5, MIXED).shards().crashes(1).losses(1),
        ),
    ]
}

/// What takes minutes each.
fn large() -> Vec<Scope> {
    vec![
        Scope::pair("pair-qos2-v5-wide", pair(V5, QOS2, QOS2).cut()),
        Scope::broker(
            "qos1-v5-shards-losses-wide",
            broker(V5, QOS1).shards().losses(2),
        ),
        Scope::broker(
            "qos2-v5-shards-slow",
            broker(V5, QOS2).shards().losses(1).slow(),
        ),
    ]
}

/// Two clients and a broker with a journal, one shard, room for both messages, no faults.
fn broker(version: ProtocolVersion, qos: &'static [QoS]) -> BrokerScope {
    BrokerScope {
        shards: 1,
        publisher_version: version,
        subscriber_version: version,
        qos,
        window: 2,
        impatient_publisher: false,
        slow_applications: false,
        narrow_shards: false,
        faults: Faults::default(),
    }
}

impl BrokerScope {
    /// A shard for each client.
    fn shards(mut self) -> Self {
        self.shards = 2;
        self
    }

    fn narrow(mut self) -> Self {
        self.narrow_shards = true;
        self
    }

    fn impatient(mut self) -> Self {
        self.impatient_publisher = true;
        self
    }

    fn slow(mut self) -> Self {
        self.slow_applications = true;
        self
    }

    fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// The subscriber speaks another version.
    fn to(mut self, version: ProtocolVersion) -> Self {
        self.subscriber_version = version;
        self
    }

    fn losses(mut self, losses: u8) -> Self {
        self.faults.losses = losses;
        self
    }

    fn half(mut self, losses: u8) -> Self {
        self.faults.half_losses = losses;
        self
    }

    fn crashes(mut self, crashes: u8) -> Self {
        self.faults.crashes = crashes;
        self
    }
}

/// Two messages each way, room for both, two losses.
fn pair(version: ProtocolVersion, up: &'static [QoS], down: &'static [QoS]) -> PairScope {
    PairScope {
        version,
        up,
        down,
        window: 2,
        cuts: false,
        losses: 2,
    }
}

impl PairScope {
    fn cut(mut self) -> Self {
        self.cuts = true;
        self
    }

    fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    fn losses(mut self, losses: u8) -> Self {
        self.losses = losses;
        self
    }
}

const QOS1: &[QoS] = &[AtLeastOnce, AtLeastOnce];
const QOS2: &[QoS] = &[ExactlyOnce, ExactlyOnce];
const MIXED: &[QoS] = &[AtLeastOnce, ExactlyOnce];
const REVERSED: &[QoS] = &[ExactlyOnce, AtLeastOnce];
