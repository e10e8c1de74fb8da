//! Routing from one publisher's input to all subscribers' output, through pumps and shards, without sockets.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel_benches::{Broker, Shape, time_batches};
use whimbrel_broker_core::session::codec::{ProtocolVersion, QoS};

criterion_group!(benches, routing);
criterion_main!(benches);

/// One item: one delivery, with its share of decoding the publication and, at QoS 1, with the acknowledgements of both
/// sides.
fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Elements(1));
    for shards in [1, 2] {
        for (qos, name) in [(QoS::AtMostOnce, "qos0"), (QoS::AtLeastOnce, "qos1")] {
            for subscribers in [1, 100, 1_000] {
                for batch in [1, 64] {
                    let mut broker = Broker::new(Shape {
                        version: ProtocolVersion::V311,
                        qos,
                        subscribers,
                        batch,
                        shards,
                    });
                    // Small turns are shorter than reading the clock.
                    let turns = DELIVERIES_MIN.div_ceil(batch * subscribers);
                    let deliveries = turns * batch * subscribers;
                    let name = format!("{shards}_shard/{name}/batch{batch}");
                    group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
                        bencher.iter_custom(|iterations| {
                            time_batches(
                                iterations,
                                deliveries,
                                &mut broker,
                                |_| {},
                                |broker| {
                                    for _ in 0..turns {
                                        broker.turn();
                                    }
                                },
                            )
                        });
                    });
                }
            }
        }
    }
    group.finish();
}

/// Deliveries per reading of the clock, at least.
const DELIVERIES_MIN: usize = 4_096;
