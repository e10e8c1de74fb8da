//! The server's watch over a silent client.

use crate::Tick;

/// Measures the time since the last complete packet of the client.
///
/// The allowance is 1.5 times the keep alive [MQTT-3.1.2-22, 3:3.1.2-24], in milliseconds, so that
/// a keep alive of 1 s allows 1,500 ms. While the server itself does not read, the watch stands
/// still: a client can't be blamed for bytes that wait in the server's receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    /// Milliseconds of silence that are allowed; 0 switches the watch off [U5-018].
    allowance_ms: u32,
    /// When the last complete packet came, moved forward by every pause.
    heard: Tick,
    /// When the pause began; [`Tick::NEVER`] without one.
    paused: Tick,
}

impl KeepAlive {
    pub(crate) fn off(now: Tick) -> Self {
        Self {
            allowance_ms: 0,
            heard: now,
            paused: Tick::NEVER,
        }
    }

    /// Sets the interval in force; silence counts from `now`.
    pub(crate) fn start(&mut self, now: Tick, keep_alive_secs: u16) {
        self.allowance_ms = u32::from(keep_alive_secs) * ALLOWANCE_MS_PER_SEC;
        if mutant!(KeepAliveWithoutGrace) {
            self.allowance_ms = u32::from(keep_alive_secs) * 1_000;
        }
        self.heard(now);
    }

    /// A complete packet has come.
    pub(crate) fn heard(&mut self, now: Tick) {
        self.heard = now;
        if self.paused != Tick::NEVER {
            self.paused = now;
        }
    }

    pub(crate) fn pause(&mut self, now: Tick) {
        if self.paused == Tick::NEVER {
            self.paused = now;
        }
    }

    pub(crate) fn resume(&mut self, now: Tick) {
        let paused = std::mem::replace(&mut self.paused, Tick::NEVER);
        if paused != Tick::NEVER {
            self.heard = self.heard.saturating_add(now.since(paused));
        }
    }

    /// When the client will have been silent for too long, while it is watched at all.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let is_paused = self.paused != Tick::NEVER;
        let watched = self.allowance_ms > 0 && !is_paused && !mutant!(KeepAliveNever);
        watched.then(|| self.heard.saturating_add(self.allowance_ms.into()))
    }
}

/// 65,535 s of them fit in 32 bits.
const ALLOWANCE_MS_PER_SEC: u32 = 1_500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_a_half_intervals_in_milliseconds_are_allowed() {
        // [5:MQTT-3.1.2-22]
        let mut keep_alive = KeepAlive::off(Tick(0));
        keep_alive.start(Tick(100), 1);
        assert_eq!(keep_alive.deadline(), Some(Tick(1_600)));
        keep_alive.heard(Tick(1_000));
        assert_eq!(keep_alive.deadline(), Some(Tick(2_500)));
    }

    #[test]
    fn keep_alive_zero_is_off() {
        // [U5-018]
        let mut keep_alive = KeepAlive::off(Tick(0));
        keep_alive.start(Tick(100), 0);
        assert_eq!(keep_alive.deadline(), None);
    }

    #[test]
    fn a_pause_is_not_silence_of_the_client() {
        let mut keep_alive = KeepAlive::off(Tick(0));
        keep_alive.start(Tick(0), 10);
        keep_alive.pause(Tick(4_000));
        keep_alive.pause(Tick(5_000));
        assert_eq!(keep_alive.deadline(), None);
        keep_alive.resume(Tick(104_000));
        assert_eq!(keep_alive.deadline(), Some(Tick(115_000)));
    }

    #[test]
    fn a_packet_handled_during_a_pause_restarts_the_silence() {
        let mut keep_alive = KeepAlive::off(Tick(0));
        keep_alive.start(Tick(0), 10);
        keep_alive.pause(Tick(4_000));
        keep_alive.heard(Tick(6_000));
        keep_alive.resume(Tick(8_000));
        assert_eq!(keep_alive.deadline(), Some(Tick(23_000)));
    }

    #[test]
    fn resume_without_pause_changes_nothing() {
        let mut keep_alive = KeepAlive::off(Tick(0));
        keep_alive.start(Tick(0), 10);
        keep_alive.resume(Tick(9_000));
        assert_eq!(keep_alive.deadline(), Some(Tick(15_000)));
    }
}
