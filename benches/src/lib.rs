//! Benchmarks of the Whimbrel crates; see `benches/benches`.
