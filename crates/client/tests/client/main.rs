//! The client against a server that is the test: in memory, at simulated time.

mod authentication;
mod connecting;
mod disconnecting;
mod outbox;
mod publishing;
mod receiving;
mod reconnecting;
mod requests;
mod support;
mod version_3;
