//! Waiting for what another process does, which tells nobody when it has done it.

use std::time::{Duration, Instant};

/// Stops this thread.
#[expect(
    clippy::disallowed_methods,
    reason = "this process has threads for its clients and no runtime that could be held up"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Asks again and again until there is an answer, or the time is over.
pub(crate) fn poll<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        pause(POLL_INTERVAL);
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(5);
