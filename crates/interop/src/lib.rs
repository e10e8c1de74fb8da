//! What the tests of the client against brokers share: brokers to talk to, and a proxy between them that fails on demand.
#![forbid(unsafe_code)]

mod mosquitto;
mod numbers;
mod proxy;
mod server;

pub use crate::mosquitto::Mosquitto;
pub use crate::numbers::numbers_arrive;
pub use crate::proxy::Proxy;
pub use crate::server::Server;
