//! [`counted`]: the marks between which instructions and allocations are counted.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use stats_alloc::INSTRUMENTED_SYSTEM;

/// Runs `operation`, whose instructions are counted where the process runs under callgrind as `cargo xtask instructions`
/// runs it, and whose allocations are where `stats_alloc` is the process's allocator. May not be nested.
///
/// # Panics
/// As `operation` does.
pub fn counted<R>(operation: impl FnOnce() -> R) -> R {
    let mut operation = Some(operation);
    let mut result = None;
    let before = allocations();
    whimbrel_counted(&mut || result = operation.take().map(|operation| operation()));
    COUNTED_ALLOCATIONS.fetch_add(allocations() - before, Ordering::Relaxed);
    result.expect("the operation was run")
}

/// How often memory was asked for in what was [`counted`] so far; growing and shrinking a block count too.
pub fn counted_allocations() -> usize {
    COUNTED_ALLOCATIONS.load(Ordering::Relaxed)
}

/// What callgrind is told to collect in, by this name: a function that exists once and is always called, which needs
/// neither valgrind's headers nor its presence.
#[inline(never)]
fn whimbrel_counted(operation: &mut dyn FnMut()) {
    operation();
    // Not a tail call: the operation is over before the function is left.
    black_box(());
}

fn allocations() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.allocations + stats.reallocations
}

static COUNTED_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
