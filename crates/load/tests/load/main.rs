//! Runs against a broker in this process, and against one that does wrong.

mod faults;
mod proxy;
mod scenarios;
mod server;
