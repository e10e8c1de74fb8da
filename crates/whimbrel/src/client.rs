//! `whimbrel pub`, `sub` and `rr`: clients for the command line, with the options of mosquitto_pub, _sub and _rr.

mod argv;
mod connection;
mod format;
mod incoming;
mod interrupt;
mod lines;
mod output;
mod property;
mod publish;
mod removal;
mod request;
mod runtime;
mod selection;
mod server;
mod subscribe;
mod tls;
mod unsupported;
mod url;
mod will;

pub(crate) use argv::joined;
pub(crate) use publish::{PublishArguments, publish};
pub(crate) use request::{RequestArguments, request};
pub(crate) use subscribe::{SubscribeArguments, subscribe};
