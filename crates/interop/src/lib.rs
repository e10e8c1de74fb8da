//! What the tests of the client against brokers share: a broker to talk to, and a proxy between them that fails on demand.
#![forbid(unsafe_code)]

mod proxy;
mod server;

pub use crate::proxy::Proxy;
pub use crate::server::Server;
