//! How long a start takes, and what it costs in memory: `store-replay [MESSAGES [RETAINED]]`, 1,000,000 and 100,000 by
//! default.
//!
//! The messages are for one session that is away. The first start follows a clean end; the second one a crash, in that
//! the file is copied while the store is open.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use whimbrel_benches::{Journaled, Step, retained_batch};
use whimbrel_broker_core::Journal;
use whimbrel_store::{Durability, OpenOptions, RedbStore};

const PER_COMMIT: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let messages = numbers.next().transpose()?.unwrap_or(1_000_000);
    let retained = numbers.next().transpose()?.unwrap_or(100_000);
    let mut journaled = Journaled::new(Durability::Os, 1);
    let began = Instant::now();
    for _ in 0..messages / PER_COMMIT {
        journaled.prepare(usize::try_from(PER_COMMIT)?, Step::Arriving);
        journaled.commit();
    }
    let (mut store, directory) = journaled.into_parts();
    for first in (0..retained).step_by(usize::try_from(PER_COMMIT)?) {
        store.commit(&retained_batch(first, PER_COMMIT))?;
    }
    println!(
        "filled with {messages} messages and {retained} retained ones in {:.2} s: {} MiB",
        began.elapsed().as_secs_f64(),
        store.figures().bytes_stored >> 20,
    );
    let copy = tempfile::tempdir()?;
    fs::copy(
        directory.path().join("whimbrel.redb"),
        copy.path().join("whimbrel.redb"),
    )?;
    drop(store);
    start("after a clean end", directory.path())?;
    start("after a crash", copy.path())?;
    Ok(())
}

fn start(what: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let before = resident_bytes();
    let began = Instant::now();
    let mut store = RedbStore::open(path, OpenOptions::default())?;
    let opened = began.elapsed();
    let replay = store.replay(&mut |_| Ok(()))?;
    println!(
        "start {what}: opened in {:.2} s, {} things told in {:.2} s, {} MiB more in memory",
        opened.as_secs_f64(),
        replay.items,
        (began.elapsed() - opened).as_secs_f64(),
        resident_bytes().saturating_sub(before) >> 20,
    );
    Ok(())
}

/// What the process has in memory; 0 where the system does not tell in this way.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}
