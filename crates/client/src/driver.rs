//! [`Driver`]: the future that does a client's work.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};
use whimbrel_session::codec::WriteBuf;

use crate::connector::Link;
use crate::core::{Ended, Step};
use crate::input::Input;
use crate::reconnect::Backoff;
use crate::shared::Shared;
use crate::target::Opener;
use crate::{Closed, ConnectionError, ConnectionState};

/// Does the work of one client: connects, reads, writes, keeps alive and comes back.
///
/// Made with its [`Client`](crate::Client) by [`Client::new`](crate::Client::new). Dropped, or its
/// [`run`](Self::run) dropped, the connection is closed without DISCONNECT, so that the server publishes the will, and
/// whoever waits gets [`Closed::DriverDropped`].
#[must_use = "nothing happens before the driver runs"]
pub struct Driver {
    shared: Arc<Shared>,
    opener: Opener,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, opener: Opener) -> Self {
        Self { shared, opener }
    }

    /// Works until the client ends, and says why it did.
    ///
    /// Needs a tokio runtime with I/O and time.
    pub async fn run(self) -> Closed {
        let reconnect = self.shared.core().options.reconnect;
        let mut backoff = Backoff::new(reconnect);
        loop {
            self.set_state(ConnectionState::Connecting {
                failures: backoff.failures(),
            });
            let ended = self.run_connection(&mut backoff).await;
            let error = match ended {
                Ended::InOrder => return self.finish(Closed::Disconnected),
                Ended::ForRedelivery => continue,
                Ended::Lost(error) => error,
            };
            if error.is_final() && !reconnect.retry_refused {
                return self.finish(error.into());
            }
            let Some(delay) = backoff.next_delay() else {
                return self.finish(error.into());
            };
            self.set_state(ConnectionState::Waiting {
                error,
                failures: backoff.failures(),
                delay,
            });
            if self.or_given_up(tokio::time::sleep(delay)).await.is_none() {
                return self.finish(Closed::Disconnected);
            }
        }
    }

    /// One attempt, and the connection if one comes of it.
    async fn run_connection(&self, backoff: &mut Backoff) -> Ended {
        let connect = self.shared.core().options.net;
        let link = match self.or_given_up(self.opener.open(&connect)).await {
            Some(Ok(link)) => link,
            Some(Err(error)) => return Ended::Lost(error),
            None => return Ended::InOrder,
        };
        let may_hold_back = link.acknowledge_now();
        let begun = self.shared.core().begin(self.shared.now(), may_hold_back);
        if let Err(error) = begun {
            self.shared.core().end_link(Some(&error));
            return Ended::Lost(error);
        }
        let mut running = Running {
            driver: self,
            link,
            input: Input::new(),
            writing: WriteBuf::new(),
            rest: WriteBuf::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            connected_at: None,
            ended: None,
            reads: true,
            awaits_writing: false,
        };
        let ended = poll_fn(|cx| running.poll(cx)).await;
        if let Some(connected_at) = running.connected_at {
            backoff.note_connected(connected_at.elapsed());
        }
        let error = match &ended {
            Ended::Lost(error) => Some(error),
            Ended::InOrder | Ended::ForRedelivery => None,
        };
        {
            let mut core = self.shared.core();
            core.stop_sending();
            // Without its record nothing may leave, not even now.
            let _ = core.take_output(&mut running.rest);
        }
        // Closing must not wait for a peer that does not read any more.
        let closing = poll_fn(|cx| running.poll_close(cx));
        let _ = tokio::time::timeout(CLOSE_TIME, closing).await;
        let mut core = self.shared.core();
        core.note_written(running.writing.len() + running.rest.len());
        core.end_link(error);
        drop(core);
        ended
    }

    /// Waits for `work`, unless the application has asked for the end and nothing is left to be sent, or its time is over.
    async fn or_given_up<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut due: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let mut core = self.shared.core();
            core.register_driver(cx.waker());
            let Some(closing_due) = core.closing_due() else {
                return Poll::Pending;
            };
            if core.has_nothing_to_send() {
                return Poll::Ready(None);
            }
            drop(core);
            let at = self.shared.instant(closing_due);
            let due = due.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            due.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn set_state(&self, state: ConnectionState) {
        self.shared.state.send_replace(state);
    }

    fn finish(&self, closed: Closed) -> Closed {
        self.shared.core().finish_client(&closed);
        self.set_state(ConnectionState::Closed(closed.clone()));
        closed
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let is_closed = self.shared.core().closed().is_some();
        if !is_closed {
            self.shared.core().end_link(None);
            self.finish(Closed::DriverDropped);
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A link at work.
struct Running<'a> {
    driver: &'a Driver,
    link: Link,
    input: Input,
    /// What is being written, so that the lock is not held meanwhile.
    writing: WriteBuf,
    /// What is written after it when the link ends.
    rest: WriteBuf,
    timer: Pin<Box<Sleep>>,
    connected_at: Option<Instant>,
    /// How it ended; what is in the output is still written.
    ended: Option<Ended>,
    /// Whether more input is wanted.
    reads: bool,
    /// Somebody waits for a message of QoS 0 to be written.
    awaits_writing: bool,
}

impl Running<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if self.ended.is_none()
                && let Err(error) = self.step(cx)
            {
                return Poll::Ready(Ended::Lost(error.into()));
            }
            let written = self.poll_write(cx);
            if let Some(ended) = self.ended.take() {
                // What the peer still reads of the output is a courtesy: bounded by the time to close.
                return Poll::Ready(ended);
            }
            match written {
                Poll::Ready(Ok(Progress::Some)) => {}
                Poll::Ready(Ok(Progress::None)) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error.into())),
            }
        }
    }

    /// Reads all there is and lets the core work, until there is nothing more to be done without waiting.
    fn step(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let read = if self.reads {
                self.input.poll_read(&mut self.link, cx)
            } else {
                Poll::Pending
            };
            let read_before = self.reads;
            // What came before an error counts.
            self.handle(cx);
            if self.ended.is_some() {
                return Ok(());
            }
            match read {
                Poll::Ready(Ok(0)) => {
                    self.ended = Some(Ended::Lost(ConnectionError::Closed));
                    return Ok(());
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending if self.reads && !read_before => {}
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Has the core handle what was read, and what else there is to do.
    fn handle(&mut self, cx: &mut Context<'_>) {
        let shared = &self.driver.shared;
        let now = shared.now();
        let mut step = Step::default();
        let mut core = shared.core();
        let consumed = core.handle_input(now, self.input.bytes(), &mut step);
        core.advance_link(now, &mut step);
        self.reads = !step.is_held && !core.is_reading_paused(now);
        core.register_driver(cx.waker());
        if self.writing.is_empty()
            && let Err(error) = core.take_output(&mut self.writing)
        {
            step.ended = Some(Ended::Lost(error));
        }
        self.awaits_writing = core.awaits_writing();
        let timeout = core.next_timeout();
        let holds_back = core.waits_for_credit();
        drop(core);
        if holds_back && consumed > 0 && self.writing.is_empty() {
            // A server with Nagle's algorithm would wait for it with its next acknowledgements.
            self.link.acknowledge_now();
        }
        self.input.consume(consumed);
        if let Some(established) = step.established {
            self.connected_at = Some(Instant::now());
            self.driver
                .set_state(ConnectionState::Connected(established));
        }
        if let Some(timeout) = timeout {
            let due = shared.instant(timeout);
            // A timer that goes off too early costs less than one that is set anew for each packet.
            if self.timer.is_elapsed() || due < self.timer.deadline() {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        self.ended = step.ended;
    }

    /// Writes what there is; [`Progress::Some`] when all of it is written and the core may have more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        if self.writing.is_empty() {
            return Pin::new(&mut self.link)
                .poll_flush(cx)
                .map_ok(|()| Progress::None);
        }
        let written = self.poll_write_all(cx);
        if self.awaits_writing {
            self.driver.shared.core().note_written(self.writing.len());
        }
        ready!(written)?;
        ready!(Pin::new(&mut self.link).poll_flush(cx))?;
        Poll::Ready(Ok(Progress::Some))
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.writing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = self.writing.io_slices(&mut slices);
            let link = Pin::new(&mut self.link);
            let count = ready!(link.poll_write_vectored(cx, &slices[..filled]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the rest and says goodbye to the byte stream.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for output in [&mut self.writing, &mut self.rest] {
            while !output.is_empty() {
                let link = Pin::new(&mut self.link);
                let count = ready!(link.poll_write(cx, output.chunk()))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                output.advance(count);
            }
        }
        ready!(Pin::new(&mut self.link).poll_flush(cx))?;
        Pin::new(&mut self.link).poll_shutdown(cx)
    }
}

/// Whether a write has done anything.
enum Progress {
    Some,
    None,
}

/// Parts of the output in one system call.
const SLICES_MAX: usize = 16;

/// How long the rest of the output may take to leave when the connection ends.
const CLOSE_TIME: Duration = Duration::from_secs(5);
