//! What durability costs: acknowledgements a second, latency, CPU, bytes on the disk, memory, time to recover.
//!
//! Every figure is of a broker on a fresh directory, over loopback, from a bounded load that this process makes. What the
//! generator itself costs is not in the CPU time, which is that of the broker's process alone.

mod clean;
mod deep_queue;
mod durable;
mod load;
mod recovery;

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::{Place, RunningBroker};
use crate::process::Usage;
use crate::{BrokerCommand, Failure};

pub use self::clean::{CleanFigure, clean_sessions};
pub use self::deep_queue::{DeepQueueFigure, deep_queue};
pub use self::durable::{
    FanOutFigure, LatencyFigure, OfflineFigure, SyncCount, fan_out, latency, offline, syncs,
};
pub use self::recovery::{RecoveryFigure, recovery};

/// Where and what is measured.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The broker.
    pub broker: BrokerCommand,
    /// Its shards, where it has them.
    pub shards: u8,
    /// A folder of its own for each figure is made in here.
    pub folder: PathBuf,
}

impl Bench {
    /// A broker on a fresh directory.
    fn start(&self, name: &str) -> Result<RunningBroker, Failure> {
        self.broker.start(&self.place(name)?, self.shards)
    }

    fn place(&self, name: &str) -> Result<Place, Failure> {
        let folder = self.folder.join(name);
        // What an earlier figure left would be measured too.
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::System {
                doing: format!("could not empty {}", folder.display()),
                source: error,
            }),
            _ => Place::new(&folder),
        }
    }
}

/// What a process used between two moments, for each of so many things.
#[derive(Clone, Copy, Debug)]
struct Each {
    cpu_micros: f64,
    disk_bytes: f64,
    call_bytes: f64,
}

impl Each {
    fn between(before: Usage, after: Usage, count: u64) -> Self {
        let count = count.max(1) as f64;
        let bytes = |before: u64, after: u64| after.saturating_sub(before) as f64 / count;
        Self {
            cpu_micros: micros(after.cpu.saturating_sub(before.cpu)) / count,
            disk_bytes: bytes(before.disk_write_bytes, after.disk_write_bytes),
            call_bytes: bytes(before.write_call_bytes, after.write_call_bytes),
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The value that so many percent do not exceed, of values that are sorted.
fn percentile(sorted: &[u32], percent: f64) -> u32 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted
        .get(rank.max(1) - 1)
        .or(sorted.last())
        .copied()
        .unwrap_or(0)
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// The payload of every figure, as in the benchmarks of other brokers.
const PAYLOAD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 50.0), 50);
        assert_eq!(percentile(&sorted, 99.0), 99);
        assert_eq!(percentile(&sorted, 100.0), 100);
        assert_eq!(percentile(&[7], 50.0), 7);
        assert_eq!(percentile(&[], 50.0), 0);
    }
}
