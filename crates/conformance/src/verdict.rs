//! What a case finds out, and what that means for a statement.

use serde::Serialize;

/// The result of a case, or of a step of one: it goes on, or it stops.
pub type Outcome<T = ()> = Result<T, Stop>;

/// Why a case stops before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The broker did what it must not, or did not what it must.
    Fail(Box<Failure>),
    /// The statement does not apply to this broker, for the reason given: it is about something optional that the broker
    /// does not have.
    Skip(String),
}

impl Stop {
    /// A skip with this reason.
    pub fn skip(reason: impl Into<String>) -> Stop {
        Stop::Skip(reason.into())
    }
}

/// What went wrong, in three lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The last packet that was sent before it.
    pub sent: String,
    /// What the standard lets one expect.
    pub expected: String,
    /// What came instead.
    pub received: String,
}

/// What is known about a statement, or what a case has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The broker does as the statement says, as far as the cases go.
    Pass,
    /// It does not.
    Fail(Failure),
    /// It was not tested, for this reason.
    Skip {
        /// Why.
        reason: String,
    },
    /// No tester on a network can see it, for this reason.
    NotVisible {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// The verdict on a statement that several cases are about: a failure counts most, then a pass, then the first of the
    /// others. `None` without cases.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Verdict>) -> Option<&'a Verdict> {
        let rank = |verdict: &Verdict| match verdict {
            Verdict::Fail(_) => 0,
            Verdict::Pass => 1,
            Verdict::Skip { .. } | Verdict::NotVisible { .. } => 2,
        };
        cases.into_iter().min_by_key(|verdict| rank(verdict))
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Verdict {
        match outcome {
            Ok(()) => Verdict::Pass,
            Err(Stop::Fail(failure)) => Verdict::Fail(*failure),
            Err(Stop::Skip(reason)) => Verdict::Skip { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_outweighs_a_pass_and_a_pass_a_skip() {
        let fail = Verdict::Fail(Failure {
            sent: "PINGREQ".to_owned(),
            expected: "PINGRESP".to_owned(),
            received: "nothing".to_owned(),
        });
        let skip = Verdict::Skip {
            reason: "optional".to_owned(),
        };
        assert_eq!(Verdict::of([&skip, &Verdict::Pass, &fail]), Some(&fail));
        assert_eq!(Verdict::of([&skip, &Verdict::Pass]), Some(&Verdict::Pass));
        assert_eq!(Verdict::of([&skip]), Some(&skip));
        assert_eq!(Verdict::of([]), None);
    }
}
