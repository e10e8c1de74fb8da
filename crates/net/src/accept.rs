//! What to do when `accept` fails: the policy, apart from the socket it is for.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// What a listener has met so far; shared with whoever reports it.
///
/// All counts are since the bind. A rise of [`shortages`](Self::shortages) means that clients wait
/// in the backlog: raise the process's descriptor limit (`ulimit -n`) or lower the number of
/// connections it may hold.
#[derive(Default)]
pub struct AcceptCounters {
    accepted: AtomicU64,
    aborted: AtomicU64,
    shortages: AtomicU64,
}

impl AcceptCounters {
    /// Connections handed to the caller.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections that had died before they could be accepted, and accepts that a firewall or
    /// signal broke off.
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Relaxed)
    }

    /// Failed accepts for want of descriptors or memory, each followed by a wait of up to a second.
    pub fn shortages(&self) -> u64 {
        self.shortages.load(Relaxed)
    }
}

impl fmt::Debug for AcceptCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptCounters")
            .field("accepted", &self.accepted())
            .field("aborted", &self.aborted())
            .field("shortages", &self.shortages())
            .finish()
    }
}

/// Calls an accept function until it has a connection, whatever passing trouble it meets.
///
/// The state outlives a dropped [`AcceptLoop::next`], so a caller that selects over several events
/// cannot turn a back-off into a busy loop.
#[derive(Debug)]
pub(crate) struct AcceptLoop {
    counters: Arc<AcceptCounters>,
    /// The wait after the next shortage.
    delay: Duration,
    /// Set while waiting out a shortage.
    resume_at: Option<Instant>,
    /// Aborted connections since the last success or wait, at most [`ABORTS_IN_A_ROW_MAX`].
    aborts_in_a_row: u32,
}

impl AcceptLoop {
    pub(crate) fn new() -> Self {
        Self {
            counters: Arc::default(),
            delay: DELAY_MIN,
            resume_at: None,
            aborts_in_a_row: 0,
        }
    }

    pub(crate) fn counters(&self) -> &Arc<AcceptCounters> {
        &self.counters
    }

    /// The next connection, or an error that no waiting will mend.
    pub(crate) async fn next<T>(
        &mut self,
        mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        loop {
            if let Some(instant) = self.resume_at {
                sleep_until(instant).await;
                self.resume_at = None;
            }
            let error = match poll_fn(&mut poll_accept).await {
                Ok(connection) => {
                    self.counters.accepted.fetch_add(1, Relaxed);
                    self.delay = DELAY_MIN;
                    self.aborts_in_a_row = 0;
                    return Ok(connection);
                }
                Err(error) => error,
            };
            match Trouble::of(&error) {
                Trouble::Connection => {
                    self.counters.aborted.fetch_add(1, Relaxed);
                    self.aborts_in_a_row += 1;
                    if self.aborts_in_a_row == ABORTS_IN_A_ROW_MAX {
                        self.back_off();
                    }
                }
                Trouble::Shortage => {
                    self.counters.shortages.fetch_add(1, Relaxed);
                    self.back_off();
                }
                Trouble::Listener => return Err(error),
            }
        }
    }

    fn back_off(&mut self) {
        self.resume_at = Some(Instant::now() + self.delay);
        self.delay = self.delay.saturating_mul(2).min(DELAY_MAX);
        self.aborts_in_a_row = 0;
    }
}

/// Who is to blame for a failed accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The connection that was to be accepted: the next one may be fine, so try at once.
    Connection,
    /// The process or the system is out of something: the listener stays readable, so wait.
    Shortage,
    /// The listening socket, or our use of it.
    Listener,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
            NetworkUnreachable, OutOfMemory, PermissionDenied, TimedOut,
        };
        match error.kind() {
            OutOfMemory => Self::Shortage,
            // accept(2): errors pending on the new socket are returned by accept and are to be
            // retried, and a firewall's refusal is EPERM.
            ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkDown
            | NetworkUnreachable | PermissionDenied | TimedOut => Self::Connection,
            _ => match error.raw_os_error() {
                Some(code) if SHORTAGE_CODES.contains(&code) => Self::Shortage,
                Some(code) if CONNECTION_CODES.contains(&code) => Self::Connection,
                _ => Self::Listener,
            },
        }
    }
}

/// The first wait; long enough for a closing connection to free its descriptor.
const DELAY_MIN: Duration = Duration::from_millis(5);
/// The longest wait; a client's connect waits in the backlog meanwhile.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// A backlog full of dead connections is emptied at this rate between two waits, so that an error
/// which we take for a connection's own can't keep a thread busy for ever.
const ABORTS_IN_A_ROW_MAX: u32 = 64;

#[cfg(unix)]
const SHORTAGE_CODES: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
#[cfg(unix)]
const CONNECTION_CODES: [i32; 4] = [
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::EOPNOTSUPP,
];

/// `WSAEMFILE` and `WSAENOBUFS`.
#[cfg(windows)]
const SHORTAGE_CODES: [i32; 2] = [10_024, 10_055];
#[cfg(windows)]
const CONNECTION_CODES: [i32; 0] = [];

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::time::timeout;

    use super::*;

    /// Answers one scripted result per call and notes when it was called.
    struct Script {
        answers: VecDeque<io::Result<u32>>,
        started: Instant,
        called_at: Vec<Duration>,
    }

    impl Script {
        fn new(answers: impl IntoIterator<Item = io::Result<u32>>) -> Self {
            Self {
                answers: answers.into_iter().collect(),
                started: Instant::now(),
                called_at: Vec::new(),
            }
        }

        fn poll(&mut self) -> Poll<io::Result<u32>> {
            self.called_at.push(self.started.elapsed());
            self.answers.pop_front().map_or(Poll::Pending, Poll::Ready)
        }
    }

    fn shortage() -> io::Error {
        io::Error::from_raw_os_error(SHORTAGE_CODES[0])
    }

    fn aborted() -> io::Error {
        io::ErrorKind::ConnectionAborted.into()
    }

    fn millis(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn shortage_is_retried_after_a_delay_that_doubles_up_to_a_second() {
        let mut accept_loop = AcceptLoop::new();
        let failures = (0..10).map(|_| Err(shortage()));
        let mut script = Script::new(failures.chain([Ok(7)]));
        assert_eq!(accept_loop.next(|_| script.poll()).await.unwrap(), 7);
        let expected = millis(&[0, 5, 15, 35, 75, 155, 315, 635, 1_275, 2_275, 3_275]);
        assert_eq!(script.called_at, expected);
        assert_eq!(accept_loop.counters().shortages(), 10);
        assert_eq!(accept_loop.counters().accepted(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn success_makes_the_next_delay_short_again() {
        let mut accept_loop = AcceptLoop::new();
        let mut script = Script::new([
            Err(shortage()),
            Err(shortage()),
            Ok(1),
            Err(shortage()),
            Ok(2),
        ]);
        accept_loop.next(|_| script.poll()).await.unwrap();
        accept_loop.next(|_| script.poll()).await.unwrap();
        assert_eq!(script.called_at, millis(&[0, 5, 15, 15, 20]));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_accept_does_not_shorten_the_delay() {
        let mut accept_loop = AcceptLoop::new();
        let mut script = Script::new([Err(shortage()), Ok(1)]);
        for _ in 0..4 {
            let cancelled = timeout(
                Duration::from_millis(1),
                accept_loop.next(|_| script.poll()),
            )
            .await;
            assert!(cancelled.is_err());
        }
        accept_loop.next(|_| script.poll()).await.unwrap();
        assert_eq!(script.called_at, millis(&[0, 5]));
    }

    #[tokio::test(start_paused = true)]
    async fn dead_connections_are_skipped_at_once() {
        let mut accept_loop = AcceptLoop::new();
        let mut script = Script::new([
            Err(aborted()),
            Err(io::ErrorKind::ConnectionReset.into()),
            Ok(1),
        ]);
        accept_loop.next(|_| script.poll()).await.unwrap();
        assert_eq!(script.called_at, millis(&[0, 0, 0]));
        assert_eq!(accept_loop.counters().aborted(), 2);
        assert_eq!(accept_loop.counters().shortages(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_dead_connections_leave_the_thread_to_others() {
        let mut accept_loop = AcceptLoop::new();
        let mut script = Script::new(
            (0..ABORTS_IN_A_ROW_MAX)
                .map(|_| Err(aborted()))
                .chain([Ok(1)]),
        );
        accept_loop.next(|_| script.poll()).await.unwrap();
        let last = script.called_at.pop();
        assert_eq!(last, Some(DELAY_MIN));
        assert!(script.called_at.iter().all(Duration::is_zero));
    }

    #[tokio::test(start_paused = true)]
    async fn broken_listener_is_reported() {
        let mut accept_loop = AcceptLoop::new();
        let mut script = Script::new([Err(io::ErrorKind::InvalidInput.into())]);
        let error = accept_loop.next(|_| script.poll()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn errors_of_accept_are_told_apart() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(
                Trouble::of(&io::Error::from_raw_os_error(code)),
                Trouble::Shortage,
                "{code}"
            );
        }
        for code in [
            libc::ECONNABORTED,
            libc::ECONNRESET,
            libc::EINTR,
            libc::EPROTO,
            libc::EPERM,
            libc::ENETDOWN,
            libc::ENETUNREACH,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::ENOPROTOOPT,
            libc::EOPNOTSUPP,
            libc::ETIMEDOUT,
        ] {
            assert_eq!(
                Trouble::of(&io::Error::from_raw_os_error(code)),
                Trouble::Connection,
                "{code}"
            );
        }
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EFAULT] {
            assert_eq!(
                Trouble::of(&io::Error::from_raw_os_error(code)),
                Trouble::Listener,
                "{code}"
            );
        }
    }
}
