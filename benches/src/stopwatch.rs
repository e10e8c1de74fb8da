//! [`time_batches`]: the time of items that are shorter than reading the clock.

use std::time::Duration;

/// How long `iterations` items keep the CPU busy, of which `run` does `batch` at a time.
///
/// On Linux this is the CPU time of the thread, so that other work on the machine counts only for what it does to the
/// caches; elsewhere it is the time that passes. Whole batches are run, at least one, and the time is scaled to
/// `iterations`. What `prepare` does before each batch is not counted, so that input which decoding uses up can be
/// renewed.
///
/// # Panics
/// When `batch` is 0.
pub fn time_batches<S>(
    iterations: u64,
    batch: usize,
    state: &mut S,
    mut prepare: impl FnMut(&mut S),
    mut run: impl FnMut(&mut S),
) -> Duration {
    let batch = batch as u64;
    let batches = iterations.div_ceil(batch).max(1);
    let mut elapsed = Duration::ZERO;
    for _ in 0..batches {
        prepare(state);
        let start = moment();
        run(state);
        elapsed += moment().saturating_sub(start);
    }
    elapsed.mul_f64(iterations as f64 / (batches * batch) as f64)
}

/// The CPU time that this process has used, of all its threads and in the system too; the time that passes where the system
/// does not tell.
pub fn process_cpu_time() -> Duration {
    #[cfg(target_os = "linux")]
    return clock(rustix::time::ClockId::ProcessCPUTime);
    #[cfg(not(target_os = "linux"))]
    moment()
}

#[cfg(target_os = "linux")]
fn moment() -> Duration {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

#[cfg(target_os = "linux")]
fn clock(id: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

#[cfg(not(target_os = "linux"))]
fn moment() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
