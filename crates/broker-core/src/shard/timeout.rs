//! What is due: keep alive, will delays, session expiry.

use whimbrel_session::{Tick, TimeoutKind};

use super::{Env, Shard};
use crate::ConnectionKey;
use crate::effects::CloseReason;
use crate::timers::Timer;

impl Shard {
    /// Handles what is due, one budget of it: ask [`poll_timeout`](Self::poll_timeout) again.
    pub fn handle_timeout(&mut self, env: Env<'_>) {
        for _ in 0..TIMEOUT_BUDGET {
            match self.timers.pop_due(env.now.tick) {
                Some(Timer::Connection(connection)) => self.connection_due(env, connection),
                Some(Timer::Will(session)) => self.will_due(env, session),
                Some(Timer::SessionExpiry(session)) => self.session_due(env, session),
                None => break,
            }
        }
        self.finish(env);
    }

    /// Sees to it that a connection's timer fires in time. It may be armed for a later moment, or not at all: for a
    /// keep alive that is off, or one that had stopped.
    pub(super) fn arm_connection(&mut self, key: ConnectionKey) {
        let Some(connection) = self.running_mut(key) else {
            return;
        };
        let due = connection.timeout_due;
        let deadline = connection.wire().and_then(|wire| wire.poll_timeout());
        let Some(deadline) = deadline.filter(|&deadline| deadline < due) else {
            return;
        };
        connection.timeout_due = deadline;
        if due != Tick::NEVER {
            self.timers.disarm(due, Timer::Connection(key));
        }
        self.timers.arm(deadline, Timer::Connection(key));
    }

    /// The timer is lazy: packets that came since it was armed only move the deadline.
    fn connection_due(&mut self, env: Env<'_>, key: ConnectionKey) {
        let Some(connection) = self.running_mut(key) else {
            return;
        };
        connection.timeout_due = Tick::NEVER;
        let Some(wire) = connection.wire() else {
            return;
        };
        match wire.handle_timeout(env.now.tick) {
            Some(TimeoutKind::KeepAlive) => {
                self.stats.keep_alive_closes += 1;
                self.close(env, key, CloseReason::KeepAlive);
            }
            Some(TimeoutKind::Authentication) => self.close(env, key, CloseReason::NotAuthorized),
            _ => {
                if let Some(deadline) = wire.poll_timeout() {
                    connection.timeout_due = deadline;
                    self.timers.arm(deadline, Timer::Connection(key));
                }
            }
        }
    }
}

/// Timers handled in one step.
const TIMEOUT_BUDGET: usize = 1_024;
