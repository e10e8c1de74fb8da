//! What the benchmarks in `benches/benches` measure with: populations, connections without sockets, and a stopwatch.
//!
//! ```text
//! cargo bench -p whimbrel-benches --bench codec     # packets, beside published codecs
//! cargo bench -p whimbrel-benches --bench topic     # filters and retained topics
//! cargo bench -p whimbrel-benches --bench session   # QoS round trips between the two roles
//! cargo bench -p whimbrel-benches --bench core      # routing through pumps and shards
//! cargo bench -p whimbrel-benches --bench store     # commits of the durable store
//! cargo run --release -p whimbrel-benches --bin topic-memory
//! cargo run --release -p whimbrel-benches --bin store-replay
//! scripts/client-figures                            # the client beside rumqttc and paho-mqtt (C)
//! cargo xtask instructions                          # instructions and allocations, against benches/instructions.tsv
//! ```
//!
//! Every figure is the time for *one item*: a packet, a match, a round trip, a delivery. Items are timed in batches
//! ([`time_batches`]), because most of them are shorter than reading the clock. Before anything is timed, each
//! benchmark checks that the work gives what it should, so that none can get faster by doing less.
//!
//! The figures that were taken, and how, are in `docs/benchmarks.md`.

mod broker;
mod counted;
mod frames;
mod journaled;
mod link;
mod population;
mod stage;
mod stopwatch;

pub use broker::{Broker, Shape};
pub use counted::{counted, counted_allocations};
pub use frames::{Frame, frames};
pub use journaled::{Journaled, Step, retained_batch};
pub use link::Link;
pub use population::Population;
pub use stage::{ClientNumber, Stage, Tally, connect_packet, encoded};
pub use stopwatch::{process_cpu_time, time_batches};
