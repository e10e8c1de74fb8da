//! The broker as its clients and embedders see it: real sockets, real threads, one behaviour a test.
//!
//! Nothing here sleeps: each test waits for a packet, an event or a figure, for at most
//! [`support::PATIENCE`].

mod authentication;
mod closing;
mod connecting;
#[cfg(feature = "store")]
mod data_directory;
mod durability;
mod embedding;
mod hooks;
mod messaging;
mod system;

mod held_journal;
mod support;
