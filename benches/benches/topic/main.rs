//! Matching and changing many filters, beside published matchers; scanning many retained topics.

mod matcher;

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use whimbrel_benches::{Population, time_batches};
use whimbrel_topic::{
    FilterTrie, MatchScratch, ScanCursor, ScanState, TopicFilter, TopicFilterBuf, TopicNameBuf,
    TopicTree,
};

use self::matcher::{Matcher, Quill, TopicEngine, Whimbrel};

criterion_group!(benches, filters, matchers, build, retained);
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

/// One item: a publish that matches one filter. "Uniform": every topic as often as any other. "Skewed": half of them to
/// a few topics.
fn matchers(criterion: &mut Criterion) {
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        let population = Population { size };
        let uniform: Vec<usize> = population.sample(BATCH).collect();
        let skewed: Vec<usize> = population.skewed_sample(BATCH).collect();
        for (name, indices) in [("uniform", &uniform), ("skewed", &skewed)] {
            let mut group = criterion.benchmark_group(format!("matcher/{name}/{size}"));
            group.throughput(Throughput::Elements(1)).sample_size(10);
            bench_matcher::<Whimbrel>(&mut group, population, indices);
            bench_matcher::<TopicEngine>(&mut group, population, indices);
            bench_matcher::<matcher::TopicTree>(&mut group, population, indices);
            bench_matcher::<Quill>(&mut group, population, indices);
            group.finish();
        }
    }
}

fn bench_matcher<M: Matcher>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    population: Population,
    indices: &[usize],
) {
    // Not before it is known to be asked for: a million filters take some peers a while.
    let mut built: Option<(M, Vec<M::Topic>)> = None;
    group.bench_function(M::NAME, |bencher| {
        let (matcher, topics) = built.get_or_insert_with(|| {
            let mut matcher = M::build(population);
            let topic = |index: &usize| M::topic(population.topic(*index).as_str());
            let topics: Vec<M::Topic> = indices.iter().map(topic).collect();
            let one_each = topics.iter().all(|topic| matcher.matches(topic) == 1);
            assert!(one_each, "{}", M::NAME);
            (matcher, topics)
        });
        bencher.iter_custom(|iterations| {
            time_batches(
                iterations,
                BATCH,
                matcher,
                |_| {},
                |matcher| {
                    for topic in black_box(&*topics) {
                        black_box(matcher.matches(topic));
                    }
                },
            )
        });
    });
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
