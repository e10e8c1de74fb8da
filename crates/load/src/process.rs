//! CPU time and memory of processes and threads, as Linux tells them in `/proc`.

use std::io;
use std::time::Duration;

/// What a process has used up to one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time of the threads that it has now.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) rss_bytes: u64,
}

/// Whether this system can tell.
pub(crate) const IS_SUPPORTED: bool = cfg!(target_os = "linux");

impl Usage {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// Where there is no such process, or none that this one may look at.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let status = read("status")?;
        let cpu = match threads_cpu(pid) {
            Some(cpu) => cpu,
            None => cpu_of_stat(&read("stat")?),
        };
        Ok(Self {
            cpu,
            rss_bytes: field(&status, "VmRSS:").unwrap_or(0) * 1024,
        })
    }
}

/// CPU time of the thread that asks; `None` where the system does not tell.
pub(crate) fn thread_cpu() -> Option<Duration> {
    schedstat(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Lets this thread wake when it wants to, and not up to 50 µs later as the system has it. Where it can't be had, `send
/// delay` shows it.
pub(crate) fn sharpen_timers() {
    // "PID/task/TID": the file of the thread is found under its own number only.
    let Ok(path) = std::fs::read_link("/proc/thread-self") else {
        return;
    };
    if let Some(thread) = path.file_name() {
        let file = std::path::Path::new("/proc")
            .join(thread)
            .join("timerslack_ns");
        let _ = std::fs::write(file, "1");
    }
}

/// What the scheduler has counted, in nanoseconds: exact, where the ticks of `stat` are 10 ms each.
fn threads_cpu(pid: u32) -> Option<Duration> {
    let mut cpu = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = task.ok()?.path().join("schedstat");
        // A thread may end meanwhile.
        if let Ok(text) = std::fs::read_to_string(path) {
            cpu += schedstat(&text)?;
        }
    }
    Some(cpu)
}

fn schedstat(text: &str) -> Option<Duration> {
    let nanos = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn cpu_of_stat(stat: &str) -> Duration {
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(UTIME_AFTER_NAME).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * MILLIS_PER_TICK)
}

/// The first number of the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields between the name and `utime`, see proc_pid_stat(5).
const UTIME_AFTER_NAME: usize = 11;
/// USER_HZ is 100 on every architecture that matters here.
const MILLIS_PER_TICK: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_found_behind_a_name_with_anything_in_it() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3";
        assert_eq!(cpu_of_stat(stat), Duration::from_secs(2));
    }

    #[test]
    fn fields_are_found_by_name() {
        let status = "Name:\tbroker\nVmHWM:\t  900 kB\nVmRSS:\t  512 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(512));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_of_this_process_shows() {
        let pid = std::process::id();
        let (before, mine_before) = (Usage::of(pid).expect("it is there"), thread_cpu());
        let mut state = 1;
        let mut sum = 0_u64;
        while Usage::of(pid).expect("it is there").cpu < before.cpu + Duration::from_millis(20) {
            for _ in 0..100_000 {
                sum = sum.wrapping_add(crate::payload::splitmix(&mut state));
            }
        }
        assert_ne!(std::hint::black_box(sum), 0);
        assert!(before.rss_bytes > 100_000);
        assert!(thread_cpu() > mine_before);
    }
}
