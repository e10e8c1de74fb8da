//! [`Interrupt`]: Ctrl-C, and whatever else asks the process to end.

use std::io;

/// Waits for SIGINT or SIGTERM, as often as there is one.
#[derive(Debug)]
pub(crate) struct Interrupt {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
    #[cfg(not(unix))]
    signal: tokio::signal::windows::CtrlC,
}

impl Interrupt {
    /// From now on the signals do not end the process by themselves. Within a runtime.
    #[cfg(unix)]
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ];
        Ok(Self { signals })
    }

    /// From now on Ctrl-C does not end the process by itself. Within a runtime.
    #[cfg(not(unix))]
    pub(crate) fn new() -> io::Result<Self> {
        let signal = tokio::signal::windows::ctrl_c()?;
        Ok(Self { signal })
    }

    /// The next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    /// The next one.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        self.signal.recv().await;
    }
}
