//! Matching and changing many filters; scanning many retained topics.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel_benches::{Population, time_batches};
use whimbrel_topic::{
    FilterTrie, MatchScratch, ScanCursor, ScanState, TopicFilter, TopicFilterBuf, TopicNameBuf,
    TopicTree,
};

criterion_group!(benches, filters, build, retained);
criterion_main!(benches);

/// One item: a publish that matches one filter; a check whether a remembered match still holds; one filter removed and
/// put back.
fn filters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic");
    group.throughput(Throughput::Elements(1));
    for size in [1_000, 100_000, 1_000_000] {
        let population = Population { size };
        let mut trie = population.trie();
        let topics: Vec<TopicNameBuf> = population
            .sample(BATCH)
            .map(|index| population.topic(index))
            .collect();
        let mut scratch = MatchScratch::new();
        assert_eq!(matches(&trie, &topics, &mut scratch), topics.len());

        group.bench_function(BenchmarkId::new("match", size), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(
                    iterations,
                    BATCH,
                    &mut scratch,
                    |_| {},
                    |scratch| {
                        black_box(matches(&trie, black_box(&topics), scratch));
                    },
                )
            });
        });
        group.bench_function(BenchmarkId::new("generation", size), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(
                    iterations,
                    BATCH,
                    &mut (),
                    |()| {},
                    |()| {
                        for topic in black_box(&topics) {
                            black_box(trie.generation(topic));
                        }
                    },
                )
            });
        });

        let filters: Vec<TopicFilterBuf> = population
            .sample(BATCH)
            .map(|index| population.filter(index))
            .collect();
        group.bench_function(BenchmarkId::new("remove_insert", size), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(
                    iterations,
                    BATCH,
                    &mut trie,
                    |_| {},
                    |trie| {
                        for filter in black_box(&filters) {
                            let number = trie.remove(filter).expect("it was inserted");
                            trie.insert(filter, number);
                        }
                    },
                )
            });
        });
        assert_eq!(trie.len(), size);
    }
    group.finish();
}

/// One item: one filter of those that are put into an empty trie one after the other.
fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for size in [1_000, 100_000] {
        let population = Population { size };
        let filters: Vec<_> = (0..size).map(|index| population.filter(index)).collect();
        group.bench_function(BenchmarkId::new("build", size), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(
                    iterations,
                    size,
                    &mut FilterTrie::new(),
                    |trie| *trie = FilterTrie::new(),
                    |trie| {
                        for filter in &filters {
                            trie.insert(filter, 0_u32);
                        }
                    },
                )
            });
        });
    }
    group.finish();
}

/// One item: one retained message found.
fn retained(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("retained");
    group.throughput(Throughput::Elements(1));
    let size = 100_000;
    let population = Population { size };
    let mut tree = TopicTree::new();
    for index in 0..size {
        tree.insert(&population.topic(index), index);
    }
    for (name, filter) in [
        ("scan_all", "#"),
        ("scan_one_group", "site/50/#"),
        ("scan_one_topic", "site/50/2/state/battery"),
        ("scan_one_per_group", "site/+/4/state/battery"),
    ] {
        let filter = TopicFilter::new(filter).expect("a valid filter");
        let expected = (0..size)
            .filter(|&index| filter.matches(&population.topic(index)))
            .count();
        assert_ne!(expected, 0, "{name}");
        assert_eq!(scan(&tree, filter), expected, "{name}");
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(
                    iterations,
                    expected,
                    &mut (),
                    |()| {},
                    |()| {
                        black_box(scan(&tree, black_box(filter)));
                    },
                )
            });
        });
    }
    group.finish();
}

fn matches(trie: &FilterTrie<u32>, topics: &[TopicNameBuf], scratch: &mut MatchScratch) -> usize {
    let mut count = 0;
    for topic in topics {
        trie.for_each_match(topic, scratch, |_| count += 1);
    }
    count
}

/// Scans in steps, as a shard does.
fn scan(tree: &TopicTree<usize>, filter: &TopicFilter) -> usize {
    let mut cursor = ScanCursor::new();
    let mut count = 0;
    while let ScanState::More = tree.scan(filter, &mut cursor, STEP_BUDGET, |_, _| {
        count += 1;
        ControlFlow::Continue(())
    }) {}
    count
}

/// Topics or filters per batch, and in all: more of them than fit into a core's nearest cache.
const BATCH: usize = 4_096;
/// Nodes per step, as `CoreLimits` has it.
const STEP_BUDGET: usize = 4_096;
