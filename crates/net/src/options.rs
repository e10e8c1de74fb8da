//! Socket options, their defaults and the reasons for them.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;

/// Options of one byte stream, set on every accepted and every connected socket.
///
/// The defaults are for connections that stay open for weeks, mostly idle, to peers that lose power
/// or coverage without saying goodbye. A dead peer is noticed within two minutes, whether or not
/// data is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// Sends small writes at once (`TCP_NODELAY`). Default true: the layers above hand over one
    /// buffer per turn, so Nagle's algorithm would save no packet and add up to 40 ms to
    /// request and answer.
    pub nodelay: bool,
    /// Probes of an idle connection (`SO_KEEPALIVE`); `None` sends none, and a half-open
    /// connection then stays until a write fails. Default [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged, or the peer's window closed, before the
    /// connection is ended (`TCP_USER_TIMEOUT`, RFC 5482); `None` leaves it to the system,
    /// which on Linux takes about 15 minutes.
    ///
    /// Default 120 s, which is the [detection time](Keepalive::detection_time) of the default
    /// keepalive. Less would cut the probes short, since Linux lets this value overrule their
    /// count; more would make a peer that vanished in mid-delivery outlive one that vanished
    /// while idle, holding what is queued for it. Whole milliseconds from 1 to 2,147,483,647.
    /// Linux and Android; elsewhere it is not set.
    pub user_timeout: Option<Duration>,
}

impl StreamOptions {
    /// Checks that every value fits the range its socket option has.
    ///
    /// Bind and connect check by themselves; this is for configuration that is read before either.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if let Some(keepalive) = self.keepalive {
            keepalive.validate()?;
        }
        if let Some(timeout) = self.user_timeout {
            let in_range = (1..=USER_TIMEOUT_MILLIS_MAX).contains(&timeout.as_millis());
            if !in_range || timeout.subsec_nanos() % 1_000_000 != 0 {
                return Err(OptionsError::UserTimeout);
            }
        }
        Ok(())
    }

    pub(crate) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(keepalive) = self.keepalive {
            socket.set_tcp_keepalive(&keepalive.to_socket2())?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(self.user_timeout)?;
        Ok(())
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        let keepalive = Keepalive::default();
        Self {
            nodelay: true,
            keepalive: Some(keepalive),
            user_timeout: Some(keepalive.detection_time()),
        }
    }
}

/// When an idle connection is probed, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (`TCP_KEEPIDLE`). Whole seconds from 1 to 32,767. Default 60
    /// s: shorter than the mappings of the NATs and load balancers that forget a silent
    /// connection, most of which wait minutes.
    pub idle: Duration,
    /// Time between unanswered probes (`TCP_KEEPINTVL`). Whole seconds from 1 to 32,767. Default
    /// 15 s.
    pub interval: Duration,
    /// Unanswered probes before the connection is ended (`TCP_KEEPCNT`). From 1 to 127. Default 4,
    /// so that three lost packets in a row end nothing. Windows before 10 version 1703 always
    /// takes 10.
    pub count: u32,
}

impl Keepalive {
    /// How long after its last sign of life a peer is given up: `idle + interval × count`.
    pub fn detection_time(&self) -> Duration {
        self.idle
            .saturating_add(self.interval.saturating_mul(self.count))
    }

    fn validate(self) -> Result<(), OptionsError> {
        let is_valid = |time: Duration| {
            (1..=PROBE_SECS_MAX).contains(&time.as_secs()) && time.subsec_nanos() == 0
        };
        if !is_valid(self.idle) {
            return Err(OptionsError::KeepaliveIdle);
        }
        if !is_valid(self.interval) {
            return Err(OptionsError::KeepaliveInterval);
        }
        if !(1..=PROBE_COUNT_MAX).contains(&self.count) {
            return Err(OptionsError::KeepaliveCount);
        }
        Ok(())
    }

    fn to_socket2(self) -> TcpKeepalive {
        let keepalive = TcpKeepalive::new().with_time(self.idle);
        // OpenBSD and a few others have the idle time for the whole system only.
        #[cfg(any(
            target_os = "linux",
            target_os = "android",
            target_os = "macos",
            target_os = "ios",
            target_os = "freebsd",
            target_os = "netbsd",
            target_os = "windows"
        ))]
        let keepalive = keepalive
            .with_interval(self.interval)
            .with_retries(self.count);
        keepalive
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            count: 4,
        }
    }
}

/// Options of a listener, and of the streams it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Options of each accepted stream.
    pub stream: StreamOptions,
    /// Completed connections that may wait for `accept`. Default 4,096: after a power cut a whole
    /// fleet comes back at once, and a SYN that finds the queue full is retried only after a
    /// second. Linux lowers it to `net.core.somaxconn` in silence.
    pub backlog: u32,
    /// Lets several listeners of one user share the port, the kernel spreading connections over
    /// them (`SO_REUSEPORT`). Default false, because a second broker started by mistake would
    /// take half the connections instead of failing. Unix only; elsewhere it is not set.
    pub reuse_port: bool,
    /// Keeps a listener on an IPv6 address from taking IPv4 connections too (`IPV6_V6ONLY`).
    /// Default false, on every system, so that `[::]` means every address. No effect on IPv4
    /// addresses.
    pub ipv6_only: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            stream: StreamOptions::default(),
            backlog: 4_096,
            reuse_port: false,
            ipv6_only: false,
        }
    }
}

/// A socket option's value is out of its range; the message names option and range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// [`Keepalive::idle`] is out of range.
    #[error("keepalive idle must be 1 to 32767 whole seconds")]
    KeepaliveIdle,
    /// [`Keepalive::interval`] is out of range.
    #[error("keepalive interval must be 1 to 32767 whole seconds")]
    KeepaliveInterval,
    /// [`Keepalive::count`] is out of range.
    #[error("keepalive count must be 1 to 127")]
    KeepaliveCount,
    /// [`StreamOptions::user_timeout`] is out of range.
    #[error("user timeout must be 1 to 2147483647 whole milliseconds")]
    UserTimeout,
    /// [`ListenOptions::backlog`] is out of range.
    #[error("backlog must be 1 to 2147483647")]
    Backlog,
}

impl From<OptionsError> for io::Error {
    fn from(error: OptionsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Linux's `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL`, the narrowest among the systems we know.
const PROBE_SECS_MAX: u64 = 32_767;
/// Linux's `MAX_TCP_KEEPCNT`.
const PROBE_COUNT_MAX: u32 = 127;
/// Linux keeps the user timeout in a signed int.
const USER_TIMEOUT_MILLIS_MAX: u128 = 2_147_483_647;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_user_timeout_lets_every_default_probe_go_out() {
        let options = StreamOptions::default();
        assert_eq!(options.validate(), Ok(()));
        assert_eq!(
            options.user_timeout,
            options
                .keepalive
                .map(|keepalive| keepalive.detection_time())
        );
        assert_eq!(options.user_timeout, Some(Duration::from_secs(120)));
    }

    #[test]
    fn values_that_the_kernel_would_refuse_or_round_are_refused_first() {
        let whole = Keepalive::default();
        let second = Duration::from_secs(1);
        let odd = Duration::from_millis(1_500);
        let too_long = Duration::from_secs(PROBE_SECS_MAX + 1);
        for (keepalive, error) in [
            (
                Keepalive {
                    idle: Duration::ZERO,
                    ..whole
                },
                OptionsError::KeepaliveIdle,
            ),
            (
                Keepalive { idle: odd, ..whole },
                OptionsError::KeepaliveIdle,
            ),
            (
                Keepalive {
                    idle: too_long,
                    ..whole
                },
                OptionsError::KeepaliveIdle,
            ),
            (
                Keepalive {
                    interval: Duration::ZERO,
                    ..whole
                },
                OptionsError::KeepaliveInterval,
            ),
            (
                Keepalive {
                    interval: too_long,
                    ..whole
                },
                OptionsError::KeepaliveInterval,
            ),
            (
                Keepalive { count: 0, ..whole },
                OptionsError::KeepaliveCount,
            ),
            (
                Keepalive {
                    count: PROBE_COUNT_MAX + 1,
                    ..whole
                },
                OptionsError::KeepaliveCount,
            ),
        ] {
            let options = StreamOptions {
                keepalive: Some(keepalive),
                ..StreamOptions::default()
            };
            assert_eq!(options.validate(), Err(error), "{keepalive:?}");
        }
        for timeout in [
            Duration::ZERO,
            Duration::from_micros(1_500),
            second * u32::MAX,
        ] {
            let options = StreamOptions {
                user_timeout: Some(timeout),
                ..StreamOptions::default()
            };
            assert_eq!(
                options.validate(),
                Err(OptionsError::UserTimeout),
                "{timeout:?}"
            );
        }
        let bounds = Keepalive {
            idle: second,
            interval: Duration::from_secs(PROBE_SECS_MAX),
            count: PROBE_COUNT_MAX,
        };
        assert_eq!(bounds.validate(), Ok(()));
    }
}
