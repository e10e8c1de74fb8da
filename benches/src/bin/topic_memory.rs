//! Prints what filters and retained topics take in memory, by the structures' own count and as the process grows.

use std::fs;

use whimbrel_benches::Population;
use whimbrel_topic::TopicTree;

fn main() {
    println!(
        "| structure | entries | own count, bytes/entry | growth of the process, bytes/entry |"
    );
    println!("|---|---|---|---|");
    // All are kept until the end: memory that is freed and used again would not show as growth.
    let mut tries = Vec::new();
    let mut trees = Vec::new();
    for size in [1_000_000, 100_000, 1_000] {
        let population = Population { size };
        let before = resident_bytes();
        let trie = population.trie();
        print_row("FilterTrie<u32>", size, trie.memory_bytes(), before);
        tries.push(trie);
        let before = resident_bytes();
        let mut tree = TopicTree::new();
        for index in 0..size {
            tree.insert(&population.topic(index), 0_u64);
        }
        print_row("TopicTree<u64>", size, tree.memory_bytes(), before);
        trees.push(tree);
    }
}

fn print_row(name: &str, entries: usize, counted: usize, before: Option<usize>) {
    let grown = match (before, resident_bytes()) {
        (Some(before), Some(after)) => (after.saturating_sub(before) / entries).to_string(),
        _ => "unknown".to_owned(),
    };
    println!("| `{name}` | {entries} | {} | {grown} |", counted / entries);
}

/// Resident memory, where the system says it as Linux does.
fn resident_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
