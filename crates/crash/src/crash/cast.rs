//! [`Cast`]: who takes part in a run.

use std::num::NonZeroU16;

use whimbrel_codec::{ProtocolVersion, QoS};

use super::expiry::{ExpiringMessages, ExpiringSessions};
use super::probe::SubscriptionProbe;
use super::wills::WillClients;
use super::{CrashPlan, QosMix};
use crate::publisher::{Publisher, Sizes, Stream};
use crate::rng::Rng;
use crate::subscriber::{Catalogue, Subscriber};

/// All clients of a run, whose state outlives the broker.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) catalogue: Catalogue,
    pub(crate) publishers: Vec<Publisher>,
    /// Each the only one who writes its retained topics.
    pub(crate) writers: Vec<Publisher>,
    pub(crate) online: Vec<Subscriber>,
    pub(crate) offline: Vec<Subscriber>,
    /// The members of one shared subscription.
    pub(crate) team: Vec<Subscriber>,
    pub(crate) will_watcher: Subscriber,
    pub(crate) wills: WillClients,
    pub(crate) sessions: ExpiringSessions,
    pub(crate) expiry_reader: Subscriber,
    pub(crate) messages: ExpiringMessages,
    pub(crate) probe: SubscriptionProbe,
}

impl Cast {
    pub(crate) fn new(plan: &CrashPlan) -> Self {
        // Not the run's own generator, so that who takes part does not change what happens.
        let mut rng = Rng::new(plan.seed ^ 0xCA57);
        let (first, second) = match plan.qos {
            QosMix::AtLeastOnce => (QoS::AtLeastOnce, QoS::AtLeastOnce),
            QosMix::ExactlyOnce => (QoS::ExactlyOnce, QoS::ExactlyOnce),
            QosMix::Both => (QoS::AtLeastOnce, QoS::ExactlyOnce),
        };
        let sizes = Sizes::Mixed(plan.payload_max);
        let mut publishers = Vec::new();
        for (number, version) in (0..PUBLISHERS).zip(VERSIONS.into_iter().cycle()) {
            let streams = vec![
                Stream::new(format!("d/{number}/a"), first),
                Stream::new(format!("d/{number}/b"), second),
                Stream::new(format!("{TEAM_TOPICS}{number}"), second),
                Stream::new(format!("d/{number}/unreliable"), QoS::AtMostOnce),
            ];
            publishers.push(Publisher::new(number, version, streams, sizes, rng.fork()));
        }
        let mut writers = Vec::new();
        for (number, version) in (WRITERS_FROM..).zip(VERSIONS) {
            let topics = 0..RETAINED_PER_WRITER;
            let streams = topics.map(|topic| {
                let qos = if topic % 2 == 0 { first } else { second };
                Stream::retained(format!("r/{number}/{topic}"), qos)
            });
            let sizes = Sizes::Mixed(4_096);
            let streams = streams.collect();
            writers.push(Publisher::new(number, version, streams, sizes, rng.fork()));
        }
        let mut catalogue = Catalogue::default();
        for publisher in publishers.iter().chain(&writers) {
            catalogue.add(publisher);
        }
        let mut subscriber = |client_id: &str, version, filter: &str, qos| {
            Subscriber::new(client_id, version, filter, qos, rng.fork())
        };
        let online = if plan.online {
            let narrow = NonZeroU16::new(5).expect("not 0");
            vec![
                subscriber("online-5", ProtocolVersion::V5, "d/#", QoS::ExactlyOnce),
                subscriber("online-311", ProtocolVersion::V311, "d/#", QoS::ExactlyOnce),
                subscriber("online-31", ProtocolVersion::V31, "d/#", QoS::ExactlyOnce),
                subscriber("online-qos1", ProtocolVersion::V5, "d/#", QoS::AtLeastOnce)
                    .with_receive_maximum(narrow),
            ]
        } else {
            Vec::new()
        };
        let offline = if plan.offline {
            vec![
                subscriber("offline-5", ProtocolVersion::V5, "d/#", QoS::ExactlyOnce),
                subscriber(
                    "offline-311",
                    ProtocolVersion::V311,
                    "d/#",
                    QoS::ExactlyOnce,
                ),
                subscriber("offline-31", ProtocolVersion::V31, "d/#", QoS::AtLeastOnce),
            ]
        } else {
            Vec::new()
        };
        let members = 0..TEAM_MEMBERS;
        let team = members.map(|number| {
            subscriber(
                &format!("team-{number}"),
                ProtocolVersion::V5,
                "$share/team/s/#",
                QoS::ExactlyOnce,
            )
            .with_arrivals()
        });
        let team = team.collect();
        let will_watcher = subscriber("will-watcher", ProtocolVersion::V5, "w/#", QoS::ExactlyOnce);
        let expiry_reader = subscriber(
            "expiry-reader",
            ProtocolVersion::V5,
            "x/#",
            QoS::ExactlyOnce,
        );
        Self {
            catalogue,
            publishers,
            writers,
            online,
            offline,
            team,
            will_watcher: will_watcher.with_arrivals(),
            wills: WillClients::new(second, rng.fork()),
            sessions: ExpiringSessions::new(rng.fork()),
            expiry_reader: expiry_reader.with_arrivals(),
            messages: ExpiringMessages::default(),
            probe: SubscriptionProbe::new(rng.fork()),
        }
    }
}

/// What the topics of the shared subscription begin with.
pub(crate) const TEAM_TOPICS: &str = "s/";

const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V5,
    ProtocolVersion::V311,
    ProtocolVersion::V31,
];
const PUBLISHERS: u16 = 5;
const WRITERS_FROM: u16 = 100;
const RETAINED_PER_WRITER: u16 = 6;
const TEAM_MEMBERS: u16 = 3;
