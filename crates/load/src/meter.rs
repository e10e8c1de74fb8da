//! [`Meter`]: what one thread has measured.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Findings;

/// What one thread has measured; added up when all have ended.
#[derive(Debug)]
pub(crate) struct Meter {
    /// From when a connection was to be made to its CONNACK.
    pub(crate) connect: Times,
    /// From when a message was sent, or was to be sent, to its arrival.
    pub(crate) latency: Times,
    /// From there to its PUBACK or PUBCOMP.
    pub(crate) acknowledged: Times,
    /// From SUBSCRIBE to the last retained message.
    pub(crate) fetch: Times,
    /// From when a message was to be sent to when it was.
    pub(crate) send_delay: Times,
    /// Messages that were to be sent in the time that is measured.
    pub(crate) published: u64,
    /// Deliveries that came in the time that is measured.
    pub(crate) delivered: u64,
    /// When the last message came.
    pub(crate) last_arrival: u64,
    pub(crate) findings: Findings,
}

/// Durations in nanoseconds, to three digits (HdrHistogram, Gil Tene).
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

/// The spread of durations, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// What half of them do not exceed.
    pub p50_us: f64,
    /// What 90 % do not exceed.
    pub p90_us: f64,
    /// What 99 % do not exceed.
    pub p99_us: f64,
    /// What 99.9 % do not exceed.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            connect: Times::new(),
            latency: Times::new(),
            acknowledged: Times::new(),
            fetch: Times::new(),
            send_delay: Times::new(),
            published: 0,
            delivered: 0,
            last_arrival: 0,
            findings: Findings::default(),
        }
    }

    /// Adds what another thread has measured.
    pub(crate) fn add(&mut self, other: Self) {
        self.connect.add(&other.connect);
        self.latency.add(&other.latency);
        self.acknowledged.add(&other.acknowledged);
        self.fetch.add(&other.fetch);
        self.send_delay.add(&other.send_delay);
        self.published += other.published;
        self.delivered += other.delivered;
        self.last_arrival = self.last_arrival.max(other.last_arrival);
        self.findings.add(other.findings);
    }
}

impl Times {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NANOS, HIGHEST_NANOS, DIGITS);
        Self(histogram.expect("the bounds are more than a factor of 2 apart"))
    }

    /// Takes note of the time between two moments; none below 0, and none above an hour.
    pub(crate) fn note(&mut self, from: u64, to: u64) {
        self.0.saturating_record(to.saturating_sub(from));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let quantile = |quantile| micros(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.0.len(),
            min_us: if self.is_empty() {
                0.0
            } else {
                micros(self.0.min())
            },
            mean_us: self.0.mean() / 1e3,
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: micros(self.0.max()),
        }
    }

    fn add(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        added.expect("all histograms have the same bounds");
    }
}

/// What is shorter counts as this.
const LOWEST_NANOS: u64 = 100;
/// An hour.
const HIGHEST_NANOS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let mut times = Times::new();
        for micros in 1..=1_000_u64 {
            times.note(5_000, 5_000 + micros * 1_000);
        }
        let spread = times.percentiles();
        assert_eq!(spread.count, 1_000);
        for (is, is_to_be) in [
            (spread.min_us, 1.0),
            (spread.mean_us, 500.5),
            (spread.p50_us, 500.0),
            (spread.p90_us, 900.0),
            (spread.p99_us, 990.0),
            (spread.p999_us, 999.0),
            (spread.max_us, 1_000.0),
        ] {
            let error = (is - is_to_be).abs() / is_to_be;
            assert!(error < 0.05, "{is} is not {is_to_be}");
        }
    }

    #[test]
    fn nothing_noted_is_nothing_and_what_is_out_of_range_is_kept_at_its_edge() {
        assert_eq!(Times::new().percentiles().count, 0);
        let mut times = Times::new();
        times.note(10, 5);
        times.note(0, u64::MAX);
        let spread = times.percentiles();
        assert_eq!(spread.count, 2);
        assert!(spread.min_us < 1.0);
        assert!(spread.max_us >= 3.6e9);
    }

    #[test]
    fn meters_add_up() {
        let mut one = Meter::new();
        one.latency.note(0, 1_000);
        one.last_arrival = 9;
        one.delivered = 1;
        let mut other = Meter::new();
        other.latency.note(0, 3_000);
        other.last_arrival = 5;
        other.delivered = 2;
        one.add(other);
        assert_eq!(one.latency.percentiles().count, 2);
        assert_eq!((one.last_arrival, one.delivered), (9, 3));
    }
}
