//! [`Timing`]: how long this tool waits, and for what.

use std::time::Duration;

/// How long to wait for an answer, and how long a silence has to last to be one.
///
/// Both come from the latency of the broker, measured before the first case, so that a slow one isn't failed by time; both
/// are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// After this time an answer that has to come is missing.
    pub answer: Duration,
    /// After this time without a packet nothing comes.
    pub silence: Duration,
    /// What one case may take, its waits for timers of the broker included.
    pub case: Duration,
    /// What the whole run may take.
    pub run: Duration,
}

impl Timing {
    /// For a broker that answers a PINGREQ within `latency`.
    pub fn for_latency(latency: Duration) -> Timing {
        Timing {
            answer: (ANSWER_MIN + latency * 20).min(ANSWER_MAX),
            silence: (SILENCE_MIN + latency * 10).min(SILENCE_MAX),
            case: CASE_MAX,
            run: RUN_MAX,
        }
    }
}

impl Default for Timing {
    /// For a broker whose latency is not known.
    fn default() -> Timing {
        Timing::for_latency(Duration::from_millis(5))
    }
}

/// Generous: a passing case does not wait for it, and both ends may share a busy machine.
const ANSWER_MIN: Duration = Duration::from_secs(4);
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Long enough for a broker that hands messages over in the background, as all do.
const SILENCE_MIN: Duration = Duration::from_millis(350);
const SILENCE_MAX: Duration = Duration::from_millis(1_500);
const CASE_MAX: Duration = Duration::from_secs(20);
const RUN_MAX: Duration = Duration::from_secs(115);
