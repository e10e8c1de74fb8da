//! [`Bar`]: how far long work is, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use whimbrel_store::tools::Progress;

/// One line on standard error that is rewritten while work takes long, and is gone when the bar is dropped. Where
/// standard error is no terminal it says nothing.
#[derive(Debug)]
pub(crate) struct Bar {
    what: &'static str,
    is_terminal: bool,
    due: Instant,
    is_shown: bool,
}

impl Bar {
    /// A bar that counts `what`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            is_terminal: io::stderr().is_terminal(),
            due: Instant::now() + PATIENCE,
            is_shown: false,
        }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        let what = self.what;
        self.show_line(|| line(progress, what));
    }

    /// Shows a line of the caller's own, which is made only when it is shown.
    pub(crate) fn show_line(&mut self, line: impl FnOnce() -> String) {
        if !self.is_terminal || Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + INTERVAL;
        self.is_shown = true;
        let mut stderr = io::stderr().lock();
        // Without a standard error nobody watches.
        let _ = write!(stderr, "\r\x1b[K{}", line());
        let _ = stderr.flush();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// `[#####     ] 50 % of 2000 rows`, or the number alone while nobody knows the end.
fn line(progress: Progress, what: &str) -> String {
    let Progress { done, total, .. } = progress;
    let Some(total) = total.filter(|&total| total > 0) else {
        return format!("{done} {what}");
    };
    // Rows may come while others are counted: it is never more than all of it.
    let share = done.min(total) as f64 / total as f64;
    let filled = (share * BAR_WIDTH as f64) as usize;
    format!(
        "[{}{}] {:.0} % of {total} {what}",
        "#".repeat(filled),
        " ".repeat(BAR_WIDTH - filled),
        share * 100.0,
    )
}

const BAR_WIDTH: usize = 40;
/// What is over sooner needs no bar.
const PATIENCE: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, total: Option<u64>) -> Progress {
        let mut progress = Progress::default();
        progress.done = done;
        progress.total = total;
        progress
    }

    #[test]
    fn a_bar_is_as_long_as_the_share_that_is_done() {
        let half = line(progress(500, Some(1_000)), "rows");
        let (filled, empty) = ("#".repeat(20), " ".repeat(20));
        assert_eq!(half, format!("[{filled}{empty}] 50 % of 1000 rows"));
        let all = line(progress(1_001, Some(1_000)), "rows");
        assert!(all.starts_with(&format!("[{}]", "#".repeat(40))), "{all}");
    }

    #[test]
    fn without_an_end_there_is_a_number() {
        assert_eq!(line(progress(7, None), "lines"), "7 lines");
        assert_eq!(line(progress(0, Some(0)), "rows"), "0 rows");
    }
}
