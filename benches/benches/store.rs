//! Commits of the durable store, in a directory of the disk that holds temporary files.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel_benches::{Journaled, Step, time_batches};
use whimbrel_store::Durability;

criterion_group!(benches, commits, fan_out);
criterion_main!(benches);

/// One item: one record. `arriving` are messages for a session that is away; `passing` are as many arriving, and as
/// many that were there before and are done.
fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/commit");
    group.throughput(Throughput::Elements(1));
    for (durability, name) in [(Durability::Os, "os"), (Durability::Sync, "sync")] {
        for step in [Step::Arriving, Step::Passing] {
            for records in [1, 10, 100, 400, 1_000] {
                let mut store = Journaled::new(durability, 1);
                let name = format!("{name}/{step:?}").to_lowercase();
                group.bench_function(BenchmarkId::new(name, records), |bencher| {
                    bencher.iter_custom(|iterations| {
                        time_batches(
                            iterations,
                            records,
                            &mut store,
                            |store| store.prepare(records, step),
                            Journaled::commit,
                        )
                    });
                });
            }
        }
    }
    group.finish();
}

/// One item: one message for so many sessions of a shard; 100 messages a commit.
fn fan_out(criterion: &mut Criterion) {
    const MESSAGES: usize = 100;
    let mut group = criterion.benchmark_group("store/fan_out");
    group.throughput(Throughput::Elements(1));
    for holders in [1, 10, 100, 1_000] {
        let mut store = Journaled::new(Durability::Os, holders);
        group.bench_function(BenchmarkId::from_parameter(holders), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(
                    iterations,
                    MESSAGES,
                    &mut store,
                    |store| store.prepare(MESSAGES, Step::Arriving),
                    Journaled::commit,
                )
            });
        });
        let (written, messages) = store.written();
        println!(
            "store/fan_out/{holders}: {} bytes written a message",
            written / messages
        );
    }
    group.finish();
}
