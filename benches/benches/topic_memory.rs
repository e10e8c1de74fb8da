//! Prints what a filter takes in memory in each matcher: what it has allocated, of an allocator that counts.

#[path = "topic/matcher.rs"]
mod matcher;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use whimbrel_benches::Population;

use self::matcher::{Matcher, Quill, TopicEngine, TopicTree, Whimbrel};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    println!("| filters | matcher | bytes a filter | allocations a filter |");
    println!("|---:|---|---:|---:|");
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        let population = Population { size };
        print_row::<Whimbrel>(population);
        print_row::<TopicEngine>(population);
        print_row::<TopicTree>(population);
        print_row::<Quill>(population);
    }
}

fn print_row<M: Matcher>(population: Population) {
    let region = Region::new(ALLOCATOR);
    let mut matcher = M::build(population);
    let change = region.change();
    let topic = M::topic(population.topic(0).as_str());
    assert_eq!(matcher.matches(&topic), 1, "{}", M::NAME);
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    let blocks = change.allocations - change.deallocations;
    let size = population.size;
    println!(
        "| {size} | {} | {} | {:.2} |",
        M::NAME,
        bytes / size,
        blocks as f64 / size as f64
    );
}
