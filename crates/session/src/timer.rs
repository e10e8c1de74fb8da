//! The timers of a connection: one enum and a table.

use crate::Tick;

/// What a timer of a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// CONNECT and its answer; later a new authentication.
    Handshake,
    /// Server: the next packet of the client. Client: the time to send PINGREQ.
    KeepAlive,
    /// Client: PINGRESP.
    PingResp,
}

/// Deadlines by [`Timer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerTable {
    /// [`Tick::NEVER`] stands for "not armed".
    deadlines: [Tick; Timer::ALL.len()],
}

impl Timer {
    const ALL: [Self; 3] = [Self::Handshake, Self::KeepAlive, Self::PingResp];
}

impl TimerTable {
    pub(crate) const fn new() -> Self {
        Self {
            deadlines: [Tick::NEVER; Timer::ALL.len()],
        }
    }

    /// Arms `timer`, or disarms it with `None`.
    pub(crate) fn set(&mut self, timer: Timer, deadline: Option<Tick>) {
        self.deadlines[timer as usize] = deadline.unwrap_or(Tick::NEVER);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize] != Tick::NEVER
    }

    /// The earliest deadline of all.
    pub(crate) fn next(&self) -> Option<Tick> {
        let earliest = self.deadlines.iter().copied().min()?;
        (earliest != Tick::NEVER).then_some(earliest)
    }

    /// Disarms and returns a timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .find(|&timer| self.is_set(timer) && self.deadlines[timer as usize] <= now)?;
        self.set(due, None);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_next() {
        let mut timers = TimerTable::new();
        assert_eq!(timers.next(), None);
        timers.set(Timer::KeepAlive, Some(Tick(20)));
        timers.set(Timer::Handshake, Some(Tick(10)));
        assert_eq!(timers.next(), Some(Tick(10)));
        timers.set(Timer::Handshake, None);
        assert_eq!(timers.next(), Some(Tick(20)));
    }

    #[test]
    fn a_due_timer_is_taken_once() {
        let mut timers = TimerTable::new();
        timers.set(Timer::PingResp, Some(Tick(20)));
        assert_eq!(timers.pop_due(Tick(19)), None);
        assert_eq!(timers.pop_due(Tick(20)), Some(Timer::PingResp));
        assert_eq!(timers.pop_due(Tick(20)), None);
    }

    #[test]
    fn an_unarmed_timer_is_never_due() {
        let mut timers = TimerTable::new();
        assert_eq!(timers.pop_due(Tick::NEVER), None);
    }
}
