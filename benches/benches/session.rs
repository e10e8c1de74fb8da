//! Whole exchanges between `ClientConnection` and `ServerConnection`, in memory.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel_benches::{Link, time_batches};
use whimbrel_broker_core::session::codec::{ProtocolVersion, QoS};

criterion_group!(benches, exchanges);
criterion_main!(benches);

/// One item: one message published, acknowledged in full by the server, and finished at the client; one at a time, and
/// a window of them.
fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for (qos, name) in [
            (QoS::AtMostOnce, "qos0"),
            (QoS::AtLeastOnce, "qos1"),
            (QoS::ExactlyOnce, "qos2"),
        ] {
            for window in [1, 64] {
                let mut link = Link::connected(version);
                let expected = if qos == QoS::AtMostOnce { 0 } else { window };
                assert_eq!(link.publish(qos, window), expected);
                let name = format!("{name}/window{window}");
                group.bench_function(BenchmarkId::new(name, format!("{version:?}")), |bencher| {
                    bencher.iter_custom(|iterations| {
                        time_batches(
                            iterations,
                            BATCH,
                            &mut link,
                            |_| {},
                            |link| {
                                for _ in 0..BATCH / window {
                                    link.publish(qos, window);
                                }
                            },
                        )
                    });
                });
            }
        }
    }
    group.finish();
}

/// Messages per reading of the clock: a multiple of each window.
const BATCH: usize = 1_024;
