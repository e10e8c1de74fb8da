//! [`Findings`]: what was wrong with what came, and with what did not.

use serde::Serialize;

/// What was wrong, counted; with the first few cases in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Findings {
    /// Deliveries that never came. A message for ten subscribers that reached nine counts once.
    pub lost: u64,
    /// Deliveries that came again. No client of a run reconnects, so at no QoS is there an excuse for one.
    pub duplicates: u64,
    /// Deliveries that a later message of the same publisher had overtaken, at one subscriber.
    pub out_of_order: u64,
    /// Messages whose checksum or length was wrong.
    pub corrupt: u64,
    /// Messages that were not meant for who got them, or came on another topic.
    pub strays: u64,
    /// Messages that came at another QoS than the lower one of publication and subscription.
    pub wrong_qos: u64,
    /// Publications of QoS 1 and 2 that were not acknowledged to the end.
    pub unacknowledged: u64,
    /// Publications that the broker refused.
    pub refused: u64,
    /// Connections that could not be made.
    pub failed_connections: u64,
    /// Connections that ended before the run did.
    pub lost_connections: u64,
    /// Sessions that were gone when their clients came back.
    pub lost_sessions: u64,
    /// The first few of all of these, in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Adds a case in words, while there is room.
    pub(crate) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }

    /// Adds what another thread has found.
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.strays += other.strays;
        self.wrong_qos += other.wrong_qos;
        self.unacknowledged += other.unacknowledged;
        self.refused += other.refused;
        self.failed_connections += other.failed_connections;
        self.lost_connections += other.lost_connections;
        self.lost_sessions += other.lost_sessions;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// Who sees twenty cases knows what is wrong.
const EXAMPLES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_bounded_in_one_and_in_a_sum() {
        let mut findings = Findings::default();
        for number in 0..100 {
            findings.lost += 1;
            findings.example(|| number.to_string());
        }
        assert_eq!(findings.examples.len(), EXAMPLES_MAX);
        findings.add(findings.clone());
        assert_eq!(findings.lost, 200);
        assert_eq!(findings.examples.len(), EXAMPLES_MAX);
    }
}
