//! Acknowledgements leave in the order of what they acknowledge [MQTT-4.6.0-2 to -4].

use std::collections::VecDeque;

/// What waits for its answer on one connection, by the kind of answer, in the order of receipt.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: [VecDeque<u16>; 4],
}

/// The packet that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the packets' own names")]
pub(super) enum Answer {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

impl Turns {
    /// A packet came that will be answered.
    pub(super) fn owe(&mut self, answer: Answer, id: u16) {
        self.waiting[answer as usize].push_back(id);
    }

    /// An answer leaves: how many that were owed before it did not. `None` if nothing came that it
    /// answers, as with a PUBREL that a resumed session sends again.
    pub(super) fn answer(&mut self, answer: Answer, id: u16) -> Option<usize> {
        let waiting = &mut self.waiting[answer as usize];
        let place = waiting.iter().position(|&owed| owed == id)?;
        waiting.drain(..=place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_out_of_turn_is_told() {
        let mut turns = Turns::default();
        for id in [1, 2, 3] {
            turns.owe(Answer::PubAck, id);
        }
        turns.owe(Answer::PubRec, 2);
        assert_eq!(turns.answer(Answer::PubAck, 1), Some(0));
        assert_eq!(turns.answer(Answer::PubAck, 3), Some(1));
        assert_eq!(turns.answer(Answer::PubRec, 2), Some(0));
        assert_eq!(turns.answer(Answer::PubRel, 9), None);
    }
}
