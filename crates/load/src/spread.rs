//! [`Spread`]: where each message goes when each is for one of many clients.

use std::fmt::Write;

/// Many topics, each of which belongs to one client and is published to by one publisher.
///
/// A publisher sends to each of its topics once, in an order in which neighbours are far apart, and then to each of
/// them again. So the sequence number of a message tells its topic, and each topic's messages are numbered by rounds
/// without a gap: that is how loss, repeats and wrong order are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    clients: u32,
    /// Topics of each client.
    each: u32,
    publishers: u32,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) client: u32,
    /// Rank among the topics of this client.
    pub(crate) place: u32,
    /// Rank of the message among those of its topic.
    pub(crate) round: u32,
}

impl Spread {
    /// So many topics of so many clients. Invariant, which the options are checked for: there are as many topics as
    /// publishers at least, and none of the numbers is 0.
    pub(crate) fn new(clients: u32, each: u32, publishers: u32) -> Self {
        Self {
            clients,
            each,
            publishers,
        }
    }

    /// All topics together.
    pub(crate) fn topics(&self) -> u32 {
        self.clients.saturating_mul(self.each)
    }

    /// Topics of each client.
    pub(crate) fn each(&self) -> u32 {
        self.each
    }

    /// Topics of a publisher, which are as many messages as there are between two to one topic. 0 for a publisher that is
    /// none.
    pub(crate) fn turn(&self, publisher: u32) -> u32 {
        if publisher >= self.publishers {
            return 0;
        }
        self.topics()
            .saturating_sub(publisher)
            .div_ceil(self.publishers)
    }

    /// Where a message goes; `None` for a publisher that is none.
    pub(crate) fn target(&self, publisher: u32, sequence: u32) -> Option<Target> {
        let turn = self.turn(publisher);
        let (round, rank) = (sequence.checked_div(turn)?, sequence.checked_rem(turn)?);
        let scattered = u64::from(rank) * SCATTER % u64::from(turn);
        let topic = u64::from(publisher) + scattered * u64::from(self.publishers);
        let topic = u32::try_from(topic).ok()?;
        Some(Target {
            client: topic / self.each,
            place: topic % self.each,
            round,
        })
    }

    /// Puts the name of a topic into `name`.
    pub(crate) fn name_topic(base: &str, target: Target, name: &mut String) {
        let Target { client, place, .. } = target;
        name.clear();
        write!(name, "{base}/x/{client}/{place}/v").expect("a string takes all");
    }

    /// Whether this is the name of a target's topic.
    pub(crate) fn is_named(base: &str, target: Target, topic: &str) -> bool {
        let read = || {
            let rest = topic.strip_prefix(base)?.strip_prefix("/x/")?;
            let (client, rest) = rest.split_once('/')?;
            let place = rest.strip_suffix("/v")?;
            Some((client.parse().ok()?, place.parse().ok()?))
        };
        read() == Some((target.client, target.place))
    }

    /// A filter with wildcards that matches the topic of this place of `owner`, a client's number, and no other.
    pub(crate) fn wildcard(base: &str, owner: &str, place: u32) -> String {
        match place % 3 {
            0 => format!("{base}/x/{owner}/{place}/+"),
            1 => format!("{base}/x/{owner}/{place}/#"),
            _ => format!("{base}/+/{owner}/{place}/v"),
        }
    }
}

/// A prime that is larger than any number of topics, so that its multiples meet each of them: 2³² by the golden ratio
/// (Knuth, "The Art of Computer Programming" 3, 6.4).
const SCATTER: u64 = 2_654_435_761;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_round_meets_each_topic_once_and_by_its_own_publisher(
            clients in 1..20_u32,
            each in 1..20_u32,
            publishers in 1..10_u32,
        ) {
            prop_assume!(clients * each >= publishers);
            let spread = Spread::new(clients, each, publishers);
            for round in 0..3 {
                let mut met = BTreeSet::new();
                for publisher in 0..publishers {
                    let turn = spread.turn(publisher);
                    prop_assert!(turn > 0);
                    for sequence in round * turn..(round + 1) * turn {
                        let target = spread.target(publisher, sequence).expect("a publisher");
                        prop_assert_eq!(target.round, round);
                        prop_assert!(target.client < clients && target.place < each);
                        prop_assert!(met.insert((target.client, target.place)));
                    }
                }
                prop_assert_eq!(met.len(), (clients * each) as usize);
            }
            prop_assert_eq!(spread.target(publishers, 0), None);
        }
    }

    #[test]
    fn neighbours_are_far_apart() {
        let spread = Spread::new(100, 1_000, 4);
        let clients: BTreeSet<_> = (0..50)
            .filter_map(|sequence| Some(spread.target(1, sequence)?.client))
            .collect();
        assert!(clients.len() > 40, "{clients:?}");
    }

    #[test]
    fn a_topic_is_known_by_its_name_alone() {
        let target = Target {
            client: 3,
            place: 17,
            round: 0,
        };
        let mut name = "before".to_owned();
        Spread::name_topic("b/1", target, &mut name);
        assert_eq!(name, "b/1/x/3/17/v");
        assert!(Spread::is_named("b/1", target, &name));
        for other in [
            "b/1/x/3/18/v",
            "b/2/x/3/17/v",
            "b/1/x/3/17",
            "b/1/x/3/v",
            "",
        ] {
            assert!(!Spread::is_named("b/1", target, other), "{other}");
        }
    }

    #[test]
    fn filters_are_a_third_of_each_shape() {
        let filters: Vec<_> = (0..3)
            .map(|place| Spread::wildcard("b", "9", place))
            .collect();
        assert_eq!(filters, ["b/x/9/0/+", "b/x/9/1/#", "b/+/9/2/v"]);
    }
}
