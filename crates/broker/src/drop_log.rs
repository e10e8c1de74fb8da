//! [`DropLog`]: dropped messages are seen in the log, at most one line a second and shard.

use whimbrel_broker_core::DropCause;
use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::session::codec::topic::ByteStr;

/// Collects drops between two lines of the log.
#[derive(Debug, Default)]
pub(crate) struct DropLog {
    /// The first session that dropped since the last line.
    first: Option<(ByteStr, DropCause)>,
    /// Reports of sessions since the last line.
    reports: u64,
    /// All messages dropped up to the last line.
    dropped_before: u64,
    next_line: Tick,
}

impl DropLog {
    pub(crate) fn note(&mut self, client_id: &ByteStr, cause: DropCause) {
        self.reports += 1;
        if self.first.is_none() {
            self.first = Some((client_id.clone(), cause));
        }
    }

    /// When there is something to [`report`](Self::report).
    pub(crate) fn due(&self) -> Option<Tick> {
        self.first.is_some().then_some(self.next_line)
    }

    /// Writes a line; `dropped` is how many messages were dropped since the start.
    pub(crate) fn report(&mut self, now: Tick, dropped: u64) {
        let Some((client_id, cause)) = self.first.take() else {
            return;
        };
        tracing::warn!(
            messages = dropped - self.dropped_before,
            sessions = self.reports,
            first_client_id = &*client_id,
            first_cause = cause.name(),
            "messages were dropped"
        );
        self.reports = 0;
        self.dropped_before = dropped;
        self.next_line = now.saturating_add(LINE_INTERVAL_MS);
    }
}

const LINE_INTERVAL_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_a_second_apart_and_count_what_came_between() {
        let mut log = DropLog::default();
        assert_eq!(log.due(), None);
        log.note(&ByteStr::from("a"), DropCause::SlowReader);
        assert_eq!(log.due(), Some(Tick(0)));
        log.report(Tick(5_000), 10);
        assert_eq!(log.due(), None);
        log.note(&ByteStr::from("b"), DropCause::QueueFull);
        log.note(&ByteStr::from("c"), DropCause::QueueFull);
        assert_eq!(log.due(), Some(Tick(6_000)));
        assert_eq!(log.reports, 2);
    }
}
