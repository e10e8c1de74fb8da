//! What Linux tells about a process, in `/proc`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Failure;

/// CPU time and memory of a process, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of the threads that it has now; in steps of a clock tick where the kernel keeps no better.
    pub(crate) cpu: Duration,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
    /// Resident memory that is not of a file.
    pub(crate) anonymous_bytes: u64,
    /// Bytes that were or will be written to a block device.
    pub(crate) disk_write_bytes: u64,
    /// Bytes of all write calls, also to sockets.
    pub(crate) write_call_bytes: u64,
}

impl Usage {
    /// Reads them.
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).map_err(Failure::system(format!("could not read {path}")))
        };
        let stat = read("stat")?;
        let status = read("status")?;
        let io = read("io")?;
        // The name of the program, in parentheses, may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 = fields
            .split_whitespace()
            .skip(UTIME_AFTER_NAME)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Self {
            cpu: threads_cpu(pid).unwrap_or(Duration::from_millis(ticks * MILLIS_PER_TICK)),
            rss_bytes: field(&status, "VmRSS:").unwrap_or(0) * 1024,
            anonymous_bytes: field(&status, "RssAnon:").unwrap_or(0) * 1024,
            disk_write_bytes: field(&io, "write_bytes:").unwrap_or(0),
            write_call_bytes: field(&io, "wchar:").unwrap_or(0),
        })
    }
}

/// What the scheduler has counted, in nanoseconds.
fn threads_cpu(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}

/// The processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Sends a signal by its name, as `TERM`.
pub(crate) fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    let status = status.map_err(Failure::system("could not run kill"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Other(format!("kill -{name} {pid} failed")))
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
